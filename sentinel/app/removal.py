"""Orphaned alerts: they have rows in the state, but are removed from the project or disabled there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from sentinel.app.alerts import Alerts
from sentinel.core.evaluation import EvaluationResult, Outcome
from sentinel.core.lifecycle import AlertUpdate
from sentinel.core.removal import gone, kept, mark_removed
from sentinel.core.state import EvaluationTime, State


def group_by_alert(states: Iterable[State]) -> dict[str, list[State]]:
    """Rows of the state by the alert id that they go by."""
    grouped: dict[str, list[State]] = {}
    for state in states:
        grouped.setdefault(state.alert_id, []).append(state)
    return grouped


def update_orphaned_alerts(
    alerts: Alerts,
    states: Mapping[str, Sequence[State]],
    time: EvaluationTime,
    others: Collection[str],
) -> Iterator[AlertUpdate]:
    """What becomes of rows whose alert is removed or disabled; only their own target decides.

    `states` are by alert id, `others` are ids that the same transaction updates otherwise. Rows
    that were noted as removed, of an alert that is back, lose that note.
    """
    if alerts.known is None:
        return
    for alert_id, rows in states.items():
        if alert_id in others or any(row.target not in (None, time.target) for row in rows):
            continue
        if alert_id in alerts.known:
            back = kept(rows, time)
            if back:
                yield AlertUpdate(gone(rows[0]), EvaluationResult(Outcome.SKIPPED), (), back)
            continue
        disabled = alerts.off.get(alert_id)
        reason = "disabled" if disabled else "removed"
        yield mark_removed(disabled or gone(rows[0]), rows, time, reason)
