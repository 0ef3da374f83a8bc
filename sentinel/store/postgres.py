"""The store's SQL on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping

from sentinel.store.sql import Returning
from sentinel.store.tables import Kind

_TYPES: dict[Kind, str] = {
    "text": "text",
    "json": "text",
    "time": "timestamp",
    "integer": "bigint",
    "float": "double precision",
}
# serialization_failure and deadlock_detected: another transaction was first.
_LOST = ("40001", "40P01")
_UNDEFINED_TABLE = "42P01"
# A text can't hold the character NUL here, which JSON writes \u0000: U+FFFD stands in its place. An
# even number of backslashes before it are backslashes themselves; an odd one makes it mere letters.
_WITHOUT_NUL = r"""case when position('\u0000' in given) = 0 then given
    else regexp_replace(given, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g') end"""


class PostgresDialect(Returning):
    clock = "clock_timestamp() at time zone 'UTC'"

    def lost_race(self, error: BaseException) -> bool:
        return _code(error) in _LOST

    def missing_table(self, error: BaseException) -> bool:
        return _code(error) == _UNDEFINED_TABLE

    def expand(self, parameter: str, columns: Mapping[str, Kind]) -> str:
        shape = ", ".join(f"{name} {_TYPES[kind]}" for name, kind in columns.items())
        names = ", ".join(columns)
        return (
            f"select {names} from ({_given(parameter)}) as parameter, "
            f"json_to_recordset(cast(given as json)) as item ({shape})"
        )

    def texts(self, parameter: str) -> str:
        return (
            f"select item from ({_given(parameter)}) as parameter, "
            "json_array_elements_text(cast(given as json)) as item"
        )


def _given(parameter: str) -> str:
    """The parameter, named once: the driver writes it out wherever it is named."""
    return (
        f"select {_WITHOUT_NUL} as given from (select cast(:{parameter} as text) as given) as raw"
    )


def _code(error: BaseException) -> str | None:
    """The SQLSTATE of an error of psycopg."""
    return getattr(error, "sqlstate", None)
