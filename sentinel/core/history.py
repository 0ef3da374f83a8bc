"""History: one row for every evaluation of every instance, and why who was told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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

    The row with instance '' stands for the whole evaluation: it alone has duration and bytes, so
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
    """How an evaluation went, beside what it saw."""

    run_id: str
    triggered_by: str
    tick: EvaluationTime
    sql_hash: str | None = None
    duration_ms: int | None = None
    bytes_billed: int | None = None
    attempt: int = 1


def history_rows(
    judged: AlertUpdate, execution: Execution, decisions: Iterable[NotificationDecision]
) -> list[HistoryRow]:
    """The rows that one evaluation adds to history."""
    by_instance: dict[str, list[NotificationDecision]] = {}
    for decision in decisions:
        if decision.alert_id == judged.alert.id:
            by_instance.setdefault(decision.instance, []).append(decision)
    return [
        _row(judged, step, execution, by_instance.get(step.after.instance, ()))
        for step in judged.steps
    ]


def _row(
    judged: AlertUpdate, step: Step, execution: Execution, decisions: Sequence[NotificationDecision]
) -> HistoryRow:
    before, after, seen, tick = step.before, step.after, step.observation, execution.tick
    # A slot that was skipped is still to be evaluated: its own row must not be in the way then.
    once_a_slot = tick.slot is not None and step.outcome.traits.uses_slot
    moment = isoformat(tick.slot) if once_a_slot and tick.slot else execution.run_id
    key = hash_id(after.state_key, moment, str(execution.attempt), judged.kind)
    return HistoryRow(
        evaluation_id=key,
        kind=judged.kind,
        run_id=execution.run_id,
        triggered_by=execution.triggered_by,
        project=after.project,
        alert_id=after.alert_id,
        alert=after.alert,
        instance=after.instance,
        slot=tick.slot,
        as_of=tick.as_of,
        attempt=execution.attempt,
        missed_slots=tick.missed_slots,
        outcome=step.outcome if judged.kind == "evaluation" else None,
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
                "told": each.told,
                "reason": each.reason,
            }
            for each in decisions
        ],
        episode_id=after.episode_id or before.episode_id,
        incident_id=after.incident_id or before.incident_id,
        error=judged.reading.error if after.is_head else None,
        sql_hash=execution.sql_hash,
        duration_ms=execution.duration_ms if after.is_head else None,
        bytes_billed=execution.bytes_billed if after.is_head else None,
        recorded_at=tick.now,
    )
