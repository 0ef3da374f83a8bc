"""The outbox is emptied: claim, send outside of any transaction, mark.

At least once: a message may be sent again if this process dies between send and mark; it then
carries the same id.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sentinel.core.errors import DeliveryError
from sentinel.core.planning import Notification, Status, retry_at
from sentinel.ports import Attempt, Channel, Message, Store

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

    def __call__(
        self, only: Iterable[str] | None = None, patience: timedelta = PATIENCE
    ) -> Delivered:
        """Send what is due, and wait up to `patience` for what has to be tried again.

        `only` names the messages that are waited for. Raises StoreError.
        """
        wanted = None if only is None else frozenset(only)
        if wanted is not None and not wanted:
            return Delivered()
        rows: dict[str, Notification] = {}
        status: dict[str, Status] = {}
        errors: dict[str, str] = {}
        next_try: dict[str, datetime] = {}
        deadline = time.monotonic() + patience.total_seconds()
        while True:
            claimed = self.store.claim(self.holder, LEASE, _AT_ONCE, wanted)
            for message, attempt in self._send_all(claimed):
                for row in message.notifications:
                    rows[row.notification_id] = row
                    status[row.notification_id] = attempt.status
                if attempt.error:
                    errors[message.message_id] = attempt.error
                if attempt.not_before:
                    next_try[message.message_id] = attempt.not_before
                else:
                    next_try.pop(message.message_id, None)
            if claimed:
                continue
            if not next_try or time.monotonic() >= deadline:
                break
            wait = (min(next_try.values()) - self.store.now()).total_seconds()
            wait = max(0.1, min(wait, deadline - time.monotonic()))
            self.progress(
                f"{len(next_try)} messages not accepted yet; trying again in {wait:.0f} s"
            )
            self.sleep(wait)

        def those(wanted_status: Status) -> tuple[Notification, ...]:
            return tuple(row for key, row in rows.items() if status[key] is wanted_status)

        return Delivered(those(Status.SENT), those(Status.PENDING), those(Status.DEAD), errors)

    def _send_all(self, claimed: Sequence[Notification]) -> list[tuple[Message, Attempt]]:
        grouped: dict[str, list[Notification]] = {}
        for row in claimed:
            grouped.setdefault(row.message_id, []).append(row)
        messages = [
            Message(message_id, rows[0].channel, tuple(rows))
            for message_id, rows in grouped.items()
        ]
        if not messages:
            return []
        with ThreadPoolExecutor(len(messages)) as pool:
            attempts = list(pool.map(self._send, messages))
        for message, attempt in zip(messages, attempts, strict=True):
            self.store.mark(message.notifications, attempt)
        return list(zip(messages, attempts, strict=True))

    def _send(self, message: Message) -> Attempt:
        channel = self.channels.get(message.channel)
        try:
            if channel is None:
                raise DeliveryError(
                    f"the channel {message.channel!r} is no longer in sentinel.yml", permanent=True
                )
            receipt = channel.send(message)
        except DeliveryError as error:
            return self._failed(message, error)
        return Attempt(Status.SENT, remote_ref=receipt.remote_ref)

    def _failed(self, message: Message, error: DeliveryError) -> Attempt:
        first = message.notifications[0]
        now = self.store.now()
        words = self.scrub(error.message)
        old = now - first.created_at >= _DEAD_AFTER and first.attempts >= _DEAD_TRIES
        if error.permanent or old:
            return Attempt(Status.DEAD, error=words)
        if error.retry_after is not None:
            again = now + min(error.retry_after, _LONGEST_RETRY_AFTER)
        else:
            again = retry_at(now, first.attempts, random.random())  # noqa: S311 - jitter, no secret
        return Attempt(Status.PENDING, error=words, not_before=again)
