"""Any other warehouse: dbt's own adapter opens the connections, SQLAlchemy's dialect speaks on them.

There is no read-only mode that all of these have, and no way to ask them what a text is without
running it. A query is refused by its words; the boundary are the grants of the profile's role.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState, QueuePool
from sqlglot import Dialect, exp

from sentinel.core.errors import ConfigError, WarehouseError
from sentinel.ports import Query, Relation, Rights, Session
from sentinel.warehouses.introspection import ByDbt, JudgedHandle
from sentinel.warehouses.postgres_tokens import FORGET
from sentinel.warehouses.readonly import refuse_writing
from sentinel.warehouses.session import SqlSession, own_words

# dbt's name of a type to SQLAlchemy's name of dialect and driver, where they differ. The driver is
# the one that dbt's adapter uses: its connections are what the dialect gets.
_URLS = {"postgres": "postgresql+psycopg2", "redshift": "redshift+redshift_connector"}
_PACKAGES = {
    "databricks": "databricks-sqlalchemy",
    "redshift": "sqlalchemy-redshift",
    "snowflake": "snowflake-sqlalchemy",
    "trino": "trino[sqlalchemy]",
}
# Where dbt's adapters keep the driver's connection when they wrap it: dbt-trino and dbt-spark,
# dbt-databricks. The others hand out the driver's connection itself.
_INSIDE_OF_WRAPPERS = ("handle", "_conn")
# Where a timestamp of no stated precision has three digits: elsewhere it has six or nine.
_MILLISECONDS = ("athena", "trino")
# Where opening a connection meets no server yet: the first query does.
_OPENED_LATE = ("trino",)
# What makes a transaction read-only, and a connection forget a query, by dbt's name of a type. In a
# warehouse that isn't here no SELECT can set anything, or each query has a session of its own.
_READ_ONLY = {"postgres": "set transaction read only"}
_FORGET = {"postgres": FORGET}


class AdapterWarehouse:
    """The database of one dbt target.

    `kind` is the profile's type. `connect` gives what dbt's adapter calls a connection's handle, a
    new one each time, and raises WarehouseError and ConfigError.
    """

    lock_file: Path | None = None
    exclusive: bool = False

    def __init__(self, kind: str, connect: Callable[[], Any], threads: int = 4) -> None:
        self._kind = kind
        self._connect = connect
        self._threads = threads

    @contextmanager
    def open(self) -> Iterator[Session]:
        """A session for one batch.

        Raises ConfigError if SQLAlchemy has no dialect for this type.
        """
        handles: list[Any] = []  # a wrapper that nobody holds closes its connection
        engine = self._engine(lambda: self._ready_connection(handles))
        try:
            session = _AdapterSession(engine, self._dialect, _READ_ONLY.get(self._kind))
            if self._kind in _FORGET:
                event.listen(engine, "reset", _forgetting(_FORGET[self._kind]))
            self._reach(engine)
            yield session
        finally:
            engine.dispose()
            handles.clear()

    def timestamp_literal(self, moment: datetime) -> str:
        text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        digits = "(6)" if self._kind in _MILLISECONDS else ""
        # What a timestamp without zone is called differs; sqlglot knows the names.
        kind = f"timestampntz{digits}" if self._dialect else "timestamp"
        cast = exp.cast(exp.Literal.string(text), exp.DataType.build(kind))
        return cast.sql(dialect=self._dialect)

    def engine(self, *, read_only: bool) -> AbstractContextManager[Engine]:
        """Raises ConfigError: the tables have no SQL for this type."""
        raise ConfigError(
            f"Sentinel can't keep its tables in a warehouse of the type {self._kind!r}",
            hint="`store.target` in sentinel.yml may name another target",
        )

    def rights(self, watched: Sequence[Relation], own: Sequence[Relation]) -> Rights:
        """As `sentinel.warehouses.contract.Database.rights`."""
        return Rights(
            unchecked=f"Sentinel can't see the rights of a role of the type {self._kind!r}: give it one "
            "that only reads"
        )

    @contextmanager
    def introspection(self, by_dbt: ByDbt) -> Iterator[JudgedHandle]:
        """What dbt asks while it compiles, on dbt's own connection: a query is judged by its words."""
        handle = by_dbt()
        try:
            yield JudgedHandle(handle, self._dialect)
        finally:
            if hasattr(handle, "close"):
                handle.close()

    @property
    def _dialect(self) -> str:
        """sqlglot's name of the SQL; empty if it knows none."""
        return self._kind if Dialect.get(self._kind) else ""

    def _engine(self, creator: Callable[[], Any]) -> Engine:
        try:
            return create_engine(
                f"{_URLS.get(self._kind, self._kind)}://",
                creator=creator,
                poolclass=QueuePool,
                pool_size=self._threads,
                max_overflow=0,
                # Otherwise a dialect asks the server for its version and more, and changes the
                # session: dbt has made it as it should be.
                _initialize=False,
            )
        except NoSuchModuleError:
            package = _PACKAGES.get(self._kind)
            raise ConfigError(
                f"SQLAlchemy has no dialect for a warehouse of the type {self._kind!r}",
                hint=f"pip install '{package}'"
                if package
                else "install a package that provides one, in addition to dbt's adapter",
            ) from None
        except (ImportError, AttributeError) as error:
            # A dialect that is broken says so when it is first used.
            raise ConfigError(
                f"the dialect for {self._kind!r} doesn't work with SQLAlchemy "
                f"{sqlalchemy.__version__}: {error}",
                hint="install a release of SQLAlchemy that the dialect's package was made for",
            ) from None

    def _reach(self, engine: Engine) -> None:
        """What can't be reached is no error of one query."""
        with engine.connect() as connection:
            if self._kind in _OPENED_LATE:
                try:
                    connection.exec_driver_sql("select 1").close()
                except SQLAlchemyError as error:
                    raise WarehouseError(
                        f"the {self._kind} server can't be reached: {own_words(error)}"
                    ) from None

    def _ready_connection(self, handles: list[Any]) -> Any:
        handle = self._connect()
        handles.append(handle)
        driver = _unwrapped(handle)
        # PostgreSQL's adapter sets the role in a transaction, which a rollback would undo.
        if hasattr(driver, "commit"):
            driver.commit()
        return driver


@dataclass
class _Execution:
    """One query on one connection of the driver."""

    cursor: Any = None
    cancelled: bool = False
    closed: bool = False


@dataclass
class _Executions:
    """The query that each connection runs; by identity, for not every driver's can be hashed."""

    of: dict[int, _Execution] = field(default_factory=dict)

    def begin(self, connection: Connection) -> None:
        self.of[id(connection.connection.driver_connection)] = _Execution()

    def at(self, driver: Any) -> _Execution:
        return self.of.setdefault(id(driver), _Execution())


class _AdapterSession(SqlSession):
    def __init__(self, engine: Engine, dialect: str, read_only: str | None) -> None:
        self._executions = _Executions()
        self._read_only = read_only
        super().__init__(engine, dialect, self._stop, self._begin)
        event.listen(engine, "before_cursor_execute", self._note_cursor)
        event.listen(engine, "handle_error", self._translate, retval=True)

    def _begin(self, connection: Connection, query: Query) -> None:
        refuse_writing(query.sql, self.dialect)
        self._executions.begin(connection)
        if self._read_only:
            connection.exec_driver_sql(self._read_only).close()

    def _note_cursor(self, connection: Connection, cursor: Any, *_: object) -> None:
        self._executions.at(connection.connection.driver_connection).cursor = cursor

    def _stop(self, driver: Any) -> None:
        """Cancel by the connection, else by its cursor; else close it, which is all there is."""
        execution = self._executions.at(driver)
        execution.cancelled = True
        by = next((each for each in (driver, execution.cursor) if hasattr(each, "cancel")), None)
        with suppress(OSError, *_errors_of(self._engine)):
            if by is not None:
                by.cancel()
            else:
                execution.closed = True
                driver.close()

    def _translate(self, context: ExceptionContext) -> BaseException | None:
        """Whatever a driver raises is an error of its query.

        Not all of them keep to the exceptions of the DB-API, least of all when they are cancelled.
        """
        connection = context.connection
        if connection is None:
            return None
        execution = self._executions.at(connection.connection.driver_connection)
        if execution.closed:
            context.is_disconnect = True  # this connection isn't used again
            context.invalidate_pool_on_disconnect = False  # the others are
        error = context.original_exception
        if isinstance(error, _errors_of(self._engine)) or not isinstance(error, Exception):
            return None
        if isinstance(error, ArithmeticError | ValueError) and not execution.cancelled:
            return None  # a value that Python has no room for
        return SQLAlchemyError(f"{type(error).__name__}: {error}")


def _forgetting(statements: str) -> Callable[[Any, ConnectionPoolEntry, PoolResetState], None]:
    """Leaves nothing of a query to the next one on its connection."""

    def forget(driver: Any, record: ConnectionPoolEntry, _state: PoolResetState) -> None:
        try:
            driver.rollback()
            cursor = driver.cursor()
            cursor.execute(statements.format(seed=random.uniform(-1, 1)))  # noqa: S311 - no secret
            cursor.close()
            driver.commit()
        except Exception:  # noqa: BLE001 - drivers have errors of many kinds; each means a new connection
            record.invalidate()

    return forget


def _unwrapped(handle: Any) -> Any:
    """The driver's own connection, which is what SQLAlchemy's dialect knows."""
    for name in _INSIDE_OF_WRAPPERS:
        inner = getattr(handle, name, None)
        if callable(getattr(inner, "cursor", None)):
            return inner
    return handle


def _errors_of(engine: Engine) -> tuple[type[BaseException], ...]:
    return (engine.dialect.loaded_dbapi.Error,)
