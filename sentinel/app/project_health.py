"""A dbt project that can't be read notifies like an alert that can't be evaluated.

It has a row in the state, as the head of an alert of its own: so it notifies once, whichever daemon
notices, appears in `status`, and a recovery notification follows when it can be read again.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from sentinel.app.record import Entry, Recorder
from sentinel.core.alert import BrokenAlert
from sentinel.core.definition_errors import Fault
from sentinel.core.evaluation import EvaluationResult, Outcome
from sentinel.core.history import Execution
from sentinel.core.lifecycle import apply_result
from sentinel.core.notification import Notification
from sentinel.core.project import AlertSource
from sentinel.core.routing import Recipients, Routing
from sentinel.core.severity import Severity
from sentinel.core.state import EvaluationTime, Health
from sentinel.ports import Decision, Snapshot, StateStore

NAME = "dbt_project"


def project_alert_id(project: str) -> str:
    """The id of the rows that say whether a project can be read."""
    return f"project.{project}"


def record_project(
    store: StateStore,
    project: str,
    error: str | None,
    channels: Sequence[str],
    routing: Routing,
    holder: str,
) -> Sequence[Notification]:
    """Record that a project can't be read, for this reason, or that it can (None).

    Returns the new notifications, of `channels`, claimed by `holder`. Nothing is written unless it
    changed. Raises StoreError.
    """
    identity = project_alert_id(project)
    failing = any(state.health is Health.FAILING for state in store.snapshot({identity}).states)
    if failing == (error is not None):
        return ()
    result = EvaluationResult(Outcome.OK) if error is None else EvaluationResult.failed(error)
    alert = _project_alert(identity, error, channels)
    recorder = Recorder(project, routing, holder)
    run_id = uuid.uuid4().hex

    def decide(snapshot: Snapshot) -> Decision[Sequence[Notification]]:
        time = EvaluationTime(snapshot.now, snapshot.now)
        update = apply_result(alert, result, snapshot.states, time, project)
        record = recorder.compose([Entry(update, Execution(run_id, "reload", time))], snapshot)
        batch = record.batch
        if error is None:
            # A project that can be read is no alert: none of its rows stay.
            batch = replace(batch, states=(), dropped=snapshot.states)
        return Decision(batch, record.plan.notifications)

    return store.commit({identity}, decide)


def _project_alert(identity: str, error: str | None, channels: Sequence[str]) -> BrokenAlert:
    """The project as an alert: without a query, with its error as its only fault."""
    return BrokenAlert(
        AlertSource(identity, NAME, "dbt_project.yml", {}),
        () if error is None else (Fault((), error),),
        Recipients(dict.fromkeys(Severity, tuple(channels))),
    )
