"""`console`: messages on standard error, where people and container logs see them."""

from __future__ import annotations

from sentinel.channels.contract import ChannelContext, ChannelSettings
from sentinel.channels.text import details, headline
from sentinel.ports import Message, Receipt


class ConsoleChannel:
    """Writes each message as a few lines of text."""

    class Settings(ChannelSettings):
        """No keys but `type`."""

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        self.name = name
        self._say = around.say

    def send(self, message: Message) -> Receipt:
        lines = []
        for notification in message.notifications:
            payload = notification.payload
            lines.append(headline(payload))
            for label, text in details(payload):
                first, *rest = text.splitlines()
                lines.append(f"  {label + ':':<9} {first}")
                lines += [f"  {'':<9} {line}" for line in rest]
        self._say("\n".join(lines))
        return Receipt()
