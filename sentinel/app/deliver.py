"""The outbox is emptied: claim, send outside of any transaction, mark.

At least once: a message may be sent again if this process dies between send and mark; it then
carries the same id. A channel that is slow, or that fails, holds up no other one.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from threading import Event as Flag

from sentinel.core.errors import DeliveryError, StoreError, WarehouseError
from sentinel.core.lifecycle import State
from sentinel.core.planning import ENDS, Notification, Status, handed_on, muted, retry_at
from sentinel.core.transport import SEND_DEADLINE
from sentinel.core.values import cut
from sentinel.ports import Attempt, Channel, Message, Receipt, Snapshot, Store

LEASE = SEND_DEADLINE * 3
# A message that is started later than this is given back: its delivery ends well before its claim.
_START_WITHIN = LEASE - 2 * SEND_DEADLINE
PATIENCE = timedelta(minutes=1)
_DEAD_AFTER = timedelta(hours=24)
_DEAD_TRIES = 5
_DEAD_PAUSE = timedelta(hours=1)
_AT_ONCE = 16
_AT_ONCE_PER_CHANNEL = 4
_LONGEST_RETRY_AFTER = timedelta(hours=1)
_LONGEST_ERROR = 1_000
# After so many failures in a row a channel is left alone for a while, and then tried by one message.
_BREAK_AFTER = 3
_SHORTEST_BREAK = 10.0
_LONGEST_BREAK = 600.0
# While it serves, it looks so often whether something was handed in.
_SERVE_PAUSE_S = 0.5
_LONGEST_REST_S = 5.0
_TAKEN_OVER = "its claim had run out, and another process has taken it over"


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
class _Line:
    """One channel's way out, in this process: what waits for it, and when it may go.

    Times are of the monotonic clock, in seconds.
    """

    channel: Channel | None
    queue: deque[tuple[float, Message]] = field(default_factory=deque)
    in_flight: int = 0
    next_start: float = 0.0
    failures: int = 0
    breaks: int = 0
    closed_until: float = 0.0
    last_error: str = ""

    def opens_at(self, now: float) -> float:
        """When the next message may go, as far as time decides it."""
        return max(self.next_start, self.closed_until, now)

    def ready(self, now: float) -> bool:
        most = 1 if self.breaks else _AT_ONCE_PER_CHANNEL
        return bool(self.queue) and self.in_flight < most and self.opens_at(now) <= now

    def start(self, now: float) -> tuple[float, Message]:
        self.in_flight += 1
        rate = self.channel.traits.per_second if self.channel else None
        if rate:
            self.next_start = max(now, self.next_start) + 1 / rate
        return self.queue.popleft()

    def done(self, came: Receipt | DeliveryError, now: float) -> None:
        """Count failures in a row; what is wrong with one message says nothing of the channel."""
        self.in_flight -= 1
        if isinstance(came, Receipt):
            self.failures = self.breaks = 0
            self.closed_until = 0.0
        elif not came.permanent:
            self.failures += 1
            self.last_error = came.message
            if came.retry_after is not None:
                pause = min(came.retry_after, _LONGEST_RETRY_AFTER).total_seconds()
                self.closed_until = max(self.closed_until, now + pause)
            if self.breaks or self.failures >= _BREAK_AFTER:
                pause = min(_SHORTEST_BREAK * 2**self.breaks, _LONGEST_BREAK)
                self.breaks += 1
                self.closed_until = max(self.closed_until, now + pause)


@dataclass
class Delivery:
    """The use case. `channels` are those of sentinel.yml; `scrub` takes secrets out of errors.

    `fallback` is the channel that is told of what another one could not deliver. What is known of
    failing channels is kept from one call to the next.
    """

    store: Store
    channels: Mapping[str, Channel]
    holder: str
    scrub: Callable[[str], str] = str
    progress: Callable[[str], None] = field(default=lambda _: None)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    fallback: str | None = None
    _lines: dict[str, _Line] = field(default_factory=dict)
    _inbox: SimpleQueue[Sequence[Notification]] = field(default_factory=SimpleQueue)
    _woken: Flag = field(default_factory=Flag)

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
        deadline = self.clock() + patience.total_seconds()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            batch = _Batch(wanted, deadline, pool)
            self._accept(claimed, self._looked_up(claimed), self._age(claimed))
            while self._step(batch):
                pass
        batch.tally.blocked(self._pending(batch))
        return batch.tally.delivered()

    # -- all the time --------------------------------------------------------------------------

    def configure(
        self, store: Store, channels: Mapping[str, Channel], fallback: str | None
    ) -> None:
        """Go on with these. What is being sent ends on what was there before."""
        self.store, self.channels, self.fallback = store, channels, fallback
        for name, line in list(self._lines.items()):
            line.channel = channels.get(name)

    def hand_in(self, claimed: Sequence[Notification]) -> None:
        """Rows that this holder has claimed already, to be sent by `serve`; from any thread."""
        if claimed:
            self._inbox.put(claimed)
            self._woken.set()

    def wake(self) -> None:
        """Let `serve` look at once; from any thread."""
        self._woken.set()

    def serve(
        self,
        stop: Flag,
        may_claim: Callable[[], bool],
        told: Callable[[Delivered], None],
        failed: Callable[[Exception], None],
        fine: Callable[[], None],
        interval: timedelta,
    ) -> None:
        """Send what is handed in, and every `interval` what else is due, until `stop`.

        `told` gets what became of messages, `failed` why the store can't be used just now, or what
        else went wrong, and `fine` is called when it can: what became of a message meanwhile is
        recorded later, since it is still this holder's. In the end what is being sent is finished,
        and what waits is given back.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            batch = _Batch(None, float("inf"), pool, longest_pause=_SERVE_PAUSE_S)
            look = 0.0
            while not stop.is_set():
                try:
                    self._take_in()
                    if self._woken.is_set() or self.clock() >= look:
                        self._woken.clear()
                        batch.exhausted = False
                        look = self.clock() + interval.total_seconds()
                    if may_claim() and batch.may_claim(self._in_hand()):
                        self._claim(batch)
                    self._give_back(batch)
                    self._start(batch)
                    if batch.work:
                        self._finish(batch)
                    self._mark(batch, ())
                    fine()
                    self._tell(batch, told)
                except Exception as error:  # noqa: BLE001 - nothing else may be left unsent
                    failed(error)
                    stop.wait(_SERVE_PAUSE_S)
                if not batch.work and not self._woken.is_set():
                    self._rest(look)
            self._end(batch)
            self._tell(batch, told)

    def _take_in(self) -> None:
        with suppress(Empty):
            while True:
                rows = self._inbox.get_nowait()
                try:
                    self._accept(rows, self._looked_up(rows), self._age(rows))
                except (StoreError, WarehouseError):
                    self._inbox.put(rows)
                    raise

    def _rest(self, look: float) -> None:
        """Wait until there is something to do, or something is handed in."""
        now = self.clock()
        opening = [line.opens_at(now) for line in self._lines.values() if line.queue]
        until = min([look, *opening])
        self._woken.wait(max(0.0, min(until - now, _LONGEST_REST_S)))

    @staticmethod
    def _tell(batch: _Batch, told: Callable[[Delivered], None]) -> None:
        delivered = batch.tally.delivered()
        batch.tally = _Tally()
        if delivered != Delivered():
            told(delivered)

    def _end(self, batch: _Batch) -> None:
        """Finish what is being sent; what waits here is free for others at once."""
        with suppress(StoreError, WarehouseError):
            self._take_in()
        try:
            while batch.work:
                self._finish(batch)
            moment = self.store.now()
            left = [message for line in self._lines.values() for _, message in line.queue]
            self._mark(batch, [(message, _untried(message, moment)) for message in left])
        except (StoreError, WarehouseError):
            return  # its claims run out by themselves
        for line in self._lines.values():
            line.queue.clear()

    def _step(self, batch: _Batch) -> bool:
        """Claim, start and finish what can be now, or wait; False when there is nothing left."""
        if batch.may_claim(self._in_hand()):
            self._claim(batch)
        self._give_back(batch)
        self._start(batch)
        if batch.work:
            self._finish(batch)
            return True
        now = self.clock()
        queued = [line.opens_at(now) for line in self._lines.values() if line.queue]
        if queued:
            self.sleep(max(0.01, min(queued) - now))
            return True
        return self._wait_for_next_try(batch)

    # -- taking --------------------------------------------------------------------------------

    def _claim(self, batch: _Batch) -> None:
        now = self.clock()
        # A channel that has enough to do takes nothing more; the others have room.
        busy = [name for name, line in self._lines.items() if line.queue or line.closed_until > now]
        room = _AT_ONCE - len(batch.work)
        rows = self.store.claim(self.holder, LEASE, room, batch.wanted, busy)
        batch.exhausted = not rows
        if not rows:
            return
        snapshot = self.store.snapshot({row.alert_id for row in rows}, {r.episode_id for r in rows})
        kept = self._unmuted(rows, snapshot, batch)
        self._accept(kept, snapshot)

    def _unmuted(
        self, rows: Sequence[Notification], snapshot: Snapshot, batch: _Batch
    ) -> list[Notification]:
        """Silence and acknowledgement are checked again: a row may have waited long."""
        states: dict[tuple[str, str], State] = {
            (state.alert_id, state.instance): state for state in snapshot.states
        }
        reasons = {}
        for row in rows:
            state = states.get((row.alert_id, row.instance))
            reason = muted(row, state, snapshot.silences, snapshot.now)
            if reason:
                reasons[row.notification_id] = reason
        if not reasons:
            return list(rows)
        cancelled = self.store.cancel(reasons, self.holder)
        batch.tally.cancelled(row for row in rows if row.notification_id in cancelled)
        return [row for row in rows if row.notification_id not in cancelled]

    def _looked_up(self, rows: Sequence[Notification]) -> Snapshot | None:
        """The ledger, where a channel has to know what it was sent before."""
        follows = {
            name
            for name in {row.channel for row in rows}
            if (channel := self.channels.get(name)) and channel.traits.follows
        }
        episodes = {row.episode_id for row in rows if row.channel in follows}
        return self.store.snapshot((), episodes) if episodes else None

    def _age(self, claimed: Sequence[Notification]) -> float:
        """For how many seconds rows have been claimed that another part of this process claimed."""
        ends = [row.claim_until for row in claimed if row.claim_until is not None]
        return (LEASE - (min(ends) - self.store.now())).total_seconds() if ends else 0.0

    def _accept(
        self, rows: Sequence[Notification], snapshot: Snapshot | None, age: float = 0.0
    ) -> None:
        """Claimed rows as messages, in the queues of their channels; claimed `age` seconds ago."""
        grouped: dict[str, list[Notification]] = {}
        for row in rows:
            grouped.setdefault(row.message_id, []).append(row)
        now = self.clock() - max(0.0, age)
        for message_id, parts in grouped.items():
            parts.sort(key=lambda row: row.urgency)
            name = parts[0].channel
            earlier = _earlier(parts, snapshot.ledger) if snapshot else {}
            message = Message(message_id, name, tuple(parts), earlier)
            self._line(name).queue.append((now, message))

    def _line(self, name: str) -> _Line:
        if name not in self._lines:
            self._lines[name] = _Line(self.channels.get(name))
        return self._lines[name]

    def _in_hand(self) -> frozenset[str]:
        return frozenset(
            message.message_id for line in self._lines.values() for _, message in line.queue
        )

    def _give_back(self, batch: _Batch) -> None:
        """What this process can't send before its claim runs out is left to later."""
        now, moment = self.clock(), None
        attempts: list[tuple[Message, Attempt]] = []
        for line in self._lines.values():
            closed = line.closed_until > now
            late = _START_WITHIN.total_seconds()
            for claimed_at, message in list(line.queue):
                if not closed and now - claimed_at < late:
                    continue
                line.queue.remove((claimed_at, message))
                moment = moment or self.store.now()
                pause = max(0.0, line.closed_until - now)
                words = f"not tried, since the channel fails: {self.scrub(line.last_error)}"
                attempt = replace(
                    _untried(message, moment + timedelta(seconds=pause)),
                    error=cut(words, _LONGEST_ERROR) if closed else None,
                )
                attempts.append((message, attempt))
        self._mark(batch, attempts)

    # -- sending -------------------------------------------------------------------------------

    def _send(self, line: _Line, message: Message) -> Receipt | DeliveryError:
        if line.channel is None:
            return DeliveryError(
                f"the channel {message.channel!r} is no longer in sentinel.yml", permanent=True
            )
        try:
            return line.channel.send(message)
        except DeliveryError as error:
            return error
        except BaseException as error:  # noqa: BLE001 - a fault of one channel is none of the others'
            return _fault(error)

    def _start(self, batch: _Batch) -> None:
        """Start what may go now."""
        now = self.clock()
        for line in self._lines.values():
            while len(batch.work) < _AT_ONCE and line.ready(now):
                _, message = line.start(now)
                batch.work[batch.pool.submit(self._send, line, message)] = (line, message)

    def _finish(self, batch: _Batch) -> None:
        """Wait for the next answers, and mark what became of their messages, several together
        where the store is slow to write."""
        until: float | None = None
        while batch.work:
            pause = self._pause(until)
            if batch.longest_pause is not None:
                pause = batch.longest_pause if pause is None else min(pause, batch.longest_pause)
            wait(batch.work, timeout=pause, return_when=FIRST_COMPLETED)
            # Only this thread uses the store: one process can't open DuckDB in two ways.
            for future in [each for each in batch.work if each.done()]:
                line, message = batch.work[future]
                came = future.result()
                # Where the store fails here, the answer is looked at again.
                try:
                    attempt = self._attempt(message, came)
                except (StoreError, WarehouseError):
                    raise
                except Exception as error:  # noqa: BLE001 - a fault of one message is none of the others'
                    attempt = self._attempt(message, _fault(error))
                del batch.work[future]
                line.done(came, self.clock())
                batch.unmarked.append((message, attempt))
            if until is None:
                until = self.clock() + self.store.linger.total_seconds()
            if self.clock() >= until:
                break
            self._start(batch)
        self._mark(batch, ())

    def _pause(self, until: float | None) -> float | None:
        """How long to wait for an answer, in seconds: until something else is to be done."""
        now = self.clock()
        times = [line.opens_at(now) for line in self._lines.values() if line.queue]
        times = [each for each in times if each > now] + ([until] if until is not None else [])
        return max(0.0, min(times) - now) if times else None

    def _mark(self, batch: _Batch, attempts: Sequence[tuple[Message, Attempt]]) -> None:
        """Record attempts, and those that could not be recorded before."""
        attempts = batch.unmarked = [*batch.unmarked, *attempts]
        if not attempts:
            return
        held = self.store.mark(
            {
                message.message_id: (message.notifications[0].claim_token or 0, attempt)
                for message, attempt in attempts
            }
        )
        batch.unmarked = []
        for message, attempt in attempts:
            if message.message_id not in held:
                batch.tally.add(message, Attempt(Status.PENDING, error=_TAKEN_OVER))
                continue
            batch.tally.add(message, attempt)
            batch.want(row.message_id for row in attempt.handed_on)
        batch.exhausted = False

    def _attempt(self, message: Message, came: Receipt | DeliveryError) -> Attempt:
        done = tuple(sorted(message.recipients_done.union(came.recipients_done)))
        if isinstance(came, Receipt):
            name = came.remote_ref
            # A receiver may answer with a secret; then the message goes without its name.
            clean = name if name is None or self.scrub(name) == name else None
            return Attempt(Status.SENT, remote_ref=clean, recipients_done=done)
        first = message.notifications[0]
        now = self.store.now()
        words = cut(self.scrub(came.message), _LONGEST_ERROR)
        old = now - first.created_at >= _DEAD_AFTER and first.attempts >= _DEAD_TRIES
        if came.permanent or old:
            return Attempt(
                Status.DEAD,
                error=words,
                not_before=now + _DEAD_PAUSE,
                recipients_done=done,
                handed_on=tuple(self._handed_on(message, words, now)),
            )
        again = retry_at(now, first.attempts, random.random())  # noqa: S311 - jitter, no secret
        if came.retry_after is not None:
            again = max(again, now + min(came.retry_after, _LONGEST_RETRY_AFTER))
        return Attempt(Status.PENDING, error=words, not_before=again, recipients_done=done)

    def _handed_on(self, message: Message, error: str, now: datetime) -> list[Notification]:
        if self.fallback is None or message.channel == self.fallback:
            return []
        dead = [replace(row, last_error=error) for row in message.notifications]
        ended = {row.episode_id for row in dead if row.event in ENDS}
        ledger = self.store.snapshot((), ended).ledger if ended else ()
        return handed_on(dead, self.fallback, now, ledger)

    # -- waiting -------------------------------------------------------------------------------

    def _wait_for_next_try(self, batch: _Batch) -> bool:
        """Wait for what is to be tried again, if it comes in time."""
        if not batch.tally.next_try:
            return not batch.exhausted and batch.may_claim(frozenset())
        now, clock = self.store.now(), self.clock()
        pauses = [
            max((moment - now).total_seconds(), self._line(channel).closed_until - clock)
            for channel, moment in batch.tally.next_tries()
        ]
        pause = max(0.1, min(pauses))
        if pause > batch.deadline - clock:
            return False
        self.progress(
            f"messages not accepted yet: {len(batch.tally.next_try)}; trying again in {pause:.0f} s"
        )
        self.sleep(pause)
        batch.exhausted = False
        return True

    def _pending(self, batch: _Batch) -> list[Notification]:
        """What has not even been tried."""
        seen, wanted = batch.tally.seen, batch.wanted
        if wanted is not None and not wanted - seen:
            return []
        return [
            row
            for row in self.store.notifications([Status.PENDING])
            if row.message_id not in seen and (wanted is None or row.message_id in wanted)
        ]


@dataclass
class _Batch:
    """One call: what is wanted, what is being sent, what became of it."""

    wanted: frozenset[str] | None
    deadline: float
    pool: ThreadPoolExecutor
    tally: _Tally = field(default_factory=lambda: _Tally())
    work: dict[Future[Receipt | DeliveryError], tuple[_Line, Message]] = field(default_factory=dict)
    exhausted: bool = False
    longest_pause: float | None = None
    unmarked: list[tuple[Message, Attempt]] = field(default_factory=list)

    def may_claim(self, queued: frozenset[str]) -> bool:
        """Whether there is something to claim, as far as is known."""
        if self.exhausted or len(self.work) >= _AT_ONCE:
            return False
        if self.wanted is None:
            return True
        going = {message.message_id for _, message in self.work.values()}
        return bool(self.wanted - self.tally.finished - queued - going)

    def want(self, message_ids: Iterable[str]) -> None:
        if self.wanted is not None:
            self.wanted = self.wanted.union(message_ids)


def _fault(error: BaseException) -> DeliveryError:
    """What a channel should not have raised; without its words: nobody knows what they hold."""
    return DeliveryError(f"a fault of the channel: unexpected {type(error).__name__}")


def _untried(message: Message, not_before: datetime) -> Attempt:
    """A message that is given back without an attempt."""
    return Attempt(
        Status.PENDING,
        not_before=not_before,
        recipients_done=tuple(sorted(message.recipients_done)),
        tried=False,
    )


def _earlier(rows: Iterable[Notification], ledger: Iterable[Notification]) -> dict[str, str]:
    """What the receiver called the first message of each episode, by episode id."""
    mine = {(row.episode_id, row.channel) for row in rows}
    found: dict[str, str] = {}
    for row in sorted(ledger, key=lambda row: row.created_at):
        if (row.episode_id, row.channel) in mine and row.remote_ref:
            found.setdefault(row.episode_id, row.remote_ref)
    return found


def preclaim(
    new: Sequence[Notification],
    ledger: Iterable[Notification],
    holder: str,
    now: datetime,
) -> tuple[Notification, ...]:
    """New notifications, claimed by who is about to send them in the same transaction they come by.

    It spares a transaction, which on some warehouses costs seconds. As many as are sent at once,
    and only those that no earlier row of their episode and channel holds up.
    """
    first = {(row.episode_id, row.channel): "" for row in ledger if not row.status.finished}
    for row in sorted(new, key=lambda row: row.created_at):
        first.setdefault((row.episode_id, row.channel), row.message_id)
    held_up = {
        row.message_id for row in new if first[row.episode_id, row.channel] != row.message_id
    }
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
        if attempt.not_before and attempt.status is Status.PENDING:
            self.next_try[message.message_id] = attempt.not_before
        else:
            self.next_try.pop(message.message_id, None)

    def next_tries(self) -> list[tuple[str, datetime]]:
        """The channel of each message that is to be tried again, and from when on."""
        channels = {row.message_id: row.channel for row in self.rows.values()}
        return [(channels[key], moment) for key, moment in self.next_try.items()]

    def cancelled(self, rows: Iterable[Notification]) -> None:
        """Rows that are not told after all."""
        for row in rows:
            self.rows[row.notification_id] = row
            self.status[row.notification_id] = Status.CANCELLED

    def blocked(self, rows: Iterable[Notification]) -> None:
        """Rows that could not even be claimed: their time, or their turn, has not come."""
        for row in rows:
            self.rows[row.notification_id] = row
            self.status[row.notification_id] = Status.PENDING
            self.errors[row.message_id] = row.last_error or "it has to wait for an earlier message"

    def delivered(self) -> Delivered:
        def those(wanted: Status) -> tuple[Notification, ...]:
            return tuple(row for key, row in self.rows.items() if self.status[key] is wanted)

        sent, waiting, dead = map(those, (Status.SENT, Status.PENDING, Status.DEAD))
        return Delivered(sent, waiting, dead, self.errors)
