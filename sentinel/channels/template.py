"""Texts that a project writes itself, in Jinja's sandbox, each value escaped for its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2 import Template as JinjaTemplate
from jinja2.meta import find_undeclared_variables

from sentinel import files
from sentinel.channels.contract import ChannelContext, SettingFault
from sentinel.channels.text import details, headline, moment
from sentinel.core.errors import DeliveryError
from sentinel.core.jinja import FAILURES, LONGEST_SOURCE, BoundedEnvironment, line_of, work
from sentinel.core.numbers import amount
from sentinel.ports import Message

VARIABLES = ("notifications", "first", "headline", "details", "amount", "moment")


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
        folder = around.project_dir.resolve()
        # Of a file elsewhere, which may be no template at all, an error quotes nothing.
        quotes = (folder / path).resolve().is_relative_to(folder)
        try:
            text = files.read(folder / path, most=LONGEST_SOURCE).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise SettingFault(key, f"the template {path} can't be read: {reason}") from None
        environment = BoundedEnvironment(
            undefined=StrictUndefined,
            shown=lambda value: "" if value is None else escape(value),
            keep_trailing_newline=False,
            autoescape=False,  # `shown` escapes, for whatever format it is
        )
        environment.globals.update(headline=headline, details=details, amount=amount, moment=moment)
        try:
            tree = environment.parse(text)
            for line, words in _faults(tree):
                shown = words if quotes else "it is no template"
                raise SettingFault(key, f"{path}:{line}: {shown}")
            return cls(path, environment.from_string(tree))
        except TemplateSyntaxError as error:
            why = f": {error.message}" if quotes else ""
            words = f"{path}:{error.lineno}: the template is not Jinja{why}"
            raise SettingFault(key, words) from None

    def render(self, message: Message) -> str:
        """The text for a message. Raises DeliveryError, permanent, if the template fails."""
        payloads = [row.payload for row in message.notifications]
        try:
            return self._template.render(notifications=payloads, first=payloads[0], **work())
        except FAILURES as error:
            line = line_of(error)
            place = f"{self.path}:{line}" if line else self.path
            words = f"the template {place} can't be rendered: {error or type(error).__name__}"
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
    """The names that an expression refers to literally."""
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
