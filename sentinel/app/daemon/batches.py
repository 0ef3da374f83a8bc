"""Batches of due alerts: which are due, which are running, and which are to be retried."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sentinel.app.alerts import Alerts
from sentinel.app.batch import BatchOptions, EvaluatedBatch
from sentinel.app.daemon.deliveries import DeliveryLoop
from sentinel.app.daemon.faults import FaultLog, RecordingErrors
from sentinel.app.daemon.parts import Instruments, LoadedProject
from sentinel.app.problems import Log, Problems
from sentinel.core.alert import BrokenAlert, row_ids
from sentinel.core.due import Due, Slot, Timetable, last_slots
from sentinel.core.values import isoformat
from sentinel.ports import Lease

# How long results of quick alerts wait for the slow ones of their batch.
_LINGER = timedelta(seconds=3)
_PARALLEL_BATCHES = 8
_SHORTEST_RETRY = timedelta(seconds=2)
_LONGEST_RETRY = timedelta(minutes=1)


@dataclass(frozen=True)
class BatchTools:
    """What batches share: who records them, and where their results go.

    `holder` claims new notifications; recording a batch keeps the lease for `lease_ttl`.
    """

    holder: str
    lease_ttl: timedelta
    deliveries: DeliveryLoop
    problems: Problems
    faults: FaultLog
    errors: RecordingErrors
    instruments: Instruments
    log: Log


class Batches:
    """Starts batches of due alerts; each is one future, and they don't wait for each other.

    `clock` is this machine's, in UTC: it decides when to look. `on_timetable` is called when an alert
    is due earlier than it was.
    """

    def __init__(
        self,
        tools: BatchTools,
        clock: Callable[[], datetime],
        on_timetable: Callable[[], None],
    ) -> None:
        self._tools = tools
        self._clock = clock
        self._on_timetable = on_timetable
        # Guards the timetable, what is running and what is retried.
        self._lock = threading.RLock()
        self._timetable = Timetable()
        self._running: dict[str, datetime] = {}  # alert ids to their slots
        self._retries: dict[str, int] = {}
        self._futures: set[Future[None]] = set()
        self._exclusive = threading.Lock()
        self._pool = ThreadPoolExecutor(_PARALLEL_BATCHES, thread_name_prefix="batch")

    def next_start(self) -> datetime | None:
        with self._lock:
            return self._timetable.next()

    @property
    def has_retries(self) -> bool:
        """Whether recording failed for an alert and will be retried."""
        return bool(self._retries)

    @property
    def running(self) -> list[str]:
        """The ids of alerts that are being evaluated."""
        return sorted(self._running)

    @property
    def count(self) -> int:
        """How many batches are under way."""
        return len(self._futures)

    def fill(
        self,
        loaded: LoadedProject,
        is_current: Callable[[], bool],
        lease: Callable[[], Lease | None],
    ) -> None:
        """Rebuild the timetable from the store's last slots, and evaluate invalid definitions.

        Does nothing if `loaded` is no longer current by then. Raises StoreError.
        """
        states = loaded.store.snapshot(row_ids(loaded.alerts.all)).states
        failed = {
            s.alert_id
            for s in states
            if s.is_head and s.last_outcome and s.last_outcome.traits.failed
        }
        with self._lock:
            if not is_current():
                return
            self._timetable.fill(loaded.alerts.valid, last_slots(states), self._clock())
            for alert_id, slot in self._running.items():
                self._timetable.done(alert_id, slot)  # it will be, or it is looked at again
        broken = [alert for alert in loaded.alerts.broken if alert.id not in failed]
        if broken:
            self._begin(loaded, lease(), (), broken)

    def start_due(
        self,
        loaded: Callable[[], LoadedProject | None],
        lease: Callable[[], Lease | None],
    ) -> None:
        """Evaluate alerts that are due now in a separate batch; nothing if `loaded` returns None."""
        with self._lock:
            project = loaded()
            if project is None:
                return
            due = self._timetable.due(self._clock())
            if due:
                self._begin(project, lease(), due, ())

    def settle(self, timeout: float | None = None) -> None:
        """Wait at most `timeout` seconds until no batch is under way."""
        with self._lock:
            futures = list(self._futures)
        wait(futures, timeout)

    def shutdown(self) -> None:
        """Start no batch any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(
        self,
        loaded: LoadedProject,
        lease: Lease | None,
        due: Sequence[Due],
        broken: Iterable[BrokenAlert],
    ) -> None:
        with self._lock:
            busy = {
                each.alert.id: f"still running for its slot {isoformat(self._running[each.alert.id])}"
                for each in due
                if each.alert.id in self._running
            }
            started = {each.alert.id: each.slot.at for each in due if each.alert.id not in busy}
            self._running |= started
            try:
                future = self._pool.submit(
                    self._run, loaded, lease, tuple(due), tuple(broken), busy
                )
            except RuntimeError:  # no thread is to be had: it all stays due
                for alert_id in started:
                    self._running.pop(alert_id, None)
                raise
            self._futures.add(future)
            future.add_done_callback(self._end)

    def _end(self, future: Future[None]) -> None:
        self._futures.discard(future)
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._tools.faults(error)

    def _run(
        self,
        loaded: LoadedProject,
        lease: Lease | None,
        due: Sequence[Due],
        broken: tuple[BrokenAlert, ...],
        busy: Mapping[str, str],
    ) -> None:
        tools = self._tools
        slots = {each.alert.id: each.slot for each in due}
        alerts = replace(
            without_known(loaded.alerts, tools.problems),
            valid=tuple(each.alert for each in due),
            broken=broken,
        )
        options = BatchOptions(
            threads=loaded.threads,
            triggered_by="schedule",
            holder=tools.holder,
            slots=slots,
            busy=busy,
            lease=lease,
            lease_ttl=tools.lease_ttl,
            max_wait=_LINGER,
        )
        unrecorded = {key: slot.at for key, slot in slots.items() if key not in busy}

        def on_retry(reason: str) -> None:
            tools.log.warning("recording failed, will retry", reason=reason)

        # Where one session at a time is open, a batch waits for its turn and not for a lock.
        exclusive = loaded.evaluation.warehouse.exclusive
        evaluation = replace(loaded.evaluation, on_fault=tools.faults.of_alert)
        try:
            with (
                self._exclusive if exclusive else nullcontext(),
                tools.errors.handled(loaded.store, on_retry),
            ):
                for part in evaluation.in_parts(alerts, options):
                    self._note_recorded(part, slots, unrecorded)
                tools.problems.solved("store")
        finally:
            self._retry(unrecorded)

    def _note_recorded(
        self, part: EvaluatedBatch, slots: Mapping[str, Slot], unrecorded: dict[str, datetime]
    ) -> None:
        """A part of a batch is in the store: it is sent, counted and no longer due."""
        tools = self._tools
        tools.deliveries.hand_in(part.claimed, more=bool(part.messages))
        unreachable = [each for each in part.evaluations if each.result.unreachable]
        with self._lock:
            for each in part.evaluations:
                if each.alert.id in part.unrecorded:
                    continue  # it is still due
                slot = unrecorded.pop(each.alert.id, None)
                if slot is not None:
                    self._timetable.done(each.alert.id, slot)
                    self._running.pop(each.alert.id, None)
                    self._retries.pop(each.alert.id, None)
        tools.instruments.evaluated(part, slots)
        if unreachable:
            tools.problems.found(
                "warehouse", unreachable[0].result.error or "the warehouse is lost"
            )
        elif any(each.duration_ms is not None for each in part.evaluations):
            tools.problems.solved("warehouse")
        log_part(tools.log, part, slots)

    def _retry(self, unrecorded: Mapping[str, datetime]) -> None:
        """What could not be recorded is still due: it is looked at again, a little later."""
        if not unrecorded:
            return
        now = self._clock()
        with self._lock:
            for alert_id in unrecorded:
                self._running.pop(alert_id, None)
                tries = self._retries.get(alert_id, 0)
                self._retries[alert_id] = tries + 1
                pause = min(_SHORTEST_RETRY * 2 ** min(tries, 10), _LONGEST_RETRY)
                self._timetable.again(alert_id, now + pause)
        self._on_timetable()


def without_known(alerts: Alerts, problems: Problems) -> Alerts:
    """While the project can't be read, nobody knows which alerts were removed from it."""
    return replace(alerts, known=None) if "project" in problems else alerts


def log_part(log: Log, part: EvaluatedBatch, slots: Mapping[str, Slot]) -> None:
    """One entry per evaluation, and one for the part as a whole."""
    counts: dict[str, int] = {}
    for evaluations, update in zip(part.evaluations, part.updates, strict=True):
        alert, outcome = evaluations.alert, update.result.outcome
        counts[str(outcome)] = counts.get(str(outcome), 0) + 1
        events = [str(each.event) for step in update.steps for each in step.transitions]
        slot = slots.get(alert.id)
        write = log.debug if outcome.traits.routine and not events else log.info
        write(
            "evaluated",
            run_id=part.run_id,
            alert=alert.name,
            slot=slot and isoformat(slot.at),
            outcome=str(outcome),
            events=events,
            missed_slots=slot.missed if slot else 0,
            duration_ms=evaluations.duration_ms,
            error=update.result.error,
        )
    latest = max((slot.at for slot in slots.values()), default=None)
    log.info(
        "batch recorded",
        run_id=part.run_id,
        alert=None,
        slot=latest and isoformat(latest),
        alerts=len(part.evaluations),
        outcomes=counts,
        messages=len(part.messages),
    )
