"""History: one row per evaluation and instance, with the reason of each notification decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sentinel.core.evaluation import Outcome
from sentinel.core.lifecycle import AlertUpdate
from sentinel.core.planning import NotificationDecision
from sentinel.core.state import EvaluationTime, Step
from sentinel.core.values import hash_id, isoformat


@dataclass(frozen=True)
class HistoryRow:
    """One row of sentinel_history: the columns, in their order.

    The row with instance '' represents the whole evaluation: only it has duration and bytes, so
    that they can be summed.
    """

    evaluation_id: str
    kind: str
    run_id: str
    triggered_by: str
    project: str
    alert_id: str
    alert: str
    instance: str
    slot: datetime | None
    as_of: datetime
    attempt: int
    missed_slots: int
    outcome: Outcome | None
    phase_before: str | None
    phase_after: str | None
    severity: str | None
    actual_value: float | None
    threshold: float | None
    failures: int | None
    message: str | None
    context: Mapping[str, Any] | None
    events: Sequence[str]
    reasons: Sequence[Mapping[str, Any]]
    episode_id: str | None
    incident_id: str | None
    error: str | None
    sql_hash: str | None
    duration_ms: int | None
    bytes_billed: int | None
    recorded_at: datetime


@dataclass(frozen=True)
class Execution:
    """An evaluation's run, time, cost and attempt."""

    run_id: str
    triggered_by: str
    time: EvaluationTime
    sql_hash: str | None = None
    duration_ms: int | None = None
    bytes_billed: int | None = None
    attempt: int = 1


def history_rows(
    update: AlertUpdate, execution: Execution, decisions: Iterable[NotificationDecision]
) -> list[HistoryRow]:
    """The rows that one evaluation adds to history."""
    by_instance: dict[str, list[NotificationDecision]] = {}
    for decision in decisions:
        if decision.alert_id == update.alert.id:
            by_instance.setdefault(decision.instance, []).append(decision)
    return [
        _row(update, step, execution, by_instance.get(step.after.instance, ()))
        for step in update.steps
    ]


def _row(
    update: AlertUpdate, step: Step, execution: Execution, decisions: Sequence[NotificationDecision]
) -> HistoryRow:
    before, after, seen, time = step.before, step.after, step.observation, execution.time
    # A slot that was skipped is still to be evaluated: its own row must not be in the way then.
    once_a_slot = time.slot is not None and step.outcome.traits.uses_slot
    moment = isoformat(time.slot) if once_a_slot and time.slot else execution.run_id
    key = hash_id(after.state_key, moment, str(execution.attempt), update.kind)
    return HistoryRow(
        evaluation_id=key,
        kind=update.kind,
        run_id=execution.run_id,
        triggered_by=execution.triggered_by,
        project=after.project,
        alert_id=after.alert_id,
        alert=after.alert,
        instance=after.instance,
        slot=time.slot,
        as_of=time.as_of,
        attempt=execution.attempt,
        missed_slots=time.missed_slots,
        outcome=step.outcome if update.kind == "evaluation" else None,
        phase_before=before.phase,
        phase_after=after.phase,
        severity=seen.severity if seen and step.outcome is Outcome.ALERT else None,
        actual_value=seen.actual_value if seen else None,
        threshold=seen.threshold if seen else None,
        failures=seen.failures if seen else None,
        message=seen.message if seen else None,
        context=seen.context if seen else None,
        events=[str(change.event) for change in step.transitions],
        reasons=[
            {
                "channel": each.channel,
                "event": str(each.event),
                "notified": each.notified,
                "reason": each.reason,
            }
            for each in decisions
        ],
        episode_id=after.episode_id or before.episode_id,
        incident_id=after.incident_id or before.incident_id,
        error=update.result.error if after.is_head else None,
        sql_hash=execution.sql_hash,
        duration_ms=execution.duration_ms if after.is_head else None,
        bytes_billed=execution.bytes_billed if after.is_head else None,
        recorded_at=time.now,
    )


# Names that reasons had in rows of earlier versions, and their present ones.
RENAMED_REASONS = {
    "already_told": "already_notified",
    "not_told_yet": "not_notified_yet",
    "firing_never_told": "firing_never_notified",
    "error_never_told": "error_never_notified",
    "not_wanted": "not_in_notify_on",
    "tried_again": "retried",
    "warehouse_lost": "warehouse_unreachable",
    "evaluated_again": "evaluation_recovered",
}


def current_reasons(row: HistoryRow) -> HistoryRow:
    """A row with its reasons by their present names, whatever version recorded it."""
    if all("notified" in each for each in row.reasons):
        return row
    reasons = [
        {
            "channel": each["channel"],
            "event": each["event"],
            "notified": each.get("notified", each.get("told", False)),
            "reason": RENAMED_REASONS.get(each["reason"], each["reason"]),
        }
        for each in row.reasons
    ]
    return replace(row, reasons=reasons)
