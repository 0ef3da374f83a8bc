"""Time-based notifications need no query: reminders, escalations, ends of silences, removals."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sentinel.app.alerts import Alerts
from sentinel.app.record import Entry, Record, Recorder
from sentinel.app.removal import group_by_alert, update_orphaned_alerts
from sentinel.core.history import Execution
from sentinel.core.lifecycle import AlertUpdate
from sentinel.core.notification import Notification, Status
from sentinel.core.planning import NotificationPlan, current_update
from sentinel.core.routing import Routing
from sentinel.core.state import EvaluationTime, State
from sentinel.ports import Decision, Lease, Snapshot, StateStore


@dataclass(frozen=True)
class TimedPlan:
    """What was planned, and `states`: the rows of active alerts."""

    now: datetime
    states: tuple[State, ...] = ()
    plan: NotificationPlan = field(default_factory=NotificationPlan)
    removals: tuple[AlertUpdate, ...] = ()

    @property
    def claimed(self) -> list[Notification]:
        """The new notifications that the holder has claimed."""
        return [row for row in self.plan.notifications if row.status is Status.CLAIMED]

    @property
    def messages(self) -> list[str]:
        """The messages to send now."""
        return [row.message_id for row in self.plan.notifications]


@dataclass
class TimedPlanning:
    """The use case. `target` is the dbt target of the project."""

    store: StateStore
    project: str
    routing: Routing
    target: str | None = None

    def __call__(
        self,
        alerts: Alerts,
        holder: str,
        lease: Lease | None = None,
        lease_ttl: timedelta = timedelta(),
    ) -> TimedPlan:
        """Plan for alerts as they are, and record new notifications; mostly there are none.

        `holder` claims them. Raises StoreError, and LeaseLost as a commit does.
        """
        ids = self.store.active_alert_ids()
        if alerts.known is not None:
            ids |= self.store.orphaned_alert_ids(alerts.known)
        recorder = Recorder(self.project, self.routing, holder, lease, lease_ttl)
        run_id = uuid.uuid4().hex

        def decide(snapshot: Snapshot) -> Decision[TimedPlan]:
            record, timed = self._compose(recorder, run_id, alerts, snapshot)
            return Decision(record.batch, timed)

        record, timed = self._compose(recorder, run_id, alerts, self.store.snapshot(ids))
        # A transaction only to find that nothing is due would be the most frequent one of all.
        return timed if record.empty else self.store.commit(ids, decide)

    def _compose(
        self, recorder: Recorder, run_id: str, alerts: Alerts, snapshot: Snapshot
    ) -> tuple[Record, TimedPlan]:
        time = EvaluationTime(snapshot.now, snapshot.now, target=self.target)
        states = group_by_alert(snapshot.states)
        current = [current_update(a, states[a.id]) for a in alerts.all if a.id in states]
        others = frozenset(each.alert.id for each in current)
        removals = tuple(update_orphaned_alerts(alerts, states, time, others))
        cause = Execution(run_id, "plan", time)
        entries = [Entry(update, cause, unchanged=True) for update in current]
        entries += [Entry(update, cause) for update in removals]
        record = recorder.compose(entries, snapshot)
        return record, TimedPlan(snapshot.now, snapshot.states, record.plan, removals)
