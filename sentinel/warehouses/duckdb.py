"""DuckDB: the embedded default. One file, which one process at a time may write.

The keys of a dbt-duckdb profile that shape a connection are honoured: path, config_options,
extensions, settings, attach. A session for alerts reads this database, what is attached to it, and
the files that the dbt project declares; DuckDB itself holds it to that.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from sentinel.core.errors import ConfigError, QueryError, WarehouseError, WarehouseLocked
from sentinel.ports import Query, Relation, Rights, Session
from sentinel.warehouses.bounding import BYTES, Cell, RenamingCells
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.files import rights_on
from sentinel.warehouses.introspection import ByDbt, SessionHandle
from sentinel.warehouses.readonly import refuse_calls
from sentinel.warehouses.session import SqlSession, own_words

DIALECT = "duckdb"
_SAY_AGAIN_S = 5.0
_UNSUPPORTED = ("remote", "plugins", "filesystems", "secrets", "is_ducklake")
_LOCKED = re.compile(
    r"Could not set lock on file \"(?P<path>[^\"]+)\"|being used by another process", re.IGNORECASE
)
# All connections of a process to one file share one database: its mode, and the bounds set below.
_OURS = re.compile(
    r"different configuration than existing connections|configuration has been locked|"
    r"when enable_external_access is disabled|unique file handle conflict",
    re.IGNORECASE,
)
_HOLDER = re.compile(r"held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
# What DuckDB takes for something else than a file: `md:`, `s3://`.
_SERVICE = re.compile(r"\w{2,}:")
# What a session for alerts decides itself, whatever the profile says.
_BOUNDS = ("allowed_directories", "allowed_paths", "enable_external_access", "lock_configuration")
_REFUSED = re.compile(r"^Permission Error: Cannot access ")
# In a statement's tree: what it consists of, and the functions that it calls. Quotes inside of the
# tree's texts are escaped, so that none looks like a key.
_NODE = re.compile(r'"type":"(\w+_NODE)"')
_READING_NODES = ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE")
_CALLED = re.compile(r'"function_name":"((?:[^"\\]|\\.)*)"')
# Functions of extensions that open other databases by themselves, whatever DuckDB's bounds are, or have
# them run a text.
_OTHER_DATABASES = re.compile(
    r"\w+_(attach|execute|query|scan_pushdown)|(sqlite|postgres|mysql|mssql|odbc|bigquery|snowflake)_scan",
    re.IGNORECASE,
)
# DuckDB runs in this process. Beyond this it writes to the disk what a query needs meanwhile.
_MEMORY = "512MB"
_WILDCARD = re.compile(r"[*?\[]")
# Which extension reads a service's files. DuckDB fetches it for dbt when it is first needed.
_READERS = {
    "httpfs": re.compile(r"(https?|s3[an]?|gc?s|r2|hf):"),
    "azure": re.compile(r"(az|azure|abfss?):"),
}


class DuckDb:
    """The database of one dbt target: as a warehouse it is opened read-only.

    The context's `notify` gets a phrase while another process holds the file.
    """

    exclusive: bool = True
    lock_file: Path | None

    def __init__(self, credentials: Mapping[str, Any], context: WarehouseContext) -> None:
        unsupported = [key for key in _UNSUPPORTED if credentials.get(key)]
        if unsupported:
            raise ConfigError(
                f"the DuckDB profile uses {', '.join(map(repr, unsupported))}, which Sentinel can't open yet"
            )
        path = str(credentials.get("path", ":memory:"))
        if path == ":memory:" or path.startswith(":memory:"):
            raise ConfigError(
                "the DuckDB profile has `path: ':memory:'`: nothing would be left for Sentinel to "
                "watch or to remember",
                hint="give the profile's target a file, such as `path: warehouse.duckdb`",
            )
        # dbt runs in the project's folder, so that is what a relative path starts from.
        # A link stays one: dbt takes the database's name from it.
        self.path = path if _SERVICE.match(path) else str((context.project_dir / path).absolute())
        # A service has no file for a lock next to it.
        self.lock_file = None if _SERVICE.match(path) else Path(f"{self.path}.sentinel.lock")
        self._credentials = credentials
        self._project_dir = context.project_dir
        self._threads = context.threads
        self._notify = context.notify
        self._lock_timeout = context.lock_timeout
        self._declared_files = context.declared_files

    @contextmanager
    def open(self) -> Iterator[Session]:
        files = self._declared_files()  # before the file is held: dbt may have to read the project
        with self._engine(read_only=True, bounds=_Bounds(self._project_dir, files)) as engine:
            yield _Session(engine, DIALECT, lambda driver: driver.interrupt(), cells=DuckDbCells())

    def timestamp_literal(self, moment: datetime) -> str:
        text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        return f"timestamp '{text}'"

    @contextmanager
    def engine(self, *, read_only: bool) -> Iterator[Engine]:
        """An engine for one batch. After it the file is free for other processes.

        Raises WarehouseLocked after waiting, naming the holder if DuckDB does, and WarehouseError.
        """
        with self._engine(read_only=read_only) as engine:
            yield engine

    def rights(self, watched: Sequence[Relation], own: Sequence[Relation]) -> Rights:
        """As `sentinel.warehouses.contract.Database.rights`."""
        attached = [str(each["path"]) for each in self._credentials.get("attach") or ()]
        files = [self.path, *attached]
        return rights_on(self._project_dir / each for each in files if not _SERVICE.match(each))

    @contextmanager
    def introspection(self, by_dbt: ByDbt) -> Iterator[SessionHandle]:
        """What dbt asks while it compiles, on a session for alerts."""
        with self.open() as session:
            yield SessionHandle(session)

    @contextmanager
    def _engine(self, *, read_only: bool, bounds: _Bounds | None = None) -> Iterator[Engine]:
        engine = create_engine(
            "duckdb://",
            connect_args={
                "database": self.path,
                "read_only": read_only,
                "config": self._memory | self._given("config_options", read_only),
            },
            poolclass=QueuePool,
            pool_size=self._threads,
            max_overflow=0,
        )
        event.listen(engine, "connect", lambda driver, _: self._prepare(driver, read_only))
        try:
            self._wait_until_free(engine, bounds)
            yield engine
        finally:
            engine.dispose()

    @property
    def _memory(self) -> dict[str, Any]:
        """DuckDB's limit of memory, which is this process's too; the profile's own comes first."""
        given = {key.lower() for each in ("config_options", "settings") for key in self._keys(each)}
        return {} if given & {"memory_limit", "max_memory"} else {"memory_limit": _MEMORY}

    def _keys(self, key: str) -> Mapping[str, Any]:
        return self._credentials.get(key) or {}

    def _given(self, key: str, read_only: bool) -> dict[str, Any]:
        return {
            k: v for k, v in self._keys(key).items() if not (read_only and k.lower() in _BOUNDS)
        }

    def _wait_until_free(self, engine: Engine, bounds: _Bounds | None) -> None:
        # DuckDB would make the file when it is opened for writing.
        if not _SERVICE.match(self.path) and not Path(self.path).exists():
            raise WarehouseError(
                f"there is no DuckDB file {self.path}",
                hint="`dbt build` makes it, and `sentinel init` makes Sentinel's tables in it",
            )
        waiting = Retrying(
            retry=retry_if_exception_type(WarehouseLocked),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            stop=stop_after_delay(self._lock_timeout),
            before_sleep=_Said(self._notify),
            reraise=True,
        )
        waiting(self._try_to_connect, engine, bounds)

    def _try_to_connect(self, engine: Engine, bounds: _Bounds | None) -> None:
        try:
            if bounds is None:
                engine.connect().close()
            else:
                self._confine(engine, bounds)
        except DBAPIError as error:
            engine.dispose()  # connections opened meanwhile would lock the file for others
            words = own_words(error)
            locked = _LOCKED.search(words)
            if locked:
                file = locked["path"] or self.path
                raise WarehouseLocked(f"the DuckDB file {file} is held {_by(words)}") from None
            if _OURS.search(words):
                raise _HeldByUs(
                    f"the DuckDB file {self.path} is held by another session of this process"
                ) from None
            raise WarehouseError(f"DuckDB can't open {self.path}: {words}") from None

    def _confine(self, engine: Engine, bounds: _Bounds) -> None:
        """Open all connections, since no setting can be changed afterwards, and set the bounds."""
        with ExitStack() as stack:
            connections = [stack.enter_context(engine.connect()) for _ in range(self._threads)]
            bounds.hold([each.execution_options(no_parameters=True) for each in connections])

    def _prepare(self, driver: Any, read_only: bool) -> None:
        """What dbt-duckdb does on a new connection, less what could write."""
        credentials = self._credentials
        for extension in credentials.get("extensions") or ():
            name = extension["name"] if isinstance(extension, Mapping) else extension
            driver.load_extension(name)
        for attachment in credentials.get("attach") or ():
            driver.execute(_attach(attachment, self._project_dir, read_only=read_only))
        for key, value in self._given("settings", read_only).items():
            driver.execute(f"set {key} = {_quoted(str(value))}")


class _Session(SqlSession):
    def _admit(self, connection: Connection, query: Query) -> None:
        """DuckDB's parser reads the statement, and the query around it.

        A SELECT may hold a statement that writes (`with x as (copy …)`); the tree that DuckDB makes
        of it shows that, and each function that it calls.
        """
        import duckdb

        driver: Any = connection.connection.driver_connection
        own = query.own or query.sql
        try:
            for sql in dict.fromkeys((own, query.sql)):
                _expect_select([each.type.name for each in driver.extract_statements(sql)])
            # The seed of `random()` may be the last alert's, so it becomes one that nobody knows.
            asked = "select json_serialize_sql(cast(? as varchar)), setseed(?)"
            seed = random.uniform(-1, 1)  # noqa: S311 - it is no secret
            [(tree, _)] = driver.execute(asked, [own, seed]).fetchall()
        except duckdb.Error as error:
            raise QueryError(own_words(error)) from None
        nodes = _NODE.findall(tree)
        if not nodes:
            raise QueryError("DuckDB can't show what the SQL does; an alert is one SELECT")
        for node in nodes:
            if node not in _READING_NODES:
                raise QueryError(f"the SQL holds {node.split('_')[0]}; an alert only reads")
        called = _CALLED.findall(tree)
        refuse_calls(called, DIALECT)
        if opens := next(filter(_OTHER_DATABASES.fullmatch, called), None):
            raise QueryError(
                f"the SQL calls {opens}, which opens another database",
                hint="name the database under `attach` in the profile's target, and select from it",
            )

    @contextmanager
    def _run(self, query: Query) -> Iterator[CursorResult[Any]]:
        try:
            with super()._run(query) as rows:
                yield rows
        except QueryError as error:
            if error.message.startswith("Out of Memory Error"):
                raise QueryError(
                    error.message.split("\n\n")[0],
                    hint=f"DuckDB gets {_MEMORY} unless `settings: {{memory_limit: …}}` of the "
                    "profile's target says otherwise",
                ) from None
            if not _REFUSED.match(error.message):
                raise
            raise QueryError(
                f"{error.message}; an alert reads only those files that a source or an external "
                "model of the dbt project declares (`meta.external_location`)"
            ) from None


# Types whose values have a natural length.
_SHORT = re.compile(
    r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(\d+, ?\d+\)|BOOLEAN|UUID|DATE"
    r"|TIME(_NS)?|TIMESTAMP(_S|_MS|_NS)?|INTERVAL|TIME(STAMP)? WITH TIME ZONE|\"NULL\")",
    re.IGNORECASE,
)
_TEXTS = ("VARCHAR", "JSON")


class DuckDbCells(RenamingCells):
    """By types: nested ones are read as their text, to see how long they are."""

    def may_be_long(self, kind: Any) -> bool:
        return _SHORT.fullmatch(str(kind)) is None

    def may_be_unreadable(self, kind: Any) -> bool:
        return str(kind) not in _TEXTS

    def cell(self, column: str, kind: Any, longest: int) -> Cell:
        if str(kind) == "BLOB":
            size, most = f"octet_length({column})", longest // 2
            beginning = f"hex({column}[1:{most}])"
            length, unit = size, "b"
        else:
            words = column if str(kind) == "VARCHAR" else f"({column})::varchar"
            size, most = f"strlen({words})", BYTES * longest
            beginning = f"left({words}, {longest})"
            length, unit = f"length({words})", "c"
        return Cell(
            f"case when {size} <= {most} then {column} end",
            f"case when {size} > {most} then {length} || '{unit}:' || {beginning} end",
        )


@dataclass(frozen=True)
class _Bounds:
    """The files that a session may read besides its databases, as the dbt project names them."""

    project_dir: Path
    files: Sequence[str]

    def hold(self, connections: Sequence[Connection]) -> None:
        """Let DuckDB refuse everything else on its connections, for as long as it is open.

        Locked, for there are table functions that change settings and so write files
        (`enable_logging`, `enable_profiling`).
        """
        for connection in connections:
            searched = connection.exec_driver_sql("select current_setting('file_search_path')")
            if not searched.scalar_one() and not self._at_home:
                # dbt runs in the project's folder: there begin the relative paths in its views.
                connection.exec_driver_sql(f"set file_search_path = {_quoted(str(self._home))}")
        connection = connections[0]
        paths, folders = self._allowed(connection)
        for key, values in (("allowed_paths", paths), ("allowed_directories", folders)):
            listed = ", ".join(map(_quoted, values))
            connection.exec_driver_sql(f"set {key} = [{listed}]")
        connection.exec_driver_sql("set enable_external_access = false")
        connection.exec_driver_sql("set lock_configuration = true")

    @property
    def _home(self) -> Path:
        return self.project_dir.absolute()

    @property
    def _at_home(self) -> bool:
        return Path.cwd() == self._home

    def _allowed(self, connection: Connection) -> tuple[list[str], list[str]]:
        """Paths, and folders with all that is below them."""
        paths: list[str] = []
        folders: list[str] = []
        for file in self.files:
            if _SERVICE.match(file) and not file.startswith("file:"):
                _make_readable(connection, file)
                found = _WILDCARD.search(file)
                if found is None:
                    paths.append(file)
                else:  # listing what is there may take long, and nothing local is below it
                    folders.append(file[: file.rfind("/", 0, found.start()) + 1])
                continue
            folder = (self._home / file).is_dir()
            (folders if folder else paths).extend(self._spellings(file))
            if _WILDCARD.search(file):
                # Exactly what matches: the folder may hold what isn't declared.
                whole = self._spellings(file)[0]
                listing = f"select file from glob({_quoted(whole)})"
                for (match,) in connection.exec_driver_sql(listing).fetchall():
                    paths += self._spellings(str(match))
        return list(dict.fromkeys(paths)), list(dict.fromkeys(folders))

    def _spellings(self, path: str) -> list[str]:
        """A file's whole path, and its relative ones where they can mean no other file."""
        if path.startswith("file:"):
            return [path]
        whole = str(self._home / path)
        others = (path, os.path.relpath(whole, self._home))
        return [
            whole,
            os.path.normpath(whole),
            *(each for each in others if self._at_home or not Path(each).exists()),
        ]


def _make_readable(connection: Connection, file: str) -> None:
    """Load what DuckDB would otherwise load when it meets such a file, and no longer may."""
    for extension, reads in _READERS.items():
        if reads.match(file):
            try:
                connection.exec_driver_sql(f"load {extension}")
                connection.exec_driver_sql("select count(*) from duckdb_secrets()")
            except DBAPIError:  # it is told to whoever reads the file
                connection.rollback()


def _expect_select(kinds: Sequence[str]) -> None:
    """Raises QueryError unless DuckDB's parser has found one SELECT."""
    if kinds == ["MULTI"]:
        raise QueryError(
            "the SQL is several statements to DuckDB; an alert is one SELECT",
            hint="list the values of a PIVOT, as in `pivot sales on month in (1, 2, 3)`",
        )
    if kinds != ["SELECT"]:
        found = f"{len(kinds)} statements" if len(kinds) != 1 else f"a {kinds[0]} statement"
        raise QueryError(f"the SQL is {found} to DuckDB; an alert is one SELECT")


def _by(words: str) -> str:
    holder = _HOLDER.search(words)
    return f"by process {holder['pid']} ({holder['program']})" if holder else "by another process"


class _HeldByUs(WarehouseLocked):
    """Another session of this process holds the file."""


class _Said:
    """Reports a wait: immediately, then every few seconds, not at every attempt."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._last = -_SAY_AGAIN_S

    def __call__(self, attempt: RetryCallState) -> None:
        waited = attempt.seconds_since_start or 0.0
        error = attempt.outcome and attempt.outcome.exception()
        # What another part of this process does is nobody's business as long as it is short.
        quiet = isinstance(error, _HeldByUs) and waited < _SAY_AGAIN_S
        if error and not quiet and waited - self._last >= _SAY_AGAIN_S:
            self._last = waited
            self._notify(f"waiting: {error}")


def _attach(attachment: Mapping[str, Any], project_dir: Path, *, read_only: bool) -> str:
    path = str(attachment["path"])
    options = {**(attachment.get("options") or {})}
    kind = attachment.get("type") or options.pop("type", None)
    # A path that names a service or a special database is left alone.
    plain = kind in (None, "duckdb", "sqlite") and not _SERVICE.match(path)
    shown = str((project_dir / path).absolute()) if plain else path
    words = [f"type {kind}"] if kind else []
    asked = options.pop("read_only", False)
    if read_only or attachment.get("read_only") or asked:
        words.append("read_only")
    if attachment.get("secret"):
        words.append(f"secret {attachment['secret']}")
    words += [f"{key} {_quoted(str(value))}" for key, value in options.items()]
    alias = f" as {attachment['alias']}" if attachment.get("alias") else ""
    return f"attach if not exists {_quoted(shown)}{alias}" + (
        f" ({', '.join(words)})" if words else ""
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
