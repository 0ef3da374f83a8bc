"""Claims: who sends which rows of the outbox, until when."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sentinel.core.notification import Notification, Status, muted
from sentinel.core.state import State
from sentinel.core.transport import SEND_DEADLINE
from sentinel.ports import DeliveryStore, Message, Snapshot

LEASE = SEND_DEADLINE * 3
# A message that is started later than this is given back: its delivery ends well before its claim.
START_WITHIN = LEASE - 2 * SEND_DEADLINE
PARALLEL_SENDS = 16


def preclaim(
    new: Sequence[Notification],
    ledger: Iterable[Notification],
    holder: str,
    now: datetime,
) -> tuple[Notification, ...]:
    """New notifications, claimed by `holder` in the transaction that writes them.

    It spares a transaction, which on some warehouses costs seconds. As many as are sent in parallel,
    and only those that no earlier row of their episode and channel holds up.
    """
    first = {(row.episode_id, row.channel): "" for row in ledger if not row.status.finished}
    for row in sorted(new, key=lambda row: row.created_at):
        first.setdefault((row.episode_id, row.channel), row.message_id)
    held_up = {
        row.message_id for row in new if first[row.episode_id, row.channel] != row.message_id
    }
    free = dict.fromkeys(row.message_id for row in new if row.message_id not in held_up)
    claimed = set(list(free)[:PARALLEL_SENDS])
    return tuple(
        replace(
            row,
            status=Status.CLAIMED,
            claimed_by=holder,
            claim_token=1,
            claim_until=now + LEASE,
            attempts=1,
        )
        if row.message_id in claimed
        else row
        for row in new
    )


@dataclass(frozen=True)
class Claimed:
    """Messages to send, and rows that were cancelled instead; `rows` is how many were claimed."""

    messages: tuple[Message, ...] = ()
    cancelled: tuple[Notification, ...] = ()
    rows: int = 0


@dataclass(frozen=True)
class Claims:
    """Claims rows of the outbox for one holder.

    `follows` says whether a channel has to know what its receiver called earlier messages. Every
    method raises StoreError.
    """

    store: DeliveryStore
    holder: str
    follows: Callable[[str], bool]

    def take(self, room: int, only: Collection[str] | None, busy: Sequence[str]) -> Claimed:
        """Claim about `room` rows that are due, none of the `busy` channels; `only` are message ids."""
        rows = self.store.claim(self.holder, LEASE, room, only, busy)
        if not rows:
            return Claimed()
        snapshot = self.store.snapshot({row.alert_id for row in rows}, {r.episode_id for r in rows})
        cancelled = self._cancel_muted(rows, snapshot)
        kept = [row for row in rows if row.notification_id not in cancelled]
        return Claimed(
            tuple(messages_of(kept, snapshot.ledger)),
            tuple(row for row in rows if row.notification_id in cancelled),
            len(rows),
        )

    def adopt(self, rows: Sequence[Notification]) -> tuple[list[Message], float]:
        """Messages of rows that were claimed for this holder, and for how many seconds they have been."""
        ends = [row.claim_until for row in rows if row.claim_until is not None]
        episodes = {row.episode_id for row in rows if self.follows(row.channel)}
        ledger = self.store.snapshot((), episodes).ledger if episodes else ()
        age = (LEASE - (min(ends) - self.store.now())).total_seconds() if ends else 0.0
        return messages_of(rows, ledger), max(0.0, age)

    def _cancel_muted(self, rows: Sequence[Notification], snapshot: Snapshot) -> frozenset[str]:
        """Silence and acknowledgement are checked again: a row may have waited long."""
        states: dict[tuple[str, str], State] = {
            (state.alert_id, state.instance): state for state in snapshot.states
        }
        reasons: dict[str, str] = {}
        for row in rows:
            state = states.get((row.alert_id, row.instance))
            reason = muted(row, state, snapshot.silences, snapshot.now)
            if reason:
                reasons[row.notification_id] = reason
        return self.store.cancel(reasons, self.holder) if reasons else frozenset()


def messages_of(rows: Iterable[Notification], ledger: Iterable[Notification] = ()) -> list[Message]:
    """Claimed rows as the messages that they make up."""
    grouped: dict[str, list[Notification]] = {}
    for row in rows:
        grouped.setdefault(row.message_id, []).append(row)
    kept = tuple(ledger)
    return [
        Message(
            message_id,
            parts[0].channel,
            tuple(sorted(parts, key=lambda row: row.urgency)),
            _earlier(parts, kept),
        )
        for message_id, parts in grouped.items()
    ]


def _earlier(rows: Iterable[Notification], ledger: Iterable[Notification]) -> Mapping[str, str]:
    """What the receiver called the first message of each episode, by episode id."""
    threads = {(row.episode_id, row.channel) for row in rows}
    references: dict[str, str] = {}
    for row in sorted(ledger, key=lambda row: row.created_at):
        if (row.episode_id, row.channel) in threads and row.remote_ref:
            references.setdefault(row.episode_id, row.remote_ref)
    return references
