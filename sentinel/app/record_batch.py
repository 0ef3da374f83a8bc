"""Recording of a batch: in one transaction, or without those alerts that can't be recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sentinel.app.batch import AlertEvaluation, BatchContext, EvaluatedBatch, join_parts
from sentinel.app.compile import describe_fault
from sentinel.app.record import Entry, Recorder
from sentinel.app.removal import group_by_alert, update_orphaned_alerts
from sentinel.core.alert import row_ids
from sentinel.core.errors import SentinelError, StoreError, StoreLost
from sentinel.core.evaluation import EvaluationResult, Outcome
from sentinel.core.history import Execution
from sentinel.core.lifecycle import AlertUpdate, apply_result
from sentinel.core.notification import Notification, Status
from sentinel.core.planning import NotificationPlan
from sentinel.core.routing import Routing
from sentinel.core.state import State
from sentinel.ports import Decision, Snapshot, StateStore

_RECORDED_BEFORE = EvaluationResult(Outcome.SKIPPED, error="its slot was recorded before")
_UNFINISHED = (Status.PENDING, Status.CLAIMED, Status.DEAD)


def decide_batch(
    recorder: Recorder,
    batch: BatchContext,
    evaluations: Sequence[AlertEvaluation],
    snapshot: Snapshot,
) -> Decision[EvaluatedBatch]:
    """What observations change, by what the store holds now, and the batch to write; it is pure."""
    recorded_before = _recorded_before(evaluations, snapshot)
    states = group_by_alert(snapshot.states)
    updates = tuple(
        _update(recorder.project, batch, each, states, snapshot, recorded_before)
        for each in evaluations
    )
    removals = _removals(batch, evaluations, states, snapshot)
    entries = [
        Entry(update, _execution(batch, each, snapshot))
        for each, update in zip(evaluations, updates, strict=True)
        if each.alert.id not in recorded_before
    ]
    options = batch.options
    cause = Execution(batch.run_id, options.triggered_by, batch.manual_time(snapshot.now))
    entries += [Entry(update, cause) for update in removals]
    record = recorder.compose(entries, snapshot)
    evaluated = EvaluatedBatch(
        batch.run_id,
        batch.before.now,
        tuple(evaluations),
        updates,
        record.plan,
        tuple(_unfinished(snapshot, record.plan)),
        removals,
        recorded_before,
    )
    return Decision(record.batch, evaluated)


def _recorded_before(evaluations: Iterable[AlertEvaluation], snapshot: Snapshot) -> frozenset[str]:
    """The alerts whose slot history has already; an error may be evaluated again."""
    return frozenset(
        each.alert.id
        for each in evaluations
        if (recorded := snapshot.recorded.get(each.alert.id)) is not None
        and not recorded.outcome.traits.failed
    )


def _update(
    project: str,
    batch: BatchContext,
    evaluations: AlertEvaluation,
    states: Mapping[str, Sequence[State]],
    snapshot: Snapshot,
    recorded_before: frozenset[str],
) -> AlertUpdate:
    alert = evaluations.alert
    result = _RECORDED_BEFORE if alert.id in recorded_before else evaluations.result
    rows = [row for key in alert.row_ids for row in states.get(key, ())]
    return apply_result(alert, result, rows, batch.time_of(alert, snapshot.now), project)


def _removals(
    batch: BatchContext,
    evaluations: Iterable[AlertEvaluation],
    states: Mapping[str, Sequence[State]],
    snapshot: Snapshot,
) -> tuple[AlertUpdate, ...]:
    if batch.options.dry_run:
        return ()
    others = row_ids(each.alert for each in evaluations)
    time = batch.manual_time(snapshot.now)
    return tuple(update_orphaned_alerts(batch.alerts, states, time, others))


def _execution(batch: BatchContext, evaluations: AlertEvaluation, snapshot: Snapshot) -> Execution:
    recorded = snapshot.recorded.get(evaluations.alert.id)
    return Execution(
        batch.run_id,
        batch.options.triggered_by,
        batch.time_of(evaluations.alert, snapshot.now),
        evaluations.sql_hash,
        evaluations.duration_ms,
        evaluations.bytes_billed,
        recorded.attempt + 1 if recorded else 1,
    )


def _unfinished(snapshot: Snapshot, planned: NotificationPlan) -> Iterator[Notification]:
    superseded = frozenset(planned.superseded)
    for row in snapshot.ledger:
        if row.status in _UNFINISHED and row.notification_id not in superseded:
            yield row


@dataclass
class _Progress:
    """How much of a batch was recorded so far when it is recorded part by part."""

    recorded: int = 0
    unrecorded: int = 0
    faults: list[tuple[str, Exception]] = field(default_factory=list)


@dataclass(frozen=True)
class BatchRecorder:
    """Records what was observed of one batch's alerts.

    `project` is the project's name, `scrub` removes secrets from errors. `on_fault` gets unforeseen
    errors with the name of the alert that causes them.
    """

    store: StateStore
    project: str
    routing: Routing | None
    batch: BatchContext
    scrub: Callable[[str], str] = str
    on_fault: Callable[[str, Exception], None] = lambda _alert, _error: None

    def __call__(self, evaluations: Sequence[AlertEvaluation]) -> EvaluatedBatch:
        """Record in one transaction, without alerts that can't be recorded.

        Raises StoreError if nothing can be recorded, and LeaseLost.
        """
        orphans = self._orphaned_alert_ids()
        try:
            return self._commit_whole(evaluations, orphans)
        except Exception as error:
            if not self._caused_by_one_alert(error):
                raise
            progress = _Progress()
            parts = [self._commit_part(half, progress) for half in _halves(evaluations)]
            if isinstance(error, StoreError) and evaluations and not progress.recorded:
                raise
            for name, cause in progress.faults:
                self.on_fault(name, cause)
            if orphans:
                parts.append(self._commit_orphans(orphans))
            return join_parts(parts)

    def _commit_whole(
        self, evaluations: Sequence[AlertEvaluation], orphans: frozenset[str]
    ) -> EvaluatedBatch:
        try:
            return self._commit(evaluations, orphans)
        except StoreLost:
            return self._commit(evaluations, orphans)  # on another connection

    def _orphaned_alert_ids(self) -> frozenset[str]:
        known = self.batch.alerts.known
        if known is None or self.batch.options.dry_run:
            return frozenset()
        return self.store.orphaned_alert_ids(known)

    def _commit(
        self, evaluations: Sequence[AlertEvaluation], orphans: frozenset[str]
    ) -> EvaluatedBatch:
        options = self.batch.options
        recorder = Recorder(
            self.project, self.routing, options.holder, options.lease, options.lease_ttl
        )

        def decide(snapshot: Snapshot) -> Decision[EvaluatedBatch]:
            return decide_batch(recorder, self.batch, evaluations, snapshot)

        if options.dry_run or not (evaluations or orphans):
            return decide(self.batch.before).result
        ids = row_ids(each.alert for each in evaluations) | orphans
        return self.store.commit(ids, decide, self.batch.slots)

    def _caused_by_one_alert(self, error: Exception) -> bool:
        """Whether one alert's values may be the cause, and not the store itself."""
        if isinstance(error, StoreError) and type(error) is StoreError:
            try:
                self.store.now()
            except SentinelError:
                return False
            return True
        return not isinstance(error, SentinelError)

    def _commit_part(
        self, evaluations: Sequence[AlertEvaluation], progress: _Progress
    ) -> EvaluatedBatch:
        """Record some of a batch that could not be recorded as a whole.

        The alert that is the cause gets the outcome `error`. Raises StoreError if none of the batch
        can be recorded.
        """
        try:
            evaluated = self._commit(evaluations, frozenset())
        except Exception as error:
            if not self._caused_by_one_alert(error):
                raise
            if len(evaluations) > 1:
                return join_parts(
                    [self._commit_part(each, progress) for each in _halves(evaluations)]
                )
            return self._commit_error(evaluations[0], error, progress)
        progress.recorded += len(evaluations)
        return evaluated

    def _commit_error(
        self, evaluations: AlertEvaluation, cause: Exception, progress: _Progress
    ) -> EvaluatedBatch:
        """Record that one alert's result can't be recorded.

        Where not even that can be, the alert is reported as `unrecorded`.
        """
        words = f"its result can't be recorded: {self.scrub(describe_fault(cause))}"
        failed = replace(evaluations, result=EvaluationResult.failed(words))
        try:
            evaluated = self._commit([failed], frozenset())
        except Exception as error:
            progress.unrecorded += 1
            of_store = isinstance(error, StoreError) and not progress.recorded
            if not self._caused_by_one_alert(error) or (of_store and progress.unrecorded > 1):
                raise  # of several alerts none can be recorded: the store can't be written
            progress.faults.append((evaluations.alert.name, error))
            return self._unrecorded(failed)
        progress.recorded += 1
        progress.faults.append((evaluations.alert.name, cause))
        return evaluated

    def _unrecorded(self, failed: AlertEvaluation) -> EvaluatedBatch:
        time = self.batch.manual_time()
        update = apply_result(failed.alert, failed.result, (), time, self.project)
        return replace(
            self._nothing(),
            evaluations=(failed,),
            updates=(update,),
            unrecorded=frozenset({failed.alert.id}),
        )

    def _commit_orphans(self, orphans: frozenset[str]) -> EvaluatedBatch:
        try:
            return self._commit((), orphans)
        except Exception as error:
            if not self._caused_by_one_alert(error):
                raise
            self.on_fault("alerts that were removed", error)
            return self._nothing()

    def _nothing(self) -> EvaluatedBatch:
        return EvaluatedBatch(self.batch.run_id, self.batch.before.now, (), (), NotificationPlan())


def _halves(evaluations: Sequence[AlertEvaluation]) -> list[Sequence[AlertEvaluation]]:
    """Two halves of a batch; of one alert, that alert."""
    middle = len(evaluations) // 2
    return [half for half in (evaluations[:middle], evaluations[middle:]) if half]
