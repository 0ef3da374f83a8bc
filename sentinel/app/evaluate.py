"""One batch: compile, query, judge, record, tell.

What the alerts' queries saw is gathered first; then one transaction reads the state, decides and
writes state, history and outbox; only after it anybody is told.
"""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from threading import Event as Flag

from sentinel.app.alerts import Alerts
from sentinel.app.deliver import claimed_at_birth
from sentinel.core.alert import Alert, BrokenAlert
from sentinel.core.due import Slot
from sentinel.core.errors import QueryError, WarehouseError, WarehouseLocked
from sentinel.core.evaluation import (
    ROW_CAP,
    ContractError,
    Outcome,
    Reading,
    known_shape,
    read_counts,
    read_status,
    shape_of,
)
from sentinel.core.history import Execution, HistoryRow, history_rows
from sentinel.core.lifecycle import (
    Event,
    Judgement,
    State,
    Tick,
    gone,
    judge,
    judge_removed,
    kept,
)
from sentinel.core.planning import Notification, Plan, Status, ledger_of, plan, standing
from sentinel.core.project import Compiled
from sentinel.core.routing import Routing
from sentinel.core.values import bounded, plain
from sentinel.ports import Batch, Lease, Project, Query, Session, Snapshot, Store, Warehouse

_AS_OF = re.compile(r"/\*sentinel:as_of\*/.*?/\*sentinel:end\*/", re.DOTALL)


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run. `threads` is the number of queries at once.

    `holder` is who will send at once what there is to tell, and so claims it. `slots` are those
    that are evaluated, by alert id: the others run by hand. `busy` are alerts that are not
    queried, and why. With a `lease`, nothing is recorded unless it holds; recording keeps it for
    `lease_ttl`. `patience` is how long what is seen waits for slower alerts of the same batch.
    """

    threads: int
    dry_run: bool = False
    fail_fast: bool = False
    triggered_by: str = "manual"
    holder: str | None = None
    slots: Mapping[str, Slot] = field(default_factory=dict)
    busy: Mapping[str, str] = field(default_factory=dict)
    lease: Lease | None = None
    lease_ttl: timedelta = timedelta()
    patience: timedelta | None = None


@dataclass(frozen=True)
class Observed:
    """One alert after its query: what it saw, when that began by this machine, and how long it took."""

    alert: Alert | BrokenAlert
    reading: Reading
    sql_hash: str | None = None
    duration_ms: int | None = None
    bytes_billed: int | None = None
    began_at: datetime | None = None


@dataclass(frozen=True)
class Evaluated:
    """A batch as it was recorded, or as it would have been on a dry run.

    `unfinished` are older notifications of these alerts' open episodes that are not sent, or dead,
    `removals` what became of alerts that are no longer in the project. Of the alerts in `before`
    (their ids) the slot was recorded already, so that nothing was recorded now.
    """

    run_id: str
    started_at: datetime
    observed: tuple[Observed, ...]
    judgements: tuple[Judgement, ...]
    plan: Plan
    unfinished: tuple[Notification, ...] = ()
    removals: tuple[Judgement, ...] = ()
    before: frozenset[str] = frozenset()

    @property
    def messages(self) -> list[str]:
        """The messages to send now: the new ones, and older ones of these alerts still pending."""
        rows = (*self.unfinished, *self.plan.notifications)
        revived = self.plan.revived
        return [
            row.message_id
            for row in rows
            if row.status is not Status.DEAD or row.notification_id in revived
        ]

    @property
    def claimed(self) -> list[Notification]:
        """Those of the new messages that are claimed already, by who has evaluated."""
        return [row for row in self.plan.notifications if row.status is Status.CLAIMED]


@dataclass
class Evaluation:
    """The use case, with all that it needs.

    `scrub` takes secrets out of errors, `progress` is told (done, total, alert's name), `target` is
    the dbt target of the project.
    """

    project: Project
    warehouse: Warehouse
    store: Store
    scrub: Callable[[str], str] = str
    progress: Callable[[int, int, str], None] = field(default=lambda *_: None)
    routing: Routing | None = None
    target: str | None = None

    def __call__(self, alerts: Alerts, options: BatchOptions) -> Evaluated:
        """Evaluate alerts and record what was seen, all of it at once.

        Raises ProjectError, WarehouseError or StoreError when nothing could be evaluated; what
        goes wrong with a single alert is that alert's outcome.
        """
        self.store.check(writing=not options.dry_run)
        (evaluated,) = self.in_parts(alerts, replace(options, patience=None))
        return evaluated

    def in_parts(self, alerts: Alerts, options: BatchOptions) -> Iterator[Evaluated]:
        """Evaluate alerts and record what was seen: what is quick doesn't wait for what is slow.

        Raises as a call does, and LeaseLost; the parts before are recorded then.
        """
        compiled = self.project.compile(
            alert.source.unique_id for alert in alerts.good if alert.id not in options.busy
        )
        before = self._before(alerts, options)
        run_id = uuid.uuid4().hex
        for observed in self._observe(run_id, alerts, compiled, before, options):
            yield self._record(run_id, alerts, observed, before, options)

    def _before(self, alerts: Alerts, options: BatchOptions) -> Snapshot:
        """What is known before the queries: all that a dry run is judged by; else the clock, and
        the states of those alerts whose samples depend on whether they fire."""
        asked = alerts.all if options.dry_run else [a for a in alerts.good if a.rules.samples]
        return self.store.snapshot(_ids(asked))

    def _record(
        self,
        run_id: str,
        alerts: Alerts,
        observed: Sequence[Observed],
        before: Snapshot,
        options: BatchOptions,
    ) -> Evaluated:
        made: list[Evaluated] = []

        def decide(snapshot: Snapshot) -> Batch:
            evaluated, batch = self._decide(run_id, alerts, observed, before, snapshot, options)
            made.append(evaluated)
            return batch

        known = alerts.known
        strangers = (
            self.store.strangers(known)
            if known is not None and not options.dry_run
            else frozenset()
        )
        if options.dry_run or not (observed or strangers):
            decide(before)
        else:
            slots = {key: slot.at for key, slot in options.slots.items()}
            self.store.commit(_ids(seen.alert for seen in observed) | strangers, decide, slots)
        return made[-1]  # the last try is the one that was written

    # -- seeing --------------------------------------------------------------------------------

    def _observe(
        self,
        run_id: str,
        alerts: Alerts,
        compiled: Mapping[str, Compiled],
        before: Snapshot,
        options: BatchOptions,
    ) -> Iterator[list[Observed]]:
        """What the alerts' queries saw, by name; in parts if the batch is to be."""
        found = [self._broken(alert) for alert in alerts.broken]
        waiting: dict[str, Alert] = {}
        for alert in alerts.good:
            if alert.id in options.busy:
                skipped = Reading(Outcome.SKIPPED, error=options.busy[alert.id])
                found.append(Observed(alert, skipped))
            else:
                waiting[alert.id] = alert
        stop = Flag()
        if alerts.broken and options.fail_fast:
            stop.set()
        look = _Look(self.warehouse, run_id, before, self.project.name, stop, options)
        total = len(alerts.all)
        try:
            for seen in self._queried(look, list(waiting.values()), compiled, options):
                if seen is None:
                    if found:
                        yield sorted(found, key=lambda each: each.alert.name)
                        found = []
                    continue
                del waiting[seen.alert.id]
                found.append(self._scrubbed(seen))
                self.progress(total - len(waiting), total, seen.alert.name)
        except WarehouseLocked:
            raise  # nothing is known, and nothing is wrong: it is tried again later
        except WarehouseError as error:
            # The store is there, or it would have said so before: so it can be told.
            lost = Reading.failed(self.scrub(str(error)), lost=True)
            found += [Observed(alert, lost) for alert in waiting.values()]
        yield sorted(found, key=lambda each: each.alert.name)

    def _queried(
        self,
        look: _Look,
        alerts: Sequence[Alert],
        compiled: Mapping[str, Compiled],
        options: BatchOptions,
    ) -> Iterator[Observed | None]:
        """What each query saw, as it comes; None where what has come is worth recording by now."""
        if not alerts:
            return
        threads = min(options.threads, len(alerts))
        with self.warehouse.open() as session, ThreadPoolExecutor(threads) as pool:
            finished: SimpleQueue[Observed | BaseException] = SimpleQueue()
            todo = iter(alerts)  # one for all threads: each takes the next

            def work() -> None:
                for alert in todo:
                    try:
                        finished.put(look(session, alert, compiled[alert.source.unique_id]))
                    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                        finished.put(error)

            for _ in range(threads):
                pool.submit(work)
            patience = None if self.warehouse.alone else options.patience
            pause = patience.total_seconds() if patience else None
            since, left = time.monotonic(), len(alerts)
            try:
                while left:
                    timeout = None if pause is None else since + pause - time.monotonic()
                    try:
                        seen = finished.get(timeout=timeout and max(0.0, timeout))
                    except Empty:
                        pass
                    else:
                        if isinstance(seen, BaseException):
                            raise seen
                        yield seen
                        left -= 1
                    if pause is not None and left and time.monotonic() >= since + pause:
                        yield None
                        since = time.monotonic()
            finally:
                look.stop.set()  # after an interrupt nothing that waits for a thread is started

    def _scrubbed(self, seen: Observed) -> Observed:
        error = seen.reading.error
        if error is None:
            return seen
        return replace(seen, reading=replace(seen.reading, error=self.scrub(error)))

    def _broken(self, alert: BrokenAlert) -> Observed:
        return Observed(alert, Reading.failed(fault_text(self.project, alert)))

    # -- deciding ------------------------------------------------------------------------------

    def _decide(
        self,
        run_id: str,
        alerts: Alerts,
        observed: Sequence[Observed],
        before: Snapshot,
        snapshot: Snapshot,
        options: BatchOptions,
    ) -> tuple[Evaluated, Batch]:
        by_hand = Tick(as_of=before.now, now=snapshot.now, target=self.target)
        states = by_alert(snapshot.states)
        seen_before = frozenset(
            seen.alert.id
            for seen in observed
            if (known := snapshot.recorded.get(seen.alert.id)) is not None
            and known.outcome is not Outcome.ERROR
        )
        ticks = [_tick(by_hand, options.slots.get(seen.alert.id)) for seen in observed]
        judgements = tuple(
            judge(
                seen.alert,
                _ALREADY if seen.alert.id in seen_before else seen.reading,
                _rows_of(seen.alert, states),
                tick,
                self.project.name,
            )
            for seen, tick in zip(observed, ticks, strict=True)
        )
        new_judgements = [each for each in judgements if each.alert.id not in seen_before]
        removals = (
            ()
            if options.dry_run
            else tuple(removed(alerts, states, by_hand, _ids(each.alert for each in observed)))
        )
        told = plan(
            (*new_judgements, *removals),
            ledger_of(snapshot.ledger),
            self.project.name,
            snapshot.now,
            silences=snapshot.silences,
            routing=self.routing,
        )
        attempts = {key: each.attempt + 1 for key, each in snapshot.recorded.items()}
        history = (
            row
            for seen, judged, tick in zip(observed, judgements, ticks, strict=True)
            if seen.alert.id not in seen_before
            for row in _history(
                judged,
                Execution(
                    run_id,
                    options.triggered_by,
                    tick,
                    seen.sql_hash,
                    seen.duration_ms,
                    seen.bytes_billed,
                    attempts.get(seen.alert.id, 1),
                ),
                told,
            )
        )
        other = Execution(run_id, options.triggered_by, by_hand)
        removal_rows = [
            row for each in removals for row in history_rows(each, other, told.decisions)
        ]
        unfinished = tuple(
            row
            for row in snapshot.ledger
            if row.status in (Status.PENDING, Status.CLAIMED, Status.DEAD)
            and row.notification_id not in told.superseded
        )
        new = told.notifications
        if options.holder:
            going = (row for row in snapshot.ledger if row.notification_id not in told.superseded)
            new = claimed_at_birth(new, going, options.holder, snapshot.now)
        every = (*new_judgements, *removals)
        dropped = tuple(state for judged in every for state in judged.dropped)
        return (
            Evaluated(
                run_id,
                before.now,
                tuple(observed),
                judgements,
                replace(told, notifications=new),
                unfinished,
                removals,
                seen_before,
            ),
            Batch(
                tuple(state for judged in every for state in changed(judged)),
                (*history, *removal_rows),
                new,
                told.superseded,
                told.revived,
                dropped,
                _kept(options, snapshot.now),
            ),
        )


_ALREADY = Reading(Outcome.SKIPPED, error="its slot was recorded before")


def _tick(by_hand: Tick, slot: Slot | None) -> Tick:
    if slot is None:
        return by_hand
    return replace(by_hand, as_of=slot.at, slot=slot.at, missed_slots=slot.missed)


def _kept(options: BatchOptions, now: datetime) -> Lease | None:
    lease = options.lease
    return None if lease is None else replace(lease, expires_at=now + options.lease_ttl)


def _ids(alerts: Iterable[Alert | BrokenAlert]) -> frozenset[str]:
    """The ids of alerts, and those that rows may go by where an alert has gained one since."""
    return frozenset(each for alert in alerts for each in (alert.id, alert.source.unique_id))


def removed(
    alerts: Alerts, states: Mapping[str, Sequence[State]], tick: Tick, others: Collection[str]
) -> Iterator[Judgement]:
    """Rows of alerts that are gone or switched off; only their own target says so.

    `others` are ids that are judged otherwise.
    """
    if alerts.known is None:
        return
    for alert_id, rows in states.items():
        if alert_id in others or any(row.target not in (None, tick.target) for row in rows):
            continue
        if alert_id in alerts.known:
            back = kept(rows, tick)
            if back:
                yield Judgement(gone(rows[0]), Reading(Outcome.SKIPPED), (), back)
            continue
        off = alerts.off.get(alert_id)
        reason = "disabled" if off else "removed"
        yield judge_removed(off or gone(rows[0]), rows, tick, reason)


def _history(judged: Judgement, execution: Execution, told: Plan) -> Iterator[HistoryRow]:
    yield from history_rows(judged, execution, told.decisions)
    # Instances that this evaluation says nothing of, but somebody is told of.
    reached = {(each.alert_id, each.instance) for each in told.decisions if each.told}
    others = [row for row in judged.unseen if (row.alert_id, row.instance) in reached]
    if others:
        plain_execution = Execution(execution.run_id, execution.triggered_by, execution.tick)
        yield from history_rows(standing(judged.alert, others), plain_execution, told.decisions)


def changed(judged: Judgement) -> Iterator[State]:
    """The rows to write: what goes is not written."""
    going = {row.state_key for row in judged.dropped}
    steps = (step.after for step in judged.steps if not step.recorded_only)
    yield from (row for row in (*steps, *judged.noted) if row.state_key not in going)


def _rows_of(alert: Alert | BrokenAlert, states: Mapping[str, Sequence[State]]) -> list[State]:
    """The rows of an alert, under its id and under the one it had before."""
    names = dict.fromkeys((alert.id, alert.source.unique_id))
    return [row for name in names for row in states.get(name, ())]


def by_alert(states: Iterable[State]) -> dict[str, list[State]]:
    grouped: dict[str, list[State]] = {}
    for state in states:
        grouped.setdefault(state.alert_id, []).append(state)
    return grouped


def fault_text(project: Project, alert: BrokenAlert) -> str:
    """The faults of a definition, each with its place, one a line."""
    return "\n".join(
        f"{project.locate(alert.source, *fault.keys)}: {fault.message}" for fault in alert.faults
    )


def query_of(alert: Alert, sql: str, run_id: str | None = None) -> Query:
    """The query of an alert within its bounds, labelled so that its cost can be traced."""
    rules = alert.rules
    labels = {"sentinel_alert": alert.name} | ({"sentinel_run": run_id} if run_id else {})
    return Query(sql, rules.timeout, rules.max_bytes_billed, labels)


class _Look:
    """Runs the query of one alert and reads its result; one instance serves all threads."""

    def __init__(
        self,
        warehouse: Warehouse,
        run_id: str,
        before: Snapshot,
        project: str,
        stop: Flag,
        options: BatchOptions,
    ) -> None:
        self._run_id = run_id
        self._warehouse = warehouse
        self._states = by_alert(before.states)
        self._by_hand = Tick(as_of=before.now, now=before.now)
        self._project = project
        self.stop = stop
        self._slots = options.slots
        self._fail_fast = options.fail_fast

    def __call__(self, session: Session, alert: Alert, compiled: Compiled) -> Observed:
        if self.stop.is_set():
            skipped = Reading(
                Outcome.SKIPPED, error="not evaluated: an earlier alert ended the run"
            )
            return Observed(alert, skipped)
        seen = self._look(session, alert, compiled)
        if self._fail_fast and seen.reading.outcome in (Outcome.ALERT, Outcome.ERROR):
            self.stop.set()  # here, before this thread takes the next alert
        return seen

    def _look(self, session: Session, alert: Alert, compiled: Compiled) -> Observed:
        if compiled.sql is None:
            return Observed(alert, Reading.failed(compiled.error or "the model doesn't compile"))
        instant = self._warehouse.instant(self._tick(alert).as_of)
        sql = _AS_OF.sub(lambda _: instant, compiled.sql)
        started, began_at = time.perf_counter(), datetime.now(UTC)
        billed = _Billed()
        try:
            reading = self._read(session, alert, query_of(alert, sql, self._run_id), billed)
        except (QueryError, ContractError) as error:
            reading = Reading.failed(str(error))
        except WarehouseLocked:
            raise
        except WarehouseError as error:
            reading = Reading.failed(str(error), lost=True)
        return Observed(
            alert,
            reading,
            sql_hash=hashlib.sha256(compiled.sql.encode()).hexdigest(),
            duration_ms=round((time.perf_counter() - started) * 1000),
            bytes_billed=billed.total,
            began_at=began_at,
        )

    def _tick(self, alert: Alert) -> Tick:
        return _tick(self._by_hand, self._slots.get(alert.id))

    def _read(self, session: Session, alert: Alert, query: Query, billed: _Billed) -> Reading:
        rules = alert.rules
        shape = known_shape(rules)
        if shape is None or (shape == "rows" and rules.dimensions):
            shape = shape_of(rules, session.describe(query).columns)
        if shape == "status":
            result = session.fetch(query, ROW_CAP)
            billed.add(result.bytes_billed)
            return read_status(rules, result)
        result = session.count(query, rules.dimensions, ROW_CAP)
        billed.add(result.bytes_billed)
        if result.truncated:
            raise ContractError(f"`dimensions` has more than {ROW_CAP:,} combinations of values")
        try:
            counts = {tuple(row[:-1]): int(row[-1]) for row in result.rows}
        except TypeError:
            raise ContractError("`dimensions` names a column of lists or mappings") from None
        reading = read_counts(rules, counts)
        return self._with_samples(session, alert, query, reading, billed)

    def _with_samples(
        self, session: Session, alert: Alert, query: Query, reading: Reading, billed: _Billed
    ) -> Reading:
        """The reading with a few violating rows in the context of each instance that fires now."""
        rules = alert.rules
        if not rules.samples:
            return reading
        states = self._states.get(alert.id, ())
        judged = judge(alert, reading, states, self._tick(alert), self._project)
        fires = {
            step.after.instance
            for step in judged.steps
            if any(change.event is Event.FIRING for change in step.transitions)
        }
        if not fires:
            return reading
        try:
            result = session.sample(query, rules.dimensions, rules.samples)
        except QueryError:
            # The count is sure; that it has no sample must not keep anybody from being told.
            return _noted(reading, fires, "; its samples could not be fetched")
        billed.add(result.bytes_billed)
        rows = [
            dict(zip(map(str.lower, result.columns), map(plain, row), strict=True))
            for row in result.rows
        ]
        observations = []
        for seen in reading.observations:
            mine = [
                bounded(
                    {
                        name: value
                        for name, value in row.items()
                        if not rules.sample_columns or name in rules.sample_columns
                    }
                )
                for row in rows
                if all(row[name] == value for name, value in seen.dimensions.items())
            ]
            context = {"samples": mine} if seen.instance in fires else {}
            observations.append(replace(seen, context=context))
        return replace(reading, observations=tuple(observations))


def _noted(reading: Reading, instances: Collection[str], words: str) -> Reading:
    """The reading with words added to the messages of these instances."""
    return replace(
        reading,
        observations=tuple(
            replace(seen, message=f"{seen.message}{words}") if seen.instance in instances else seen
            for seen in reading.observations
        ),
    )


@dataclass
class _Billed:
    """Bytes billed by all queries of one evaluation; None where the warehouse doesn't say."""

    total: int | None = None

    def add(self, amount: int | None) -> None:
        if amount is not None:
            self.total = (self.total or 0) + amount
