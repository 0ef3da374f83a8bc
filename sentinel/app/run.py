"""A run: choose the alerts, evaluate and record them, send notifications, and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from sentinel.app.alerts import Alerts
from sentinel.app.batch import BatchOptions, EvaluatedBatch
from sentinel.app.delivery.result import DeliveryResult
from sentinel.app.report import Report, report
from sentinel.app.slots import Shard, at_slot, due_now
from sentinel.app.timed_planning import TimedPlan
from sentinel.core.due import Slot
from sentinel.core.notification import Notification
from sentinel.ports import StateStore


@dataclass(frozen=True)
class RunRequest:
    """What a run is asked to do.

    `holder` claims the notifications that the run sends. With `due`, only alerts that are due are
    evaluated, with `slot` each for that slot; neither is a manual run. `shard` narrows the alerts
    to a share of them.
    """

    threads: int
    holder: str
    dry_run: bool = False
    fail_fast: bool = False
    due: bool = False
    slot: datetime | None = None
    shard: Shard | None = None
    delivery_timeout: timedelta = timedelta()

    @property
    def scheduled(self) -> bool:
        return self.due or self.slot is not None


@dataclass(frozen=True)
class Choice:
    """The alerts that are evaluated and their slots; `share` is the selection's shard they are of."""

    alerts: Alerts
    share: Alerts
    slots: Mapping[str, Slot] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """The report of a run, and what it chose to evaluate."""

    report: Report
    choice: Choice


class Deliver(Protocol):
    """Sends the messages of these ids, or all that are due; some are claimed already."""

    def __call__(
        self, only: Sequence[str] | None, timeout: timedelta, claimed: Sequence[Notification], /
    ) -> DeliveryResult: ...


@dataclass(frozen=True)
class Run:
    """The use case. `elapsed` gives the seconds since the command began."""

    store: StateStore
    evaluate: Callable[[Alerts, BatchOptions], EvaluatedBatch]
    deliver: Deliver
    plan_by_time: Callable[[Alerts, str], TimedPlan]
    elapsed: Callable[[], float]

    def __call__(self, selected: Alerts, request: RunRequest) -> RunResult:
        """Run the selected alerts.

        Raises UsageError if the request's slot lies in the future, ProjectError, WarehouseError or
        StoreError if nothing could be evaluated.
        """
        choice = self._choose(selected, request)
        options = BatchOptions(
            threads=request.threads,
            dry_run=request.dry_run,
            fail_fast=request.fail_fast,
            triggered_by="schedule" if request.scheduled else "manual",
            holder=request.holder,
            slots=choice.slots,
        )
        evaluated = self.evaluate(choice.alerts, options)
        delivered = (
            DeliveryResult() if request.dry_run else self._deliver(evaluated, choice, request)
        )
        made = report(evaluated, delivered, self.elapsed(), dry_run=request.dry_run)
        return RunResult(made, choice)

    def _choose(self, selected: Alerts, request: RunRequest) -> Choice:
        share = selected if request.shard is None else request.shard.of_alerts(selected)
        if not request.scheduled:
            return Choice(share, share)
        self.store.check(writing=not request.dry_run)
        if request.slot is None:
            slotted = due_now(share, self.store)
        else:
            slotted = at_slot(share, request.slot, self.store)
        return Choice(slotted.alerts, share, slotted.slots)

    def _deliver(
        self, evaluated: EvaluatedBatch, choice: Choice, request: RunRequest
    ) -> DeliveryResult:
        if not request.due:
            return self.deliver(evaluated.messages, request.delivery_timeout, evaluated.claimed)
        timed = self.plan_by_time(choice.share, request.holder)
        # Nothing else may be running: what an earlier run could not send is sent too.
        return self.deliver(None, request.delivery_timeout, evaluated.claimed + timed.claimed)
