"""What Sentinel makes of psycopg 3: one statement at a time, sessions without a past, steady values.

It is imported only when a server is opened.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from typing import Any

import psycopg
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.types.datetime import IntervalLoader
from psycopg.types.multirange import MultirangeInfo
from psycopg.types.string import TextLoader

from sentinel.warehouses.postgres_tokens import FORGET

_CANCEL_S = 5.0
# Arrays that psycopg2 reads; every other one is text, as the server writes it.
_ARRAYS = frozenset({
    "bool", "int2", "int4", "int8", "oid", "float4", "float8", "numeric", "text", "varchar", "bpchar",
    "name", '"char"', "date", "time", "timetz", "timestamp", "timestamptz", "interval", "bytea", "inet",
    "cidr", "macaddr", "uuid", "json", "jsonb", "int4range", "int8range", "numrange", "daterange",
    "tsrange", "tstzrange",
})  # fmt: skip


class OneStatementCursor(psycopg.Cursor[Any]):
    """A cursor that the server takes no more than one statement from.

    A pipeline always uses the extended protocol; without one, psycopg sends what has no parameters
    by the simple protocol, where one text may hold many statements.
    """

    def execute(self, *arguments: Any, **options: Any) -> OneStatementCursor:
        with self.connection.pipeline():
            return super().execute(*arguments, **options)


def connect(arguments: Mapping[str, Any]) -> psycopg.Connection[Any]:
    """A connection. Raises psycopg.Error."""
    return psycopg.connect(
        **arguments,
        context=adapters(),
        prepare_threshold=None,  # a pooler may give the next statement another session
    )


def make_ready(driver: psycopg.Connection[Any], role: str, *, read_only: bool) -> None:
    """Set up a new connection as dbt-postgres and psycopg2 do. Raises psycopg.Error."""
    if role:
        driver.execute(f"set role {role}")  # unchanged, like dbt
    driver.execute("set datestyle to ISO")
    driver.commit()  # or the first rollback would undo it
    driver.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    if read_only:
        driver.read_only = True
        driver.cursor_factory = OneStatementCursor


def parse_alone(driver: psycopg.Connection[Any], sql: str) -> str | None:
    """Have the server parse one statement without running it; returns its error, if any.

    Raises psycopg.Error if the server doesn't answer.
    """
    answer = driver.pgconn.prepare(b"", sql.encode(driver.info.encoding))
    if answer.status == pq.ExecStatus.COMMAND_OK:
        return None
    return pq.error_message(answer, driver.info.encoding).strip()


def forget(driver: psycopg.Connection[Any]) -> None:
    """Leave nothing of a query to the next one on its connection. Raises psycopg.Error."""
    seed = random.uniform(-1, 1)  # noqa: S311 - it is no secret
    answer = driver.pgconn.exec_(f"rollback; {FORGET.format(seed=seed)}".encode())
    if answer.status == pq.ExecStatus.FATAL_ERROR:
        raise psycopg.OperationalError(pq.error_message(answer, driver.info.encoding))


def cancel(driver: psycopg.Connection[Any]) -> None:
    """Cancel what the connection runs; called by another thread."""
    with suppress(psycopg.Error):  # the server's own limit holds
        driver.cancel_safe(timeout=_CANCEL_S)


# -- values --------------------------------------------------------------------------------------
# psycopg 3 gives objects where psycopg2 gave text or a plain value: addresses, composite types,
# infinite dates. What an alert returns is part of keys and messages, so it stays what it was.


class _Text(TextLoader):
    """A database without an encoding holds bytes: those of ASCII are text, others can't be read."""

    def load(self, data: Buffer) -> str:
        found = super().load(data)
        return found if isinstance(found, str) else str(found, "ascii")


class _Date(Loader):
    def load(self, data: Buffer) -> date:
        match text := str(data, "ascii"):
            case "infinity":
                return date.max
            case "-infinity":
                return date.min
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise _beyond_python(text) from None


class _Timestamp(Loader):
    def load(self, data: Buffer) -> datetime:
        match text := str(data, "ascii"):
            case "infinity":
                return self.last
            case "-infinity":
                return self.first
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            raise _beyond_python(text) from None

    last = datetime.fromisoformat("9999-12-31T23:59:59.999999")
    first = datetime.fromisoformat("0001-01-01T00:00:00")


class _Timestamptz(_Timestamp):
    """With the offset that the server has written, in the zone of its session."""

    last = datetime.fromisoformat("9999-12-31T23:59:59.999999+00:00")
    first = datetime.fromisoformat("0001-01-01T00:00:00+00:00")


def _beyond_python(text: str) -> ValueError:
    return ValueError(f"{text} is a date that Python has no room for")


class _Time(Loader):
    def load(self, data: Buffer) -> time:
        text = str(data, "ascii")
        return time.fromisoformat("00" + text[2:] if text.startswith("24") else text)


class _Interval(IntervalLoader):
    def load(self, data: Buffer) -> timedelta:
        try:
            return super().load(data)
        except (psycopg.DataError, NotImplementedError) as error:
            raise ValueError(str(error)) from None


def adapters() -> AdaptersMap:
    """What turns values of a connection into Python's."""
    found = AdaptersMap(psycopg.adapters)
    loaders: dict[str, type[Any]] = {
        "date": _Date,
        "timestamp": _Timestamp,
        "timestamptz": _Timestamptz,
        "time": _Time,
        "timetz": _Time,
        "interval": _Interval,
    }
    texts = ["text", "varchar", "bpchar", "name", "xml", "inet", "cidr", "record", "macaddr"]
    for name, loader in (loaders | dict.fromkeys(texts, _Text)).items():
        found.register_loader(name, loader)
    for oid in (0, 705):  # a type that psycopg has no loader for, and `unknown`
        found.register_loader(oid, _Text)
    for info in found.types:
        if isinstance(info, MultirangeInfo):
            found.register_loader(info.oid, _Text)
        if info.array_oid and info.name not in _ARRAYS:
            found.register_loader(info.array_oid, _Text)
    return found
