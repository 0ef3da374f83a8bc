"""Why an alert is as it is, and why who was told: what is recorded, in plain words."""

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
    "first_firing": "it began to fire",
    "severity_rose": "it got worse than this channel knew",
    "not_notified_yet": "it was going on, and this channel had not been told",
    "repeat_due": "it was time to remind",
    "escalation_due": "it had fired for the time of an escalation",
    "recovered": "it was ok again",
    "fired_and_resolved": "it was over before its firing could be sent: one message for both",
    "instance_missing": "the instance was no longer in the result",
    "dimensions_changed": "the alert's dimensions are others now",
    "removed": "the alert was no longer in the project",
    "disabled": "the alert was switched off",
    "evaluation_failed": "it could not be evaluated",
    "warehouse_unreachable": "the warehouse could not be reached",
    "evaluation_recovered": "it could be evaluated again",
    "acknowledged": "somebody had acknowledged it",
    "already_notified": "this channel had been told",
    "not_in_notify_on": "notify_on leaves it out",
    "silenced": "a silence held",
    "firing_never_notified": "this channel was never told that it fired",
    "error_never_notified": "this channel was never told of the error",
    "channel_removed": "the channel is no longer in sentinel.yml",
    "retried": "what was given up is tried once more",
    "not_delivered_yet": "the message before has not been accepted yet",
    "undeliverable": "the channel has not accepted it",
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
