"""What comes by time and needs no query: reminders, escalations, ends of silences, removals."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sentinel.app.alerts import Alerts
from sentinel.app.delivery.claims import preclaim
from sentinel.app.evaluate import by_alert, changed, removed
from sentinel.core.history import Execution, HistoryRow, history_rows
from sentinel.core.lifecycle import AlertUpdate, EvaluationTime, State
from sentinel.core.planning import Notification, Plan, Status, ledger_of, plan, standing
from sentinel.core.routing import Routing
from sentinel.ports import Batch, Decision, Lease, Snapshot, Store


@dataclass(frozen=True)
class TimedPlan:
    """What stands and what was planned: `states` are rows of alerts that aren't calm."""

    now: datetime
    states: tuple[State, ...] = ()
    plan: Plan = field(default_factory=Plan)
    removals: tuple[AlertUpdate, ...] = ()

    @property
    def claimed(self) -> list[Notification]:
        """The new notifications that are claimed by who is about to send them."""
        return [row for row in self.plan.notifications if row.status is Status.CLAIMED]

    @property
    def messages(self) -> list[str]:
        """The messages to send now."""
        return [row.message_id for row in self.plan.notifications]


@dataclass
class TimedPlanning:
    """The use case. `target` is the dbt target of the project."""

    store: Store
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
        """Plan for alerts as they stand, and record what there is to tell; mostly nothing.

        Raises StoreError, and LeaseLost as a commit does.
        """
        known = alerts.known
        ids = self.store.active_alert_ids()
        if known is not None:
            ids |= self.store.orphaned_alert_ids(known)
        before = self.store.snapshot(ids)
        run_id = uuid.uuid4().hex

        def decide(snapshot: Snapshot) -> Decision[TimedPlan]:
            timed, batch = self._decide(run_id, alerts, snapshot, holder)
            if lease is not None:
                batch = replace(batch, lease=replace(lease, expires_at=snapshot.now + lease_ttl))
            return Decision(batch, timed)

        decision = decide(before)
        if replace(decision.batch, lease=None) == Batch():
            return decision.result
        return self.store.commit(ids, decide)

    def _decide(
        self, run_id: str, alerts: Alerts, snapshot: Snapshot, holder: str
    ) -> tuple[TimedPlan, Batch]:
        tick = EvaluationTime(snapshot.now, snapshot.now, target=self.target)
        states = by_alert(snapshot.states)
        standings = [standing(a, states[a.id]) for a in alerts.all if a.id in states]
        others = frozenset(judged.alert.id for judged in standings)
        removals = tuple(removed(alerts, states, tick, others))
        told = plan(
            (*standings, *removals),
            ledger_of(snapshot.ledger),
            self.project,
            snapshot.now,
            silences=snapshot.silences,
            routing=self.routing,
        )
        going = (row for row in snapshot.ledger if row.notification_id not in told.superseded)
        new = preclaim(told.notifications, going, holder, snapshot.now)
        told = replace(told, notifications=new)
        return (
            TimedPlan(snapshot.now, snapshot.states, told, removals),
            Batch(
                tuple(state for judged in removals for state in changed(judged)),
                tuple(_history(run_id, standings, removals, told, tick, states)),
                new,
                told.superseded,
                told.revived,
                tuple(state for judged in removals for state in judged.dropped),
            ),
        )


def _history(
    run_id: str,
    standings: Sequence[AlertUpdate],
    removals: Sequence[AlertUpdate],
    told: Plan,
    tick: EvaluationTime,
    states: Mapping[str, Sequence[State]],
) -> Sequence[HistoryRow]:
    """A row for each instance that somebody is told of, and for what was removed."""
    execution = Execution(run_id, "plan", tick)
    reached = {(each.alert_id, each.instance) for each in told.decisions if each.told}
    rows: list[HistoryRow] = []
    for judged in standings:
        mine = [s for s in states[judged.alert.id] if (s.alert_id, s.instance) in reached]
        if mine:
            rows += history_rows(standing(judged.alert, mine), execution, told.decisions)
    for judged in removals:
        rows += history_rows(judged, execution, told.decisions)
    return rows
