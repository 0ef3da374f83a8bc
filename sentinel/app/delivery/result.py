"""The results of a delivery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sentinel.core.notification import Notification, Status
from sentinel.ports import Attempt, Message


@dataclass(frozen=True)
class DeliveryResult:
    """Notification rows by their last known status; `errors` are by message id."""

    sent: tuple[Notification, ...] = ()
    waiting: tuple[Notification, ...] = ()
    dead: tuple[Notification, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.waiting and not self.dead


@dataclass
class Tally:
    """The messages of one call so far, and their last attempts."""

    rows: dict[str, Notification] = field(default_factory=dict)
    status: dict[str, Status] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    next_try: dict[str, datetime] = field(default_factory=dict)

    @property
    def message_ids(self) -> frozenset[str]:
        return frozenset(row.message_id for row in self.rows.values())

    @property
    def finished(self) -> frozenset[str]:
        """The ids of messages that nothing more happens to."""
        return frozenset(
            row.message_id for key, row in self.rows.items() if self.status[key].finished
        )

    def add(self, message: Message, attempt: Attempt) -> None:
        for row in message.notifications:
            self.rows[row.notification_id] = row
            self.status[row.notification_id] = attempt.status
        if attempt.error:
            self.errors[message.message_id] = attempt.error
        if attempt.not_before and attempt.status is Status.PENDING:
            self.next_try[message.message_id] = attempt.not_before
        else:
            self.next_try.pop(message.message_id, None)

    def add_cancelled(self, rows: Iterable[Notification]) -> None:
        """Add rows that a silence or an acknowledgement muted before they were sent."""
        for row in rows:
            self.rows[row.notification_id] = row
            self.status[row.notification_id] = Status.CANCELLED

    def add_blocked(self, rows: Iterable[Notification]) -> None:
        """Add rows that couldn't be claimed yet: they wait for their time, or for an earlier row."""
        for row in rows:
            self.rows[row.notification_id] = row
            self.status[row.notification_id] = Status.PENDING
            self.errors[row.message_id] = row.last_error or "it has to wait for an earlier message"

    def next_tries(self) -> list[tuple[str, datetime]]:
        """The channel of each message that is retried, and from when on."""
        channels = {row.message_id: row.channel for row in self.rows.values()}
        return [(channels[key], moment) for key, moment in self.next_try.items()]

    def delivered(self) -> DeliveryResult:
        def rows_in(wanted: Status) -> tuple[Notification, ...]:
            return tuple(row for key, row in self.rows.items() if self.status[key] is wanted)

        sent, waiting, dead = map(rows_in, (Status.SENT, Status.PENDING, Status.DEAD))
        return DeliveryResult(sent, waiting, dead, self.errors)
