"""Rows of different warehouses in one form, so that they can be compared."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

SECONDS = "%Y-%m-%d %H:%M:%S.%f"


def plain(value: Any) -> Any:
    """Times and dates as the texts that SQLite has for them, and every number as int or float."""
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).strftime(SECONDS)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal | float):
        return int(value) if value == int(value) else float(value)
    return value


def plain_rows(rows: Iterable[Iterable[Any]]) -> list[tuple[Any, ...]]:
    """In the order of their texts: without `order by`, every warehouse has an order of its own."""
    return sorted((tuple(plain(value) for value in row) for row in rows), key=str)


def time_literal(place: str, moment: datetime) -> str:
    """A moment in the SQL of a warehouse, of the type that Sentinel's tables have."""
    text = moment.astimezone(UTC).strftime(SECONDS)
    return {"sqlite": f"'{text}'", "bigquery": f"timestamp '{text}+00:00'"}.get(
        place, f"timestamp '{text}'"
    )


def expected_rows(path: Path) -> list[tuple[Any, ...]]:
    """The rows of a CSV file: what is empty is null, digits are a number."""
    with path.open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    return sorted((tuple(_value(text) for text in row) for row in rows), key=str)


def _value(text: str) -> Any:
    return int(text) if text.lstrip("-").isdigit() else text or None
