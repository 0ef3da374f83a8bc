"""One batch: compile, query, judge, record, tell.

What the alerts' queries saw is gathered first; then one transaction reads the state, decides and
writes state, history and outbox; only after it anybody is told.
"""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Event as Flag

from sentinel.app.alerts import Alerts
from sentinel.app.deliver import claimed_at_birth
from sentinel.core.alert import Alert, BrokenAlert
from sentinel.core.errors import QueryError
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
from sentinel.core.history import Execution, history_rows
from sentinel.core.lifecycle import Event, Judgement, State, Tick, judge
from sentinel.core.planning import Notification, Plan, Status, ledger_of, plan
from sentinel.core.project import Compiled
from sentinel.core.values import plain
from sentinel.ports import Batch, Project, Query, Session, Snapshot, Store, Warehouse

_AS_OF = re.compile(r"/\*sentinel:as_of\*/.*?/\*sentinel:end\*/", re.DOTALL)


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run. `threads` is the number of queries at once.

    `holder` is who will send at once what there is to tell, and so claims it.
    """

    threads: int
    dry_run: bool = False
    fail_fast: bool = False
    triggered_by: str = "manual"
    holder: str | None = None


@dataclass(frozen=True)
class Observed:
    """One alert after its query: what it saw, and how long that took."""

    alert: Alert | BrokenAlert
    reading: Reading
    sql_hash: str | None = None
    duration_ms: int | None = None
    bytes_billed: int | None = None


@dataclass(frozen=True)
class Evaluated:
    """A batch as it was recorded, or as it would have been on a dry run.

    `unfinished` are older notifications of these alerts' open episodes that are not sent, or dead.
    """

    run_id: str
    started_at: datetime
    observed: tuple[Observed, ...]
    judgements: tuple[Judgement, ...]
    plan: Plan
    unfinished: tuple[Notification, ...] = ()

    @property
    def messages(self) -> list[str]:
        """The messages to send now: the new ones, and older ones of these alerts still pending."""
        rows = (*self.unfinished, *self.plan.notifications)
        return [row.message_id for row in rows if row.status is not Status.DEAD]

    @property
    def claimed(self) -> list[Notification]:
        """Those of the new messages that are claimed already, by who has evaluated."""
        return [row for row in self.plan.notifications if row.status is Status.CLAIMED]


@dataclass
class Evaluation:
    """The use case, with all that it needs.

    `scrub` takes secrets out of errors, `progress` is told (done, total, alert's name).
    """

    project: Project
    warehouse: Warehouse
    store: Store
    scrub: Callable[[str], str] = str
    progress: Callable[[int, int, str], None] = field(default=lambda *_: None)

    def __call__(self, alerts: Alerts, options: BatchOptions) -> Evaluated:
        """Evaluate alerts and record what was seen.

        Raises ProjectError, WarehouseError or StoreError when nothing could be evaluated; what
        goes wrong with a single alert is that alert's outcome.
        """
        self.store.check()
        compiled = self.project.compile(alert.source.unique_id for alert in alerts.good)
        ids = [alert.id for alert in alerts.all]
        before = self.store.snapshot(ids)
        run_id = uuid.uuid4().hex
        observed = self._observe(run_id, alerts, compiled, before, options)
        made: list[Evaluated] = []

        def decide(snapshot: Snapshot) -> Batch:
            evaluated, batch = self._decide(run_id, observed, before, snapshot, options)
            made.append(evaluated)
            return batch

        if options.dry_run:
            decide(before)
        else:
            self.store.commit(ids, decide)
        return made[-1]  # the last try is the one that was written

    # -- seeing --------------------------------------------------------------------------------

    def _observe(
        self,
        run_id: str,
        alerts: Alerts,
        compiled: Mapping[str, Compiled],
        before: Snapshot,
        options: BatchOptions,
    ) -> list[Observed]:
        total, found = len(alerts.all), [self._broken(alert) for alert in alerts.broken]
        stop = Flag()
        if found and options.fail_fast:
            stop.set()
        look = _Look(self.warehouse, run_id, before, self.project.name, stop, options.fail_fast)
        with self.warehouse.open() as session, ThreadPoolExecutor(options.threads) as pool:
            work = [
                pool.submit(look, session, alert, compiled[alert.source.unique_id])
                for alert in alerts.good
            ]
            try:
                for done in as_completed(work):
                    seen = self._scrubbed(done.result())
                    found.append(seen)
                    self.progress(len(found), total, seen.alert.name)
            finally:
                stop.set()  # after an interrupt nothing that waits for a thread is started
        return sorted(found, key=lambda seen: seen.alert.name)

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
        observed: Sequence[Observed],
        before: Snapshot,
        snapshot: Snapshot,
        options: BatchOptions,
    ) -> tuple[Evaluated, Batch]:
        tick = Tick(as_of=before.now, now=snapshot.now)
        states = _by_alert(snapshot.states)
        judgements = tuple(
            judge(seen.alert, seen.reading, states.get(seen.alert.id, ()), tick, self.project.name)
            for seen in observed
        )
        told = plan(judgements, ledger_of(snapshot.ledger), self.project.name, snapshot.now)
        rows = [
            row
            for seen, judged in zip(observed, judgements, strict=True)
            for row in history_rows(
                judged,
                Execution(
                    run_id,
                    options.triggered_by,
                    tick,
                    seen.sql_hash,
                    seen.duration_ms,
                    seen.bytes_billed,
                ),
                told.decisions,
            )
        ]
        changed = tuple(
            state
            for judged in judgements
            for state in (
                *(step.after for step in judged.steps if not step.recorded_only),
                *judged.noted,
            )
        )
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
        return (
            Evaluated(
                run_id,
                before.now,
                tuple(observed),
                judgements,
                replace(told, notifications=new),
                unfinished,
            ),
            Batch(changed, tuple(rows), new, told.superseded),
        )


def _by_alert(states: Iterable[State]) -> dict[str, list[State]]:
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
        fail_fast: bool,
    ) -> None:
        self._run_id = run_id
        self._instant = warehouse.instant(before.now)
        self._states = _by_alert(before.states)
        self._tick = Tick(as_of=before.now, now=before.now)
        self._project = project
        self._stop = stop
        self._fail_fast = fail_fast

    def __call__(self, session: Session, alert: Alert, compiled: Compiled) -> Observed:
        if self._stop.is_set():
            skipped = Reading(
                Outcome.SKIPPED, error="not evaluated: an earlier alert ended the run"
            )
            return Observed(alert, skipped)
        seen = self._look(session, alert, compiled)
        if self._fail_fast and seen.reading.outcome in (Outcome.ALERT, Outcome.ERROR):
            self._stop.set()  # here, before this thread takes the next alert
        return seen

    def _look(self, session: Session, alert: Alert, compiled: Compiled) -> Observed:
        if compiled.sql is None:
            return Observed(alert, Reading.failed(compiled.error or "the model doesn't compile"))
        sql = _AS_OF.sub(lambda _: self._instant, compiled.sql)
        started = time.perf_counter()
        billed = _Billed()
        try:
            reading = self._read(session, alert, query_of(alert, sql, self._run_id), billed)
        except (QueryError, ContractError) as error:
            reading = Reading.failed(str(error))
        return Observed(
            alert,
            reading,
            sql_hash=hashlib.sha256(compiled.sql.encode()).hexdigest(),
            duration_ms=round((time.perf_counter() - started) * 1000),
            bytes_billed=billed.total,
        )

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
        judged = judge(alert, reading, states, self._tick, self._project)
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
                {
                    name: value
                    for name, value in row.items()
                    if not rules.sample_columns or name in rules.sample_columns
                }
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
