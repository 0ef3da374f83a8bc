"""A message in plain words: what happened, value against threshold, since when, what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sentinel.core.values import to_json

_WORDS = {
    "firing": "FIRING",
    "severity": "WORSE",
    "resolved": "RESOLVED",
    "error": "CAN'T BE EVALUATED",
    "error_resolved": "EVALUATED AGAIN",
}
# Terminal escapes and other control characters; a value of the warehouse is data, not commands.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def clean(value: object) -> str:
    """A value of the warehouse as text that a terminal only shows."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value)).encode("utf-8", "replace").decode()


def headline(payload: Mapping[str, Any]) -> str:
    """One line: `FIRING daily_revenue [region=north] (critical)`."""
    word = _WORDS.get(payload["event"], payload["event"].upper())
    if payload["reason"] == "fired_and_resolved":
        word = "FIRED AND RESOLVED"
    instance = f" [{clean(payload['instance'])}]" if payload["instance"] else ""
    return f"{word} {clean(payload['alert'])}{instance} ({payload['severity']})"


def details(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What else is known, as (label, text), the most useful first."""
    found: list[tuple[str, Any]] = [
        ("message", payload["message"]),
        ("value", measured(payload["actual_value"], payload["threshold"])),
        ("rows", "\n".join(map(to_json, payload["context"].get("samples", ())))),
        ("since", payload["since"]),
        ("about", payload["description"]),
        ("owner", payload["owner"]),
        ("runbook", payload["runbook"]),
        ("watches", ", ".join(name.rsplit(".", 1)[-1] for name in payload["depends_on"])),
        ("affects", ", ".join(payload["exposures"])),
        ("model", payload["path"]),
    ]
    texts = [(label, clean(text).strip()) for label, text in found if text]
    return [(label, text) for label, text in texts if text]


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
