"""Channels that post JSON, with a real receiver on loopback."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.fakes import notification, payload

from .contract import SECRET, RemoteUnderTest
from .examples import HttpExample
from .receiver import Receiver, closed_port


@dataclass
class PostUnderTest(RemoteUnderTest):
    """A channel with a `url`; what arrives are JSON bodies."""

    example: ClassVar[HttpExample]

    receiver: Receiver = field(default_factory=Receiver)
    key: str = "url"

    def __post_init__(self) -> None:
        self.kind = self.example.kind
        self.receiver.accepts = self.example.accepts
        self.values = {self.key: self.receiver.url, "allow_private": True, **self.values}

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(got.body) for got in self.receiver.got]

    def break_down(self) -> None:
        place = f"http://user:{SECRET}@127.0.0.1:{closed_port()}/{SECRET}?k={SECRET}"
        self.values[self.key] = place


def many(number: int, **others: Any) -> list[Any]:
    """Notifications of one message, each of an alert of its own."""
    return [
        notification(
            f"episode {place}",
            message_id="together",
            alert_id=f"model.shop.alert_{place}",
            payload=payload(alert=f"alert_{place:04}", **others),
        )
        for place in range(number)
    ]
