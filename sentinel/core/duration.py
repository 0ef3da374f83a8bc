"""Durations as people write them: `30s`, `15m`, `2h`, `1d`, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(?:\d+[smhd])+")
_PART = re.compile(r"(\d+)([smhd])")


def parse_duration(text: str) -> timedelta:
    """The length of time that `text` names. Raises ValueError for anything else."""
    compact = text.strip().lower()
    if not _DURATION.fullmatch(compact):
        negative = " (it can't be negative)" if compact.startswith("-") else ""
        raise ValueError(f"{text!r} is not a duration{negative}; write it as 30s, 15m, 2h or 1d")
    total = timedelta()
    try:
        for amount, unit in _PART.findall(compact):
            total += timedelta(**{_UNITS[unit]: int(amount)})
    except OverflowError:
        raise ValueError(f"{text!r} is too long for a duration") from None
    return total


def format_duration(length: timedelta) -> str:
    """The two largest units of a length of time, for people: `2d 3h`, `45s`."""
    seconds = int(length.total_seconds())
    if seconds < 0:
        return "0s"
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        amount, seconds = divmod(seconds, size)
        if amount:
            parts.append(f"{amount}{unit}")
    return " ".join(parts[:2]) or "0s"
