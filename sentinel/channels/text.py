"""A message in plain words: what happened, value against threshold, since when, what to do."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sentinel.core.duration import format_duration
from sentinel.core.numbers import measured
from sentinel.core.severity import Severity
from sentinel.core.silence import dimension_text
from sentinel.core.values import to_json

T = TypeVar("T")

_LONGEST_LINK = 2_000
_SHORTEST = 40
_NAMED = 3
# Shown below grouped notifications: what a single message contains itself.
EACH = "more of each: sentinel explain ALERT; to silence: sentinel silence ALERT --for 2h --comment '...'"
_WORDS = {
    "firing": "FIRING",
    "severity": "WORSE",
    "reminder": "STILL FIRING",
    "escalation": "ESCALATED",
    "acknowledged": "ACKNOWLEDGED",
    "resolved": "RESOLVED",
    "error": "CAN'T BE EVALUATED",
    "error_resolved": "EVALUATED AGAIN",
    "test": "TEST",
}


def headline(payload: Mapping[str, Any]) -> str:
    """One line: `FIRING daily_revenue [region=north] (critical)`. Not escaped for any format."""
    word = _WORDS.get(payload["event"], payload["event"].upper())
    if payload["reason"] == "fired_and_resolved":
        word = "FIRED AND RESOLVED"
    instance = f" [{payload['instance']}]" if payload["instance"] else ""
    return f"{word} {payload['alert']}{instance} ({payload['severity']})"


def brief(payload: Mapping[str, Any]) -> str:
    """All of it on one line, for a list of many: headline, value, message, since. Not escaped."""
    value = measured(payload["actual_value"], payload["threshold"])
    said = " ".join(str(payload["message"] or "").split())
    parts = (value, f"since {moment(payload['since'])}", said)
    return f"{headline(payload)}: {', '.join(part for part in parts if part)}"


def title(payloads: Sequence[Mapping[str, Any]]) -> str:
    """What a message is about: its headline, or how many of each event, of what. Not escaped."""
    if len(payloads) == 1:
        return headline(payloads[0])
    words = Counter(_WORDS.get(each["event"], str(each["event"])).lower() for each in payloads)
    events = ", ".join(f"{number} {word}" for word, number in words.items())
    names = list(dict.fromkeys(each["alert"] for each in payloads))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    worst = max((each["severity"] for each in payloads), key=lambda name: Severity(name).rank)
    return f"{events}: {', '.join(names[:_NAMED])}{more} ({worst})"


def fitted(make: Callable[[int], T], size: Callable[[T], int], most: int, longest: int) -> T:
    """What `make` makes of texts cut at a length: the longest that leaves the whole within `most`."""
    length = longest
    while size(made := make(length)) > most and length > _SHORTEST:
        length = max(_SHORTEST, length * 3 // 4)
    return made


def link(payload: Mapping[str, Any]) -> str | None:
    """The runbook, if it is a link that people can follow."""
    runbook = payload["runbook"]
    valid = isinstance(runbook, str) and runbook.startswith(("https://", "http://"))
    return runbook if valid and len(runbook) <= _LONGEST_LINK and runbook.isprintable() else None


def details(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What else is known, as (label, text), the most useful first. Not escaped for any format."""
    acked = payload.get("acknowledged")
    found: list[tuple[str, Any]] = [
        ("message", payload["message"]),
        ("value", measured(payload["actual_value"], payload["threshold"])),
        ("context", context(payload["context"])),
        ("rows", "\n".join(map(to_json, payload["context"].get("samples", ())))),
        ("since", _since(payload)),
        ("acked", acked and f"by {acked['by']}: {acked['comment'] or 'no comment'}"),
        ("failed", payload.get("undeliverable") and undeliverable(payload["undeliverable"])),
        ("about", payload["description"]),
        ("owner", payload["owner"]),
        ("runbook", payload["runbook"]),
        ("watches", ", ".join(name.rsplit(".", 1)[-1] for name in payload["depends_on"])),
        ("affects", ", ".join(payload["exposures"])),
        ("model", payload["path"]),
        ("silence", silence_command(payload)),
    ]
    texts = [(label, str(text).strip()) for label, text in found if text]
    return [(label, text) for label, text in texts if text]


def moment(text: str) -> str:
    """A time of the payload for people, in UTC to the second."""
    try:
        found = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return text
    return found.strftime("%Y-%m-%d %H:%M:%S UTC")


def _since(payload: Mapping[str, Any]) -> str:
    """`2026-01-02 09:00:00 UTC, for 2h 5m`."""
    try:
        lasted = datetime.fromisoformat(payload["as_of"]) - datetime.fromisoformat(payload["since"])
    except (ValueError, OverflowError):
        return moment(payload["since"])
    spent = f", for {format_duration(lasted)}" if lasted.total_seconds() >= 1 else ""
    return moment(payload["since"]) + spent


def context(values: Mapping[str, Any]) -> str:
    """The extra columns of a status row: `orders=12, source=shop`."""
    return ", ".join(
        f"{name}={value if isinstance(value, str) else to_json(value)}"
        for name, value in values.items()
        if name != "samples"
    )


def undeliverable(failed: Mapping[str, Any]) -> str:
    """The channel that could not be notified, and its error."""
    return f"not accepted by the channel {failed['channel']}: {failed['error']}"


def silence_command(payload: Mapping[str, Any]) -> str:
    """How to keep an alert quiet; '' for what nobody would silence."""
    if payload["event"] not in ("firing", "severity", "reminder", "escalation", "error"):
        return ""
    words = ["sentinel", "silence", payload["alert"]]
    for name, value in payload["dimensions"].items():
        words += ["--dimension", f"{name}={dimension_text(value)}"]
    return f"{shlex.join(words)} --for 2h --comment '...'"
