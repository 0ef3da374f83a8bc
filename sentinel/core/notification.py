"""Notifications: rows of the outbox, which doubles as the delivery ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sentinel.core.severity import Severity
from sentinel.core.silence import Silence
from sentinel.core.state import Event, State


class Status(StrEnum):
    """A notification's delivery status."""

    PENDING = "pending"
    CLAIMED = "claimed"
    SENT = "sent"
    DEAD = "dead"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self not in (Status.PENDING, Status.CLAIMED)


# The most notifications in one message: what a chat still shows whole.
MOST_IN_ONE = 50


FIRED_AND_RESOLVED = "fired_and_resolved"


# Events of an open episode.
OPENING = (Event.FIRING, Event.SEVERITY, Event.REMINDER, Event.ESCALATION)


ENDS = (Event.RESOLVED, Event.ERROR_RESOLVED)


@dataclass(frozen=True)
class Notification:
    """One row of sentinel_notifications: the columns, in their order."""

    notification_id: str
    message_id: str
    project: str
    channel: str
    event: Event
    n: int
    episode_id: str
    alert_id: str
    instance: str
    incident_id: str | None
    reason: str
    payload: Mapping[str, Any]
    status: Status
    created_at: datetime
    not_before: datetime
    attempts: int = 0
    claimed_by: str | None = None
    claim_token: int | None = None
    claim_until: datetime | None = None
    recipients_done: Sequence[str] = ()
    remote_ref: str | None = None
    last_error: str | None = None
    sent_at: datetime | None = None

    @property
    def urgency(self) -> tuple[int, int, str, str]:
        """A sort key within a message: what is open before what is over, the worst first."""
        over = self.event in ENDS
        rank = Severity(self.payload["severity"]).rank
        return (int(over), -rank, self.payload["alert"], self.instance)


Ledger = Mapping[tuple[str, str], Sequence[Notification]]


def ledger_of(rows: Iterable[Notification]) -> Ledger:
    """The rows of the outbox by episode and channel."""
    ledger: dict[tuple[str, str], list[Notification]] = {}
    for row in rows:
        ledger.setdefault((row.episode_id, row.channel), []).append(row)
    return ledger


def muted(
    row: Notification, state: State | None, silences: Sequence[Silence], now: datetime
) -> str:
    """Why a notification must not be sent after all; '' if it can be sent.

    `state` is the row of its instance as it is now.
    """
    if row.event in (Event.REMINDER, Event.ESCALATION) and state and state.acked_at:
        return "acknowledged"
    if row.event in (*OPENING, Event.ERROR) and not row.payload.get("undeliverable"):
        names = (row.alert_id, row.payload["unique_id"])
        where = row.payload["dimensions"] if row.event is not Event.ERROR else {}
        if any(each.mutes(names, where, now) for each in silences):
            return "silenced"
    return ""


def retry_at(now: datetime, attempt: int, spread: float) -> datetime:
    """When to try again: exponential backoff with full jitter, at most ten minutes.

    `attempt` counts from 1, `spread` is a random number in [0, 1). The formula is "full jitter" of
    Marc Brooker, Exponential Backoff And Jitter (AWS Architecture Blog, 2015).
    """
    ceiling = min(2.0 ** min(attempt, 10), 600.0)
    return now + timedelta(seconds=max(0.5, spread * ceiling))
