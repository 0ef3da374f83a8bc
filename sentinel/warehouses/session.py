"""A batch's session on any SQLAlchemy engine: read, cut at a limit, cancelled when it takes too long."""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sentinel.core.duration import format_duration
from sentinel.core.errors import QueryError, SentinelError, WarehouseError, WarehouseLocked
from sentinel.core.evaluation import Excerpt, QueryResult
from sentinel.ports import Query, QueryDescription
from sentinel.warehouses.bounding import Bounded, Cells, PortableCells
from sentinel.warehouses.readonly import one_select

# Cancels what a connection of the driver is doing; called from another thread.
Cancel = Callable[[Any], None]
# Readies a connection for one query, inside of its transaction.
Ready = Callable[[Connection, Query], None]
_MOST_SAMPLES = 1_000
_LONGEST_COUNT = 100
_TEXTS = re.compile(r"(n?var|long)?char|n?text|string|clob", re.IGNORECASE)


class Wrapping(ABC):
    """Counts and samples of a query, as queries around it.

    `dialect` is sqlglot's name of the warehouse's SQL.
    """

    dialect: str

    @abstractmethod
    def fetch(self, query: Query, limit: int, excerpt: Excerpt | None = None) -> QueryResult:
        """As `sentinel.ports.Session.fetch`."""

    @abstractmethod
    def quote(self, column: str) -> str:
        """A column's name in SQL, quoted if necessary."""

    def count(
        self,
        query: Query,
        dimensions: Sequence[str],
        limit: int,
        excerpt: Excerpt | None = None,
    ) -> QueryResult:
        names = self._names(excerpt.columns if excerpt else dimensions)
        listed, grouped = (f"{names}, ", f" group by {names}") if names else ("", "")
        statement = one_select(query.sql, self.dialect)
        counting = (
            f"select {listed}count(*) as failures from (\n{statement}\n) as violations{grouped}"
        )
        return self.fetch(
            replace(query, sql=counting, own=query.own or statement),
            limit,
            excerpt and _with_count(excerpt),
        )

    def sample(
        self,
        query: Query,
        dimensions: Sequence[str],
        size: int,
        excerpt: Excerpt | None = None,
    ) -> QueryResult:
        statement = one_select(query.sql, self.dialect)
        if not dimensions:
            whole = f"select * from (\n{statement}\n) as violations"
            return self.fetch(replace(query, sql=whole, own=query.own or statement), size, excerpt)
        names = self._names(dimensions)
        numbered = (
            f"select *, row_number() over (partition by {names} order by {names}) as sentinel_row "
            f"from (\n{statement}\n) as violations"
        )
        sampling = f"select * from ({numbered}) as sampled where sentinel_row <= {int(size)}"
        numbers = excerpt and _with_number(excerpt, "sentinel_row")
        found = self.fetch(
            replace(query, sql=sampling, own=query.own or statement), _MOST_SAMPLES, numbers
        )
        if excerpt:  # the numbers are no part of it
            return replace(found, left_out=excerpt.left_out)
        return replace(
            found, columns=found.columns[:-1], rows=tuple(row[:-1] for row in found.rows)
        )

    def _names(self, columns: Sequence[str]) -> str:
        return ", ".join(map(self.quote, columns))


def _with_number(excerpt: Excerpt, name: str) -> Excerpt:
    """An excerpt of the same columns, and one of numbers after them, which isn't read."""
    known = excerpt.described
    return replace(
        excerpt,
        described=replace(
            known,
            columns=(*known.columns, name),
            types=known.types and (*known.types, None),
            lengthy=known.lengthy and (*known.lengthy, False),
        ),
    )


def _with_count(excerpt: Excerpt) -> Excerpt:
    """An excerpt of a result that has only its columns, and a number after them."""
    chosen = replace(excerpt, described=excerpt.described.chosen(excerpt.longest))
    bounds = [*excerpt.longest.values(), _LONGEST_COUNT]
    return replace(_with_number(chosen, "failures"), longest=dict(enumerate(bounds)))


class SqlSession(Wrapping):
    """Queries on pooled connections of one engine."""

    def __init__(
        self,
        engine: Engine,
        dialect: str,
        cancel: Cancel,
        ready: Ready = lambda _connection, _query: None,
        cells: Cells | None = None,
    ) -> None:
        self._engine = engine
        self._cells = cells or PortableCells(
            dialect, self.quote, lambda kind: is_text(engine, kind)
        )
        self.dialect = dialect
        self._cancel = cancel
        self._ready = ready

    def quote(self, column: str) -> str:
        return self._engine.dialect.identifier_preparer.quote(column)

    def describe(self, query: Query) -> QueryDescription:
        statement = one_select(query.sql, self.dialect)
        # The first line stays the first: the server's errors name lines.
        empty = f"select * from ({statement}\n) as described where 1 = 0"
        with self._run(replace(query, sql=empty, own=query.own or statement)) as rows:
            if not rows.returns_rows:  # PostgreSQL knows results without columns
                return QueryDescription(())
            columns = tuple(rows.keys())
            return self._cells.described(columns, kinds_of(rows))

    def fetch(self, query: Query, limit: int, excerpt: Excerpt | None = None) -> QueryResult:
        statement = one_select(query.sql, self.dialect)
        bounded = self._cells.bound(statement, excerpt, int(limit) + 1) if excerpt else None
        read = bounded.sql if bounded else statement
        with self._run(replace(query, sql=read, own=query.own or statement)) as found:
            columns = tuple(found.keys())
            rows = self._rows(found, limit + 1, bounded)
        return QueryResult(
            bounded.excerpt.columns if bounded else columns,
            tuple(rows[:limit]),
            truncated=len(rows) > limit,
            left_out=bounded.excerpt.left_out if bounded else 0,
        )

    def _rows(
        self, found: CursorResult[Any], limit: int, bounded: Bounded | None
    ) -> list[tuple[Any, ...]]:
        """Rows of a running query. Whatever a driver raises while it reads them is its error."""
        try:
            rows = found.fetchmany(limit)
        except (SentinelError, SQLAlchemyError):
            raise
        except Exception as error:  # noqa: BLE001 - values are no driver's own errors
            raise self._cells.unreadable(error, bounded.excerpt if bounded else None) from None
        return [bounded.read(row) if bounded else tuple(row) for row in rows]

    def _admit(self, connection: Connection, query: Query) -> None:
        """Have the warehouse's own parser decide that `query.own` is one statement that only reads.

        It reads the statement alone: whatever is one statement by itself is one bracket inside of
        the query around it. Raises QueryError.
        """

    @contextmanager
    def _run(self, query: Query) -> Iterator[CursorResult[Any]]:
        """A running query; errors of driver and server as QueryError in their own first words."""
        expired = threading.Event()
        try:
            with self._engine.connect() as connection:
                with self._deadline(connection, query.timeout, expired):
                    self._ready(connection, query)
                    self._admit(connection, query)
                    # Drivers take `%` and `:` for parameters otherwise.
                    yield connection.execution_options(no_parameters=True).exec_driver_sql(
                        query.sql
                    )
                if expired.is_set():
                    # Some drivers give what they have so far when they are cancelled.
                    raise too_slow(query)
                connection.rollback()
        except WarehouseLocked:
            raise
        except QueryError:
            if expired.is_set():  # while the warehouse read the statement
                raise too_slow(query) from None
            raise
        except WarehouseError as error:
            # A connection that fails during a batch is an error of one query.
            raise QueryError(error.message, hint=error.hint) from None
        except SQLAlchemyError as error:
            if expired.is_set():
                raise too_slow(query) from None
            raise QueryError(own_words(error)) from None
        except (ArithmeticError, ValueError) as error:
            # Drivers say so when Python has no room for a value, such as a very long interval.
            raise QueryError(f"a value of the result can't be read: {error}") from None

    @contextmanager
    def _deadline(
        self, connection: Connection, timeout: timedelta, expired: threading.Event
    ) -> Iterator[None]:
        driver = connection.connection.driver_connection

        def expire() -> None:
            expired.set()
            self._cancel(driver)

        timer = threading.Timer(timeout.total_seconds(), expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # a cancel on its way would hit the connection's next query


def is_text(engine: Engine, kind: Any) -> bool:
    """Whether the driver reports a text type, by the DB-API or by its name."""
    if isinstance(kind, str) and _TEXTS.match(kind):
        return True
    texts = getattr(engine.dialect.loaded_dbapi, "STRING", None)
    return texts is not None and bool(texts == kind)


def kinds_of(found: CursorResult[Any]) -> tuple[Any, ...]:
    """The types of a result's columns, as the driver calls them."""
    description = found.cursor.description if found.cursor else None
    return tuple(column[1] for column in description or ())


def too_slow(query: Query) -> QueryError:
    """What is said of a query that its timeout has ended."""
    limit = format_duration(query.timeout)
    return QueryError(f"the query was cancelled: it took longer than its timeout of {limit}")


def own_words(error: BaseException) -> str:
    """A driver's message without the SQL and the link that SQLAlchemy adds."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return str(error.orig).strip()
    return str(error).splitlines()[0].strip()
