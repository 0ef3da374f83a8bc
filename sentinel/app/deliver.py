"""The outbox is emptied: claim, send outside of any transaction, mark.

At least once: a message may be sent again if this process dies between send and mark; it then
carries the same id.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sentinel.core.errors import DeliveryError
from sentinel.core.planning import Notification, Status, retry_at
from sentinel.ports import Attempt, Channel, Message, Receipt, Store

SEND_DEADLINE = timedelta(seconds=30)
LEASE = SEND_DEADLINE * 3
PATIENCE = timedelta(minutes=1)
_DEAD_AFTER = timedelta(hours=24)
_DEAD_TRIES = 5
_AT_ONCE = 16
_LONGEST_RETRY_AFTER = timedelta(hours=1)


@dataclass(frozen=True)
class Delivered:
    """What became of messages: the notification rows by their last known status."""

    sent: tuple[Notification, ...] = ()
    waiting: tuple[Notification, ...] = ()
    dead: tuple[Notification, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.waiting and not self.dead


@dataclass
class Delivery:
    """The use case. `channels` are those of sentinel.yml; `scrub` takes secrets out of errors."""

    store: Store
    channels: Mapping[str, Channel]
    holder: str
    scrub: Callable[[str], str] = str
    progress: Callable[[str], None] = field(default=lambda _: None)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def __call__(
        self,
        only: Iterable[str] | None = None,
        patience: timedelta = PATIENCE,
        claimed: Sequence[Notification] = (),
    ) -> Delivered:
        """Send what is due, and wait up to `patience` for what has to be tried again.

        `only` names the messages that are sent and waited for; `claimed` are those of them that
        this holder has claimed already. Raises StoreError.
        """
        wanted = None if only is None else frozenset(only)
        if wanted is not None and not wanted:
            return Delivered()
        tally = _Tally()
        deadline = self.clock() + patience.total_seconds()
        wave = claimed
        while True:
            if not wave and (wanted is None or wanted - tally.finished):
                wave = self.store.claim(self.holder, LEASE, _AT_ONCE, wanted)
            again = {row.message_id for row in wave} <= tally.errors.keys()
            for message, attempt in self._send_all(wave):
                tally.add(message, attempt)
            left = deadline - self.clock()
            sent, wave = bool(wave), ()
            if sent and (left > 0 or not again):
                continue
            if not tally.next_try:
                break
            next_try = min(tally.next_try.values())
            pause = max(0.1, (next_try - self.store.now()).total_seconds())
            if pause > left:
                break
            self.progress(
                f"messages not accepted yet: {len(tally.next_try)}; trying again in {pause:.0f} s"
            )
            self.sleep(pause)
        if wanted is not None:
            tally.blocked(self._pending(wanted - tally.seen))
        return tally.delivered()

    def _pending(self, message_ids: frozenset[str]) -> list[Notification]:
        if not message_ids:
            return []
        rows = self.store.notifications([Status.PENDING])
        return [row for row in rows if row.message_id in message_ids]

    def _send_all(self, claimed: Sequence[Notification]) -> Iterator[tuple[Message, Attempt]]:
        """Send at once, and mark each message as soon as it is known what became of it."""
        grouped: dict[str, list[Notification]] = {}
        for row in claimed:
            grouped.setdefault(row.message_id, []).append(row)
        messages = [
            Message(message_id, rows[0].channel, tuple(rows))
            for message_id, rows in grouped.items()
        ]
        if not messages:
            return
        with ThreadPoolExecutor(len(messages)) as pool:
            work = {pool.submit(self._send, message): message for message in messages}
            left = set(work)
            while left:
                wait(left, return_when=FIRST_COMPLETED)
                done, left = wait(left, timeout=self.store.linger.total_seconds())
                # Only this thread uses the store: one process can't open DuckDB in two ways.
                attempts = [(work[each], self._attempt(work[each], each.result())) for each in done]
                self.store.mark(
                    {
                        message.message_id: (message.notifications[0].claim_token or 0, attempt)
                        for message, attempt in attempts
                    }
                )
                yield from attempts

    def _send(self, message: Message) -> Receipt | DeliveryError:
        channel = self.channels.get(message.channel)
        if channel is None:
            return DeliveryError(
                f"the channel {message.channel!r} is no longer in sentinel.yml", permanent=True
            )
        try:
            return channel.send(message)
        except DeliveryError as error:
            return error

    def _attempt(self, message: Message, came: Receipt | DeliveryError) -> Attempt:
        if isinstance(came, Receipt):
            return Attempt(Status.SENT, remote_ref=came.remote_ref)
        first = message.notifications[0]
        now = self.store.now()
        words = self.scrub(came.message)
        old = now - first.created_at >= _DEAD_AFTER and first.attempts >= _DEAD_TRIES
        if came.permanent or old:
            return Attempt(Status.DEAD, error=words)
        again = retry_at(now, first.attempts, random.random())  # noqa: S311 - jitter, no secret
        if came.retry_after is not None:
            again = max(again, now + min(came.retry_after, _LONGEST_RETRY_AFTER))
        return Attempt(Status.PENDING, error=words, not_before=again)


def claimed_at_birth(
    new: Sequence[Notification],
    ledger: Iterable[Notification],
    holder: str,
    now: datetime,
) -> tuple[Notification, ...]:
    """New notifications, claimed by who is about to send them in the same transaction they come by.

    It spares a transaction, which on some warehouses costs seconds. As many as are sent at once,
    and only those that no earlier row of their episode and channel holds up.
    """
    busy = {(row.episode_id, row.channel) for row in ledger if not row.status.finished}
    held_up = {row.message_id for row in new if (row.episode_id, row.channel) in busy}
    free = dict.fromkeys(row.message_id for row in new if row.message_id not in held_up)
    taken = set(list(free)[:_AT_ONCE])
    return tuple(
        replace(
            row,
            status=Status.CLAIMED,
            claimed_by=holder,
            claim_token=1,
            claim_until=now + LEASE,
            attempts=1,
        )
        if row.message_id in taken
        else row
        for row in new
    )


@dataclass
class _Tally:
    """What became of the messages so far."""

    rows: dict[str, Notification] = field(default_factory=dict)
    status: dict[str, Status] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    next_try: dict[str, datetime] = field(default_factory=dict)

    @property
    def seen(self) -> frozenset[str]:
        return frozenset(row.message_id for row in self.rows.values())

    @property
    def finished(self) -> frozenset[str]:
        return frozenset(
            row.message_id for key, row in self.rows.items() if self.status[key].finished
        )

    def add(self, message: Message, attempt: Attempt) -> None:
        for row in message.notifications:
            self.rows[row.notification_id] = row
            self.status[row.notification_id] = attempt.status
        if attempt.error:
            self.errors[message.message_id] = attempt.error
        if attempt.not_before:
            self.next_try[message.message_id] = attempt.not_before
        else:
            self.next_try.pop(message.message_id, None)

    def blocked(self, rows: Iterable[Notification]) -> None:
        """Rows that could not even be claimed: their time, or their turn, has not come."""
        for row in rows:
            self.rows[row.notification_id] = row
            self.status[row.notification_id] = Status.PENDING
            waiting = "an earlier message of the same episode is still waiting"
            self.errors[row.message_id] = row.last_error or waiting

    def delivered(self) -> Delivered:
        def those(wanted: Status) -> tuple[Notification, ...]:
            return tuple(row for key, row in self.rows.items() if self.status[key] is wanted)

        sent, waiting, dead = map(those, (Status.SENT, Status.PENDING, Status.DEAD))
        return Delivered(sent, waiting, dead, self.errors)
