"""A batch of alerts: how it is evaluated, what was observed, and what was recorded of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sentinel.app.alerts import Alerts
from sentinel.core.alert import Alert, BrokenAlert
from sentinel.core.due import Slot
from sentinel.core.evaluation import EvaluationResult
from sentinel.core.lifecycle import AlertUpdate
from sentinel.core.notification import Notification, Status
from sentinel.core.planning import NotificationPlan
from sentinel.core.state import EvaluationTime
from sentinel.ports import Lease, Snapshot


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run. `threads` is the number of concurrent queries.

    `holder` sends new notifications after the commit, and claims them in it. `slots` are the slots
    that are evaluated, by alert id; alerts without one are evaluated manually. `busy` are alerts that
    are not queried, with the reason. With a `lease`, nothing is recorded unless it holds; recording
    keeps it for `lease_ttl`. `max_wait` is how long results of quick alerts wait for slower ones of
    the same batch.
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
    max_wait: timedelta | None = None


@dataclass(frozen=True)
class BatchContext:
    """What all parts of a batch share. `before` is the store as it was before the queries."""

    run_id: str
    alerts: Alerts
    before: Snapshot
    options: BatchOptions
    target: str | None = None

    def manual_time(self, now: datetime | None = None) -> EvaluationTime:
        """The time that an evaluation without a slot is for, recorded at `now`."""
        started_at = self.before.now
        return EvaluationTime(started_at, now or started_at, target=self.target)

    def time_of(self, alert: Alert | BrokenAlert, now: datetime | None = None) -> EvaluationTime:
        """The time that an alert's evaluation is for: its slot, else as `manual_time`."""
        slot, manual = self.options.slots.get(alert.id), self.manual_time(now)
        if slot is None:
            return manual
        return replace(manual, as_of=slot.at, slot=slot.at, missed_slots=slot.missed)

    @property
    def slots(self) -> Mapping[str, datetime]:
        """The slots that are evaluated, by alert id."""
        return {key: slot.at for key, slot in self.options.slots.items()}


@dataclass(frozen=True)
class AlertEvaluation:
    """One alert after its query: what it saw, when that began by this machine, and how long it took."""

    alert: Alert | BrokenAlert
    result: EvaluationResult
    sql_hash: str | None = None
    duration_ms: int | None = None
    bytes_billed: int | None = None
    began_at: datetime | None = None


@dataclass(frozen=True)
class EvaluatedBatch:
    """A batch as it was recorded, or as it would have been on a dry run.

    `unfinished` are older notifications of these alerts' open episodes that are not sent, or dead,
    `removals` what became of alerts that are no longer in the project. The slots of the alerts in
    `recorded_before` (their ids) were recorded already, so that nothing was recorded now. Those in
    `unrecorded` have an error that could not be recorded either: they are still due.
    """

    run_id: str
    started_at: datetime
    evaluations: tuple[AlertEvaluation, ...]
    updates: tuple[AlertUpdate, ...]
    plan: NotificationPlan
    unfinished: tuple[Notification, ...] = ()
    removals: tuple[AlertUpdate, ...] = ()
    recorded_before: frozenset[str] = frozenset()
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


def join_parts(parts: Sequence[EvaluatedBatch]) -> EvaluatedBatch:
    """Parts of a batch that were recorded one after another, as one."""
    plans = [part.plan for part in parts]
    return replace(
        parts[0],
        evaluations=tuple(each for part in parts for each in part.evaluations),
        updates=tuple(each for part in parts for each in part.updates),
        plan=NotificationPlan(
            tuple(each for plan in plans for each in plan.notifications),
            tuple(each for plan in plans for each in plan.superseded),
            tuple(each for plan in plans for each in plan.decisions),
            tuple(each for plan in plans for each in plan.revived),
        ),
        unfinished=tuple(each for part in parts for each in part.unfinished),
        removals=tuple(each for part in parts for each in part.removals),
        recorded_before=frozenset().union(*(part.recorded_before for part in parts)),
        unrecorded=frozenset().union(*(part.unrecorded for part in parts)),
    )
