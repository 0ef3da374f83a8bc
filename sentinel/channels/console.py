"""`console`: messages on standard error, where people and container logs see them."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import Field

from sentinel.channels.contract import ChannelContext, ChannelSettings
from sentinel.channels.escape import cut, line, plain
from sentinel.channels.template import Template
from sentinel.channels.text import details, headline
from sentinel.core.routing import Traits
from sentinel.ports import Message, Receipt

_DETAIL = 10_000


class ConsoleChannel:
    """Writes each message as a few lines of text."""

    class Settings(ChannelSettings):
        """The keys of a channel of the type `console`."""

        template: str | None = Field(None, description="A template of the project for the text.")

    traits = Traits()

    @classmethod
    def traits_for(cls, keys: Collection[str]) -> Traits:
        return cls.traits

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        self.name = name
        self._say = around.say
        path = settings.template
        self._template = Template.load("template", path, around, plain) if path else None

    def send(self, message: Message) -> Receipt:
        if self._template:
            self._say(self._template.render(message))
            return Receipt()
        lines = []
        for notification in message.notifications:
            payload = notification.payload
            lines.append(line(headline(payload)))
            for label, text in details(payload):
                first, *rest = plain(cut(text, _DETAIL)).splitlines()
                lines.append(f"  {label + ':':<9} {first}")
                lines += [f"  {'':<9} {more}" for more in rest]
        self._say("\n".join(lines))
        return Receipt()
