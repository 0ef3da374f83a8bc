"""PostgreSQL, by psycopg 3 and the keys of a dbt-postgres profile.

A session for alerts can only read. The server itself decides that an alert is one statement: it gets
each by the extended protocol, which takes no more than one, the alert's own first and by itself. Each
query has a READ ONLY transaction of its own that ends in a rollback, which takes along whatever the
query has set. What outlives a rollback is undone when the connection goes back to the pool.

https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState, QueuePool
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
)

from sentinel.core.errors import ConfigError, QueryError, WarehouseError
from sentinel.core.evaluation import Excerpt, QueryResult
from sentinel.core.secret import Scrubber
from sentinel.ports import Query, Relation, Rights, Session
from sentinel.warehouses.bounding import BYTES, Cell, RenamingCells, json_cell
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.introspection import ByDbt, SessionHandle
from sentinel.warehouses.readonly import one_select, refuse_reserved, views_beyond
from sentinel.warehouses.session import SqlSession, own_words

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

DIALECT = "postgres"
_ALIASES = {"dbname": "database", "pass": "password"}
_REQUIRED = ("host", "port", "user", "password", "database", "schema")
_SPELLED = {"database": "dbname"}  # as the profiles in dbt's documentation have it
_GIVEN = ("sslmode", "sslcert", "sslkey", "sslrootcert", "client_encoding")
# How long the server itself waits beyond a query's timeout, for the case that nobody cancels it.
_NET = timedelta(seconds=5)
_LONGEST_MS = 2**31 - 1
# `standard_conforming_strings`: the server has to end a text where `one_select` has seen its end.
_READ_ONLY = {"default_transaction_read_only": "on", "standard_conforming_strings": "on"}

# What the server and its extensions keep from ordinary users: functions in C which nobody may call
# without a grant. A superuser may call all of them. Other languages are for functions of one's own.
# So are views of the server, some of which call them: these come with their definitions.
_RESERVED = """
select distinct proname, null from pg_catalog.pg_proc
where proacl is not null and prolang in (12, 13)
and not pg_catalog.has_function_privilege('public', oid, 'execute')
union all
select relname, pg_catalog.pg_get_viewdef(oid) from pg_catalog.pg_class
where relkind = 'v' and relacl is not null and relnamespace = 'pg_catalog'::pg_catalog.regnamespace
and not pg_catalog.has_any_column_privilege('public', oid, 'select')
"""
# Those that only show what the server is doing.
_SHOWING = (
    "pg_config", "pg_current_logfile", "pg_get_backend_memory_contexts", "pg_get_shmem_allocations",
    "pg_show_replication_origin_status", "pg_stat_have_stats",
)  # fmt: skip


class Postgres:
    """The database of one dbt target.

    The context's `notify` gets a phrase before each further try to connect. A server has no file to
    wait for and reads none of the project's, so `lock_timeout` and `declared_files` are not used.
    """

    lock_file: Path | None = None
    exclusive: bool = False

    def __init__(self, credentials: Mapping[str, Any], context: WarehouseContext) -> None:
        given = {_ALIASES.get(key, key): value for key, value in credentials.items()}
        missing = [key for key in _REQUIRED if given.get(key) is None]
        if missing:
            names = ", ".join(f"`{_SPELLED.get(key, key)}`" for key in missing)
            raise ConfigError(
                f"the PostgreSQL profile has no {names}",
                hint="dbt needs it too: `dbt debug` says what it makes of the profile",
            )
        self._database = str(given["database"])
        self._arguments = _arguments(given)
        self._search_path = str(given.get("search_path") or "")
        self._role = str(given.get("role") or "")
        self._retries = _whole(given, "retries", 1)
        self._threads = context.threads
        self._notify = context.notify
        self._scrub = Scrubber([str(given["password"])])

    @contextmanager
    def open(self) -> Iterator[Session]:
        with self.engine(read_only=True) as engine:
            yield _Session(engine, DIALECT, _cancel, _bound, PostgresCells())

    def timestamp_literal(self, moment: datetime) -> str:
        text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        return f"timestamp '{text}'"

    @contextmanager
    def engine(self, *, read_only: bool) -> Iterator[Engine]:
        """An engine for one batch; its connections are closed in the end.

        Transactions are REPEATABLE READ: READ COMMITTED would let a claimer that had to wait for
        another one take the same rows. Raises WarehouseError if the server can't be reached, and
        ConfigError if the driver isn't installed.
        """
        try:
            engine = create_engine(
                "postgresql+psycopg://",
                creator=lambda: self._connect(read_only=read_only),
                poolclass=QueuePool,
                pool_size=self._threads,
                max_overflow=0,
                use_native_hstore=False,  # it costs each connection a query
                # Alerts are plain text: what SQLAlchemy asks a server at first is of no use to them.
                _initialize=not read_only,
            )
        except ImportError as error:
            raise ConfigError(
                f"PostgreSQL can't be reached without its driver: {error}",
                hint="`pip install 'dbt-sentinel[postgres]'` brings it",
            ) from None
        if read_only:
            event.listen(engine, "reset", _forget)
        try:
            self._try_to_connect(engine)
            yield engine
        finally:
            engine.dispose()

    def rights(self, watched: Sequence[Relation], own: Sequence[Relation]) -> Rights:
        """As `sentinel.warehouses.contract.Database.rights`."""
        from sentinel.warehouses.postgres_rights import find_rights

        with self.engine(read_only=True) as engine, engine.connect() as connection:
            return find_rights(connection, watched, own)

    @contextmanager
    def introspection(self, by_dbt: ByDbt) -> Iterator[SessionHandle]:
        """What dbt asks while it compiles, on a session for alerts."""
        with self.open() as session:
            yield SessionHandle(session)

    def _try_to_connect(self, engine: Engine) -> None:
        try:
            engine.connect().close()
        except DBAPIError as error:
            raise WarehouseError(
                f"can't connect to the PostgreSQL database {self._database}: {self._words(error)}"
            ) from None

    def _connect(self, *, read_only: bool) -> DBAPIConnection:
        """A connection of the driver, made as dbt-postgres makes it. Raises what the driver raises."""
        import psycopg

        from sentinel.warehouses.postgres_driver import connect, make_ready

        connecting = Retrying(
            retry=retry_if_exception_type(psycopg.OperationalError),
            # dbt's: immediately, then after 1, 4, 9 seconds.
            wait=lambda attempt: float(attempt.attempt_number - 1) ** 2,
            stop=stop_after_attempt(self._retries + 1),
            before_sleep=self._say,
            reraise=True,
        )
        arguments = self._arguments | self._options(read_only=read_only)
        driver: psycopg.Connection[Any] = connecting(connect, arguments)
        try:
            make_ready(driver, self._role, read_only=read_only)
        except psycopg.Error:
            driver.close()
            raise
        return cast("DBAPIConnection", driver)

    def _options(self, *, read_only: bool) -> dict[str, str]:
        """Settings of the session from its start, which is what a reset goes back to."""
        settings = dict(_READ_ONLY) if read_only else {}
        if self._search_path:
            settings["search_path"] = self._search_path.replace(" ", "\\ ")
        words = [f"-c {name}={value}" for name, value in settings.items()]
        return {"options": " ".join(words)} if words else {}

    def _say(self, attempt: RetryCallState) -> None:
        error = attempt.outcome and attempt.outcome.exception()
        if error:
            self._notify(f"trying again: {self._words(error)}")

    def _words(self, error: BaseException) -> str:
        return self._scrub(" ".join(own_words(error).split()))


class _Session(SqlSession):
    # Functions and views of this server that its owner keeps from ordinary users; asked for once.
    _reserved: tuple[frozenset[str], frozenset[str]] | None = None

    def quote(self, column: str) -> str:
        # Always, which changes nothing: names are given as they are. (SQLAlchemy doubles `%`.)
        return '"' + column.replace('"', '""') + '"'

    def _admit(self, connection: Connection, query: Query) -> None:
        import psycopg

        from sentinel.warehouses.postgres_driver import parse_alone

        own = query.own or query.sql
        if self._reserved is None:
            found: Sequence[Any] = connection.exec_driver_sql(_RESERVED).all()
            functions = {name for name, view in found if view is None}.difference(_SHOWING)
            views = {name: view for name, view in found if view is not None}
            self._reserved = frozenset(functions), views_beyond(views, functions)
        refuse_reserved(own, *self._reserved)
        driver: Any = connection.connection.driver_connection
        try:
            fault = parse_alone(driver, own)
        except psycopg.Error as error:
            raise QueryError(str(error).strip()) from None
        if fault is not None:
            hint = "an alert is one SELECT" if "multiple commands" in fault else None
            raise QueryError(fault, hint=hint)

    def fetch(self, query: Query, limit: int, excerpt: Excerpt | None = None) -> QueryResult:
        """As `sentinel.ports.Session.fetch`.

        The driver holds a whole result in memory, so the server cuts it. Not by a cursor: whatever a
        cursor reads, no parallel worker helps it, which takes twice as long and more.
        """
        if excerpt is not None:
            return super().fetch(query, limit, excerpt)
        statement = one_select(query.sql, self.dialect)
        # Its first line stays the first: the server's errors name lines.
        cut = f"select * from ({statement}\n) as fetched limit {int(limit) + 1}"
        return super().fetch(replace(query, sql=cut, own=query.own or statement), limit)


def _arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the driver is given: what dbt gives it, save for Sentinel's own name."""
    arguments: dict[str, Any] = {
        "dbname": str(given["database"]),
        "user": str(given["user"]),
        "host": str(given["host"]),
        "password": str(given["password"]),
        "port": _whole(given, "port"),
        "connect_timeout": _whole(given, "connect_timeout", 10),
        "application_name": given.get("application_name", "sentinel"),
        # 0 is dbt's word for the system's default; passed on, it would be refused.
        "keepalives_idle": _whole(given, "keepalives_idle", 0) or None,
    }
    arguments |= {key: given.get(key) for key in _GIVEN}
    return {key: value for key, value in arguments.items() if value not in (None, "")}


def _whole(given: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = given.get(key, default)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"`{key}` of the PostgreSQL profile is not a whole number")
    return value


def _bound(connection: Connection, query: Query) -> None:
    """The server's limit, for the case that this process can't cancel the query any more."""
    limit = min(int((query.timeout + _NET).total_seconds() * 1000), _LONGEST_MS)
    connection.exec_driver_sql(f"set local statement_timeout = {limit}")


def _cancel(driver: Any) -> None:
    from sentinel.warehouses.postgres_driver import cancel

    cancel(driver)


def _forget(driver: Any, record: ConnectionPoolEntry, _state: PoolResetState) -> None:
    import psycopg

    from sentinel.warehouses.postgres_driver import forget

    try:
        forget(driver)
    except psycopg.Error:
        record.invalidate()  # the connection is broken; the next query gets a new one


# Types by their OID in pg_type.dat, which no release has changed.
_BYTEA, _JSON, _VOID = 17, (114, 3802), 2278
_TEXTS = (25, 1042, 1043)
# Numbers, times, uuid, money, addresses and others whose values have a natural length.
_SHORT = {
    16, 18, 19, 20, 21, 23, 24, 26, 27, 28, 29, 600, 601, 603, 628, 650, 700, 701, 718, 774, 790, 829,
    869, 1082, 1083, 1114, 1184, 1186, 1266, 2202, 2203, 2204, 2205, 2206, 2950, 3220, 5069, _VOID,
}  # fmt: skip
# Python's times hold less than the server's.
_TIMES = (1082, 1083, 1114, 1184, 1186, 1266)


class PostgresCells(RenamingCells):
    """By types: those that aren't known here are read as their text, to see how long they are."""

    def may_be_long(self, kind: Any) -> bool:
        return kind not in _SHORT

    def may_be_unreadable(self, kind: Any) -> bool:
        return kind in _TIMES or (self.may_be_long(kind) and kind not in (*_TEXTS, *_JSON, _BYTEA))

    def cell(self, column: str, kind: Any, longest: int) -> Cell:
        if kind == _BYTEA:
            size, most, unit = f"octet_length({column})", longest // 2, "b"
            beginning = f"encode(substring({column} from 1 for {most}), 'hex')"
        else:
            words = column if kind in _TEXTS else f"({column})::text"
            size, most, unit = f"octet_length({words})", BYTES * longest, "c"
            beginning = f"left({words}, {longest})"
        length = size if unit == "b" else f"length({words})"
        cut = f"case when {size} > {most} then {length} || '{unit}:' || {beginning} end"
        if kind in _JSON:
            return json_cell(f"case when {size} <= {most} then {words} end", cut)
        return Cell(f"case when {size} <= {most} then {column} end", cut)
