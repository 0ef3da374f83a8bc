"""A channel that fails when a test wants it to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sentinel.core.errors import (
    DeliveryError,
)
from sentinel.core.routing import Traits
from sentinel.ports import (
    Message,
    Receipt,
)


@dataclass
class FakeChannel:
    """A channel that fails as told, one entry of `failures` a message, and then accepts all."""

    name: str = "log"
    traits: Traits = field(default_factory=lambda: Traits(groups=False))
    failures: list[DeliveryError] = field(default_factory=list)
    always: DeliveryError | None = None
    before: Callable[[Message], None] = field(default=lambda _: None)
    tried: list[Message] = field(default_factory=list)
    accepted: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> Receipt:
        self.tried.append(message)
        self.before(message)
        if self.always:
            raise self.always
        if self.failures:
            raise self.failures.pop(0)
        self.accepted.append(message)
        return Receipt(f"ref-{len(self.accepted)}")

    @property
    def sent(self) -> list[str]:
        """The events that were accepted, in order."""
        return [str(row.event) for message in self.accepted for row in message.notifications]
