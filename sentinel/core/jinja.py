"""Jinja that ends: a sandbox whose work, values and output are bounded, whatever a template says.

Python can't take back memory that one operation asks for, so nothing is measured afterwards that
could have been too much: an operation that makes more than it was given (a repeated text, a padded
one, a power) is judged before it runs, and a filter or method that nobody has judged doesn't exist.
All else is counted: rounds and calls, the values that are looked at, and the characters made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, BuiltinMethodType, MethodDescriptorType, MethodType
from typing import Any

import jinja2
from jinja2 import TemplateSyntaxError, nodes, pass_context
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import SandboxedEnvironment, modifies_known_mutable
from jinja2.utils import Cycler, Joiner, Namespace, _PassArg
from jinja2.visitor import NodeTransformer

from sentinel.core.jinja_work import (
    BINARY,
    BOUNDED_FILTERS,
    BOUNDED_TESTS,
    DEEPEST,
    METHODS,
    MOST_BITS,
    WORK,
    CheckedFormatter,
    TooMuch,
    Work,
    checked,
    fits,
    work_of,
)

LONGEST_SOURCE = 100_000
_DEEPEST_LOOPS = 15  # Python takes twenty
# What a rendering may raise besides Jinja's own errors: it calls functions and counts like Python.
FAILURES = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError,
    RuntimeError, MemoryError, SyntaxError,
)  # fmt: skip


# -- operations that make more than they are given ---------------------------------------------


# -- filters, tests and methods ----------------------------------------------------------------


# What Jinja passes along with the arguments of a call.
_OF_JINJA = ("_loop_vars", "_block_vars")
_CLASSES = (dict, Cycler, Joiner, Namespace)


# -- the tree of a template --------------------------------------------------------------------


class _Counted(NodeTransformer):
    """Puts the counting where Jinja has no seam for it: loops, lists, comparisons, plain text.

    `folds`: constant expressions become text, as where the compiler works them out.
    """

    def __init__(self, *, folds: bool) -> None:
        self._folds = folds

    def _call(self, name: str, args: list[Any], line: int) -> nodes.Call:
        work = nodes.Name(WORK, "load", lineno=line)
        method = nodes.Getattr(work, name, "load", lineno=line)
        return nodes.Call(method, args, [], None, None, lineno=line)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        if node.name == WORK:
            raise TemplateSyntaxError(f"`{WORK}` is no name for a template", node.lineno)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = self._call("over", [node.iter], node.lineno)
        return node

    def visit_Output(self, node: nodes.Output) -> Any:
        constant = [self._folds and _is_constant(each) for each in node.nodes]
        self.generic_visit(node)
        node.nodes = [
            self._call("folded", [each], node.lineno) if folded else each
            for each, folded in zip(node.nodes, constant, strict=True)
        ]
        size = sum(len(each.data) for each in node.nodes if isinstance(each, nodes.TemplateData))
        if not size:
            return node
        counted = self._call("output", [nodes.Const(size)], node.lineno)
        return [nodes.ExprStmt(counted, lineno=node.lineno), node]

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return self._call("concat", list(node.nodes), node.lineno)

    def _literal(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        plain = all(isinstance(each, nodes.Const) for each in node.iter_child_nodes())
        if plain or getattr(node, "ctx", "load") != "load":
            return node  # type: ignore[no-any-return]
        return self._call("made", [node], node.lineno)

    visit_List = visit_Tuple = visit_Dict = _literal

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = self._looked(node.expr)
        for operand in node.ops:
            operand.expr = self._looked(operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        node.node = self._looked(node.node)
        return self._call("made", [node], node.lineno)

    def _looked(self, expr: nodes.Expr) -> nodes.Expr:
        constant = isinstance(expr, nodes.Const)
        return expr if constant else self._call("look", [expr], expr.lineno)


def _is_constant(expr: nodes.Expr) -> bool:
    if isinstance(expr, nodes.TemplateData):
        return False
    for each in (expr, *expr.find_all(nodes.Expr)):
        if isinstance(each, nodes.Name | nodes.Call):
            return False
        if isinstance(each, nodes.Filter):
            function = FILTERS.get(each.name)
            if function is not None and _PassArg.from_obj(function) is _PassArg.context:
                return False
    return True


def _check_tree(tree: nodes.Template) -> None:
    """Raises TemplateSyntaxError for what Jinja's compiler or Python would give up on."""
    waiting: list[tuple[nodes.Node, int, int, int]] = [(tree, 0, 0, 1)]
    while waiting:
        node, depth, loops, line = waiting.pop()
        line = node.lineno or line
        loops += isinstance(node, nodes.For)
        if depth > DEEPEST or loops > _DEEPEST_LOOPS:
            raise TemplateSyntaxError("it is nested too deeply", line)
        number = node.value if isinstance(node, nodes.Const) else 0
        if isinstance(number, int) and number.bit_length() > MOST_BITS:
            raise TemplateSyntaxError("a number is too large", line)
        waiting += [(child, depth + 1, loops, line) for child in node.iter_child_nodes()]


class BoundedEnvironment(SandboxedEnvironment):
    """A sandbox whose templates end. `immutable` keeps them from changing lists and mappings.

    `from_string` raises TemplateSyntaxError, with a line, for what is no Jinja or too much of it.
    A template is rendered by `template.render(**work(), ...)`, which raises one of FAILURES.
    """

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(
        self,
        *args: Any,
        immutable: bool = True,
        folds: bool = False,
        shown: Callable[[Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """`shown` makes of a value what is put out; `folds` makes constants text, as dbt does."""

        @pass_context
        def finalize(context: Context, value: Any) -> Any:
            work = work_of(context)
            work.step()
            work.made(value)
            return value if shown is None else work.made(shown(value))

        super().__init__(*args, finalize=finalize, **kwargs)
        self._immutable = immutable
        self._folds = folds
        self.filters = dict(BOUNDED_FILTERS)
        self.tests = dict(BOUNDED_TESTS)
        del self.globals["lipsum"]

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """A filter that makes little more than it is given."""
        self.filters[name] = checked(function, fits, whole=False)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > LONGEST_SOURCE:
            raise TemplateSyntaxError(f"it is longer than {LONGEST_SOURCE:,} characters", 1)
        parser = Parser(self, source, name, filename)
        try:
            tree = parser.parse()
        except RecursionError:
            line = parser.stream.current.lineno
            raise TemplateSyntaxError("it is nested too deeply", line) from None
        except ValueError:
            line = parser.stream.current.lineno
            raise TemplateSyntaxError("it holds a number that can't be read", line) from None
        _check_tree(tree)
        return tree

    def from_string(self, source: Any, *args: Any, **kwargs: Any) -> jinja2.Template:
        tree = self.parse(source) if isinstance(source, str) else source
        try:
            return super().from_string(_Counted(folds=self._folds).visit(tree), *args, **kwargs)
        except (RecursionError, SyntaxError, MemoryError):
            raise TemplateSyntaxError("it is nested too deeply", 1) from None

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        changes = self._immutable and modifies_known_mutable(obj, attr)
        return super().is_safe_attribute(obj, attr, value) and not changes

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        kinds = (MethodType, BuiltinMethodType)
        if not isinstance(value, kinds) or value.__name__ not in ("format", "format_map"):
            return None
        text = value.__self__
        if not isinstance(text, str):
            return None
        mapped = value.__name__ == "format_map"

        def call(*args: Any, **kwargs: Any) -> str:
            given = args[0] if mapped else kwargs
            return CheckedFormatter(self).vformat(str(text), () if mapped else args, given)

        return call

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(obj, "__self__", None)
        given = {name: each for name, each in kwargs.items() if name not in _OF_JINJA}
        if isinstance(owner, Work):
            return obj(*args)
        work = work_of(context)
        work.step()
        for each in (*args, *given.values()):
            if not isinstance(each, Iterator):
                work.look(each)
        if isinstance(obj, BuiltinFunctionType | BuiltinMethodType):
            args = tuple(
                work.made(list(each)) if isinstance(each, Iterator) else each for each in args
            )
            self._judge(work, owner, obj, args, given)
        elif isinstance(obj, MethodDescriptorType) or (
            isinstance(obj, type) and obj not in _CLASSES
        ):
            raise TooMuch("a template can't call this")
        elif isinstance(obj, LoopContext):
            args = (work.over(args[0]), *args[1:]) if args else args
        made = super().call(context, obj, *args, **kwargs)
        if isinstance(owner, list | dict):
            work.made(owner)  # which the call may have changed
        return work.made(made)

    @staticmethod
    def _judge(
        work: Work, owner: Any, method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        methods = next((found for kind, found in METHODS.items() if isinstance(owner, kind)), {})
        estimate = methods.get(method.__name__)
        if estimate is None:
            raise TooMuch(f"a template can't call `{method.__name__}`")
        work.look(owner)
        estimate(work, owner, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        work = work_of(context)
        work.step()
        work.look(left)
        work.look(right)
        if judge := BINARY.get(operator):
            judge(work, left, right)
        return work.made(super().call_binop(context, operator, left, right))


def work() -> dict[str, Work]:
    """Variables that each rendering creates."""
    return {WORK: Work()}


def line_of(error: BaseException) -> int | None:
    """The line of a template at which a rendering failed."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
