"""A batch's session on any SQLAlchemy engine: read, cut at a limit, cancelled when it takes too long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sentinel.core.duration import format_duration
from sentinel.core.errors import QueryError
from sentinel.core.evaluation import Result
from sentinel.warehouses.readonly import one_select

# Cancels what a connection of the driver is doing; called from another thread.
Cancel = Callable[[Any], None]
_MOST_SAMPLES = 1_000


class SqlSession:
    """Queries on pooled connections of one engine."""

    def __init__(self, engine: Engine, dialect: str, cancel: Cancel) -> None:
        self._engine = engine
        self._dialect = dialect
        self._cancel = cancel

    def columns(self, sql: str, timeout: timedelta) -> tuple[str, ...]:
        statement = one_select(sql, self._dialect)
        with self._run(
            f"select * from (\n{statement}\n) as described where 1 = 0", timeout
        ) as rows:
            return tuple(rows.keys())

    def fetch(self, sql: str, limit: int, timeout: timedelta) -> Result:
        statement = one_select(sql, self._dialect)
        with self._run(statement, timeout) as found:
            columns = tuple(found.keys())
            rows = found.fetchmany(limit + 1)
        return Result(columns, tuple(map(tuple, rows[:limit])), truncated=len(rows) > limit)

    def count(self, sql: str, dimensions: Sequence[str], limit: int, timeout: timedelta) -> Result:
        names = self._names(dimensions)
        listed, grouped = (f"{names}, ", f" group by {names}") if names else ("", "")
        statement = one_select(sql, self._dialect)
        return self.fetch(
            f"select {listed}count(*) as failures from (\n{statement}\n) as violations{grouped}",
            limit,
            timeout,
        )

    def sample(self, sql: str, dimensions: Sequence[str], size: int, timeout: timedelta) -> Result:
        statement = one_select(sql, self._dialect)
        if not dimensions:
            return self.fetch(f"select * from (\n{statement}\n) as violations", size, timeout)
        names = self._names(dimensions)
        numbered = (
            f"select *, row_number() over (partition by {names} order by {names}) as sentinel_row "
            f"from (\n{statement}\n) as violations"
        )
        found = self.fetch(
            f"select * from ({numbered}) as sampled where sentinel_row <= {int(size)}",
            _MOST_SAMPLES,
            timeout,
        )
        return Result(found.columns[:-1], tuple(row[:-1] for row in found.rows))

    def _names(self, columns: Sequence[str]) -> str:
        """Columns as a list in SQL; those named by a reserved word are quoted."""
        return ", ".join(map(self._engine.dialect.identifier_preparer.quote, columns))

    @contextmanager
    def _run(self, sql: str, timeout: timedelta) -> Iterator[CursorResult[Any]]:
        """A running query; errors of driver and server as QueryError in their own first words."""
        expired = threading.Event()
        try:
            with self._engine.connect() as connection:
                with self._deadline(connection, timeout, expired):
                    # Drivers take `%` and `:` for parameters otherwise.
                    yield connection.execution_options(no_parameters=True).exec_driver_sql(sql)
                connection.rollback()
        except SQLAlchemyError as error:
            if expired.is_set():
                raise QueryError(
                    f"the query was cancelled: it took longer than its timeout of "
                    f"{format_duration(timeout)}"
                ) from None
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


def own_words(error: BaseException) -> str:
    """A driver's message without the SQL and the link that SQLAlchemy adds."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return str(error.orig).strip()
    return str(error).splitlines()[0].strip()
