"""`pagerduty`: incidents by PagerDuty's Events API, version 2."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, SecretStr

from sentinel.channels.contract import BaseChannel, ChannelContext
from sentinel.channels.escape import cut, unpinged
from sentinel.channels.http import (
    Acceptance,
    Answer,
    Requests,
    Transport,
    UrlSettings,
    warn_of_plain_http,
)
from sentinel.channels.text import brief, details, link, title
from sentinel.core.errors import DeliveryError
from sentinel.core.notification import FIRED_AND_RESOLVED, Notification
from sentinel.core.routing import Traits
from sentinel.core.secret_scan import SecretPatterns
from sentinel.core.state import Event
from sentinel.core.text import line
from sentinel.ports import Message, Receipt

_URL = "https://events.pagerduty.com/v2/enqueue"
_LONGEST_SUMMARY = 1_024
_LONGEST_DETAIL = 4_000
_SEVERITIES = {"info": "info", "warning": "warning", "critical": "critical"}
_OVER = (Event.RESOLVED, Event.ERROR_RESOLVED)


class PagerdutyChannel(BaseChannel):
    """Triggers, acknowledges and resolves one incident an episode, by its `dedup_key`."""

    class Settings(UrlSettings):
        """The keys of a channel of the type `pagerduty`."""

        routing_key: SecretStr = Field(
            min_length=1, description="The integration key of a service, or of an orchestration."
        )
        url: SecretStr = Field(
            SecretStr(_URL), description="Where to post; the European region has its own."
        )

    traits = Traits(groups=False, acknowledges=True, follows=True)
    secret_patterns = SecretPatterns(keys=("routing_key$",))

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        super().__init__(name)
        self._settings = settings
        self._transport = Transport.load(settings, around, allow_private=settings.allow_private)
        url = settings.url.get_secret_value()
        warn_of_plain_http(url, "the routing key", "url", around.warn)

    def send(self, message: Message) -> Receipt:
        """One event for each incident. A message of many, of a lost warehouse, makes one incident."""
        rows = message.notifications
        alone = rows[0].episode_id if len(rows) == 1 else message.message_id
        incidents: dict[str, list[Notification]] = {}
        for row in rows:
            incidents.setdefault(message.earlier.get(row.episode_id, alone), []).append(row)
        done = set(message.recipients_done)
        with self._transport.delivery() as requests:
            for key, parts in incidents.items():
                for action in _actions(parts):
                    step = f"{action} {key}"
                    if step in done:
                        continue
                    try:
                        self._post(requests, key, action, parts)
                    except DeliveryError as error:
                        error.recipients_done = tuple(sorted(done))
                        raise
                    if len(incidents) > 1:
                        done.add(step)
        return Receipt(next(iter(incidents)), recipients_done=tuple(sorted(done)))

    def _post(
        self, requests: Requests, key: str, action: str, rows: Sequence[Notification]
    ) -> None:
        event: dict[str, Any] = {
            "routing_key": self._settings.routing_key.get_secret_value(),
            "event_action": action,
            "dedup_key": key,
        }
        if action == "trigger":
            event |= _trigger([row.payload for row in rows])
        requests.post(
            self._settings.url.get_secret_value(),
            json.dumps(event).encode("ascii"),
            {"content-type": "application/json"},
            _ACCEPTANCE,
        )


def _accepts(answer: Answer) -> bool:
    """Source: PagerDuty's documentation, "Send an event", its answer of 202."""
    document = answer.document
    return isinstance(document, dict) and document.get("status") == "success"


_ACCEPTANCE = Acceptance("PagerDuty", _accepts)


def _actions(rows: Sequence[Notification]) -> tuple[str, ...]:
    """The incident's actions. One that fired and resolved is opened and closed immediately."""
    if all(row.event is Event.TEST or row.reason == FIRED_AND_RESOLVED for row in rows):
        return ("trigger", "resolve")
    if all(row.event in _OVER for row in rows):
        return ("resolve",)
    if all(row.event is Event.ACKNOWLEDGED for row in rows):
        return ("acknowledge",)
    return ("trigger",)


def _trigger(payloads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = payloads[0]
    quiet = first["event"] == Event.TEST or first["reason"] == FIRED_AND_RESOLVED
    if len(payloads) == 1:
        told = {label: cut(unpinged(text), _LONGEST_DETAIL) for label, text in details(first)}
    else:
        told = {
            str(place): cut(unpinged(line(brief(each))), 500)
            for place, each in enumerate(payloads, 1)
        }
    url = link(first)
    return {
        "payload": {
            "summary": cut(unpinged(line(title(payloads))), _LONGEST_SUMMARY),
            "source": unpinged(line(first["project"])),
            "severity": "info" if quiet else _SEVERITIES[first["severity"]],
            "timestamp": first["as_of"],
            "component": unpinged(line(first["alert"])),
            "custom_details": told,
        },
        "client": "dbt-sentinel",
        "links": [{"href": url, "text": "Runbook"}] if url else [],
    }
