"""Texts that a project writes itself, in Jinja's sandbox, each value escaped for its format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2 import Template as JinjaTemplate
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sentinel.channels.contract import ChannelContext, SettingFault
from sentinel.channels.text import amount, details, headline
from sentinel.core.errors import DeliveryError
from sentinel.ports import Message

VARIABLES = ("notifications", "first", "headline", "details", "amount")


@dataclass(frozen=True)
class Template:
    """A file of the project. In it stand `notifications` (the payloads of one message), `first`
    (the first of them), and the functions `headline`, `details` and `amount`."""

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
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined,
            finalize=lambda value: "" if value is None else escape(value),
            keep_trailing_newline=False,
            autoescape=False,  # `finalize` escapes, for whatever format it is
        )
        environment.globals.update(headline=headline, details=details, amount=amount)
        try:
            tree = environment.parse(text)
            for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
                _refuse_private(node, key, path)
            return cls(path, environment.from_string(tree))
        except TemplateSyntaxError as error:
            words = f"{path}:{error.lineno}: the template is not Jinja: {error.message}"
            raise SettingFault(key, words) from None

    def render(self, message: Message) -> str:
        """The text for a message. Raises DeliveryError, permanent, if the template fails."""
        payloads = [row.payload for row in message.notifications]
        try:
            return self._template.render(notifications=payloads, first=payloads[0])
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            words = f"the template {self.path} can't be rendered: {error}"
            raise DeliveryError(words, permanent=True) from None


def _refuse_private(node: nodes.Node, key: str, path: str) -> None:
    name: object = None
    if isinstance(node, nodes.Getattr):
        name = node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        name = node.arg.value
    if isinstance(name, str) and name.startswith("_"):
        raise SettingFault(key, f"{path}:{node.lineno}: a template has no access to `{name}`")
