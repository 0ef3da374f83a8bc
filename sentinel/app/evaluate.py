"""Evaluation of a batch: compile, query, record.

What the alerts' queries observe is gathered first; then one transaction reads the state, decides
and writes state, history and outbox. Notifications are sent only after it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sentinel.app.alerts import Alerts
from sentinel.app.batch import AlertEvaluation, BatchContext, BatchOptions, EvaluatedBatch
from sentinel.app.compile import compile_alerts, describe_definition_faults
from sentinel.app.query import AlertQuery, QueryRunner
from sentinel.app.record_batch import BatchRecorder
from sentinel.core.alert import Alert, row_ids
from sentinel.core.errors import WarehouseError, WarehouseLocked
from sentinel.core.evaluation import EvaluationResult, Outcome
from sentinel.core.project import Compiled
from sentinel.core.routing import Routing
from sentinel.ports import Project, Snapshot, StateStore, Warehouse


@dataclass
class Evaluation:
    """The use case, with all that it needs.

    `scrub` removes secrets from errors, `progress` gets (done, total, alert's name), `target` is
    the dbt target of the project. `on_fault` gets unforeseen errors in the evaluation of one alert,
    with its name: they are that alert's outcome too.
    """

    project: Project
    warehouse: Warehouse
    store: StateStore
    scrub: Callable[[str], str] = str
    progress: Callable[[int, int, str], None] = field(default=lambda *_: None)
    routing: Routing | None = None
    target: str | None = None
    on_fault: Callable[[str, Exception], None] = field(default=lambda *_: None)

    def __call__(self, alerts: Alerts, options: BatchOptions) -> EvaluatedBatch:
        """Evaluate alerts and record the results in one batch.

        Raises ProjectError, WarehouseError or StoreError when nothing could be evaluated; what
        goes wrong with a single alert is that alert's outcome.
        """
        self.store.check(writing=not options.dry_run)
        (evaluated,) = self.in_parts(alerts, replace(options, max_wait=None))
        return evaluated

    def in_parts(self, alerts: Alerts, options: BatchOptions) -> Iterator[EvaluatedBatch]:
        """Evaluate alerts and record the results: quick queries don't wait for slow ones.

        Raises as a call does, and LeaseLost; the parts before are recorded then.
        """
        waiting = [alert for alert in alerts.valid if alert.id not in options.busy]
        compiled = compile_alerts(self.project, waiting, self.on_fault)
        before = self._before(alerts, options)
        batch = BatchContext(uuid.uuid4().hex, alerts, before, options, self.target)
        record = BatchRecorder(
            self.store, self.project.name, self.routing, batch, self.scrub, self.on_fault
        )
        for evaluations in self._observe(batch, waiting, compiled):
            yield record(evaluations)

    def _before(self, alerts: Alerts, options: BatchOptions) -> Snapshot:
        """The store before the queries: all rows that a dry run needs; else the clock, and the
        rows of those alerts whose samples depend on whether they fire."""
        needed = alerts.all if options.dry_run else [a for a in alerts.valid if a.rules.samples]
        return self.store.snapshot(row_ids(needed))

    def _observe(
        self, batch: BatchContext, alerts: Sequence[Alert], compiled: Mapping[str, Compiled]
    ) -> Iterator[list[AlertEvaluation]]:
        """The observations of a batch, by name; in parts if its options have a patience."""
        part = self._without_query(batch)
        waiting = {alert.id: alert for alert in alerts}
        total = len(batch.alerts.all)
        try:
            for evaluations in self._runner(batch)(alerts, compiled):
                if evaluations is None:
                    if part:
                        yield _by_name(part)
                        part = []
                    continue
                del waiting[evaluations.alert.id]
                part.append(self._scrubbed(evaluations))
                self.progress(total - len(waiting), total, evaluations.alert.name)
        except WarehouseLocked:
            raise  # no result, and not the alert's fault: retried later
        except WarehouseError as error:
            # The store can be reached, or it would have raised before: the error can be recorded.
            unreachable = EvaluationResult.failed(self.scrub(str(error)), unreachable=True)
            part += [AlertEvaluation(alert, unreachable) for alert in waiting.values()]
        yield _by_name(part)

    def _without_query(self, batch: BatchContext) -> list[AlertEvaluation]:
        """Alerts that are not queried: broken definitions, and those that are busy."""
        broken = [
            AlertEvaluation(
                alert, EvaluationResult.failed(describe_definition_faults(self.project, alert))
            )
            for alert in batch.alerts.broken
        ]
        busy = batch.options.busy
        return broken + [
            AlertEvaluation(alert, EvaluationResult(Outcome.SKIPPED, error=busy[alert.id]))
            for alert in batch.alerts.valid
            if alert.id in busy
        ]

    def _runner(self, batch: BatchContext) -> QueryRunner:
        query = AlertQuery(self.warehouse, self.project.name, batch, self.on_fault)
        runner = QueryRunner(self.warehouse, query, batch.options)
        if batch.alerts.broken and batch.options.fail_fast:
            runner.stop.set()
        return runner

    def _scrubbed(self, evaluations: AlertEvaluation) -> AlertEvaluation:
        error = evaluations.result.error
        if error is None:
            return evaluations
        return replace(evaluations, result=replace(evaluations.result, error=self.scrub(error)))


def _by_name(evaluations: Sequence[AlertEvaluation]) -> list[AlertEvaluation]:
    return sorted(evaluations, key=lambda each: each.alert.name)
