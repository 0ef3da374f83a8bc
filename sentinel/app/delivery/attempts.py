"""What a channel's answer means for a message: sent, retried later, or dead."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sentinel.app.delivery.channel_queue import LONGEST_RETRY_AFTER
from sentinel.core.errors import DeliveryError
from sentinel.core.fallback import rows_for_fallback
from sentinel.core.notification import ENDS, Notification, Status, retry_at
from sentinel.core.values import cut
from sentinel.ports import Attempt, Channel, Message, Receipt, StateReader

_DEAD_AFTER = timedelta(hours=24)
_DEAD_TRIES = 5
_DEAD_PAUSE = timedelta(hours=1)
_LONGEST_ERROR = 1_000


@dataclass(frozen=True)
class Attempts:
    """Turns answers into attempts to record.

    `scrub` takes secrets out of errors. `fallback` is the channel that gets what another one could
    not deliver. Every method raises StoreError.
    """

    store: StateReader
    scrub: Callable[[str], str]
    fallback: str | None = None

    def of(self, message: Message, answer: Receipt | DeliveryError) -> Attempt:
        """The attempt that an answer makes; where that fails unexpectedly, an error of the channel."""
        done = tuple(sorted(message.recipients_done.union(answer.recipients_done)))
        if isinstance(answer, Receipt):
            name = answer.remote_ref
            # A receiver may answer with a secret; then the message goes without its name.
            clean = name if name is None or self.scrub(name) == name else None
            return Attempt(Status.SENT, remote_ref=clean, recipients_done=done)
        first = message.notifications[0]
        now = self.store.now()
        error = cut(self.scrub(answer.message), _LONGEST_ERROR)
        old = now - first.created_at >= _DEAD_AFTER and first.attempts >= _DEAD_TRIES
        if answer.permanent or old:
            return Attempt(
                Status.DEAD,
                error=error,
                not_before=now + _DEAD_PAUSE,
                recipients_done=done,
                handed_on=tuple(self._hand_on(message, error, now)),
            )
        again = retry_at(now, first.attempts, random.random())  # noqa: S311 - jitter, no secret
        if answer.retry_after is not None:
            again = max(again, now + min(answer.retry_after, LONGEST_RETRY_AFTER))
        return Attempt(Status.PENDING, error=error, not_before=again, recipients_done=done)

    def given_back(
        self, message: Message, not_before: datetime, last_error: str | None = None
    ) -> Attempt:
        """A message that is not tried now; with the channel's `last_error` if its breaker is open."""
        error = None
        if last_error is not None:
            error = f"not tried, since the channel fails: {self.scrub(last_error)}"
        return Attempt(
            Status.PENDING,
            error=error and cut(error, _LONGEST_ERROR),
            not_before=not_before,
            recipients_done=tuple(sorted(message.recipients_done)),
            tried=False,
        )

    def _hand_on(self, message: Message, error: str, now: datetime) -> list[Notification]:
        if self.fallback is None or message.channel == self.fallback:
            return []
        dead = [replace(row, last_error=error) for row in message.notifications]
        ended = {row.episode_id for row in dead if row.event in ENDS}
        ledger = self.store.snapshot((), ended).ledger if ended else ()
        return rows_for_fallback(dead, self.fallback, now, ledger)


def send(channel: Channel | None, message: Message) -> Receipt | DeliveryError:
    """The channel's answer. An unexpected error is one of the channel, and stops no other."""
    if channel is None:
        return DeliveryError(
            f"the channel {message.channel!r} is no longer in sentinel.yml", permanent=True
        )
    try:
        return channel.send(message)
    except DeliveryError as error:
        return error
    except BaseException as error:  # noqa: BLE001 - a fault of one channel is none of the others'
        return unexpected(error)


def unexpected(error: BaseException) -> DeliveryError:
    """What a channel should not have raised; without its words: nobody knows what they hold."""
    return DeliveryError(f"a fault of the channel: unexpected {type(error).__name__}")
