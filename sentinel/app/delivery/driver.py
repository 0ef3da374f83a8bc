"""Moves messages from claim to mark: the one loop behind a single delivery and the daemon's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta

from sentinel.app.delivery.attempts import Attempts, send, unexpected
from sentinel.app.delivery.channel_queue import ChannelQueue, ChannelQueues
from sentinel.app.delivery.claims import PARALLEL_SENDS, START_WITHIN, Claims
from sentinel.app.delivery.result import DeliveryResult, Tally
from sentinel.core.errors import DeliveryError, StoreError, WarehouseError
from sentinel.core.notification import Status
from sentinel.ports import Attempt, DeliveryStore, Message, Receipt

_CLAIM_LOST = "its claim had run out, and another process has taken it over"


@dataclass(frozen=True)
class Resources:
    """What a driver works with until the next reload."""

    store: DeliveryStore
    claims: Claims
    attempts: Attempts


class Driver:
    """Claims, sends and marks in turns; only the thread that calls it uses the store.

    `resources` is asked anew in each turn. `wanted` are the ids of the only messages to send (None:
    all that are due). A turn waits for answers at most `longest_pause` seconds. Every method raises
    StoreError; what could not be marked then is marked in a later turn, since the claim still holds.
    """

    def __init__(
        self,
        queues: ChannelQueues,
        resources: Callable[[], Resources],
        clock: Callable[[], float],
        pool: ThreadPoolExecutor,
        wanted: frozenset[str] | None = None,
        longest_pause: float | None = None,
    ) -> None:
        self._queues = queues
        self._resources = resources
        self._clock = clock
        self._pool = pool
        self._longest_pause = longest_pause
        self._in_flight: dict[Future[Receipt | DeliveryError], tuple[ChannelQueue, Message]] = {}
        self._unmarked: list[tuple[Message, Attempt]] = []
        self.wanted = wanted
        self.tally = Tally()
        self.exhausted = False  # whether the last claim found nothing, until something changes

    @property
    def is_sending(self) -> bool:
        return bool(self._in_flight)

    @property
    def may_claim(self) -> bool:
        """Whether there may be messages to claim."""
        if self.exhausted or len(self._in_flight) >= PARALLEL_SENDS:
            return False
        if self.wanted is None:
            return True
        sending = {message.message_id for _, message in self._in_flight.values()}
        queued = {message.message_id for message in self._queues.waiting}
        return bool(self.wanted - self.tally.finished - queued - sending)

    def accept(self, messages: Iterable[Message], age: float = 0.0) -> None:
        """Queue messages that were claimed `age` seconds ago."""
        claimed_at = self._clock() - age
        for message in messages:
            self._queues.add(message, claimed_at)

    def turn(self, *, may_claim: bool = True) -> bool:
        """Claim, start and finish what can be now; whether anything was sent."""
        resources = self._resources()
        if may_claim and self.may_claim:
            self._claim(resources)
        self._give_back(resources)
        self._start()
        started = self.is_sending
        if started:
            self._finish(resources)
        self._mark(resources, ())
        return started

    def end(self) -> None:
        """Finish running deliveries and release waiting messages, so that others can send them."""
        resources = self._resources()
        while self.is_sending:
            self._finish(resources)
        now = resources.store.now()
        given_back = [
            (message, resources.attempts.given_back(message, now))
            for message in self._queues.waiting
        ]
        self._mark(resources, given_back)
        self._queues.clear()

    def take_results(self) -> DeliveryResult:
        """The results since the last call."""
        delivered = self.tally.delivered()
        self.tally = Tally()
        return delivered

    def _claim(self, resources: Resources) -> None:
        # A channel that has enough to do takes nothing more; the others have room.
        busy = self._queues.busy(self._clock())
        room = PARALLEL_SENDS - len(self._in_flight)
        claimed = resources.claims.take(room, self.wanted, busy)
        self.exhausted = not claimed.rows
        self.tally.add_cancelled(claimed.cancelled)
        self.accept(claimed.messages)

    def _give_back(self, resources: Resources) -> None:
        """Release messages that this process can't send before its claim ends."""
        now, moment = self._clock(), None
        attempts: list[tuple[Message, Attempt]] = []
        for queue in self._queues:
            error = queue.last_error if queue.is_closed(now) else None
            for message in queue.take_back(now, START_WITHIN.total_seconds()):
                moment = moment or resources.store.now()
                not_before = moment + timedelta(seconds=max(0.0, queue.closed_until - now))
                attempts.append(
                    (message, resources.attempts.given_back(message, not_before, error))
                )
        self._mark(resources, attempts)

    def _start(self) -> None:
        """Start what may be sent now."""
        now = self._clock()
        for queue in self._queues:
            while len(self._in_flight) < PARALLEL_SENDS and queue.may_start(now):
                message = queue.start(now)
                sending = self._pool.submit(send, queue.channel, message)
                self._in_flight[sending] = (queue, message)

    def _finish(self, resources: Resources) -> None:
        """Wait for the next answers, and mark their messages, several together where the store is
        slow to write."""
        until: float | None = None
        while self.is_sending:
            wait(self._in_flight, timeout=self._pause(until), return_when=FIRST_COMPLETED)
            # Only this thread uses the store: one process can't open DuckDB in two ways.
            for done in [each for each in self._in_flight if each.done()]:
                queue, message = self._in_flight[done]
                answer = done.result()
                # Where the store fails here, the answer is read again in a later turn.
                try:
                    attempt = resources.attempts.of(message, answer)
                except (StoreError, WarehouseError):
                    raise
                except Exception as error:  # noqa: BLE001 - a fault of one message is none of the others'
                    attempt = resources.attempts.of(message, unexpected(error))
                del self._in_flight[done]
                queue.finish(answer, self._clock())
                self._unmarked.append((message, attempt))
            if until is None:
                until = self._clock() + resources.store.mark_delay.total_seconds()
            if self._clock() >= until:
                break
            self._start()
        self._mark(resources, ())

    def _pause(self, until: float | None) -> float | None:
        """How long to wait for an answer, in seconds: until something else is to be done."""
        now = self._clock()
        times = [each for each in self._queues.openings(now) if each > now]
        if until is not None:
            times.append(until)
        pauses = [max(0.0, min(times) - now)] if times else []
        if self._longest_pause is not None:
            pauses.append(self._longest_pause)
        return min(pauses, default=None)

    def _mark(self, resources: Resources, attempts: Sequence[tuple[Message, Attempt]]) -> None:
        """Record attempts, and those that could not be recorded before."""
        self._unmarked += attempts
        if not self._unmarked:
            return
        held = resources.store.mark(
            {
                message.message_id: (message.notifications[0].claim_token or 0, attempt)
                for message, attempt in self._unmarked
            }
        )
        marked, self._unmarked = self._unmarked, []
        for message, attempt in marked:
            if message.message_id not in held:
                self.tally.add(message, Attempt(Status.PENDING, error=_CLAIM_LOST))
                continue
            self.tally.add(message, attempt)
            if self.wanted is not None:
                self.wanted = self.wanted.union(row.message_id for row in attempt.handed_on)
        self.exhausted = False
