"""Acknowledgement: someone takes over an episode, which stops reminders and escalations."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sentinel.app.record import Entry, Recorder
from sentinel.core.alert import Alert, BrokenAlert, row_ids
from sentinel.core.evaluation import EvaluationResult, Outcome
from sentinel.core.history import Execution
from sentinel.core.lifecycle import AlertUpdate, acknowledge
from sentinel.core.notification import Notification, Status
from sentinel.core.routing import Routing
from sentinel.core.silence import dimension_text
from sentinel.core.state import EvaluationTime, State
from sentinel.ports import Decision, Snapshot, StateStore

KIND = "acknowledgement"


@dataclass(frozen=True)
class Acknowledged:
    """Rows that were acknowledged now, those that were before, and the new notifications."""

    now: tuple[State, ...] = ()
    before: tuple[State, ...] = ()
    notifications: tuple[Notification, ...] = ()


@dataclass(frozen=True)
class Acknowledgement:
    """Who acknowledges, and why; `dimensions` narrows it to the instances with these values."""

    by: str
    comment: str | None = None
    dimensions: Mapping[str, str] | None = None

    def covers(self, state: State) -> bool:
        """Whether an instance has the values of `dimensions`, written as text."""
        wanted = self.dimensions or {}
        return all(
            dimension_text(state.dimensions.get(name)) == value for name, value in wanted.items()
        )


def acknowledge_alerts(
    store: StateStore,
    project: str,
    routing: Routing,
    alerts: Sequence[Alert | BrokenAlert],
    request: Acknowledgement,
    holder: str,
) -> Acknowledged:
    """Acknowledge the open episodes of alerts, in one transaction.

    `holder` claims the new notifications. Raises StoreError.
    """
    recorder = Recorder(project, routing, holder)
    run_id = uuid.uuid4().hex

    def decide(snapshot: Snapshot) -> Decision[Acknowledged]:
        cause = Execution(run_id, "manual", EvaluationTime(snapshot.now, snapshot.now))
        entries: list[Entry] = []
        before: list[State] = []
        for alert in alerts:
            rows = [s for s in snapshot.states if s.alert_id in alert.row_ids and request.covers(s)]
            before += [s for s in rows if s.acked_at and s.phase is not None and s.phase.open]
            steps = acknowledge(rows, request.by, request.comment, snapshot.now)
            if steps:
                update = AlertUpdate(alert, EvaluationResult(Outcome.SKIPPED), steps, kind=KIND)
                entries.append(Entry(update, cause))
        record = recorder.compose(entries, snapshot)
        notifications = record.plan.notifications
        return Decision(
            record.batch, Acknowledged(record.batch.states, tuple(before), notifications)
        )

    return store.commit(row_ids(alerts), decide)


def claimed(rows: Sequence[Notification]) -> list[Notification]:
    """Those of new notifications that this process claimed when it recorded them."""
    return [row for row in rows if row.status is Status.CLAIMED]
