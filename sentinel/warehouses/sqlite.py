"""SQLite: a file for each schema, and one writer at a time.

The keys of a dbt-sqlite profile that shape a connection are honoured: schemas_and_paths,
schema_directory, extensions.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import sqlglot
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.pool import QueuePool
from sqlglot import Token, TokenType

from sentinel.core.errors import ConfigError, WarehouseError, WarehouseLocked
from sentinel.core.evaluation import Excerpt, QueryResult
from sentinel.ports import Query, QueryDescription, Relation, Rights, Session
from sentinel.warehouses.bounding import BYTES, Bounded, Cell, Cells
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.files import rights_on
from sentinel.warehouses.introspection import ByDbt, SessionHandle
from sentinel.warehouses.readonly import one_select
from sentinel.warehouses.session import SqlSession

DIALECT = "sqlite"
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# What a query may do. Everything else is refused while SQLite prepares it. Virtual tables (JSON,
# full-text search, R*Tree) prepare writes of their own when they are read: that no row is written is
# held by the way the files are opened.
_READS = (
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE,
)  # fmt: skip
# Accesses of full-text search to its own table.
_ASKED = ("data_version", "page_size")
# Functions of SQLite, of its shell and of well-known extensions that reach beyond the database.
_REACHING = {
    "load_extension", "fts3_tokenizer", "readfile", "writefile", "lsdir", "edit", "eval",
    "fileio_read", "fileio_write", "fileio_append", "fileio_mkdir", "fileio_symlink",
    "define", "define_free", "undefine",
}  # fmt: skip
# Also a comment before it, which dbt puts there.
_CATALOG = re.compile(
    r"\s*(?:/\*.*?\*/\s*)?pragma\s+(?:(?P<name>database_list)|"
    r"(?:(?P<schema>[\w\"]+)\.)?table_info\s*\(\s*(?P<table>[^()]+?)\s*\))\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)
# SQLite runs in this process, and reads a value whole before it can be cut. The heap is that of all
# connections; a query that needs more fails.
_LONGEST_VALUE = 256 * 1024**2
_HEAP = 768 * 1024**2
# How long to wait for a lock before the wait is reported.
_SILENT_S = 0.1


class Sqlite:
    """The files of one dbt target: as a warehouse they are opened read-only.

    The context's `notify` gets a phrase while another process writes.
    """

    lock_file: Path | None = None
    exclusive: bool = True

    def __init__(self, credentials: Mapping[str, Any], context: WarehouseContext) -> None:
        given = credentials.get("schemas_and_paths")
        if not isinstance(given, Mapping) or "main" not in given:
            raise ConfigError(
                "the SQLite profile has no `schemas_and_paths` with a schema `main`",
                hint="as in `schemas_and_paths: {main: shop.db}`",
            )
        if ":memory:" in map(str, given.values()):
            raise ConfigError(
                "the SQLite profile keeps a schema in ':memory:': nothing would be left for "
                "Sentinel to watch or to remember",
                hint="give each schema a file, as in `schemas_and_paths: {main: shop.db}`",
            )
        # dbt runs in the project's folder, so that is what a relative path starts from.
        self._project_dir = context.project_dir.absolute()
        self._given = {str(name): self._project_dir / str(path) for name, path in given.items()}
        self._folder = credentials.get("schema_directory")
        self._extensions = tuple(map(str, credentials.get("extensions") or ()))
        self._threads = context.threads
        self._notify = context.notify
        self._wait_s = context.lock_timeout.total_seconds()

    @property
    def path(self) -> Path:
        """The file of the schema `main`."""
        return self._given["main"]

    @contextmanager
    def open(self) -> Iterator[Session]:
        with self._engine(read_only=True, prepare=_let_only_read) as engine:
            yield _Session(engine, DIALECT, lambda driver: driver.interrupt(), cells=SqliteCells())

    def timestamp_literal(self, moment: datetime) -> str:
        return moment.astimezone(UTC).strftime("'%Y-%m-%d %H:%M:%S.%f'")

    @contextmanager
    def engine(self, *, read_only: bool) -> Iterator[Engine]:
        """An engine whose transactions see one state of the files; those that write take turns.

        Raises WarehouseError; WarehouseLocked after waiting for another writer, here and in
        whatever is done with the engine.
        """
        with self._engine(read_only=read_only) as engine:
            # The driver would begin a transaction at its first write, when what it has read may
            # be stale: then neither of two writers could go on.
            begin = "begin" if read_only else "begin immediate"
            event.listen(engine, "begin", lambda connection: self._begin(connection, begin))
            yield engine

    def rights(self, watched: Sequence[Relation], own: Sequence[Relation]) -> Rights:
        """As `sentinel.warehouses.contract.Database.rights`."""
        return rights_on(self._files().values())

    @contextmanager
    def introspection(self, by_dbt: ByDbt) -> Iterator[SessionHandle]:
        """What dbt asks while it compiles, on a session for alerts."""
        prepare = partial(_let_only_read, catalog=True)
        with self._engine(read_only=True, prepare=prepare) as engine:
            session = _Session(engine, DIALECT, lambda driver: driver.interrupt())
            yield SessionHandle(session, _as_select)

    @contextmanager
    def _engine(
        self, *, read_only: bool, prepare: Callable[[sqlite3.Connection], None] = lambda _: None
    ) -> Iterator[Engine]:
        files = self._files()
        with closing(self._connect(files, read_only)) as driver:
            for schema in files:
                self._patiently(driver, f"select 1 from {_quoted(schema)}.sqlite_master limit 1")

        engine = create_engine(
            "sqlite://",
            creator=lambda: self._connect(files, read_only),
            poolclass=QueuePool,
            pool_size=self._threads,
            max_overflow=0,
        )
        event.listen(engine, "connect", lambda driver, _: prepare(driver))
        event.listen(engine, "handle_error", self._tell_locked)
        try:
            yield engine
        finally:
            engine.dispose()

    def _files(self) -> dict[str, Path]:
        """The schemas as dbt-sqlite attaches them, `main` first and always in the same order.

        A schema whose file doesn't exist yet is omitted: dbt creates it with the first table.
        """
        if not self.path.exists():
            raise WarehouseError(
                f"there is no SQLite file {self.path}",
                hint="`dbt build` makes it, and `sentinel init` makes Sentinel's tables in it",
            )
        found = {"main": self.path} | {
            name: self._given[name] for name in sorted(self._given) if self._given[name].exists()
        }
        if self._folder:
            for path in sorted((self._project_dir / str(self._folder)).glob("*.db")):
                if path in self._given.values():
                    continue
                if path.stem in self._given:
                    raise WarehouseError(
                        f"the SQLite profile's schema_directory holds {path}, but "
                        f"schemas_and_paths gives another file to the schema {path.stem!r}"
                    )
                found[path.stem] = path
        return found

    def _connect(self, files: Mapping[str, Path], read_only: bool) -> sqlite3.Connection:
        mode = "ro" if read_only else "rw"
        uris = {schema: f"{path.as_uri()}?mode={mode}" for schema, path in files.items()}
        driver = sqlite3.connect(
            uris.pop("main"),
            uri=True,
            timeout=self._wait_s,
            isolation_level=None,  # transactions begin where `engine` says
            cached_statements=0,  # `sqlite_stmt` would show them to the next query
            check_same_thread=False,  # a pool lends it to one thread after another
        )
        try:
            self._load_extensions(driver)
            for schema, uri in uris.items():
                self._patiently(driver, "attach ? as ?", (uri, schema))
            if read_only:
                driver.execute("pragma query_only = on")
        except sqlite3.Error as error:
            driver.close()
            raise self._told(error) from None
        except WarehouseError:
            driver.close()
            raise
        return driver

    def _load_extensions(self, driver: sqlite3.Connection) -> None:
        if not self._extensions:
            return
        try:
            driver.enable_load_extension(True)
        except AttributeError:
            raise ConfigError(
                "the SQLite profile has extensions, which this Python was built without"
            ) from None
        for name in self._extensions:
            own = self._project_dir / name
            driver.load_extension(str(own) if own.parent.is_dir() and "/" in name else name)
        driver.enable_load_extension(False)

    # -- locks ---------------------------------------------------------------------------------

    def _begin(self, connection: Connection, statement: str) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._patiently(driver, statement)

    def _patiently(
        self, driver: sqlite3.Connection, statement: str, values: tuple[str, ...] = ()
    ) -> None:
        """Run a statement that takes a lock, and report a long wait."""
        started = time.monotonic()
        try:
            try:
                _wait_at_most(driver, min(_SILENT_S, self._wait_s))
                driver.execute(statement, values).close()
            except sqlite3.Error as error:
                told = self._told(error)
                if not isinstance(told, WarehouseLocked) or self._wait_s <= _SILENT_S:
                    raise
                self._notify(f"waiting: {told}")
                _wait_at_most(driver, self._wait_s - (time.monotonic() - started))
                driver.execute(statement, values).close()
            _wait_at_most(driver, self._wait_s)
        except sqlite3.Error as error:
            raise self._told(error) from None

    def _tell_locked(self, context: ExceptionContext) -> None:
        told = self._told(context.original_exception)
        if isinstance(told, WarehouseLocked):
            raise told

    def _told(self, error: BaseException) -> WarehouseError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            return WarehouseLocked(f"the SQLite file {self.path} is held by another process")
        if code == sqlite3.SQLITE_READONLY:
            return WarehouseError(
                f"SQLite can't open {self.path}: a process was killed while it wrote",
                hint="the next one that opens it for writing undoes that, such as `dbt build`",
            )
        return WarehouseError(f"SQLite can't open {self.path}: {error}")


class _Session(SqlSession):
    """SQLite takes no brackets around a whole SELECT."""

    def describe(self, query: Query) -> QueryDescription:
        return super().describe(_unwrapped(query))

    def fetch(self, query: Query, limit: int, excerpt: Excerpt | None = None) -> QueryResult:
        return super().fetch(_unwrapped(query), limit, excerpt)

    def count(
        self,
        query: Query,
        dimensions: Sequence[str],
        limit: int,
        excerpt: Excerpt | None = None,
    ) -> QueryResult:
        return super().count(_unwrapped(query), dimensions, limit, excerpt)

    def sample(
        self,
        query: Query,
        dimensions: Sequence[str],
        size: int,
        excerpt: Excerpt | None = None,
    ) -> QueryResult:
        return super().sample(_unwrapped(query), dimensions, size, excerpt)


class SqliteCells(Cells):
    """By values, for columns have no types here: what is long is a text or a blob.

    Lengths are those of blobs: a text's length ends at its first NUL.
    """

    def may_be_long(self, kind: Any) -> bool:
        return True

    def cell(self, column: str, kind: Any, longest: int) -> Cell:
        # Few mentions of the column: SQLite copies a value for each.
        whole = f"cast({column} as blob)"
        beginning = f"hex(substr({whole}, 1, {longest}))"
        return Cell(
            f"case when length({whole}) <= {BYTES * longest} then {column} end",
            f"case when length({whole}) > {BYTES * longest} then length({whole}) "
            f"|| case typeof({column}) when 'blob' then 'b:' else 't:' end || {beginning} end",
        )

    def bound(self, sql: str, excerpt: Excerpt, limit: int) -> Bounded:
        names = [f"c{n}" for n in range(len(excerpt.described.columns))]
        cells = self._cells(excerpt, names)
        # The driver's errors name columns.
        values = [
            f"{cells[n].value} as {_quoted(excerpt.described.columns[n])}" for n in excerpt.longest
        ]
        cuts = [cut for cell in cells.values() if (cut := cell.cut) is not None]
        # Two limits: with one of them, SQLite computes an expression of the query for each time that
        # its column is named.
        return Bounded(
            f"with fetched({', '.join(names)}) as (select * from ({sql}\n) limit {limit}) "
            f"select {', '.join([*values, *cuts])} from fetched limit {limit}",
            excerpt,
            cells,
        )


def _unwrapped(query: Query) -> Query:
    sql = one_select(query.sql, DIALECT)
    while True:
        tokens = sqlglot.tokenize(sql, dialect=DIALECT)
        if _partner(tokens) is not tokens[-1]:
            return replace(query, sql=sql)
        sql = sql[tokens[0].end + 1 : tokens[-1].start]


def _partner(tokens: Sequence[Token]) -> Token | None:
    """The bracket that closes the first token, if that opens one."""
    depth = 0
    for token in tokens:
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        if depth == 0:
            return None if token is tokens[0] else token
    return None


def _as_select(sql: str) -> str:
    """The pragmas that dbt-sqlite looks into the catalog with, as the queries that they are."""
    found = _CATALOG.fullmatch(sql)
    if found is None:
        return sql
    if found["name"] == "database_list":
        return "select * from pragma_database_list"
    values = [value for value in (found["table"], found["schema"]) if value]
    texts = ", ".join("'" + value.strip("\"'`[]").replace("'", "''") + "'" for value in values)
    return f"select * from pragma_table_info({texts})"


def _let_only_read(driver: sqlite3.Connection, *, catalog: bool = False) -> None:
    """Have SQLite itself refuse ATTACH, PRAGMA and whatever else is more than reading.

    With `catalog`, the pragmas that `_as_select` makes use of are let through.
    """

    def judge(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action in _READS:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in _REACHING:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_PRAGMA:
            asked = first in _ASKED and second is None
            looks = catalog and first in ("database_list", "table_info")
            return sqlite3.SQLITE_OK if asked or looks else sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_DENY

    driver.execute(f"pragma hard_heap_limit = {_HEAP}").close()
    driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
    driver.set_authorizer(judge)


def _wait_at_most(driver: sqlite3.Connection, seconds: float) -> None:
    driver.execute(f"pragma busy_timeout = {max(0, round(seconds * 1_000))}").close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
