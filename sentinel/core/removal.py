"""Alerts that are no longer in the project, or are disabled there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from sentinel.core.alert import Alert, BrokenAlert
from sentinel.core.evaluation import EvaluationResult, Outcome
from sentinel.core.health import advance_health
from sentinel.core.lifecycle import BROKEN_RULES, AlertUpdate, resolve_episode
from sentinel.core.project import AlertSource
from sentinel.core.state import (
    EvaluationTime,
    State,
    Step,
    Transition,
)

# How long an alert must be missing from the project before its episodes resolve.
REMOVED_AFTER = timedelta(minutes=5)


def mark_removed(
    alert: Alert | BrokenAlert, states: Iterable[State], time: EvaluationTime, reason: str
) -> AlertUpdate:
    """The rows of an alert that is no longer in the project, or is disabled there.

    The first time that is only noted. Seen again at least five minutes later (`REMOVED_AFTER`), its
    episodes are resolved, for this `reason`, and its rows go.
    """
    rows = tuple(states)
    nothing = EvaluationResult(Outcome.SKIPPED)
    noted = [state.removed_since for state in rows if state.removed_since]
    if not noted or time.now - min(noted) < REMOVED_AFTER:
        since = min(noted, default=time.now)
        marked = tuple(
            replace(state, removed_since=since, updated_at=time.now)
            for state in rows
            if state.removed_since is None
        )
        return AlertUpdate(alert, nothing, (), marked, kind="removal")
    steps: list[Step] = []
    for state in rows:
        after = state
        transitions: tuple[Transition, ...] = ()
        if state.phase is not None and state.phase.open:
            after, transitions = resolve_episode(state, time, reason)
        if state.health_episode_id is not None:
            after, healed = advance_health(after, Outcome.OK, BROKEN_RULES, time)
            transitions = (*transitions, *(replace(each, reason=reason) for each in healed))
        if transitions:
            steps.append(Step(state, after, Outcome.SKIPPED, transitions))
    return AlertUpdate(alert, nothing, tuple(steps), dropped=rows, kind="removal")


def gone(state: State) -> BrokenAlert:
    """An alert of which nothing is left but its rows."""
    source = AlertSource(state.unique_id, state.alert, "", {"id": state.alert_id})
    return BrokenAlert(source, ())


def kept(states: Iterable[State], time: EvaluationTime) -> tuple[State, ...]:
    """Rows that were noted as removed, of an alert that is in the project after all."""
    return tuple(
        replace(state, removed_since=None, updated_at=time.now)
        for state in states
        if state.removed_since is not None
    )
