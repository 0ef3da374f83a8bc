"""Small values that tests are made of: definitions, states, notifications, messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sentinel.app.alerts import Alerts
from sentinel.core.alert import DefinitionContext, parse_definitions
from sentinel.core.notification import Notification, Status
from sentinel.core.payload import example_notification
from sentinel.core.project import AlertSource
from sentinel.core.routing import Routing, Traits
from sentinel.core.silence import Silence
from sentinel.core.state import Event, State, state_key
from sentinel.core.values import hash_id
from sentinel.ports import (
    Message,
)
from tests.fakes.clock import NOW


def source(name: str, block: Mapping[str, Any] | None = None, **others: Any) -> AlertSource:
    """A model of the project `shop` that is an alert."""
    return AlertSource(
        unique_id=f"model.shop.{name}",
        name=name,
        path=f"models/alerts/{name}.sql",
        block={} if block is None else block,
        **others,
    )


def alerts_of(*sources: AlertSource, channels: Iterable[str] = ("log",)) -> Alerts:
    """Judged definitions; those that name no channel tell all of `channels`."""
    known = tuple(channels)
    valid, broken = parse_definitions(
        sources,
        DefinitionContext(
            defaults={"channels": list(known)},
            routing=Routing(dict.fromkeys(known, Traits(groups=False))),
        ),
    )
    return Alerts(tuple(valid), tuple(broken))


def state(alert: str = "revenue", instance: str = "", **others: Any) -> State:
    """A row of sentinel_state of the project `shop`, not yet written."""
    given: dict[str, Any] = {
        "state_key": state_key("shop", f"model.shop.{alert}", instance),
        "project": "shop",
        "alert_id": f"model.shop.{alert}",
        "unique_id": f"model.shop.{alert}",
        "alert": alert,
        "instance": instance,
    }
    return State(**given | others)


def notification(
    episode: str = "episode",
    channel: str = "log",
    event: Event = Event.FIRING,
    *,
    n: int = 0,
    at: datetime = NOW,
    **others: Any,
) -> Notification:
    """A pending row of sentinel_notifications of the project `shop`."""
    identity = hash_id(episode, channel, event, str(n))
    given: dict[str, Any] = {
        "notification_id": identity,
        "message_id": identity,
        "project": "shop",
        "channel": channel,
        "event": event,
        "n": n,
        "episode_id": episode,
        "alert_id": "model.shop.revenue",
        "instance": "",
        "incident_id": None,
        "reason": "first_firing",
        "payload": payload(event=str(event)),
        "status": Status.PENDING,
        "created_at": at,
        "not_before": at,
    }
    return Notification(**given | others)


def silence(*alert_ids: str, **others: Any) -> Silence:
    """A silence of the project `shop`, from now on for two hours."""
    given: dict[str, Any] = {
        "silence_id": "hush",
        "project": "shop",
        "alert_ids": list(alert_ids),
        "dimensions": None,
        "selector": None,
        "comment": "known",
        "author": "ann",
        "os_user": "ann",
        "created_at": NOW,
        "starts_at": NOW,
        "ends_at": NOW + timedelta(hours=2),
    }
    return Silence(**given | others)


def payload(**others: Any) -> dict[str, Any]:
    """A payload of a firing alert; the keys that it doesn't name are those of a test message."""
    example = example_notification("shop", "log", "episode", NOW).payload
    return {
        **example,
        "event": "firing",
        "reason": "first_firing",
        "alert": "revenue",
        "alert_id": "model.shop.revenue",
        "unique_id": "model.shop.revenue",
        "instance": "",
        "dimensions": {},
        "severity": "critical",
        "phase": "firing",
        "since": "2026-01-02T09:00:00Z",
        "as_of": "2026-01-02T09:00:00Z",
        "actual_value": 8120.0,
        "threshold": 10000.0,
        "failures": None,
        "message": "revenue is low",
        "context": {},
        "description": "Revenue of the last day.",
        "owner": "finance",
        "runbook": "https://example.com/runbook",
        "tags": [],
        "path": "models/alerts/revenue.sql",
        "depends_on": ["model.shop.orders"],
        "exposures": [],
        "episode_id": "episode",
        "project": "shop",
    } | others


def message(*rows: Notification) -> Message:
    """The message of rows that share a message_id; of one firing, if none are given."""
    found = rows or (notification(),)
    return Message(found[0].message_id, found[0].channel, found)
