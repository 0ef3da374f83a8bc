"""What is recorded about one alert, to explain its state and its notifications."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sentinel.core.alert import Alert, BrokenAlert, DefinitionContext
from sentinel.core.history import HistoryRow
from sentinel.core.notification import Notification, Status
from sentinel.core.state import State
from sentinel.ports import HistoryQuery, Snapshot, Store

# What each reason means; tests/app/test_explain.py holds that none is missing.
REASONS = {
    "first_firing": "the alert started firing",
    "severity_rose": "the severity rose",
    "not_notified_yet": "the episode was under way, and the channel had not been notified yet",
    "repeat_due": "a reminder was due",
    "escalation_due": "an escalation was due",
    "recovered": "the alert recovered",
    "fired_and_resolved": "the alert resolved before its firing was sent: one message for both",
    "instance_missing": "the instance was missing from the query's result",
    "dimensions_changed": "the alert's dimensions changed",
    "removed": "the alert was removed from the project",
    "disabled": "the alert was disabled",
    "evaluation_failed": "the alert could not be evaluated",
    "warehouse_unreachable": "the warehouse could not be reached",
    "evaluation_recovered": "the alert could be evaluated again",
    "acknowledged": "the episode was acknowledged",
    "already_notified": "the channel had already been notified",
    "not_in_notify_on": "the event is not in the alert's notify_on",
    "silenced": "a silence was in force",
    "firing_never_notified": "the channel was never notified of the firing",
    "error_never_notified": "the channel was never notified of the error",
    "channel_removed": "the channel is no longer in sentinel.yml",
    "retried": "an undeliverable notification was retried",
    "not_delivered_yet": "the previous message has not been delivered yet",
    "undeliverable": "the channel did not accept the message",
}


def sentence(reason: Mapping[str, Any]) -> str:
    """One of `reasons` in history as a sentence."""
    return REASONS.get(str(reason["reason"]), str(reason["reason"]).replace("_", " "))


@dataclass(frozen=True)
class Explanation:
    """What is known of one alert; `recipients` says where its channels come from."""

    alert: Alert | BrokenAlert
    recipients: Literal["own", "route", "default", "owner", "nobody"]
    snapshot: Snapshot
    history: tuple[HistoryRow, ...]
    undelivered: tuple[Notification, ...]

    @property
    def instances(self) -> list[State]:
        rows = [state for state in self.snapshot.states if state.phase is not None]
        return sorted(rows, key=lambda state: state.instance)

    @property
    def head(self) -> State | None:
        return next((state for state in self.snapshot.states if state.is_head), None)


def explain_alert(
    store: Store, context: DefinitionContext, alert: Alert | BrokenAlert, limit: int
) -> Explanation:
    """All that the tables say of an alert."""
    ids = frozenset(alert.row_ids)
    snapshot = store.snapshot(ids)
    history = store.history(HistoryQuery(alert_ids=ids, limit=limit))
    stuck = store.notifications([Status.PENDING, Status.CLAIMED, Status.DEAD])
    return Explanation(
        alert,
        _recipients(alert, context),
        snapshot,
        tuple(history),
        tuple(row for row in stuck if row.alert_id in ids),
    )


def _recipients(
    alert: Alert | BrokenAlert, context: DefinitionContext
) -> Literal["own", "route", "default", "owner", "nobody"]:
    source, told = alert.source, alert.recipients.all
    blocks = [block for block in (source.block, source.folder_defaults) if isinstance(block, dict)]
    if not told:
        return "nobody"
    if any(block.get("channels") is not None for block in blocks):
        return "own"
    owner = alert.owner if isinstance(alert, Alert) else None
    if any(context.routing.routed(source, owner, each) for each in alert.recipients.by_severity):
        return "route"
    return "default" if (context.defaults or {}).get("channels") is not None else "owner"
