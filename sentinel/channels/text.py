"""A message in plain words: what happened, value against threshold, since when, what to do."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sentinel.core.values import to_json

_LONGEST_LINK = 2_000
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
    """All of it on one line, for a list of many: headline, value, message. Not escaped."""
    value = measured(payload["actual_value"], payload["threshold"])
    said = " ".join(str(payload["message"] or "").split())
    rest = ", ".join(part for part in (value, said) if part)
    return headline(payload) + (f": {rest}" if rest else "")


def title(payloads: Sequence[Mapping[str, Any]]) -> str:
    """What a message is about: its headline, or how many of each event. Not escaped."""
    if len(payloads) == 1:
        return headline(payloads[0])
    words = Counter(_WORDS.get(each["event"], str(each["event"])).lower() for each in payloads)
    return ", ".join(f"{number} {word}" for word, number in words.items())


def link(payload: Mapping[str, Any]) -> str | None:
    """The runbook, if it is a link that people can follow."""
    runbook = payload["runbook"]
    good = isinstance(runbook, str) and runbook.startswith(("https://", "http://"))
    return runbook if good and len(runbook) <= _LONGEST_LINK and runbook.isprintable() else None


def details(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What else is known, as (label, text), the most useful first. Not escaped for any format."""
    acked = payload.get("acknowledged")
    found: list[tuple[str, Any]] = [
        ("message", payload["message"]),
        ("value", measured(payload["actual_value"], payload["threshold"])),
        ("context", context(payload["context"])),
        ("rows", "\n".join(map(to_json, payload["context"].get("samples", ())))),
        ("since", payload["since"]),
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


def context(values: Mapping[str, Any]) -> str:
    """The further columns of a status row: `orders=12, source=shop`."""
    return ", ".join(
        f"{name}={value if isinstance(value, str) else to_json(value)}"
        for name, value in values.items()
        if name != "samples"
    )


def undeliverable(failed: Mapping[str, Any]) -> str:
    """Which channel should have told this, and why it could not."""
    return f"not accepted by the channel {failed['channel']}: {failed['error']}"


def silence_command(payload: Mapping[str, Any]) -> str:
    """How to keep an alert quiet; '' for what nobody would silence."""
    if payload["event"] not in ("firing", "severity", "reminder", "escalation", "error"):
        return ""
    words = ["sentinel", "silence", payload["alert"]]
    for name, value in payload["dimensions"].items():
        shown = value if isinstance(value, str) else to_json(value)
        words += ["--dimension", f"{name}={shown}"]
    return f"{shlex.join(words)} --for 2h --comment '...'"


def measured(value: float | None, threshold: float | None) -> str:
    """`8,120 (threshold 10,000)`; '' if there is no value."""
    if value is None:
        return ""
    limit = "" if threshold is None else f" (threshold {amount(threshold)})"
    return amount(value) + limit


def amount(value: float) -> str:
    """A number for people: at most four digits after the point, thousands apart."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1 else f"{value:,.2f}"
