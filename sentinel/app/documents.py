"""The documents that programs read: the same from the command line and over HTTP.

Their shapes are in sentinel/core/documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import cast

from sentinel.app.explain import Explanation, sentence
from sentinel.app.report import InstanceResult, Report
from sentinel.app.validate import Finding
from sentinel.core.alert import Alert, BrokenAlert
from sentinel.core.documents.checks import EstimateDocument, FindingDocument, ValidateDocument
from sentinel.core.documents.history import (
    EvaluationDocument,
    ExplainDocument,
    ExplainedEvaluationDocument,
    HistoryDocument,
    InstanceDocument,
    UndeliveredToDocument,
)
from sentinel.core.documents.runs import (
    ListDocument,
    ListedAlertDocument,
    ResultDocument,
    RunDocument,
    SentDocument,
)
from sentinel.core.documents.silences import SilenceDocument, SilencesDocument
from sentinel.core.documents.status import StateDocument, StatusDocument, UndeliveredDocument
from sentinel.core.history import HistoryRow
from sentinel.core.notification import Notification
from sentinel.core.silence import Silence
from sentinel.core.state import Phase, State
from sentinel.core.values import isoformat, plain
from sentinel.ports import Snapshot


def json_time(moment: datetime | None) -> str | None:
    """A time for documents; None stays None."""
    return None if moment is None else isoformat(moment)


# -- run and list ------------------------------------------------------------------------------


def run_document(report: Report) -> RunDocument:
    """The document of `run --output json`."""
    return {
        "run_id": report.run_id,
        "started_at": isoformat(report.started_at),
        "elapsed_s": round(report.elapsed_s, 3),
        "results": [_result_document(each) for each in report.results],
        "notifications": [_sent_document(row) for row in report.sent],
        "counts": report.counts,
    }


def _result_document(result: InstanceResult) -> ResultDocument:
    return {
        "alert": result.alert,
        "unique_id": result.unique_id,
        "instance": result.instance,
        "outcome": result.outcome,
        "phase": result.phase,
        "previous_phase": result.previous_phase,
        "severity": result.severity,
        "actual_value": result.actual_value,
        "threshold": result.threshold,
        "failures": result.failures,
        "message": result.message,
        "context": dict(result.context),
        "events": list(result.events),
        "notified": list(result.notified),
        "suppressed": dict(result.suppressed),
        "duration_ms": result.duration_ms,
        "bytes_billed": result.bytes_billed,
    }


def _sent_document(row: Notification) -> SentDocument:
    return {
        "alert": row.payload["alert"],
        "instance": row.instance,
        "event": row.event,
        "channel": row.channel,
    }


def list_document(alerts: Iterable[Alert | BrokenAlert], now: datetime) -> ListDocument:
    """The document of `list --output json`."""
    return {"alerts": [_listed_alert_document(alert, now) for alert in alerts]}


def _listed_alert_document(alert: Alert | BrokenAlert, now: datetime) -> ListedAlertDocument:
    valid = alert if isinstance(alert, Alert) else None
    cron = valid.cron if valid else None
    return {
        "alert": alert.name,
        "unique_id": alert.source.unique_id,
        "schedule": cron.text if cron else None,
        "timezone": cron.zone if cron else None,
        "next_slot": json_time(cron.next_after(now)) if cron else None,
        "severity": valid.rules.severity if valid else None,
        "owner": valid.owner if valid else None,
        "channels": list(alert.channels),
        "tags": list(alert.source.tags),
        "path": alert.source.path,
    }


# -- status ------------------------------------------------------------------------------------


def status_document(snapshot: Snapshot, undelivered: Sequence[Notification]) -> StatusDocument:
    """The document of `status --output json`."""
    names = {state.alert_id: state.alert for state in snapshot.states}
    return {
        "alerts": [_state_document(state, snapshot) for state in ordered(snapshot.states)],
        "undelivered": [_undelivered_document(row) for row in undelivered],
        "silences": [silence_document(each, names, snapshot.now) for each in snapshot.silences],
    }


def _state_document(state: State, snapshot: Snapshot) -> StateDocument:
    silence = snapshot.silence_of(state)
    return {
        "alert": state.alert,
        "unique_id": state.unique_id,
        "instance": state.instance,
        "dimensions": dict(state.dimensions),
        "phase": state.phase,
        "phase_since": json_time(state.phase_since),
        "severity": state.severity,
        "actual_value": state.actual_value,
        "threshold": state.threshold,
        "message": state.message,
        "health": state.health,
        "health_since": json_time(state.health_since),
        "error_count": state.error_count,
        "episode_id": state.episode_id,
        "last_outcome": state.last_outcome,
        "last_as_of": json_time(state.last_as_of),
        "acked_by": state.acked_by,
        "acked_at": json_time(state.acked_at),
        "silenced_until": json_time(silence.ends_at) if silence else None,
    }


def _undelivered_document(row: Notification) -> UndeliveredDocument:
    return {
        "alert": row.payload["alert"],
        "instance": row.instance,
        "channel": row.channel,
        "event": row.event,
        "status": row.status,
        "attempts": row.attempts,
        "created_at": isoformat(row.created_at),
        "last_error": row.last_error,
    }


def ordered(states: tuple[State, ...]) -> list[State]:
    """Firing rows first, by severity; then those that fail, those that are pending, the others."""

    def urgency(state: State) -> tuple[int, int, str, str]:
        rank = state.severity.rank if state.severity else 0
        if state.phase and state.phase.open:
            return (0, -rank, state.alert, state.instance)
        if state.error_count > 0:
            return (1, 0, state.alert, state.instance)
        place = 2 if state.phase is Phase.PENDING else 3
        return (place, -rank, state.alert, state.instance)

    return sorted(states, key=urgency)


# -- silences ----------------------------------------------------------------------------------


def silences_document(
    silences: Iterable[Silence], names: Mapping[str, str], now: datetime
) -> SilencesDocument:
    """The document of `silence --output json`; `names` are alert names by alert id."""
    return {"silences": [silence_document(each, names, now) for each in silences]}


def silence_document(silence: Silence, names: Mapping[str, str], now: datetime) -> SilenceDocument:
    """One silence; `names` are alert names by alert id."""
    return {
        "silence_id": silence.silence_id,
        "alerts": [names.get(each, each) for each in silence.alert_ids],
        "alert_ids": list(silence.alert_ids),
        "dimensions": None if silence.dimensions is None else dict(silence.dimensions),
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


# -- history and explain -----------------------------------------------------------------------


def history_document(rows: Iterable[HistoryRow]) -> HistoryDocument:
    """The document of `history --output json`: the rows' columns."""
    return {"evaluations": [_evaluation_document(row) for row in rows]}


def _evaluation_document(row: HistoryRow) -> EvaluationDocument:
    columns = {field.name: plain(getattr(row, field.name)) for field in fields(row)}
    return cast("EvaluationDocument", columns)


def explain_document(explanation: Explanation) -> ExplainDocument:
    """The document of `explain --output json`."""
    alert, head, snapshot = explanation.alert, explanation.head, explanation.snapshot
    valid = alert if isinstance(alert, Alert) else None
    names = dict.fromkeys(alert.row_ids, alert.name)
    return {
        "alert": alert.name,
        "unique_id": alert.source.unique_id,
        "schedule": valid.cron.text if valid and valid.cron else None,
        "channels": list(alert.channels),
        "channels_from": explanation.recipients,
        "health": head.health if head else None,
        "error_count": head.error_count if head else 0,
        "instances": [_instance_document(state, snapshot) for state in explanation.instances],
        "silences": [
            silence_document(each, names, snapshot.now)
            for each in snapshot.silences
            if set(alert.row_ids) & set(each.alert_ids)
        ],
        "evaluations": [_explained_evaluation_document(row) for row in explanation.history],
        "undelivered": [_undelivered_to_document(row) for row in explanation.undelivered],
    }


def _instance_document(state: State, snapshot: Snapshot) -> InstanceDocument:
    assert state.phase is not None  # an instance has one
    silence = snapshot.silence_of(state)
    return {
        "instance": state.instance,
        "phase": state.phase,
        "phase_since": json_time(state.phase_since),
        "severity": state.severity,
        "actual_value": state.actual_value,
        "threshold": state.threshold,
        "message": state.message,
        "episode_id": state.episode_id,
        "episode_started": json_time(state.episode_started),
        "acked_by": state.acked_by,
        "acked_at": json_time(state.acked_at),
        "ack_comment": state.ack_comment,
        "silenced_until": json_time(silence.ends_at) if silence else None,
    }


def _explained_evaluation_document(row: HistoryRow) -> ExplainedEvaluationDocument:
    document = {
        "as_of": isoformat(row.as_of),
        "kind": row.kind,
        "instance": row.instance,
        "outcome": row.outcome,
        "phase_before": row.phase_before,
        "phase_after": row.phase_after,
        "actual_value": row.actual_value,
        "threshold": row.threshold,
        "message": row.error or row.message,
        "events": list(row.events),
        "reasons": [dict(each) | {"means": sentence(each)} for each in row.reasons],
    }
    return cast("ExplainedEvaluationDocument", document)


def _undelivered_to_document(row: Notification) -> UndeliveredToDocument:
    return {
        "instance": row.instance,
        "channel": row.channel,
        "event": row.event,
        "status": row.status,
        "attempts": row.attempts,
        "last_error": row.last_error,
    }


# -- validate ----------------------------------------------------------------------------------


def validate_document(
    findings: Iterable[Finding], estimates: Mapping[str, int]
) -> ValidateDocument:
    """The document of `validate --output json`; `estimates` are bytes by alert name."""
    return {
        "findings": [_finding_document(each) for each in findings],
        "estimates": [_estimate_document(*each) for each in sorted(estimates.items())],
    }


def _finding_document(finding: Finding) -> FindingDocument:
    return {
        "level": "warning" if finding.warning else "fault",
        "subject": finding.subject,
        "path": finding.location.path if finding.location else None,
        "line": finding.location.line if finding.location else None,
        "message": finding.message,
    }


def _estimate_document(alert: str, size: int) -> EstimateDocument:
    return {"alert": alert, "bytes_estimated": size}
