"""Values of the warehouse made plain: JSON-safe, and the same from every driver."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

# How deep lists and mappings may be nested: deeper, not every reader of JSON can follow.
MOST_NESTED = 100
_LONGEST_NAME = 500
# What no float holds: Python and many readers of JSON refuse to read numbers of any length.
_TOO_LARGE = 10**308
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BARE = re.compile(r"[^\W\d][\w .:/@-]*")


def text(value: str) -> str:
    """A text that every encoding can hold: half of a surrogate pair becomes U+FFFD."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)


def cut(value: str, most: int) -> str:
    """A text of at most `most` characters, with a mark if it was truncated."""
    if len(value) <= most:
        return value
    mark = f"… ({len(value):,} characters, cut)"
    return value[: max(0, most - len(mark))] + mark


@dataclass(frozen=True)
class Truncated:
    """A value too long to be read: its beginning, and the length of the whole.

    `unit` is what `size` counts: characters, or bytes of a value that is no text.
    """

    beginning: str
    size: int
    unit: str = "characters"

    @property
    def mark(self) -> str:
        return f"… ({self.size:,} {self.unit}, cut)"

    def __str__(self) -> str:
        return text(self.beginning) + self.mark


def shortened(value: Any, most: int) -> Any:
    """A value as it is, or a `Truncated` of a text or of bytes longer than `most` characters."""
    if isinstance(value, str) and len(value) > most:
        return Truncated(value[:most], len(value))
    if isinstance(value, bytes | bytearray | memoryview) and 2 * len(value) > most:
        return Truncated(bytes(value[: most // 2]).hex(), len(value), "bytes")
    return value


def bounded(
    values: Mapping[str, Any], most: int = 8_000, each: int = 1_000, *, left_out: int = 0
) -> dict[str, Any]:
    """Plain values whose JSON is bounded: texts are cut at `each` characters, and what would make
    the whole longer than `most` is replaced by a mark, the last first. `left_out` counts further
    columns that were not read."""
    kept: dict[str, Any] = {}
    left = most
    for name, value in values.items():
        shown = value
        if isinstance(value, Truncated):
            shown = text(value.beginning)[: max(0, each - len(value.mark))] + value.mark
        elif isinstance(value, str):
            shown = cut(value, each)
        size = len(to_json(shown))
        if size > each + 2 and not isinstance(shown, str):
            shown = cut(to_json(shown), each)
            size = len(to_json(shown))
        if size + len(name) > left:
            shown, size = "… (cut)", 10
        kept[_key(name, kept)] = shown
        left -= size + min(len(name), 200)
        if left <= 0:
            break
    if left <= 0 or left_out:
        kept["…"] = f"{len(values) + left_out:,} columns, cut"
    return kept


def _key(name: str, taken: Collection[str]) -> str:
    """A column's name of a bounded length that no other column has."""
    short = cut(text(name), 200)
    return next(key for n in count(1) if (key := f"{short} {n}" if n > 1 else short) not in taken)


def plain(value: Any, depth: int = 0) -> Any:
    """A warehouse value as JSON can hold it.

    Whole decimals and floats become int, times become ISO 8601 (UTC where the zone is known), bytes
    become hex, what JSON has no word for becomes text. A `Truncated` stays one. Raises ValueError if lists
    and mappings are nested too deeply for every reader of JSON.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < _TOO_LARGE else f"{Decimal(value):.15E}"
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float):
        return _plain_float(value)
    if isinstance(value, Decimal):
        if not value.is_finite() or abs(value) >= _TOO_LARGE:
            return str(value)
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return isoformat(value) if value.tzinfo else value.isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        if depth >= MOST_NESTED:
            raise ValueError(f"it is nested more than {MOST_NESTED} levels deep")
        if isinstance(value, Mapping):
            return {text(str(key)): plain(item, depth + 1) for key, item in value.items()}
        return [plain(item, depth + 1) for item in value]
    return value if isinstance(value, Truncated) else text(str(value))


def _plain_float(value: float) -> Any:
    if not math.isfinite(value):
        return str(value)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def number(value: Any) -> float | None:
    """A numeric warehouse value as a float, None for NULL and for what isn't finite.

    Raises ValueError for anything that is not a number.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"{plain(value)!r} is not a number")
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def isoformat(moment: datetime) -> str:
    """An aware time as ISO 8601 in UTC, ending in Z; at the ends of the calendar in its own zone."""
    try:
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return moment.isoformat()


def to_json(value: Any) -> str:
    """Compact JSON with sorted keys: equal values give equal text."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_json_default
    )


def _json_default(value: Any) -> Any:
    return str(value) if isinstance(value, Truncated) else plain(value)


def hash_id(*parts: str) -> str:
    """A key made of its parts: 32 hexadecimal digits of their SHA-256, unambiguous in their order."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def instance_name(dimensions: Mapping[str, Any]) -> str:
    """The name of an instance: `region=north, store=12`; '' without dimensions.

    Different values never share a name: text that could be taken for something else is quoted as
    JSON, and a name that is cut ends with a hash of the whole.
    """
    name = ", ".join(f"{name}={_label(value)}" for name, value in sorted(dimensions.items()))
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}… {hash_id(name)}"


def _label(value: Any) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value) and value not in ("null", "true", "false"):
        return value
    return to_json(value)
