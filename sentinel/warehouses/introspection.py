"""What dbt asks of a warehouse while it compiles alerts: answered as an alert's query is, or refused.

The project's Jinja can send any SQL by `run_query` and `statement`. Here it meets the same guards as
the alert that it becomes: one SELECT, in a session that can only read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import sqlglot
from sqlglot import Token
from sqlglot.errors import SqlglotError

from sentinel.core.errors import QueryError
from sentinel.core.evaluation import QueryResult
from sentinel.ports import Query, Session
from sentinel.warehouses.readonly import one_select, refuse_statements, refuse_writing

# Opens the connection of dbt's own adapter.
ByDbt = Callable[[], Any]

_TIMEOUT = timedelta(minutes=5)
_MOST_ROWS = 100_000
# Statements that dbt's adapters look into a catalog with, where it has no views to select from.
_SHOWING = ("SHOW", "DESC", "DESCRIBE")
# What else a driver's handle or cursor runs SQL by.
_RUNNING = ("execute", "executemany", "execute_async", "execute_string")
_ALSO = "; while dbt compiles an alert, Jinja may only read"


class SessionHandle:
    """A session for alerts in the form that dbt's adapters know: a connection of the DB-API.

    Closing it has no effect: the session belongs to its opener.
    """

    def __init__(
        self, session: Session, rewrite: Callable[[str], str] = lambda statement: statement
    ) -> None:
        self._session = session
        self._rewrite = rewrite

    def cursor(self) -> SessionCursor:
        return SessionCursor(self._ask)

    def rollback(self) -> None:
        """Each query has had its own transaction."""

    close = commit = rollback

    def _ask(self, sql: str) -> QueryResult:
        try:
            found = self._session.fetch(Query(self._rewrite(sql), _TIMEOUT), _MOST_ROWS)
        except QueryError as error:
            raise QueryError(f"{error.message}{_ALSO}", hint=error.hint) from None
        if found.truncated:
            raise QueryError(f"a query of the alert's Jinja gives more than {_MOST_ROWS:,} rows")
        return found


class SessionCursor:
    """One query and its rows."""

    statusmessage = "SELECT"

    def __init__(self, ask: Callable[[str], QueryResult]) -> None:
        self._ask = ask
        self._columns: tuple[str, ...] = ()
        self._rows: list[tuple[Any, ...]] = []

    def execute(self, sql: str, bindings: Any = None) -> SessionCursor:
        if bindings:
            raise QueryError(f"a statement with parameters is no query{_ALSO}")
        found = self._ask(sql)
        self._columns, self._rows = found.columns, list(found.rows)
        return self

    @property
    def description(self) -> list[tuple[Any, ...]]:
        return [(name, *[None] * 6) for name in self._columns]

    @property
    def rowcount(self) -> int:
        return len(self._rows)

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        taken, self._rows = self._rows[:size], self._rows[size:]
        return taken

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.fetchmany(len(self._rows))

    def close(self) -> None:
        self._rows = []


class JudgedHandle:
    """The handle of an adapter without a module here: what it is given to run is judged by its words.

    A connection stays open when dbt closes it between two models; a cursor doesn't.
    """

    def __init__(self, handle: Any, dialect: str, *, cursor: bool = False) -> None:
        self._handle = handle
        self._dialect = dialect
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._handle, name)
        if name in _RUNNING:
            return self._judged(value)
        if name == "cursor":
            return lambda *args, **options: JudgedHandle(
                value(*args, **options), self._dialect, cursor=True
            )
        if name == "close" and not self._cursor:
            return lambda: None
        return value

    def _judged(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def judged(sql: Any, *args: Any, **options: Any) -> Any:
            refuse_but_reading(str(sql), self._dialect, alone=True)
            return run(sql, *args, **options)

        return judged

    def __iter__(self) -> Any:
        return iter(self._handle)


def refuse_but_reading(sql: str, dialect: str, *, alone: bool = False) -> None:
    """Raises QueryError unless it is one SELECT, or one statement that shows or describes.

    `alone` says that the warehouse itself isn't asked.
    """
    try:
        shown = _shown(sql, dialect)
    except SqlglotError:
        shown = None
    try:
        if shown is not None:
            refuse_statements(shown)
            return
        one_select(sql, dialect)
        if alone:
            refuse_writing(sql, dialect)
    except QueryError as error:
        raise QueryError(f"{error.message}{_ALSO}", hint=error.hint) from None


def _shown(sql: str, dialect: str) -> Sequence[Token] | None:
    """The tokens after SHOW or DESCRIBE, which sqlglot leaves in one piece; None of other SQL."""
    tokens = sqlglot.tokenize(sql, dialect=dialect)
    words = [token.text.upper() for token in tokens]
    if not words or words[0] not in _SHOWING or ";" in words[:-1]:
        return None
    rest = sqlglot.tokenize(sql[tokens[0].end + 1 :], dialect=dialect)
    return rest[1:] if rest and rest[0].text.upper() == "CREATE" else rest
