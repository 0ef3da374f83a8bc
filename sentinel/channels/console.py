"""`console`: messages on standard error, where people and container logs see them."""

from __future__ import annotations

from pydantic import Field

from sentinel.channels.contract import BaseChannel, ChannelContext, ChannelSettings
from sentinel.channels.escape import cut
from sentinel.channels.template import Template
from sentinel.channels.text import details, headline
from sentinel.core.errors import DeliveryError
from sentinel.core.text import line, plain
from sentinel.ports import Message, Receipt

_DETAIL = 10_000


class ConsoleChannel(BaseChannel):
    """Writes each message as a few lines of text."""

    class Settings(ChannelSettings):
        """The keys of a channel of the type `console`."""

        template: str | None = Field(None, description="A template of the project for the text.")

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        super().__init__(name)
        self._say = around.say
        path = settings.template
        self._template = Template.load("template", path, around, line) if path else None

    def send(self, message: Message) -> Receipt:
        try:
            self._say(self._text(message))
        except OSError as error:
            # Later, or in another process, there may be a disk or a reader that takes it.
            raise DeliveryError(
                f"standard error can't be written: {error.strerror or type(error).__name__}"
            ) from None
        return Receipt()

    def _text(self, message: Message) -> str:
        if self._template:
            return self._template.render(message)
        lines = []
        for notification in message.notifications:
            payload = notification.payload
            lines.append(line(headline(payload)))
            for label, text in details(payload):
                first, *rest = plain(cut(text, _DETAIL)).splitlines()
                lines.append(f"  {label + ':':<9} {first}")
                lines += [f"  {'':<9} | {more}" for more in rest]
        return "\n".join(lines)
