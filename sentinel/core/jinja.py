"""Jinja that ends: a sandbox whose work, values and output are bounded, whatever a template says.

Python can't take back memory that one operation asks for, so nothing is measured afterwards that
could have been too much: an operation that makes more than it was given (a repeated text, a padded
one, a power) is judged before it runs, and a filter or method that nobody has judged doesn't exist.
All else is counted: rounds and calls, the values that are looked at, and the characters made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import BuiltinFunctionType, BuiltinMethodType, MethodDescriptorType, MethodType
from typing import Any

import jinja2
from jinja2 import TemplateSyntaxError, nodes, pass_context
from jinja2.compiler import has_safe_repr
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter, modifies_known_mutable
from jinja2.tests import TESTS
from jinja2.utils import Cycler, Joiner, Namespace, _PassArg
from jinja2.visitor import NodeTransformer

# A message of fifty notifications takes some hundreds of steps and ten thousand characters.
MOST_STEPS = 100_000
LONGEST_SOURCE = 100_000
LONGEST_VALUE = 250_000
_MOST_MADE = 10_000_000
_MOST_LOOKS = 10_000_000
_MOST_BITS = 4_096
_MOST_DIGITS = 1_000
_DEEPEST = 40
_DEEPEST_LOOPS = 15  # Python takes twenty
# What an element of a list costs, in characters: some 60 bytes.
_ELEMENT = 8
_WORK = "sentinel_work"
_NUMBERS = (int, float)
_TEXTS = (str, bytes)
# What a rendering may raise besides Jinja's own errors: it calls functions and counts like Python.
FAILURES = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError,
    RuntimeError, MemoryError, SyntaxError,
)  # fmt: skip


class TooMuch(SecurityError):
    """A template asks for more than is allowed. The message holds nothing of its values."""


class Work:
    """What one rendering has taken. Each method raises TooMuch where that is more than is allowed."""

    def __init__(self) -> None:
        self._steps = MOST_STEPS
        self._looks = _MOST_LOOKS
        self._made = _MOST_MADE

    def step(self) -> None:
        """One round of a loop, call, filter or operation."""
        self._steps -= 1
        if self._steps < 0:
            raise TooMuch(f"it takes more than {MOST_STEPS:,} steps")

    def look(self, value: Any) -> Any:
        """A value that is about to be compared, searched or copied."""
        elements, characters = _size(value, self._looks)
        self._looks -= elements + characters // 64
        if self._looks < 0:
            raise TooMuch("it looks at too many values")
        return value

    def made(self, value: Any) -> Any:
        """A value that has just been made."""
        if isinstance(value, Iterator):
            return self.over(value)
        _, characters = _size(value, LONGEST_VALUE)
        if not isinstance(value, Mapping | list | tuple):
            self.room(characters)
            return value
        # Its elements are there already; printed or compared, each counts again.
        if characters > _MOST_MADE:
            raise TooMuch("a value has too many characters")
        self.output(len(value) * _ELEMENT)
        return value

    def room(self, characters: int) -> None:
        """Characters that are made now, or that an operation may make."""
        if characters > LONGEST_VALUE:
            raise TooMuch(f"a value gets longer than {LONGEST_VALUE:,} characters")
        self.output(characters)

    def output(self, characters: int) -> None:
        """Characters of the template's own text."""
        self._made -= characters
        if self._made < 0:
            raise TooMuch(f"it makes more than {_MOST_MADE:,} characters")

    def over(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, each of them a step."""
        for each in items:
            self.step()
            yield each

    def folded(self, value: Any) -> Any:
        """The value of a constant expression, as Jinja's compiler would have put it out: as text."""
        return str(self.made(value)) if has_safe_repr(value) else value

    def concat(self, *values: Any) -> str:
        """The `~` of Jinja."""
        for value in values:
            self.made(value)
        return str(self.made("".join(map(str, values))))


def _work(context: Context) -> Work:
    work = context.parent[_WORK]
    assert isinstance(work, Work)
    return work


def _size(value: Any, most: int) -> tuple[int, int]:
    """The elements and characters of a value at any depth, each as often as it stands there.

    Raises TooMuch where there are more than `most` elements, or they are nested too deeply: what
    compares or prints such a value would take long, or end the process.
    """
    elements = characters = 0
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        elements += 1
        if isinstance(each, _TEXTS):
            characters += len(each)
        elif isinstance(each, int):
            characters += (
                each.bit_length() // 3 if each.bit_length() <= _MOST_BITS else _too_large()
            )
        elif isinstance(each, range):
            elements += len(each)
        elif isinstance(each, Collection | Namespace) and not isinstance(each, Undefined):
            # What a namespace holds, Jinja shows by its `__repr__` only.
            held = each._Namespace__attrs if isinstance(each, Namespace) else each
            if elements + len(waiting) + len(held) > most:
                raise TooMuch("a value has too many elements")
            if depth >= _DEEPEST:
                raise TooMuch("a value is nested too deeply")
            waiting += [(item, depth + 1) for item in held]
            if isinstance(held, Mapping):
                waiting += [(item, depth + 1) for item in held.values()]
        if elements > most:
            raise TooMuch("a value has too many elements")
    return elements, characters


def _too_large() -> int:
    raise TooMuch("a number gets too large")


# -- operations that make more than they are given ---------------------------------------------


def _multiplied(work: Work, left: Any, right: Any) -> None:
    if isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS):
        if isinstance(left, int) and isinstance(right, int):
            _bits(left.bit_length() + right.bit_length())
        return
    value, times = (left, right) if hasattr(left, "__len__") else (right, left)
    if hasattr(value, "__len__") and isinstance(times, int):
        work.room(len(value) * max(0, times) * (1 if isinstance(value, _TEXTS) else _ELEMENT))


def _raised(work: Work, left: Any, right: Any) -> None:
    if not (isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS)):
        raise TooMuch("only numbers have a power")
    if isinstance(left, int) and isinstance(right, int):
        _bits(left.bit_length() * abs(right))


def _bits(number: int) -> None:
    if number > _MOST_BITS:
        _too_large()


def _percent(work: Work, left: Any, right: Any) -> None:
    if not isinstance(left, _TEXTS):
        return
    text = left if isinstance(left, str) else left.decode("latin-1")
    places = sum(_widths(text))
    elements, characters = _size(right, LONGEST_VALUE)
    times = max(1, places) if isinstance(right, Mapping) else 1
    work.room(len(text) + (characters + elements * _ELEMENT) * times)


def _widths(text: str) -> Iterator[int]:
    """1 for each place of a format such as `%5.2f`, none of which is wider than is allowed."""
    at = text.find("%")
    while at >= 0:
        at += 1
        if text[at : at + 1] == "(":
            depth = 1
            at += 1
            while at < len(text) and depth:
                depth += {"(": 1, ")": -1}.get(text[at], 0)
                at += 1
        spec = _SPEC.match(text, at)
        assert spec is not None
        _width(spec[0])
        yield 1 + int("".join(filter(str.isdecimal, spec[0])) or 0) // _ELEMENT
        at = text.find("%", spec.end() + (text[spec.end() : spec.end() + 1] == "%"))


_SPEC = re.compile(r"[#0\- +*.\dhlL]*")
_DIGITS = re.compile(r"\d+")


def _width(spec: str) -> None:
    if "*" in spec or any(len(run) > 4 or int(run) > _MOST_DIGITS for run in _DIGITS.findall(spec)):
        raise TooMuch(f"a format is wider than {_MOST_DIGITS:,} characters")


_BINARY: Mapping[str, Callable[[Work, Any, Any], None]] = {
    "*": _multiplied,
    "**": _raised,
    "%": _percent,
}


class _Formatter(SandboxedFormatter):
    """`str.format` whose fields are bounded, however their width is put together."""

    def __init__(self, env: jinja2.Environment) -> None:
        super().__init__(env)
        self._left = LONGEST_VALUE

    def convert_field(self, value: Any, conversion: Any) -> Any:
        _size(value, self._left)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        _width(format_spec)
        _, characters = _size(value, self._left)
        if characters > self._left:
            raise TooMuch(f"a value gets longer than {LONGEST_VALUE:,} characters")
        field: str = super().format_field(value, format_spec)
        self._left -= len(field)
        if self._left < 0:
            raise TooMuch(f"a value gets longer than {LONGEST_VALUE:,} characters")
        return field


# -- filters, tests and methods ----------------------------------------------------------------


def _fits(work: Work, _: Any, *args: Any, **kwargs: Any) -> None:
    """For what makes little more than it is given."""


def _padded(work: Work, _: Any, width: Any = 80, *args: Any, **__: Any) -> None:
    work.room(width if isinstance(width, int) else 0)


def _batched(work: Work, _: Any, linecount: Any = 0, fill_with: Any = None) -> None:
    work.room(linecount * _ELEMENT if isinstance(linecount, int) else 0)


def _formatted(work: Work, value: Any, *args: Any, **kwargs: Any) -> None:
    _percent(work, str(value), kwargs or args)


def _indented(work: Work, value: Any, width: Any = 4, *args: Any, **__: Any) -> None:
    each = len(width) if isinstance(width, str) else int(width)
    work.room(len(str(value)) + each * (str(value).count("\n") + str(value).count("\r") + 1))


def _joined(work: Work, items: Any, d: Any = "", attribute: Any = None) -> None:
    number = len(items) if hasattr(items, "__len__") else 0
    elements, characters = _size(items, LONGEST_VALUE) if attribute is None else (0, 0)
    work.room(characters + elements + number * len(str(d)))


def _replaced(work: Work, value: Any, old: Any = "", new: Any = "", *args: Any, **__: Any) -> None:
    text, old = str(value), str(old)
    work.room(len(text) + (text.count(old) if old else len(text) + 1) * len(str(new)))


def _rounded(work: Work, _: Any, precision: Any = 0, *args: Any, **__: Any) -> None:
    if isinstance(precision, int) and abs(precision) > 100:
        raise TooMuch("a number is rounded to more than 100 digits")


def _summed(work: Work, items: Any, attribute: Any = None, start: Any = 0) -> None:
    if not isinstance(start, _NUMBERS):
        raise TooMuch("only numbers can be summed up")


def _tagged(work: Work, value: Any) -> None:
    if len(str(value)) > 20_000:
        raise TooMuch("a text is too long to take its tags out")


def _jsoned(work: Work, value: Any, indent: Any = None) -> None:
    elements, characters = _size(value, LONGEST_VALUE)
    spaces = len(indent) if isinstance(indent, str) else indent or 0
    if spaces > 16:
        raise TooMuch("JSON is indented by more than 16")
    work.room(characters + elements * (1 + spaces * 4))


def _wrapped(
    work: Work, value: Any, width: Any = 79, break_long_words: Any = True, wrapstring: Any = None,
    *args: Any,
) -> None:  # fmt: skip
    work.room(len(str(value)) * (1 + len(wrapstring or "") // max(1, int(width))) + len(str(value)))


Estimate = Callable[..., None]
_FILTERS: Mapping[str, Estimate] = {
    **dict.fromkeys(
        (
            "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape",
            "filesizeformat", "first", "float", "forceescape", "groupby", "int", "items", "last",
            "length", "list", "lower", "map", "max", "min", "random", "reject", "rejectattr",
            "reverse", "safe", "select", "selectattr", "slice", "sort", "string", "title", "trim",
            "truncate", "unique", "upper", "urlencode", "wordcount", "xmlattr",
        ),
        _fits,
    ),
    "batch": _batched,
    "center": _padded,
    "format": _formatted,
    "indent": _indented,
    "join": _joined,
    "replace": _replaced,
    "round": _rounded,
    "striptags": _tagged,
    "sum": _summed,
    "tojson": _jsoned,
    "wordwrap": _wrapped,
}  # fmt: skip
# What takes the whole of an iterator anyway, and is judged by its length.
_WHOLE = frozenset({"batch", "join", "slice", "sum", "tojson"})


def _str_join(work: Work, sep: str, items: Any = ()) -> None:
    _joined(work, items, sep)


_METHODS: Mapping[type, Mapping[str, Estimate]] = {
    str: {
        **dict.fromkeys(
            (
                "capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha",
                "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric",
                "isprintable", "isspace", "istitle", "isupper", "lower", "lstrip", "partition",
                "removeprefix", "removesuffix", "rfind", "rindex", "rpartition", "rsplit", "rstrip",
                "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper",
            ),
            _fits,
        ),
        "center": _padded, "ljust": _padded, "rjust": _padded, "zfill": _padded,
        "join": _str_join,
        "replace": _replaced,
    },
    int: dict.fromkeys(("bit_length",), _fits),
    float: dict.fromkeys(("is_integer",), _fits),
    dict: dict.fromkeys(
        ("clear", "copy", "get", "items", "keys", "pop", "setdefault", "update", "values"), _fits
    ),
    list: dict.fromkeys(
        ("append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove",
         "reverse"),
        _fits,
    ),
    tuple: dict.fromkeys(("count", "index"), _fits),
}  # fmt: skip
# What Jinja passes along with the arguments of a call.
_OF_JINJA = ("_loop_vars", "_block_vars")
_CLASSES = (dict, Cycler, Joiner, Namespace)


def _filter(function: Callable[..., Any], estimate: Estimate, *, whole: bool) -> Any:
    """A filter or test, counted and judged. It takes the context, so that nothing is worked out
    while the template is compiled, where nothing is counted."""
    wanted = _PassArg.from_obj(function)

    @pass_context
    def bounded(context: Context, /, *given: Any, **kwargs: Any) -> Any:
        work = _work(context)
        work.step()
        value, *args = given or (None,)
        if whole and isinstance(value, Iterator):
            value = work.made(list(value))
        for each in (value, *args, *kwargs.values()):
            if not isinstance(each, Iterator):
                work.look(each)
        estimate(work, value, *args, **kwargs)
        first: tuple[Any, ...] = ()
        if wanted is _PassArg.context:
            first = (context,)
        elif wanted is _PassArg.eval_context:
            first = (context.eval_ctx,)
        elif wanted is _PassArg.environment:
            first = (context.environment,)
        return work.made(function(*first, value, *args, **kwargs))

    return bounded


_BOUNDED_FILTERS = {
    name: _filter(FILTERS[name], estimate, whole=name in _WHOLE)
    for name, estimate in _FILTERS.items()
}
_TESTS: Mapping[str, Any] = TESTS
_BOUNDED_TESTS = {name: _filter(test, _fits, whole=False) for name, test in _TESTS.items()}


# -- the tree of a template --------------------------------------------------------------------


class _Counted(NodeTransformer):
    """Puts the counting where Jinja has no seam for it: loops, lists, comparisons, plain text.

    `folds`: constant expressions become text, as where the compiler works them out.
    """

    def __init__(self, *, folds: bool) -> None:
        self._folds = folds

    def _call(self, name: str, args: list[Any], line: int) -> nodes.Call:
        work = nodes.Name(_WORK, "load", lineno=line)
        method = nodes.Getattr(work, name, "load", lineno=line)
        return nodes.Call(method, args, [], None, None, lineno=line)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        if node.name == _WORK:
            raise TemplateSyntaxError(f"`{_WORK}` is no name for a template", node.lineno)
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
        if depth > _DEEPEST or loops > _DEEPEST_LOOPS:
            raise TemplateSyntaxError("it is nested too deeply", line)
        number = node.value if isinstance(node, nodes.Const) else 0
        if isinstance(number, int) and number.bit_length() > _MOST_BITS:
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
            work = _work(context)
            work.step()
            work.made(value)
            return value if shown is None else work.made(shown(value))

        super().__init__(*args, finalize=finalize, **kwargs)
        self._immutable = immutable
        self._folds = folds
        self.filters = dict(_BOUNDED_FILTERS)
        self.tests = dict(_BOUNDED_TESTS)
        del self.globals["lipsum"]

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """A filter that makes little more than it is given."""
        self.filters[name] = _filter(function, _fits, whole=False)

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
            return _Formatter(self).vformat(str(text), () if mapped else args, given)

        return call

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(obj, "__self__", None)
        given = {name: each for name, each in kwargs.items() if name not in _OF_JINJA}
        if isinstance(owner, Work):
            return obj(*args)
        work = _work(context)
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
        methods = next((found for kind, found in _METHODS.items() if isinstance(owner, kind)), {})
        estimate = methods.get(method.__name__)
        if estimate is None:
            raise TooMuch(f"a template can't call `{method.__name__}`")
        work.look(owner)
        estimate(work, owner, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        work = _work(context)
        work.step()
        work.look(left)
        work.look(right)
        if judge := _BINARY.get(operator):
            judge(work, left, right)
        return work.made(super().call_binop(context, operator, left, right))


def work() -> dict[str, Work]:
    """The variables that each rendering needs anew."""
    return {_WORK: Work()}


def line_of(error: BaseException) -> int | None:
    """The line of a template at which a rendering failed."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
