"""`alertmanager`: alerts to a Prometheus Alertmanager, by its API, version 2."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field, SecretStr

from sentinel.channels.contract import BaseChannel, ChannelContext
from sentinel.channels.escape import cut, unpinged
from sentinel.channels.http import (
    Acceptance,
    Answer,
    Headers,
    Transport,
    UrlSettings,
    secret_of,
    warn_of_plain_http,
)
from sentinel.channels.text import details, headline, link
from sentinel.core.definition_types import PositiveDuration
from sentinel.core.routing import Traits
from sentinel.core.state import Event
from sentinel.core.values import hash_id, isoformat, to_json
from sentinel.ports import Message, Receipt

_UNFIT = re.compile(r"[^a-zA-Z0-9_]")
_LONGEST = 1_000
_OVER = (Event.RESOLVED, Event.ERROR_RESOLVED, Event.TEST)


class AlertmanagerChannel(BaseChannel):
    """Posts alerts that Alertmanager groups, routes and silences by its own configuration.

    An alert is known by its labels, so they hold nothing that changes while it fires: the severity
    is an annotation.
    """

    class Settings(UrlSettings):
        """The keys of a channel of the type `alertmanager`."""

        url: SecretStr = Field(description="The address of Alertmanager, without /api/v2/alerts.")
        ttl: PositiveDuration = Field(
            timedelta(days=7),
            description="After what time without news Alertmanager takes an alert for resolved.",
        )
        headers: Headers = Field(
            default_factory=dict, description="Further headers; their values are secret."
        )

    # It also receives acknowledgements and reminders: each renews the alert's time to live.
    traits = Traits(acknowledges=True)

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        super().__init__(name)
        self._settings = settings
        self._transport = Transport.load(settings, around, allow_private=settings.allow_private)
        url = settings.url.get_secret_value()
        exposed = secret_of(url) or ("secret headers" if settings.headers else "")
        warn_of_plain_http(url, exposed, "url", around.warn)

    def send(self, message: Message) -> Receipt:
        alerts = [self._alert(row.event, row.payload) for row in message.notifications]
        given = {name: value.get_secret_value() for name, value in self._settings.headers.items()}
        with self._transport.delivery() as requests:
            requests.post(
                f"{self._settings.url.get_secret_value().rstrip('/')}/api/v2/alerts",
                json.dumps(alerts).encode("ascii"),
                {"content-type": "application/json", **given},
                _ACCEPTANCE,
            )
        return Receipt()

    def _alert(self, event: Event, payload: Mapping[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC)
        started = min(datetime.fromisoformat(payload["since"]), now)
        ends = now if event in _OVER else now + self._settings.ttl
        told = {_name(label): cut(unpinged(text), _LONGEST) for label, text in details(payload)}
        return {
            "labels": labels(event, payload),
            "annotations": {
                "summary": cut(unpinged(headline(payload)), _LONGEST),
                "severity": payload["severity"],
                **told,
            },
            "startsAt": isoformat(started),
            "endsAt": isoformat(max(ends, started + timedelta(milliseconds=1))),
            "generatorURL": link(payload) or "",
        }


def _accepts(answer: Answer) -> bool:
    """200 without a body; those that speak its API elsewhere answer 202, or JSON.

    Source: Alertmanager's api/v2/openapi.yaml, `postAlerts`.
    """
    if answer.status not in (200, 202):
        return False
    if not answer.text.strip():
        return True
    document = answer.document
    return isinstance(document, dict) and not (
        document.get("error") or document.get("status") == "error"
    )


_ACCEPTANCE = Acceptance("Alertmanager", _accepts)


def labels(event: Event, payload: Mapping[str, Any]) -> dict[str, str]:
    """What an alert is known by: the same from firing to resolved, another one for its errors."""
    health = event in (Event.ERROR, Event.ERROR_RESOLVED)
    found = {
        "alertname": payload["alert"],
        "project": payload["project"],
        "kind": "error" if health else "test" if event is Event.TEST else "alert",
    }
    if payload["instance"]:
        found["instance"] = payload["instance"]
    for name, value in payload["dimensions"].items():
        found[f"dimension_{_name(name)}"] = value if isinstance(value, str) else to_json(value)
    return {name: _label(value) for name, value in found.items() if value != ""}


def _label(value: str) -> str:
    """A value as a label shows it, in the chats that Alertmanager notifies too; what had to be
    changed keeps apart what was different."""
    # A space at its end: nothing is put after a label that could complete a mention.
    shown = cut(unpinged(f"{value} ")[:-1], _LONGEST)
    return shown if shown == value else f"{shown} #{hash_id(value)[:8]}"


def _name(text: str) -> str:
    """A name as Prometheus takes it for a label."""
    name = _UNFIT.sub("_", text)
    return f"_{name}" if name[:1].isdigit() else name
