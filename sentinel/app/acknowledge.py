"""Acknowledging: somebody looks after an episode, and nobody is reminded of it any more."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sentinel.app.delivery.claims import preclaim
from sentinel.core.alert import Alert, BrokenAlert
from sentinel.core.evaluation import Outcome, Reading
from sentinel.core.history import Execution, history_rows
from sentinel.core.lifecycle import AlertUpdate, EvaluationTime, State, Step, acknowledge
from sentinel.core.planning import Notification, Status, ledger_of, plan
from sentinel.core.routing import Routing
from sentinel.core.silence import dimension_text
from sentinel.ports import Batch, Decision, Snapshot, Store

KIND = "acknowledgement"


@dataclass(frozen=True)
class Acknowledged:
    """What came of it: rows that are acknowledged now, those that were before, who is told."""

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
        wanted = self.dimensions or {}
        return all(
            dimension_text(state.dimensions.get(name)) == value for name, value in wanted.items()
        )


def acknowledge_alerts(
    store: Store,
    project: str,
    routing: Routing,
    alerts: Sequence[Alert | BrokenAlert],
    wish: Acknowledgement,
    holder: str,
) -> Acknowledged:
    """Acknowledge the open episodes of alerts, in one transaction."""

    def decide(snapshot: Snapshot) -> Decision[Acknowledged]:
        tick = EvaluationTime(snapshot.now, snapshot.now)
        judgements, before = [], []
        for alert in alerts:
            names = (alert.id, alert.source.unique_id)
            rows = [s for s in snapshot.states if s.alert_id in names and wish.covers(s)]
            before += [s for s in rows if s.acked_at and s.phase is not None and s.phase.open]
            steps = acknowledge(rows, wish.by, wish.comment, snapshot.now)
            if steps:
                reading = Reading(Outcome.SKIPPED)
                judgements.append(AlertUpdate(alert, reading, steps, kind=KIND))
        told = plan(
            judgements,
            ledger_of(snapshot.ledger),
            project,
            snapshot.now,
            silences=snapshot.silences,
            routing=routing,
        )
        execution = Execution(uuid.uuid4().hex, "manual", tick)
        new = preclaim(told.notifications, snapshot.ledger, holder, snapshot.now)
        steps_ = [step for judged in judgements for step in judged.steps]
        batch = Batch(
            _after(steps_),
            tuple(
                row
                for judged in judgements
                for row in history_rows(judged, execution, told.decisions)
            ),
            new,
            told.superseded,
            told.revived,
        )
        return Decision(batch, Acknowledged(_after(steps_), tuple(before), new))

    ids = {each for alert in alerts for each in (alert.id, alert.source.unique_id)}
    return store.commit(ids, decide)


def claimed(rows: Sequence[Notification]) -> list[Notification]:
    """Those of new notifications that this process has claimed by making them."""
    return [row for row in rows if row.status is Status.CLAIMED]


def _after(steps: Sequence[Step]) -> tuple[State, ...]:
    return tuple(step.after for step in steps)
