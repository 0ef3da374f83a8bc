"""The columns of the tables, read off the dataclasses that are their rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sentinel.core.errors import StoreError
from sentinel.core.history import HistoryRow
from sentinel.core.notification import Notification
from sentinel.core.silence import Silence
from sentinel.core.state import State
from sentinel.core.values import cut, to_json
from sentinel.ports import Lease

Row = TypeVar("Row")
Kind = Literal["text", "time", "integer", "float", "json"]
_SHOWN = 60


@dataclass(frozen=True)
class Table(Generic[Row]):
    """One table: its dbt model, the dataclass of its rows, and what each column holds."""

    model: str
    row: type[Row]
    columns: Mapping[str, Kind]

    @cached_property
    def _hints(self) -> Mapping[str, Any]:
        return get_type_hints(self.row)

    @property
    def key(self) -> str:
        return next(iter(self.columns))

    def dump(self, rows: Sequence[Row]) -> str:
        """The rows as one JSON parameter, which the warehouse expands."""
        return json.dumps(
            [
                {name: _dump(getattr(row, name), kind) for name, kind in self.columns.items()}
                for row in rows
            ],
            ensure_ascii=False,
        )

    def load(self, values: Mapping[str, Any]) -> Row:
        """A row as the driver gave it, by column name. Raises StoreError if a value is invalid."""
        return self.row(
            **{
                name: self._value(name, kind, values[name])
                for name, kind in self.columns.items()
                if values[name] is not None or NoneType in get_args(self._hints[name])
            }
        )

    def _value(self, name: str, kind: Kind, value: Any) -> Any:
        try:
            return _load(value, kind, self._hints[name])
        except (ValueError, TypeError, RecursionError):
            raise StoreError(
                f"the column {name} of {self.model} holds an invalid value: "
                f"{cut(str(value), _SHOWN)!r}",
                hint="something else than Sentinel has changed this table: correct the value",
            ) from None


def _table(model: str, row: type[Row]) -> Table[Row]:
    hints = get_type_hints(row)
    return Table(model, row, {field.name: _kind(hints[field.name]) for field in fields(row)})  # type: ignore[arg-type]  # every row is a dataclass


def _bare(hint: Any) -> Any:
    """A type without `| None`."""
    if get_origin(hint) in (Union, UnionType):
        return next(part for part in get_args(hint) if part is not NoneType)
    return hint


def _kind(hint: Any) -> Kind:
    bare = _bare(hint)
    if get_origin(bare) in (Mapping, Sequence) or bare in (Mapping, Sequence):
        return "json"
    kinds: dict[Any, Kind] = {datetime: "time", int: "integer", float: "float", str: "text"}
    if bare in kinds:
        return kinds[bare]
    origin = get_origin(bare)
    if origin is not None:
        return "json"
    if issubclass(bare, StrEnum):
        return "text"
    raise TypeError(f"no column can hold {hint}")


def _dump(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind == "json":
        return to_json(value)
    if kind == "time":
        return to_text(value)
    return str(value) if kind == "text" else value


def _load(value: Any, kind: Kind, hint: Any) -> Any:
    if value is None:
        return None
    if kind == "json":
        return json.loads(value)
    if kind == "time":
        return from_database(value)
    bare = _bare(hint)
    return bare(value) if isinstance(bare, type) else value


def to_text(moment: datetime) -> str:
    """A moment as the text that every warehouse takes for a timestamp, in UTC."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def from_database(value: datetime | str) -> datetime:
    """A moment as the driver gave it; where the warehouse has no type for it, as a text."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


STATE = _table("sentinel_state", State)
HISTORY = _table("sentinel_history", HistoryRow)
NOTIFICATIONS = _table("sentinel_notifications", Notification)
SILENCES = _table("sentinel_silences", Silence)
LEASES = _table("sentinel_leases", Lease)
TABLES: tuple[Table[Any], ...] = (STATE, HISTORY, NOTIFICATIONS, SILENCES, LEASES)
