"""The daemon: what is due is evaluated at its time, what comes by time is told, all is delivered.

One job of APScheduler has the next start of all alerts as its trigger, so that everything due at
one moment is one batch. Batches don't wait for each other. Another job plans for what needs no
query. Deliveries run all the time. Of several daemons on one store one leads; a leader that was
stopped for too long is fenced off by its lease, and what it had not recorded is due elsewhere.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from apscheduler.executors.pool import ThreadPoolExecutor as JobPool
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from sentinel.app.alerts import Alerts
from sentinel.app.batch import BatchOptions, Evaluated
from sentinel.app.delivery.delivery import Delivery
from sentinel.app.delivery.result import Delivered
from sentinel.app.evaluate import Evaluation
from sentinel.app.problems import Log, Problems, Throttle
from sentinel.app.project_health import record_project
from sentinel.app.threads import Threads
from sentinel.app.timed_planning import TimedPlan, TimedPlanning
from sentinel.core.alert import BrokenAlert, row_ids
from sentinel.core.due import Due, Slot, Timetable, last_slots
from sentinel.core.errors import (
    ConfigError,
    LeaseLost,
    ProjectError,
    SentinelError,
    StateConflict,
    StoreError,
    WarehouseError,
    WarehouseLocked,
)
from sentinel.core.evaluation import Outcome
from sentinel.core.planning import Notification
from sentinel.core.routing import Routing
from sentinel.core.values import isoformat
from sentinel.ports import Channel, Leadership, Lease, Outbox, Store

_PULSE_S = 1.0
# By how much the clock may run differently before it counts as set.
_STEP_S = 2.0
# What is seen of quick alerts waits so long for the slow ones of their batch.
_PATIENCE = timedelta(seconds=3)
_BATCHES = 8
_SOONEST_AGAIN = timedelta(seconds=2)
_LATEST_AGAIN = timedelta(minutes=1)
_LONELY = timedelta(seconds=5)
_RELOAD_AGAIN_S = 30.0
_ALIVE_S = 60.0


class Instruments(Protocol):
    """What is counted. Each method is told after the fact, from any thread."""

    def evaluated(self, part: Evaluated, slots: Mapping[str, Slot]) -> None: ...
    def tended(self, tended: TimedPlan) -> None: ...
    def delivered(self, delivered: Delivered) -> None: ...
    def outbox(self, outbox: Outbox, now: datetime) -> None: ...
    def loaded(self, alerts: Alerts | None) -> None: ...
    def leads(self, leading: bool) -> None: ...


@dataclass(frozen=True)
class Loaded:
    """One good reading of project and configuration: parts that belong together.

    `told` are the channels that hear of a project that can't be read. `heartbeat` posts to the
    URL of the configuration, every `beat`.
    """

    alerts: Alerts
    evaluation: Evaluation
    tending: TimedPlanning
    store: Store
    project: str
    routing: Routing
    channels: Mapping[str, Channel]
    fallback: str | None = None
    threads: int = 1
    told: tuple[str, ...] = ()
    heartbeat: Callable[[], None] | None = None
    beat: timedelta = timedelta(minutes=1)


@dataclass(frozen=True)
class Pace:
    """How often and how long, as the configuration has it."""

    plan_interval: timedelta = timedelta(seconds=30)
    drain_timeout: timedelta = timedelta(seconds=25)
    lease_ttl: timedelta = timedelta(seconds=30)
    delivery_interval: timedelta = timedelta(seconds=2)


@dataclass(frozen=True)
class Condition:
    """How the daemon is. `problems` are what keeps it from its work, by what they concern."""

    alive: bool
    ready: bool
    leading: bool
    alerts: int
    loaded_at: datetime | None
    next_start: datetime | None
    problems: Mapping[str, str]


class _NextStart(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """The next start of all alerts: the union of their slots."""

    def __init__(self, next_start: Callable[[], datetime | None]) -> None:
        self._next = next_start

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        start = self._next() or now + timedelta(minutes=1)
        # What is due stays so until the job has taken it: a trigger has to move on all the same.
        return start if previous is None else max(start, previous + timedelta(seconds=_PULSE_S))


@dataclass
class _Running:
    """What is under way: alert ids to the slot they are evaluated for."""

    slots: dict[str, datetime] = field(default_factory=dict)
    batches: set[Future[None]] = field(default_factory=set)


class Daemon:
    """The use case. `load` reads project and configuration anew; it raises SentinelError.

    `clock` is this machine's, in UTC: it decides when to look. What is recorded goes by the store's.
    """

    def __init__(
        self,
        load: Callable[[], Loaded],
        leadership: Leadership,
        make_delivery: Callable[[Loaded], Delivery],
        instruments: Instruments,
        log: Log,
        holder: str,
        pace: Pace,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        threads: Threads | None = None,
    ) -> None:
        self._load = load
        self._leadership = leadership
        self._make_delivery = make_delivery
        self._delivery: Delivery | None = None
        self._instruments = instruments
        self._log = log
        self._holder = holder
        self._pace = pace
        self._clock = clock
        self._lock = threading.RLock()
        self._timetable = Timetable()
        self._running = _Running()
        self._loaded: Loaded | None = None
        self._loaded_at: datetime | None = None
        self._leading = False
        self._token: int | None = None
        self._led_at = 0.0
        self._problems = Problems(log)
        self._faults = Throttle()
        self._tries: dict[str, int] = {}
        self._reload = threading.Event()
        self._threads = threads or Threads(log)
        self._stop = self._threads.stopping
        self._pulse = math.inf  # reading the project for the first time may take long
        self._scheduler: BlockingScheduler | None = None
        self._alone = threading.Lock()
        self._election = threading.Lock()
        self._batches = ThreadPoolExecutor(_BATCHES, thread_name_prefix="batch")

    # -- from outside ------------------------------------------------------------------------------

    def load_first(self) -> None:
        """Read project and configuration for the first time.

        Raises ConfigError: nobody but a person can mend it. Anything else is tried again later.
        """
        try:
            self._take(self._load())
        except ConfigError:
            raise
        except SentinelError as error:
            self._problems.found("project", error)

    def run(self) -> None:
        """Work until `stop`; then finish what is under way."""
        self._start()
        before, wall = time.monotonic(), self._clock()
        self._pulse = before
        while not self._stop.wait(_PULSE_S):
            try:
                before, wall = self._look_around(before, wall)
            except Exception as error:  # noqa: BLE001 - who looks after the others has to go on
                self._fault(error)
        self._drain()

    def _look_around(self, before: float, wall: datetime) -> tuple[float, datetime]:
        """Every second: start threads anew that have ended, and look at the clocks."""
        self._threads.look()
        now, moment = time.monotonic(), self._clock()
        drift = (moment - wall).total_seconds() - (now - before)
        if abs(drift) > _STEP_S:
            self._log.warning("clock was set or stood still", seconds=round(drift, 1))
            self._look_anew()
        self._pulse = now
        return now, moment

    def stop(self) -> None:
        """Ask it to stop. Safe in a signal handler."""
        self._stop.set()

    def reload(self) -> None:
        """Ask it to read project and configuration anew. Safe in a signal handler."""
        self._reload.set()

    def condition(self) -> Condition:
        """How it is, now."""
        with self._lock:
            loaded, problems = self._loaded, self._problems.current()
            alive = time.monotonic() - self._pulse < _ALIVE_S and self._threads.alive
            worked = loaded is not None and (self._leading or "lease" not in problems)
            return Condition(
                alive,
                alive and worked and not problems.keys() & {"store", "warehouse", "lease"},
                self._leading,
                len(loaded.alerts.all) if loaded else 0,
                self._loaded_at,
                self._timetable.next() if self._leading else None,
                problems,
            )

    def settle(self, timeout: float | None = None) -> None:
        """Wait, for so many seconds at the most, until no batch is under way."""
        with self._lock:
            batches = list(self._running.batches)
        wait(batches, timeout)

    @property
    def loaded(self) -> Loaded | None:
        """What it works on: the last good reading."""
        return self._loaded

    # -- threads -----------------------------------------------------------------------------------

    def _start(self) -> None:
        for work in (
            self._keep_scheduling,
            self._keep_leading,
            self._keep_loaded,
            self._keep_delivering,
            self._beat,
        ):
            self._threads.start(work.__name__.strip("_"), work)

    def _keep_scheduling(self) -> None:
        """APScheduler's loop, which has two jobs."""
        scheduler = BlockingScheduler(
            timezone=UTC,
            executors={"default": JobPool(4)},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        scheduler.add_job(self.start_due, _NextStart(self._next_start), id="slots")
        scheduler.add_job(self.tend, self._tending_times(), id="tend")
        self._scheduler = scheduler
        try:
            if not self._stop.is_set():
                scheduler.start()
        finally:
            self._scheduler = None
            with suppress(Exception):
                scheduler.shutdown(wait=False)

    def _tending_times(self) -> IntervalTrigger:
        return IntervalTrigger(seconds=self._pace.plan_interval.total_seconds())

    def _fault(self, error: BaseException) -> None:
        left_out = self._faults.admit(type(error).__name__)
        if left_out is not None:
            words = f"unexpected {type(error).__name__}: this is a fault of Sentinel"
            self._log.error("fault", error=words, left_out=left_out or None, exc_info=error)

    def _alert_fault(self, alert: str, error: Exception) -> None:
        words = f"unexpected {type(error).__name__}"
        self._log.error("fault", alert=alert, error=words, exc_info=error)

    def _next_start(self) -> datetime | None:
        with self._lock:
            return self._timetable.next() if self._leading else None

    def _look_anew(self) -> None:
        """The timetable has changed, or the clock: APScheduler has to sleep for another time."""
        scheduler = self._scheduler
        if self._stop.is_set() or scheduler is None or not scheduler.running:
            return
        scheduler.reschedule_job("slots", trigger=_NextStart(self._next_start))
        scheduler.reschedule_job("tend", trigger=self._tending_times())

    # -- reading the project -----------------------------------------------------------------------

    def _keep_loaded(self) -> None:
        while not self._stop.is_set():
            self._reload.wait(_RELOAD_AGAIN_S if "project" in self._problems else None)
            self._reload.clear()
            if self._stop.is_set():
                return
            self._read_anew()

    def _read_anew(self) -> None:
        try:
            loaded = self._load()
        except SentinelError as error:
            self._problems.found("project", error)
            self._instruments.loaded(None)
            self._tell_of_project(error.message)
            return
        self._take(loaded)
        self._look_anew()
        self._tell_of_project(None)

    def _take(self, loaded: Loaded) -> None:
        """Work on a new reading from now on; what is under way ends on the one before."""
        with self._lock:
            self._loaded, self._loaded_at = loaded, self._clock()
        if self._delivery is None:
            self._delivery = self._make_delivery(loaded)
        else:
            self._delivery.configure(loaded.store, loaded.channels, loaded.fallback)
        self._problems.solved("project")
        self._instruments.loaded(loaded.alerts)
        self._log.info(
            "project loaded",
            alerts=len(loaded.alerts.all),
            scheduled=sum(alert.cron is not None for alert in loaded.alerts.good),
            broken=len(loaded.alerts.broken),
        )
        if self._leading:
            try:
                self._fill()
            except SentinelError as error:
                self._problems.found("store", error)
                self._stand_by("the store can't be read")

    def _tell_of_project(self, error: str | None) -> None:
        loaded = self._loaded
        if loaded is None or not self._leading:
            return
        try:
            rows = record_project(
                loaded.store, loaded.project, error, loaded.told, loaded.routing, self._holder
            )
        except SentinelError as failure:
            self._problems.found("store", failure)
        else:
            self._hand_in(rows)

    # -- leading -----------------------------------------------------------------------------------

    def _keep_leading(self) -> None:
        ttl = self._pace.lease_ttl.total_seconds()
        while not self._stop.is_set():
            self.elect()
            self._stop.wait(ttl / 3 if self._leading else min(ttl / 3, 5.0))

    def elect(self) -> None:
        """Become or stay the leader, or see that another one is; without a project it has no work."""
        if self._loaded is None:
            return
        with self._election:
            self._elect(self._pace.lease_ttl.total_seconds())

    def _elect(self, ttl: float) -> None:
        asked = time.monotonic()
        try:
            held = self._leadership.hold()
        except SentinelError as error:
            self._problems.found("lease", error)
            if self._leading and time.monotonic() - self._led_at > ttl:
                self._stand_by("its lease could not be renewed")
            return
        self._problems.solved("lease")
        if held:
            self._led_at = asked
            lease = self._leadership.lease
            token = None if lease is None else lease.token
            # A new token: another one has led meanwhile, and what is known here is old.
            if not self._leading or token != self._token:
                self._lead(token)
        elif self._leading:
            self._stand_by("another daemon leads")

    def _lead(self, token: int | None) -> None:
        self._leading, self._token = True, token
        try:
            assert self._loaded is not None
            self._loaded.store.check(writing=True)
            self._fill()
        except SentinelError as error:
            self._leading = False
            self._problems.found("store", error)
            return
        self._problems.solved("store")
        self._instruments.leads(True)
        self._log.info("leading", token=token)
        self._look_anew()
        self._tell_of_project(self._problems.get("project"))

    def _stand_by(self, reason: str) -> None:
        self._leading = False
        self._instruments.leads(False)
        self._log.warning("standing by", reason=reason)
        self._look_anew()

    def _fill(self) -> None:
        """The timetable anew, by what the store says was evaluated."""
        loaded = self._loaded
        assert loaded is not None
        states = loaded.store.snapshot(row_ids(loaded.alerts.all)).states
        failed = {s.alert_id for s in states if s.is_head and s.last_outcome is Outcome.ERROR}
        with self._lock:
            if loaded is not self._loaded:
                return
            self._timetable.fill(loaded.alerts.good, last_slots(states), self._clock())
            for alert_id, slot in self._running.slots.items():
                self._timetable.done(alert_id, slot)  # it will be, or it is looked at again
        broken = [alert for alert in loaded.alerts.broken if alert.id not in failed]
        if broken:
            self._begin(loaded, [], broken)

    # -- evaluating --------------------------------------------------------------------------------

    def start_due(self) -> None:
        """Take what is due now, and evaluate it in a batch of its own: the job of the scheduler."""
        try:
            self._start_due()
        except Exception as error:  # noqa: BLE001 - the next time may go well
            self._fault(error)

    def _start_due(self) -> None:
        ttl = self._pace.lease_ttl.total_seconds()
        if self._leading and time.monotonic() - self._led_at > ttl:
            self.elect()  # it stood still for long: another one may lead by now
        with self._lock:
            loaded = self._loaded
            if loaded is None or not self._leading or self._stop.is_set():
                return
            found = self._timetable.due(self._clock())
            if found:
                self._begin(loaded, found, ())

    def _begin(self, loaded: Loaded, found: Sequence[Due], broken: Iterable[BrokenAlert]) -> None:
        with self._lock:
            running = self._running
            busy = {
                due.alert.id: f"still running for its slot {isoformat(running.slots[due.alert.id])}"
                for due in found
                if due.alert.id in running.slots
            }
            running.slots |= {d.alert.id: d.slot.at for d in found if d.alert.id not in busy}
            lease = self._leadership.lease
            try:
                batch = self._batches.submit(
                    self._batch, loaded, lease, tuple(found), tuple(broken), busy
                )
            except RuntimeError:  # no thread is to be had: it all stays due
                for due in found:
                    if due.alert.id not in busy:
                        running.slots.pop(due.alert.id, None)
                raise
            running.batches.add(batch)
            batch.add_done_callback(self._ended)

    def _ended(self, batch: Future[None]) -> None:
        self._running.batches.discard(batch)
        error = None if batch.cancelled() else batch.exception()
        if error is not None:
            self._fault(error)

    def _batch(
        self,
        loaded: Loaded,
        lease: Lease | None,
        found: Sequence[Due],
        broken: tuple[BrokenAlert, ...],
        busy: Mapping[str, str],
    ) -> None:
        slots = {due.alert.id: due.slot for due in found}
        known = None if "project" in self._problems else loaded.alerts.known
        alerts = replace(
            loaded.alerts, good=tuple(due.alert for due in found), broken=broken, known=known
        )
        options = BatchOptions(
            threads=loaded.threads,
            triggered_by="schedule",
            holder=self._holder,
            slots=slots,
            busy=busy,
            lease=lease,
            lease_ttl=self._pace.lease_ttl,
            patience=_PATIENCE,
        )
        waiting = {key: slot.at for key, slot in slots.items() if key not in busy}

        def again(reason: str) -> None:
            self._log.warning("not recorded, tried again", reason=reason)

        # Where one session at a time is open, a batch waits for its turn and not for a lock.
        turn = self._alone if loaded.evaluation.warehouse.exclusive else nullcontext()
        evaluation = replace(loaded.evaluation, on_fault=self._alert_fault)
        try:
            with turn, self._surviving(loaded, again):
                for part in evaluation.in_parts(alerts, options):
                    self._recorded(part, slots, waiting)
                self._problems.solved("store")
        finally:
            self._released(waiting)

    def _recorded(
        self, part: Evaluated, slots: Mapping[str, Slot], waiting: dict[str, datetime]
    ) -> None:
        """A part of a batch is in the store: it is told, counted and no longer due."""
        self._hand_in(part.claimed, more=bool(part.messages))
        lost = [seen for seen in part.observed if seen.reading.lost]
        with self._lock:
            for seen in part.observed:
                if seen.alert.id in part.unrecorded:
                    continue  # it is still due
                slot = waiting.pop(seen.alert.id, None)
                if slot is not None:
                    self._timetable.done(seen.alert.id, slot)
                    self._running.slots.pop(seen.alert.id, None)
                    self._tries.pop(seen.alert.id, None)
        self._instruments.evaluated(part, slots)
        if lost:
            self._problems.found("warehouse", lost[0].reading.error or "the warehouse is lost")
        elif any(seen.duration_ms is not None for seen in part.observed):
            self._problems.solved("warehouse")
        self._log_part(part, slots)

    def _released(self, left: Mapping[str, datetime]) -> None:
        """What could not be recorded is still due: it is looked at again, a little later."""
        if not left:
            return
        now = self._clock()
        with self._lock:
            for alert_id in left:
                self._running.slots.pop(alert_id, None)
                tries = self._tries.get(alert_id, 0)
                self._tries[alert_id] = tries + 1
                pause = min(_SOONEST_AGAIN * 2 ** min(tries, 10), _LATEST_AGAIN)
                self._timetable.again(alert_id, now + pause)
        self._look_anew()

    def _log_part(self, part: Evaluated, slots: Mapping[str, Slot]) -> None:
        counts: dict[str, int] = {}
        for seen, judged in zip(part.observed, part.judgements, strict=True):
            alert, outcome = seen.alert, judged.reading.outcome
            counts[str(outcome)] = counts.get(str(outcome), 0) + 1
            events = [str(each.event) for step in judged.steps for each in step.transitions]
            slot = slots.get(alert.id)
            quiet = outcome in (Outcome.OK, Outcome.EMPTY, Outcome.ALERT) and not events
            say = self._log.debug if quiet else self._log.info
            say(
                "evaluated",
                run_id=part.run_id,
                alert=alert.name,
                slot=slot and isoformat(slot.at),
                outcome=str(outcome),
                events=events,
                missed_slots=slot.missed if slot else 0,
                duration_ms=seen.duration_ms,
                error=judged.reading.error,
            )
        latest = max((slot.at for slot in slots.values()), default=None)
        self._log.info(
            "batch recorded",
            run_id=part.run_id,
            alert=None,
            slot=latest and isoformat(latest),
            alerts=len(part.observed),
            outcomes=counts,
            messages=len(part.messages),
        )

    @contextmanager
    def _surviving(self, loaded: Loaded, again: Callable[[str], None]) -> Iterator[None]:
        """Whatever goes wrong in the block with what has to be recorded, the daemon goes on.

        `again` is told why it was not recorded where that needs nobody: it is tried again.
        """
        try:
            yield
        except LeaseLost as error:
            self._stand_by(error.message)
        except (StateConflict, WarehouseLocked) as error:
            again(error.message)
        except (ProjectError, ConfigError) as error:
            self._problems.found("project", error)
        except SentinelError as error:
            self._problems.found("store", _cause(loaded.store, error))
        except Exception as error:  # noqa: BLE001 - a fault here must not end anything else
            self._fault(error)

    # -- what comes by time ------------------------------------------------------------------------

    def tend(self) -> None:
        """Plan for what comes by time, and count what stands: the other job of the scheduler."""
        loaded = self._loaded
        if loaded is None or not self._leading or self._stop.is_set():
            return
        known = None if "project" in self._problems else loaded.alerts.known
        alerts = replace(loaded.alerts, known=known)

        def again(reason: str) -> None:
            self._log.debug("not planned, tried again", reason=reason)

        with self._surviving(loaded, again):
            tended = loaded.tending(
                alerts, self._holder, self._leadership.lease, self._pace.lease_ttl
            )
            if not self._tries:  # nothing is left that could not be recorded
                self._problems.solved("store")
            self._hand_in(tended.claimed, more=bool(tended.messages))
            self._instruments.tended(tended)
            self._count_outbox(loaded, tended.now)

    def _count_outbox(self, loaded: Loaded, now: datetime) -> None:
        with suppress(StoreError, WarehouseError):  # counted again in a moment
            self._instruments.outbox(loaded.store.outbox(), now)

    # -- delivering --------------------------------------------------------------------------------

    def _hand_in(self, claimed: Sequence[Notification], *, more: bool = False) -> None:
        """Messages to send at once; with `more`, others are in the outbox."""
        if self._delivery is not None:
            self._delivery.hand_in(claimed)
            if more:
                self._delivery.wake()

    def _keep_delivering(self) -> None:
        def told(delivered: Delivered) -> None:
            self._instruments.delivered(delivered)
            for row in delivered.sent:
                self._log.info("sent", **_of(row))
            for row in delivered.dead:
                self._log.error("undeliverable", **_of(row), error=_why(delivered, row))
            for row in delivered.waiting:
                self._log.warning("not accepted yet", **_of(row), error=_why(delivered, row))

        def failed(error: Exception) -> None:
            if isinstance(error, WarehouseLocked):
                self._log.debug("not delivered, tried again", reason=error.message)
            elif isinstance(error, SentinelError):
                self._problems.found("delivery", error)
            else:
                self._fault(error)

        def fine() -> None:
            self._problems.solved("delivery")

        while self._delivery is None and not self._stop.wait(_PULSE_S):
            pass
        if self._delivery is None:
            return
        self._delivery.serve(
            self._stop, lambda: self._leading, told, failed, fine, self._pace.delivery_interval
        )

    def _beat(self) -> None:
        while not self._stop.is_set():
            self._beat_once()
            loaded = self._loaded
            self._stop.wait((loaded.beat if loaded else _LONELY).total_seconds())

    def _beat_once(self) -> None:
        loaded = self._loaded
        if loaded and loaded.heartbeat and self._leading and self.condition().ready:
            try:
                loaded.heartbeat()
            except SentinelError as error:
                self._problems.found("heartbeat", error)
            else:
                self._problems.solved("heartbeat")

    # -- the end -----------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Finish what is under way, as far as there is time for it; nothing is lost in any case."""
        self._stop.set()
        self._reload.set()
        if self._delivery is not None:
            self._delivery.wake()
        deadline = time.monotonic() + self._pace.drain_timeout.total_seconds()
        self._log.info("stopping", batches=len(self._running.batches))
        scheduler = self._scheduler
        if scheduler is not None:
            with suppress(Exception):
                scheduler.shutdown(wait=False)
        self._batches.shutdown(wait=False, cancel_futures=True)
        self.settle(max(0.0, deadline - time.monotonic()))
        for name in ("keep_delivering", "keep_loaded", "keep_leading", "beat"):
            self._threads.join(name, max(0.1, deadline - time.monotonic()))
        try:
            self._leadership.let_go()
        except SentinelError as error:
            self._log.warning("lease runs out by itself", reason=error.message)
        self._log.info("stopped", unfinished=sorted(self._running.slots))


def _cause(store: Store, error: SentinelError) -> SentinelError:
    """What is wrong with the store: of tables that are missing or old, what makes them."""
    try:
        store.check()
    except SentinelError as found:
        return found
    return error


def _of(row: Notification) -> dict[str, Any]:
    return {
        "alert": row.payload["alert"],
        "instance": row.instance,
        "channel": row.channel,
        "told": str(row.event),
        "message_id": row.message_id,
    }


def _why(delivered: Delivered, row: Notification) -> str:
    return delivered.errors.get(row.message_id) or ""
