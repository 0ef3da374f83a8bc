"""The payload of a notification: the message as data, which every channel renders."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sentinel.core.alert import Alert
from sentinel.core.case import Case
from sentinel.core.documents.payload import Payload
from sentinel.core.notification import Notification, Status
from sentinel.core.severity import Severity
from sentinel.core.state import Event, Phase, Transition
from sentinel.core.values import bounded, isoformat, to_json


def payload_of(case: Case, change: Transition, now: datetime, reason: str) -> dict[str, Any]:
    """The message of an event as data: what every channel renders, frozen when planned.

    Times are ISO 8601 in UTC, values are numbers or null. It is as the store gives it back, in its
    order too: what is sent at once and what is sent after a crash are the same bytes.
    """
    alert, after, seen = case.alert, case.after, case.seen
    valid = alert if isinstance(alert, Alert) else None
    acked = case.after if after.acked_at else case.before
    payload: Payload = {
        "event": change.event,
        "reason": reason,
        "alert": alert.name,
        "alert_id": alert.id,
        "unique_id": alert.source.unique_id,
        "instance": after.instance,
        "dimensions": bounded(after.dimensions),
        "severity": change.severity,
        "phase": after.phase,
        "since": isoformat(change.started),
        "as_of": isoformat(after.last_as_of or now),
        "actual_value": after.actual_value,
        "threshold": after.threshold,
        "failures": seen.failures if seen else None,
        "message": case.update.result.error if change.event is Event.ERROR else after.message,
        "context": dict(seen.context) if seen else {},
        "description": valid.description if valid else alert.source.description,
        "owner": valid.owner if valid else None,
        "runbook": valid.rules.runbook if valid else None,
        "tags": list(alert.source.tags),
        "path": alert.source.path,
        "depends_on": list(alert.source.depends_on),
        "exposures": list(alert.source.exposures),
        "acknowledged": {
            "by": acked.acked_by,
            "at": isoformat(acked.acked_at),
            "comment": acked.ack_comment,
        }
        if acked.acked_at
        else None,
        "episode_id": change.episode_id,
        "project": after.project,
    }
    frozen: dict[str, Any] = json.loads(to_json(payload))
    return frozen


def example_notification(project: str, channel: str, key: str, now: datetime) -> Notification:
    """A notification of no alert, to try a channel: all that one may hold is there."""
    payload: Payload = {
        "event": Event.TEST,
        "reason": "test",
        "alert": "example_alert",
        "alert_id": "model.example.example_alert",
        "unique_id": "model.example.example_alert",
        "instance": "",
        "dimensions": {},
        "severity": Severity.INFO,
        "phase": Phase.FIRING,
        "since": isoformat(now),
        "as_of": isoformat(now),
        "actual_value": 12.0,
        "threshold": 10.0,
        "failures": None,
        "message": "This is a test: no alert fires.",
        "context": {"note": "a further column of the query"},
        "description": "What an alert means when it fires.",
        "owner": "the owner",
        "runbook": "https://example.com/runbook",
        "tags": [],
        "path": "models/alerts/example_alert.sql",
        "depends_on": ["model.example.orders"],
        "exposures": ["example_dashboard"],
        "acknowledged": None,
        "episode_id": key,
        "project": project,
    }
    return Notification(
        notification_id=key,
        message_id=key,
        project=project,
        channel=channel,
        event=Event.TEST,
        n=0,
        episode_id=key,
        alert_id="model.example.example_alert",
        instance="",
        incident_id=None,
        reason="test",
        payload=payload,
        status=Status.PENDING,
        created_at=now,
        not_before=now,
    )
