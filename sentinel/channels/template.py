"""Texts that a project writes itself, in Jinja's sandbox, each value escaped for its format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2 import Template as JinjaTemplate
from jinja2.exceptions import SecurityError
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sentinel.channels.contract import ChannelContext, SettingFault
from sentinel.channels.text import amount, details, headline, moment
from sentinel.core.errors import DeliveryError
from sentinel.ports import Message

VARIABLES = ("notifications", "first", "headline", "details", "amount", "moment")
# A message of fifty takes some hundreds.
MOST_STEPS = 100_000
_LONGEST = 1_000_000
_STEPS = "sentinel_steps"
# What a template may raise besides Jinja's own errors: it calls functions and counts like Python.
_FAILURES = (
    TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError,
    RuntimeError, MemoryError,
)  # fmt: skip


class _Steps:
    """Counts the rounds of all loops, and all calls, of one rendering: none goes on for ever."""

    def __init__(self) -> None:
        self._left = MOST_STEPS

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise SecurityError(f"it takes more than {MOST_STEPS:,} steps")

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        for each in items:
            self.take()
            yield each


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**"})

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        context[_STEPS].take()
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" and not (numbers and abs(right) <= 100):
            raise SecurityError("a power of more than 100 is too much for a template")
        if operator == "*" and not numbers:
            size, times = (len(left), right) if hasattr(left, "__len__") else (len(right), left)
            if size * times > _LONGEST:
                raise SecurityError("a text is repeated too often")
        return super().call_binop(context, operator, left, right)


@dataclass(frozen=True)
class Template:
    """A file of the project. In it stand `notifications` (the payloads of one message), `first`
    (the first of them), and the functions `headline`, `details`, `amount` and `moment`."""

    path: str
    _template: JinjaTemplate

    @classmethod
    def load(
        cls, key: str, path: str, around: ChannelContext, escape: Callable[[object], str]
    ) -> Template:
        """Read a template; `path` is relative to the project, `key` the setting that names it.

        Raises SettingFault with the template's file and line if it can't be read or isn't Jinja, if
        it reaches for what no template may have, or uses a variable that there never is.
        """
        try:
            text = (around.project_dir / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise SettingFault(key, f"the template {path} can't be read: {reason}") from None
        environment = _Environment(
            undefined=StrictUndefined,
            finalize=lambda value: "" if value is None else escape(value),
            keep_trailing_newline=False,
            autoescape=False,  # `finalize` escapes, for whatever format it is
        )
        del environment.globals["lipsum"]
        environment.globals.update(headline=headline, details=details, amount=amount, moment=moment)
        try:
            tree = environment.parse(text)
            for line, words in _faults(tree):
                raise SettingFault(key, f"{path}:{line}: {words}")
            for loop in tree.find_all(nodes.For):
                counted = nodes.Name(_STEPS, "load")
                loop.iter = nodes.Call(counted, [loop.iter], [], None, None, lineno=loop.lineno)
            return cls(path, environment.from_string(tree))
        except TemplateSyntaxError as error:
            words = f"{path}:{error.lineno}: the template is not Jinja: {error.message}"
            raise SettingFault(key, words) from None
        except RecursionError:
            words = f"{path}: the template is nested too deeply"
            raise SettingFault(key, words) from None

    def render(self, message: Message) -> str:
        """The text for a message. Raises DeliveryError, permanent, if the template fails."""
        payloads = [row.payload for row in message.notifications]
        try:
            return self._template.render(
                notifications=payloads, first=payloads[0], **{_STEPS: _Steps()}
            )
        except _FAILURES as error:
            words = f"the template {self.path} can't be rendered: {error or type(error).__name__}"
            raise DeliveryError(words, permanent=True) from None


def _faults(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    """What a template must not hold, each with its line."""
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Filter)):
        for name in _reached(node):
            if name.startswith("_"):
                yield node.lineno, f"a template has no access to `{name}`"
    for taken in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        yield taken.lineno, "a template can't take in other files"
    unknown = find_undeclared_variables(tree) - set(VARIABLES)
    for named in tree.find_all(nodes.Name):
        if named.name in unknown:
            known = ", ".join(VARIABLES)
            yield named.lineno, f"there is no `{named.name}` in a template; there are {known}"


def _reached(node: nodes.Node) -> Iterator[str]:
    """The names that an expression reaches for, as far as they stand there."""
    if isinstance(node, nodes.Getattr):
        yield node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        yield str(node.arg.value)
    elif isinstance(node, nodes.Filter):
        given = [*node.args, *(each.value for each in node.kwargs)]
        if node.name in ("attr", "map", "selectattr", "rejectattr", "sort", "groupby"):
            for each in given:
                if isinstance(each, nodes.Const):
                    yield from str(each.value).split(".")
