"""The documents that programs read: the same from the command line and over HTTP.

Times are ISO 8601 in UTC. A JSON Schema of each is in sentinel/schemas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sentinel.core.history import HistoryRow
from sentinel.core.notification import Notification
from sentinel.core.silence import Silence
from sentinel.core.state import Phase, State
from sentinel.core.values import isoformat, plain
from sentinel.ports import Snapshot


def json_time(moment: datetime | None) -> str | None:
    """A time for documents."""
    return None if moment is None else isoformat(moment)


def status_document(snapshot: Snapshot, stuck: Sequence[Notification]) -> dict[str, Any]:
    """The document of `status --output json`; its schema is schemas/status.json."""
    return {
        "alerts": [_alert_document(state, snapshot) for state in ordered(snapshot.states)],
        "undelivered": [
            {
                "alert": row.payload["alert"],
                "instance": row.instance,
                "channel": row.channel,
                "event": str(row.event),
                "status": str(row.status),
                "attempts": row.attempts,
                "created_at": json_time(row.created_at),
                "last_error": row.last_error,
            }
            for row in stuck
        ],
        "silences": [
            silence_document(each, _names(snapshot), snapshot.now) for each in snapshot.silences
        ],
    }


def _names(snapshot: Snapshot) -> dict[str, str]:
    return {state.alert_id: state.alert for state in snapshot.states}


def _alert_document(state: State, snapshot: Snapshot) -> dict[str, Any]:
    silence = snapshot.silence_of(state)
    return {
        "alert": state.alert,
        "unique_id": state.unique_id,
        "instance": state.instance,
        "dimensions": dict(state.dimensions),
        "phase": state.phase and str(state.phase),
        "phase_since": json_time(state.phase_since),
        "severity": state.severity and str(state.severity),
        "actual_value": state.actual_value,
        "threshold": state.threshold,
        "message": state.message,
        "health": state.health and str(state.health),
        "health_since": json_time(state.health_since),
        "error_count": state.error_count,
        "episode_id": state.episode_id,
        "last_outcome": state.last_outcome and str(state.last_outcome),
        "last_as_of": json_time(state.last_as_of),
        "acked_by": state.acked_by,
        "acked_at": json_time(state.acked_at),
        "silenced_until": json_time(silence.ends_at) if silence else None,
    }


def ordered(states: tuple[State, ...]) -> list[State]:
    """What fires first, the worst of it first; then what fails, what is pending, the rest."""

    def urgency(state: State) -> tuple[int, int, str, str]:
        rank = state.severity.rank if state.severity else 0
        if state.phase and state.phase.open:
            return (0, -rank, state.alert, state.instance)
        if state.error_count > 0:
            return (1, 0, state.alert, state.instance)
        place = 2 if state.phase is Phase.PENDING else 3
        return (place, -rank, state.alert, state.instance)

    return sorted(states, key=urgency)


def silence_document(silence: Silence, names: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """One entry of "silences"; its schema is schemas/silence.json."""
    return {
        "silence_id": silence.silence_id,
        "alerts": [names.get(each, each) for each in silence.alert_ids],
        "alert_ids": list(silence.alert_ids),
        "dimensions": silence.dimensions and dict(silence.dimensions),
        "selector": silence.selector,
        "comment": silence.comment,
        "author": silence.author,
        "os_user": silence.os_user,
        "created_at": json_time(silence.created_at),
        "starts_at": json_time(silence.starts_at),
        "ends_at": json_time(silence.ends_at),
        "ended_at": json_time(silence.ended_at),
        "ended_by": silence.ended_by,
        "in_force": silence.in_force(now),
    }


def history_document(rows: Iterable[HistoryRow]) -> dict[str, Any]:
    """The document of `history --output json`; its schema is schemas/history.json."""
    return {"evaluations": [evaluation_document(row) for row in rows]}


def evaluation_document(row: HistoryRow) -> dict[str, Any]:
    """One entry of "evaluations"; its schema is schemas/history.json."""
    return {field.name: plain(getattr(row, field.name)) for field in fields(row)}
