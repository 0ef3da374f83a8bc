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
from typing import Any

from sentinel.app.alerts import Alerts
from sentinel.app.delivery.claims import preclaim
from sentinel.core.alert import Alert, BrokenAlert, Definition
from sentinel.core.due import Slot
from sentinel.core.errors import (
    QueryError,
    SentinelError,
    StoreError,
    WarehouseError,
    WarehouseLocked,
)
from sentinel.core.evaluation import (
    ROW_CAP,
    ContractError,
    Described,
    Outcome,
    Reading,
    Result,
    dimensions_excerpt,
    known_shape,
    read_counts,
    read_dimensions,
    read_sample,
    read_status,
    samples_excerpt,
    shape_of,
    status_excerpt,
)
from sentinel.core.history import Execution, HistoryRow, history_rows
from sentinel.core.lifecycle import (
    AlertUpdate,
    EvaluationTime,
    Event,
    State,
    apply_reading,
    gone,
    judge_removed,
    kept,
)
from sentinel.core.planning import Notification, Plan, Status, ledger_of, plan, standing
from sentinel.core.project import Compiled
from sentinel.core.routing import Routing
from sentinel.core.values import instance_name
from sentinel.ports import (
    Batch,
    Decision,
    Lease,
    Project,
    Query,
    Session,
    Snapshot,
    Store,
    Warehouse,
)

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
    (their ids) the slot was recorded already, so that nothing was recorded now. Those in `unrecorded`
    have an error that could not be recorded either: they are still due.
    """

    run_id: str
    started_at: datetime
    observed: tuple[Observed, ...]
    judgements: tuple[AlertUpdate, ...]
    plan: Plan
    unfinished: tuple[Notification, ...] = ()
    removals: tuple[AlertUpdate, ...] = ()
    before: frozenset[str] = frozenset()
    unrecorded: frozenset[str] = frozenset()

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
class _Recording:
    """What all parts of a batch have in common when they are recorded one by one."""

    run_id: str
    alerts: Alerts
    before: Snapshot
    options: BatchOptions
    recorded: int = 0
    unrecorded: int = 0
    faults: list[tuple[str, Exception]] = field(default_factory=list)


@dataclass
class Evaluation:
    """The use case, with all that it needs.

    `scrub` takes secrets out of errors, `progress` is told (done, total, alert's name), `target` is
    the dbt target of the project. `on_fault` gets what nobody has foreseen in the evaluation of one
    alert, by its name: it is that alert's outcome too.
    """

    project: Project
    warehouse: Warehouse
    store: Store
    scrub: Callable[[str], str] = str
    progress: Callable[[int, int, str], None] = field(default=lambda *_: None)
    routing: Routing | None = None
    target: str | None = None
    on_fault: Callable[[str, Exception], None] = field(default=lambda *_: None)

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
        waiting = [alert for alert in alerts.good if alert.id not in options.busy]
        compiled = compile_each(self.project, waiting, self.on_fault)
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
        """Record a batch in one transaction; an alert that can't be recorded is left out of it."""
        known = alerts.known
        strangers = (
            self.store.orphaned_alert_ids(known)
            if known is not None and not options.dry_run
            else frozenset()
        )
        work = _Recording(run_id, alerts, before, options)
        try:
            return self._commit(work, observed, strangers)
        except Exception as error:
            if not self._is_of_one_alert(error):
                raise
            parts = [self._commit_apart(work, half) for half in _halves(observed)]
            if isinstance(error, StoreError) and observed and not work.recorded:
                raise
            for name, cause in work.faults:
                self.on_fault(name, cause)
            if strangers:
                parts.append(self._commit_strangers(work, strangers))
            return _joined(parts)

    def _commit(
        self, work: _Recording, observed: Sequence[Observed], strangers: frozenset[str]
    ) -> Evaluated:
        options, before = work.options, work.before

        def decide(snapshot: Snapshot) -> Decision[Evaluated]:
            return self._decide(work.run_id, work.alerts, observed, before, snapshot, options)

        if options.dry_run or not (observed or strangers):
            return decide(before).result
        slots = {key: slot.at for key, slot in options.slots.items()}
        ids = _ids(seen.alert for seen in observed) | strangers
        return self.store.commit(ids, decide, slots)

    def _is_of_one_alert(self, error: Exception) -> bool:
        """Whether one alert's values may be the cause, and not the store itself."""
        if isinstance(error, StoreError) and type(error) is StoreError:
            try:
                self.store.now()
            except SentinelError:
                return False
            return True
        return not isinstance(error, SentinelError)

    def _commit_apart(self, work: _Recording, observed: Sequence[Observed]) -> Evaluated:
        """Record some of a batch that could not be recorded as a whole.

        The alert that is the cause gets the outcome `error`. Where not even that can be recorded, it
        is reported as `unrecorded`, and `on_fault` gets the error. Raises StoreError if none of the
        batch can be recorded.
        """
        try:
            evaluated = self._commit(work, observed, frozenset())
        except Exception as error:
            if not self._is_of_one_alert(error):
                raise
            cause = error
        else:
            work.recorded += len(observed)
            return evaluated
        if len(observed) > 1:
            return _joined([self._commit_apart(work, half) for half in _halves(observed)])
        (seen,) = observed
        words = f"its result can't be recorded: {self.scrub(fault(cause))}"
        failed = replace(seen, reading=Reading.failed(words))
        try:
            evaluated = self._commit(work, [failed], frozenset())
        except Exception as error:
            work.unrecorded += 1
            of_store = isinstance(error, StoreError) and not work.recorded
            if not self._is_of_one_alert(error) or (of_store and work.unrecorded > 1):
                raise  # of several alerts none can be recorded: the store can't be written
            work.faults.append((seen.alert.name, error))
        else:
            work.recorded += 1
            work.faults.append((seen.alert.name, cause))
            return evaluated
        tick = EvaluationTime(as_of=work.before.now, now=work.before.now, target=self.target)
        judged = apply_reading(seen.alert, failed.reading, (), tick, self.project.name)
        unrecorded = frozenset({seen.alert.id})
        nothing = Evaluated(work.run_id, work.before.now, (failed,), (judged,), Plan())
        return replace(nothing, unrecorded=unrecorded)

    def _commit_strangers(self, work: _Recording, strangers: frozenset[str]) -> Evaluated:
        """Record alerts that are no longer in the project."""
        try:
            return self._commit(work, (), strangers)
        except Exception as error:
            if not self._is_of_one_alert(error):
                raise
            self.on_fault("alerts that were removed", error)
            return Evaluated(work.run_id, work.before.now, (), (), Plan())

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
        look = _Look(
            self.warehouse, run_id, before, self.project.name, stop, options, self.on_fault
        )
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
                        finished.put(look(session, alert, compiled.get(alert.source.unique_id)))
                    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                        finished.put(error)

            for _ in range(threads):
                pool.submit(work)
            patience = None if self.warehouse.exclusive else options.patience
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
    ) -> Decision[Evaluated]:
        by_hand = EvaluationTime(as_of=before.now, now=snapshot.now, target=self.target)
        states = by_alert(snapshot.states)
        seen_before = frozenset(
            seen.alert.id
            for seen in observed
            if (known := snapshot.recorded.get(seen.alert.id)) is not None
            and known.outcome is not Outcome.ERROR
        )
        ticks = [_tick(by_hand, options.slots.get(seen.alert.id)) for seen in observed]
        judgements = tuple(
            apply_reading(
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
            new = preclaim(new, going, options.holder, snapshot.now)
        every = (*new_judgements, *removals)
        dropped = tuple(state for judged in every for state in judged.dropped)
        evaluated = Evaluated(
            run_id,
            before.now,
            tuple(observed),
            judgements,
            replace(told, notifications=new),
            unfinished,
            removals,
            seen_before,
        )
        batch = Batch(
            tuple(state for judged in every for state in changed(judged)),
            (*history, *removal_rows),
            new,
            told.superseded,
            told.revived,
            dropped,
            _kept(options, snapshot.now),
        )
        return Decision(batch, evaluated)


def _halves(observed: Sequence[Observed]) -> list[Sequence[Observed]]:
    """Two halves of a batch; of one alert, that alert."""
    middle = len(observed) // 2
    return [half for half in (observed[:middle], observed[middle:]) if half]


def _joined(parts: Sequence[Evaluated]) -> Evaluated:
    """Parts of a batch that were recorded one after another, as one."""
    plans = [part.plan for part in parts]
    return replace(
        parts[0],
        observed=tuple(each for part in parts for each in part.observed),
        judgements=tuple(each for part in parts for each in part.judgements),
        plan=Plan(
            tuple(each for plan in plans for each in plan.notifications),
            tuple(each for plan in plans for each in plan.superseded),
            tuple(each for plan in plans for each in plan.decisions),
            tuple(each for plan in plans for each in plan.revived),
        ),
        unfinished=tuple(each for part in parts for each in part.unfinished),
        removals=tuple(each for part in parts for each in part.removals),
        before=frozenset().union(*(part.before for part in parts)),
        unrecorded=frozenset().union(*(part.unrecorded for part in parts)),
    )


_ALREADY = Reading(Outcome.SKIPPED, error="its slot was recorded before")


def _tick(by_hand: EvaluationTime, slot: Slot | None) -> EvaluationTime:
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
    alerts: Alerts,
    states: Mapping[str, Sequence[State]],
    tick: EvaluationTime,
    others: Collection[str],
) -> Iterator[AlertUpdate]:
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
                yield AlertUpdate(gone(rows[0]), Reading(Outcome.SKIPPED), (), back)
            continue
        off = alerts.off.get(alert_id)
        reason = "disabled" if off else "removed"
        yield judge_removed(off or gone(rows[0]), rows, tick, reason)


def _history(judged: AlertUpdate, execution: Execution, told: Plan) -> Iterator[HistoryRow]:
    yield from history_rows(judged, execution, told.decisions)
    # Instances that this evaluation says nothing of, but somebody is told of.
    reached = {(each.alert_id, each.instance) for each in told.decisions if each.told}
    others = [row for row in judged.unseen if (row.alert_id, row.instance) in reached]
    if others:
        plain_execution = Execution(execution.run_id, execution.triggered_by, execution.tick)
        yield from history_rows(standing(judged.alert, others), plain_execution, told.decisions)


def changed(judged: AlertUpdate) -> Iterator[State]:
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


def compile_each(
    project: Project,
    alerts: Sequence[Alert],
    on_fault: Callable[[str, Exception], None] = lambda _alert, _error: None,
) -> Mapping[str, Compiled]:
    """The SQL of each alert; an unexpected error is the one of the alert that causes it.

    Raises ProjectError as `Project.compile` does.
    """
    try:
        return project.compile(alert.source.unique_id for alert in alerts)
    except SentinelError:
        raise
    except Exception as error:  # noqa: BLE001 - the edge of one alert: the others go on
        if len(alerts) != 1:
            parts = [compile_each(project, [alert], on_fault) for alert in alerts]
            return {key: each for part in parts for key, each in part.items()}
        (alert,) = alerts
        on_fault(alert.name, error)
        return {alert.source.unique_id: Compiled(alert.source.unique_id, None, fault(error))}


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
        on_fault: Callable[[str, Exception], None],
    ) -> None:
        self._on_fault = on_fault
        self._run_id = run_id
        self._warehouse = warehouse
        self._states = by_alert(before.states)
        self._by_hand = EvaluationTime(as_of=before.now, now=before.now)
        self._project = project
        self.stop = stop
        self._slots = options.slots
        self._fail_fast = options.fail_fast

    def __call__(self, session: Session, alert: Alert, compiled: Compiled | None) -> Observed:
        if self.stop.is_set():
            skipped = Reading(
                Outcome.SKIPPED, error="not evaluated: an earlier alert ended the run"
            )
            return Observed(alert, skipped)
        seen = self._look(session, alert, compiled)
        if self._fail_fast and seen.reading.outcome in (Outcome.ALERT, Outcome.ERROR):
            self.stop.set()  # here, before this thread takes the next alert
        return seen

    def _look(self, session: Session, alert: Alert, compiled: Compiled | None) -> Observed:
        started, began_at = time.perf_counter(), datetime.now(UTC)
        billed = _Billed()
        if compiled is None or compiled.sql is None:
            words = compiled and compiled.error
            return Observed(alert, Reading.failed(words or "the model doesn't compile"))
        try:
            instant = self._warehouse.instant(self._tick(alert).as_of)
            sql = _AS_OF.sub(lambda _: instant, compiled.sql)
            reading = self._read(session, alert, query_of(alert, sql, self._run_id), billed)
        except (QueryError, ContractError) as error:
            reading = Reading.failed(str(error))
        except WarehouseLocked:
            raise
        except WarehouseError as error:
            reading = Reading.failed(str(error), lost=True)
        except Exception as error:  # noqa: BLE001 - the edge of one alert: the others go on
            self._on_fault(alert.name, error)
            reading = Reading.failed(fault(error))
        return Observed(
            alert,
            reading,
            sql_hash=hash_sql(compiled.sql),
            duration_ms=round((time.perf_counter() - started) * 1000),
            bytes_billed=billed.total,
            began_at=began_at,
        )

    def _tick(self, alert: Alert) -> EvaluationTime:
        return _tick(self._by_hand, self._slots.get(alert.id))

    def _read(self, session: Session, alert: Alert, query: Query, billed: _Billed) -> Reading:
        rules = alert.rules
        shape = known_shape(rules)
        # A count without dimensions needs no columns: it reads one number.
        described = None
        if shape != "rows" or rules.dimensions:
            described = session.describe(query)
            shape = shape_of(rules, described.columns)
        if shape == "status":
            assert described is not None
            result = session.fetch(query, ROW_CAP, status_excerpt(rules, described))
            billed.add(result.bytes_billed)
            return read_status(rules, result)
        excerpt = dimensions_excerpt(rules, described) if described and rules.dimensions else None
        result = session.count(query, rules.dimensions, ROW_CAP, excerpt)
        billed.add(result.bytes_billed)
        if result.truncated:
            raise ContractError(f"`dimensions` has more than {ROW_CAP:,} combinations of values")
        try:
            counts = {tuple(row[:-1]): int(row[-1]) for row in result.rows}
        except TypeError:
            raise ContractError("`dimensions` names a column of lists or mappings") from None
        reading = read_counts(rules, counts)
        return self._with_samples(session, alert, query, reading, billed, described)

    def _with_samples(
        self,
        session: Session,
        alert: Alert,
        query: Query,
        reading: Reading,
        billed: _Billed,
        described: Described | None,
    ) -> Reading:
        """The reading with a few violating rows in the context of each instance that fires now."""
        rules = alert.rules
        if not rules.samples:
            return reading
        states = self._states.get(alert.id, ())
        judged = apply_reading(alert, reading, states, self._tick(alert), self._project)
        fires = {
            step.after.instance
            for step in judged.steps
            if any(change.event is Event.FIRING for change in step.transitions)
        }
        if not fires:
            return reading
        try:
            excerpt = samples_excerpt(rules, described or session.describe(query))
            result = session.sample(query, rules.dimensions, rules.samples, excerpt)
            billed.add(result.bytes_billed)
            samples = _samples(rules, result)
        except (QueryError, ContractError):
            return _noted(reading, fires, _NO_SAMPLES)
        except SentinelError:
            raise
        except Exception as error:  # noqa: BLE001 - as below
            # The count is sure; that it has no sample must not keep anybody from being notified.
            self._on_fault(alert.name, error)
            return _noted(reading, fires, _NO_SAMPLES)
        return replace(
            reading,
            observations=tuple(
                replace(
                    seen,
                    context={"samples": samples.get(seen.instance, [])}
                    if seen.instance in fires
                    else {},
                )
                for seen in reading.observations
            ),
        )


_NO_SAMPLES = "; its samples could not be fetched"


def _samples(rules: Definition, result: Result) -> dict[str, list[dict[str, Any]]]:
    """Violating rows by their instance. Raises ContractError where one can't be read."""
    columns = [name.lower() for name in result.columns]
    found: dict[str, list[dict[str, Any]]] = {}
    for row in result.rows:
        values = dict(zip(columns, row, strict=True))
        instance = instance_name(read_dimensions(rules, [values[n] for n in rules.dimensions]))
        shown = read_sample(rules, columns, row, result.left_out)
        found.setdefault(instance, []).append(shown)
    return found


def fault(error: Exception) -> str:
    """What nobody has foreseen, as the error of one alert."""
    if isinstance(error, RecursionError):
        return "a value or an expression is nested too deeply to be read"
    if isinstance(error, MemoryError):
        return "there is not enough memory to read the result"
    words = " ".join(str(error).split()) if not isinstance(error, KeyError) else ""
    return f"unexpected {type(error).__name__}" + (f": {words}" if words else "")


def hash_sql(sql: str) -> str:
    """The SQL's hash in history, whatever characters it has."""
    return hashlib.sha256(sql.encode(errors="surrogatepass")).hexdigest()


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
