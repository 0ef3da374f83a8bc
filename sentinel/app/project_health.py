"""A dbt project that can't be read is told like an alert that can't be evaluated.

Its row in the state is the head of an alert of its own, so that it is told once, by whichever
daemon notices, is seen in `status`, and is told to be over when the project can be read again.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sentinel.app.delivery.claims import preclaim
from sentinel.core.alert import BrokenAlert, Fault
from sentinel.core.evaluation import Outcome, Reading
from sentinel.core.history import Execution, history_rows
from sentinel.core.lifecycle import EvaluationTime, Health, apply_reading
from sentinel.core.planning import Notification, ledger_of, plan
from sentinel.core.project import AlertSource
from sentinel.core.routing import Recipients, Routing
from sentinel.core.severity import Severity
from sentinel.ports import Batch, Decision, Snapshot, Store

NAME = "dbt_project"


def project_alert_id(project: str) -> str:
    """The id of the rows that say whether a project can be read."""
    return f"project.{project}"


def record_project(
    store: Store,
    project: str,
    error: str | None,
    channels: Sequence[str],
    routing: Routing,
    holder: str,
) -> Sequence[Notification]:
    """Record that a project can't be read, for this reason, or that it can (None).

    Gives the notifications that are to be sent, claimed by `holder`; `channels` are told. Nothing
    is written where nothing has changed. Raises StoreError.
    """
    identity = project_alert_id(project)
    failing = any(state.health is Health.FAILING for state in store.snapshot({identity}).states)
    if failing == (error is not None):
        return ()
    reading = Reading(Outcome.OK) if error is None else Reading.failed(error)
    alert = BrokenAlert(
        AlertSource(identity, NAME, "dbt_project.yml", {}),
        () if error is None else (Fault((), error),),
        Recipients(dict.fromkeys(Severity, tuple(channels))),
    )

    def decide(snapshot: Snapshot) -> Decision[Sequence[Notification]]:
        tick = EvaluationTime(snapshot.now, snapshot.now)
        judged = apply_reading(alert, reading, snapshot.states, tick, project)
        told = plan(
            [judged],
            ledger_of(snapshot.ledger),
            project,
            snapshot.now,
            silences=snapshot.silences,
            routing=routing,
        )
        going = (row for row in snapshot.ledger if row.notification_id not in told.superseded)
        new = preclaim(told.notifications, going, holder, snapshot.now)
        execution = Execution(uuid.uuid4().hex, "reload", tick)
        rows = tuple(step.after for step in judged.steps if not step.recorded_only)
        batch = Batch(
            rows if error is not None else (),
            tuple(history_rows(judged, execution, told.decisions)),
            new,
            told.superseded,
            told.revived,
            # A project that can be read is no alert that is calm: nothing is left of it.
            snapshot.states if error is None else (),
        )
        return Decision(batch, new)

    return store.commit({identity}, decide)
