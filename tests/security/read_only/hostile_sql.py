"""Texts that try to write while they look as if they only read, and the warehouses they are tried on.

Two parsers may disagree about where a name, a text, a comment or a statement ends. A text hides
something that writes where one parser sees letters and the other sees SQL. Whatever a session lets
pass, a real server executes; afterwards nothing may have changed, and the session's connection may
remember nothing.
"""

from __future__ import annotations

import hashlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from hypothesis import strategies as st

from sentinel.core.errors import QueryError
from sentinel.dbt.connections import Connections
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project import DbtProject
from sentinel.ports import Query, Session
from sentinel.warehouses.adapter import AdapterWarehouse
from sentinel.warehouses.bigquery import BigQuery
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.duckdb import DuckDb
from sentinel.warehouses.postgres import Postgres
from sentinel.warehouses.readonly import one_select
from sentinel.warehouses.sqlite import Sqlite
from tests.places.place import Place
from tests.places.postgres import PostgresPlace
from tests.places.servers import Servers

TIMEOUT = timedelta(seconds=20)
# How often the warehouse is looked at after a text that it hasn't seen.
SPOT_CHECK = 25
# What no text holds, and what a function that reads files or runs SQL would bring to light.
SECRET = "swordfish"
ORDERS = "(select 1 as id, 'north' as region, 40 as amount union all select 2, 'south', 90)"

SPACES = (
    " \t\n\r\f\v\x00\x01\x08\x1b\x1c\x1d\x1e\x1f\x7f\x85\xa0\xad\u1680\u180e\u2000\u2003\u200a\u200b"
    "\u200d\u200e\u2028\u2029\u202e\u202f\u205f\u2060\u2063\u3000\ufeff\uff08\uff1b\uffa0\U000e0020"
)
# Beginnings and ends of texts, names and comments, whole and broken.
EDGES = (
    "'", "''", "'''", '"', '""', '"""', "`", "[", "]", "$$", "$a$", "$é$", "$1$", "$", "E'", "e'",
    "U&'", 'U&"', "u&'", "N'", "n'", "B'", "x'", "r'", "r'''", "b\"", "rb'", "\\", "\\'", "\\\\", "\\\n",
    "/*", "*/", "/*+", "/**/", "/* /* */", "//", "--", "-- ", "--+", "#", "{#", "#}", "{{", "}}", "{%",
    "%}", "|/*", "||/*", "#--", "@--", "@/*", "<@--", "?|/*", "*/*", "->--", "1e", "0x", "0b", "1.",
    "1_", "a$", "é$$", "uescape '!'", "\n", "\r", "\r\n", "\n'", " \n \n", "%s", "%(a)s", ":a", "?",
)  # fmt: skip
READS = (
    "select 1 as a", "select 'OK' as status", "select id, amount from orders", ", 2 as b", " as b",
    "(select 1 as a)", "with w as (select 1 as a) select a from w", " union all select 2",
    " from orders", " where 1 = 1", "(", ")", ") x", "select * from (", "select 3 as c from (select 4",
    ",", "1", "a", " and ", "case when 1 = 1 then 1 end", " limit 1", "values (1)", "select 'x' as t",
)  # fmt: skip
BEGINS = (
    "select 1 as a", "select 1 as a, ", "select 1 as a ", "select 'OK' as status", "select 'OK' as status, ",
    "select 1 + 1 ", "select id, amount from orders ", "(select 1 as a)",
    "with w as (select 1 as a) select a from w ",
)  # fmt: skip
WRITES = (
    "delete from orders", "delete from orders where 1 = 1", "insert into orders values (9, 'x', 1)",
    "update orders set amount = 0", "update orders set amount = 0 where true", "drop table orders",
    "truncate table orders", "create table stolen as select 1 as n", "alter table orders add column n int",
    "create view stolen as select 1 as n", "with gone as (delete from orders returning *) select * from gone",
    "with more as (insert into orders values (9, 'x', 1) returning id) select * from more",
)  # fmt: skip
# What makes text or a comment of something, if both parsers agree.
WRAPPINGS = (
    ("'", "' as t"), ("/*", "*/"), ("/* /*", "*/ */"), ("--", "\n"), ("--", ""), ("#", "\n"),
    ("$$", "$$ as t"),
    ("$a$", "$a$ as t"), ("E'", "' as t"), ("N'", "' as t"), ('as "', '"'), ("as `", "`"), ("as [", "]"),
    ("U&'", "' as t"), ("E'\\'", "' as t"), ("'\\'", "' as t"), ("'''", "''' as t"), ('"""', '""" as t'),
    ("r'", "' as t"), ("'a'\n'", "' as t"), ("E'a'\n'", "' as t"), ("+/* ", "*/ 1"), ("|/* ", " */ 1"),
)  # fmt: skip
OWN_WRITES: Mapping[str, Sequence[str]] = {
    "postgres": (
        "commit; begin read write; delete from orders; commit", "rollback; delete from orders",
        "set session characteristics as transaction read write; commit; delete from orders",
        "set default_transaction_read_only = off", "select * into stolen from orders",
        "copy orders to '/tmp/stolen'", "create temp table t as select 1 as n", "listen a",
        "prepare p as select 1", "set search_path = pg_catalog", "declare c cursor with hold for select 1",
        "select nextval('numbers')", "select pg_advisory_lock(42)", "select lo_create(0)",
        "select set_config('role', 'pg_monitor', false)", "do $$ begin delete from orders; end $$",
        "select pg_read_file('secret.txt')", 'select U&"pg\\005fread_file"(\'secret.txt\')',
        "select pg_catalog.\"pg_read_file\"('secret.txt')", "select ('secret.txt'::text).pg_read_file",
        "select word from ts_stat('select to_tsvector(''simple'', ''sword''||''fish'')')",
        "select * from pg_ls_dir('.') as d where d = 'secret.txt'", "vacuum", "lock table orders",
    ),
    "duckdb": (
        "create temp macro avg(x) as 99", "create or replace temp macro count(x) as 99",
        "set variable v = 1", "set search_path = 'temp'", "create temp table t as select 1 as n",
        "attach ':memory:' as other", "copy orders to 'stolen.csv'", "export database 'stolen'",
        "with x as (copy orders to 'stolen.csv') select 1 as a", "prepare p as select 1", "use memory",
        "with x as (copy (select 1 as n) to 'declared/stolen.csv') select 1 as a",
        "from read_text('secret.txt')", "from query('from read_text(''secret.txt'')')", "load json",
        "install httpfs", "create type t as enum ('a')", "set threads = 1",
        "begin; delete from orders; commit",
        "from enable_logging('QueryLog', storage='file', storage_path='stolen')", "pragma enable_profiling",
        "create temp view orders as select 1 as id", "pivot orders on region using sum(amount)",
    ),
    "sqlite": (
        "attach 'stolen.db' as other", "create temp table t (n)", "create temp view orders as select 1 as id",
        "pragma writable_schema = on", "pragma query_only = off; delete from orders",
        "vacuum into 'stolen.db'",
        "begin; delete from orders; commit", "replace into orders values (9, 'x', 1)", "detach main",
        "create temp trigger t after insert on orders begin delete from orders; end",
        "select load_extension('stolen')", "select writefile('stolen', 'x')", "reindex", "analyze",
        "select * from pragma_journal_mode('delete')", "create virtual table v using fts5(a)",
        "select fts3_tokenizer('simple', x'00')",
    ),
    "bigquery": (
        "execute immediate 'delete from orders where true'", "begin delete from orders where true; end",
        "declare x int64; delete from orders where true", "call no_such_procedure()",
        "merge orders using orders as o on false when not matched by source then delete",
        "export data options (uri = 'gs://stolen/*.csv') as select 1 as a",
        "create temp function f() as (1); select f()",
        "begin transaction; delete from orders where true; commit transaction",
    ),
}  # fmt: skip


def texts(dialect: str) -> st.SearchStrategy[str]:
    """Texts in the SQL of a warehouse."""
    spaces = st.sampled_from(" \n\t") | st.just("") | st.sampled_from(SPACES)
    edges = st.sampled_from(EDGES)
    reads = st.sampled_from(READS)
    begins = st.sampled_from(BEGINS)
    writes = st.sampled_from((*WRITES, *OWN_WRITES[dialect]))
    mark = st.builds(
        lambda *parts: "".join(parts), st.just("") | spaces, edges, st.just("") | spaces
    )

    def hidden(begin: str, opening: str, write: str, closing: str, end: str, bracket: bool) -> str:
        """`begin` and `end` are one query if what lies between is a text; a script otherwise."""
        close, again = (") x", "select * from (") if bracket else ("", "")
        return f"{begin}{opening}{close}; {write}; {again}{end}{closing}"

    in_script = st.builds(hidden, begins, mark, writes, mark, reads, st.booleans())
    twice = st.builds(
        lambda begin, edge, write, end, bracket: hidden(begin, edge, write, edge, end, bracket),
        st.sampled_from([f"select 'OK' as status, 1 as a{glue}" for glue in ("", " ", ", ", "\n")]),
        mark,
        writes,
        reads,
        st.booleans(),
    )
    inside = st.builds(lambda a, b, c, d, e: a + b + c + d + e, begins, mark, writes, mark, reads)
    embedded = st.builds(lambda a, b, c: f"select * from ({a}{b}{c}) as t", mark, writes, mark)
    dressed = st.builds(
        lambda begin, gap, pair, write, mark, gap2, end: (
            f"{begin}{gap}{pair[0]}{mark}; {write}{pair[1]}{gap2}{end}"
        ),
        begins,
        st.sampled_from(["", " ", "\n"]) | spaces,
        st.sampled_from(WRAPPINGS),
        writes,
        st.just("") | edges,
        st.sampled_from(["", " ", "\n"]) | spaces,
        st.sampled_from(["", " from orders", " -- end", ", 3 as c", " union all select 1, 'x'"]),
    )
    soup = st.lists(st.one_of(spaces, edges, edges, reads, reads, writes), max_size=10).map("".join)
    plain = st.lists(st.one_of(reads, reads, reads, spaces, edges), min_size=1, max_size=5).map(
        lambda parts: "select 1 as a" + "".join(parts)
    )
    return st.one_of(dressed, dressed, in_script, twice, inside, embedded, soup, plain, writes)


@contextmanager
def without_guard(target: Target) -> Iterator[None]:
    """Sentinel's own reading of the SQL is left out: the warehouse alone decides.

    Functions that read files or run SQL are refused by their names, and so they aren't here.
    """

    def unread(sql: str, _dialect: str) -> str:
        return sql.strip().rstrip(";")

    with pytest.MonkeyPatch.context() as patch:
        for module in ("session", "postgres", "sqlite", "bigquery"):
            patch.setattr(f"sentinel.warehouses.{module}.one_select", unread)
        patch.setattr("sentinel.warehouses.sqlite._unwrapped", lambda query: query)
        target.guarded = False
        yield
        target.guarded = True


@dataclass
class Tally:
    """How many texts were tried, and what became of them."""

    tried: int = 0
    accepted: int = 0
    refused: int = 0

    def __str__(self) -> str:
        return f"{self.tried:,} tried, {self.accepted:,} accepted, {self.refused:,} refused"


@dataclass
class Target(ABC):
    """An open warehouse with the table `orders`, and one connection that every text has in turn."""

    session: Session
    dialect: str
    tally: Tally = field(default_factory=Tally, init=False)
    guarded: bool = field(default=True, init=False)

    @abstractmethod
    def fingerprint(self) -> Any:
        """Everything that a text could have changed, in the warehouse and on its connection."""

    @abstractmethod
    def restore(self) -> None:
        """Make the warehouse as it was, so that a failure can be made smaller."""

    def attack(self, text: str) -> None:
        """Have the session evaluate a text in every way. Raises AssertionError if it did more than read."""
        before = self._before()
        results: list[Any] = []
        query = Query(text, TIMEOUT)
        ways: list[Callable[[], Any]] = [
            lambda: self.session.fetch(query, 10).rows,
            lambda: self.session.describe(query).columns,
            lambda: self.session.count(query, [], 10).rows,
            lambda: self.session.sample(query, [], 5).rows,
        ]
        for way in ways:
            try:
                results.append(way())
            except QueryError:
                break  # the others read the same text
        self.tally.tried += 1
        self.tally.accepted += bool(results)
        self.tally.refused += not results
        if not results and self.tally.tried % SPOT_CHECK and self._refused_unseen(text):
            return
        try:
            assert not self.guarded or SECRET not in str(results), (
                f"{text!r} read what it may not: {results}"
            )
            after = self.fingerprint()
            assert after == before, f"{text!r} changed {before} to {after}"
        except AssertionError:
            self.restore()
            self._known = None
            raise
        if results:
            self._check_counts(text, results)

    def _refused_unseen(self, text: str) -> bool:
        """Whether the words of a text are enough to refuse it, so that the warehouse never sees it."""
        try:
            one_select(text, self.dialect)
        except QueryError:
            return self.guarded
        return False

    def _check_counts(self, text: str, results: Sequence[Any]) -> None:
        """The query around a statement counts its rows, whatever the statement holds."""
        if len(results) > 2 and len(results[0]) < 10:
            assert results[2] == ((len(results[0]),),), f"{text!r} is counted as {results[2]}"

    _known: Any = field(default=None, init=False)

    def _before(self) -> Any:
        if self._known is None:
            self._known = self.fingerprint()
        return self._known


def _connection(session: Session) -> Any:
    """The driver's connection that the texts have had."""
    engine = session._engine  # type: ignore[attr-defined]  # beneath what refuses statements
    with engine.connect() as connection:
        return connection.connection.driver_connection


# -- PostgreSQL ----------------------------------------------------------------------------------

_STATE = """
select (select md5(string_agg(o::text, '|' order by o::text)) from orders as o),
    (select count(*) from pg_class), (select count(*) from pg_proc), (select count(*) from pg_type),
    (select count(*) from pg_attribute where attrelid = 'orders'::regclass),
    (select count(*) from pg_largeobject_metadata), (select last_value from numbers),
    (select count(*) from pg_locks where locktype = 'advisory')
"""
_OF_CONNECTION = """
select (select count(*) from pg_cursors), (select count(*) from pg_prepared_statements),
    (select count(*) from pg_listening_channels()), current_user::text, pg_my_temp_schema()::text,
    (select md5(string_agg(name || '=' || setting, '|' order by name)) from pg_settings
     where name not in ('transaction_read_only', 'transaction_isolation', 'in_hot_standby'))
"""


@dataclass
class PostgresTarget(Target):
    place: PostgresPlace
    watching: Any = field(init=False)

    def __post_init__(self) -> None:
        import psycopg

        output = self.place.output
        self.watching = psycopg.connect(
            **{key: output[key] for key in ("host", "port", "user", "password", "dbname")},
            autocommit=True,
            options=f"-c search_path={self.place.schema}",
        )

    def fingerprint(self) -> Any:
        found = self.watching.execute(_STATE).fetchone()
        driver = _connection(self.session)
        with closing(driver.cursor()) as cursor:
            cursor.execute(_OF_CONNECTION)
            own = cursor.fetchone()
        driver.rollback()
        return found, own

    def restore(self) -> None:
        set_up_postgres(self.place)


def set_up_postgres(place: PostgresPlace) -> None:
    place.execute(
        f"drop schema {place.schema} cascade; create schema {place.schema}; "
        f"create table orders as select * from {ORDERS} as o; create sequence numbers; "
        "select lo_unlink(oid) from pg_largeobject_metadata"
    )


@contextmanager
def _postgres(servers: Servers, folder: Path) -> Iterator[Target]:
    with servers.postgres.database() as place:
        [(data,)] = place.execute("select current_setting('data_directory')")
        place.execute(f"copy (select '{SECRET}') to '{data}/secret.txt'")
        set_up_postgres(place)
        warehouse = Postgres(
            {**place.output, "search_path": place.schema}, WarehouseContext(folder, 1)
        )
        with warehouse.open() as session:
            yield PostgresTarget(session, "postgres", place)


@contextmanager
def _adapter(servers: Servers, folder: Path) -> Iterator[Target]:
    """PostgreSQL once more, as if Sentinel had no module for it: by dbt's adapter and psycopg2."""
    with servers.postgres.database() as place:
        set_up_postgres(place)
        output = {**place.output, "search_path": place.schema}
        (folder / "dbt_project.yml").write_text("name: shop\nversion: '1.0'\nprofile: shop\n")
        profiles = {"shop": {"target": "dev", "outputs": {"dev": output}}}
        (folder / "profiles.yml").write_text(yaml.safe_dump(profiles))
        options = DbtOptions(folder, profiles_dir=folder)
        project = DbtProject(options)
        connect = Connections(options, project.profile(), project.folder)
        with AdapterWarehouse("postgres", connect, 1).open() as session:
            yield PostgresTarget(session, "postgres", place)


# -- DuckDB --------------------------------------------------------------------------------------


def _files(folder: Path) -> Mapping[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass
class DuckDbTarget(Target):
    folder: Path

    def fingerprint(self) -> Any:
        driver = _connection(self.session)
        found = [
            driver.execute(sql).fetchall()
            for sql in (
                "from orders order by all",
                "select database_name, table_name from duckdb_tables() order by all",
                "select database_name, view_name from duckdb_views() where not internal order by all",
                "select database_name, type_name from duckdb_types() where not internal order by all",
                "select current_setting('threads'), current_setting('search_path')",
                "select name from duckdb_variables() order by all",
                "select database_name from duckdb_databases() order by all",
                "select name from duckdb_prepared_statements() order by all",
                # Macros: listing all functions takes long.
                "select avg(n), count(n) from (values (1), (2)) as t (n)",
            )
        ]
        return found, _files(self.folder)

    def restore(self) -> None:
        """The database is read-only; only what is on the connection and beside it may be new."""
        driver = _connection(self.session)
        for kind, sql in (
            ("macro", "select function_name from duckdb_functions() where not internal"),
            ("table", "select table_name from duckdb_tables() where database_name = 'temp'"),
            ("view", "select view_name from duckdb_views() where not internal and temporary"),
        ):
            for (name,) in driver.execute(sql).fetchall():
                driver.execute(f'drop {kind} if exists temp."{name}"')
        for path in self.folder.rglob("*stolen*"):
            path.unlink()


@contextmanager
def _duckdb(servers: Servers, folder: Path) -> Iterator[Target]:
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        connection.execute(f"create table orders as {ORDERS}")
    (folder / "secret.txt").write_text(SECRET)
    (folder / "declared").mkdir()
    (folder / "declared" / "data.csv").write_text("n\n1\n")
    files = ["declared"]
    with DuckDb(
        {"path": "shop.duckdb"}, WarehouseContext(folder, 1, declared_files=lambda: files)
    ).open() as session:
        yield DuckDbTarget(session, "duckdb", folder)


# -- SQLite --------------------------------------------------------------------------------------


@dataclass
class SqliteTarget(Target):
    folder: Path

    def fingerprint(self) -> Any:
        driver = _connection(self.session)
        driver.set_authorizer(None)
        try:
            found = [
                driver.execute(sql).fetchall()
                for sql in (
                    "select * from orders order by id",
                    "select name, sql from sqlite_master",
                    "select name, sql from temp.sqlite_master",
                    "select name, file from pragma_database_list",
                    "select * from pragma_query_only",
                    "select * from pragma_writable_schema",
                )
            ]
        finally:
            self._guard(driver)
        return found, driver.in_transaction, _files(self.folder)

    def _guard(self, driver: sqlite3.Connection) -> None:
        from sentinel.warehouses.sqlite import _let_only_read

        _let_only_read(driver)

    def restore(self) -> None:
        for path in self.folder.rglob("*stolen*"):
            path.unlink()


@contextmanager
def _sqlite(servers: Servers, folder: Path) -> Iterator[Target]:
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.execute(f"create table orders as select * from {ORDERS}")
        connection.commit()
    with Sqlite(
        {"schemas_and_paths": {"main": "shop.db"}}, WarehouseContext(folder, 1)
    ).open() as session:
        yield SqliteTarget(session, "sqlite", folder)


# -- BigQuery ------------------------------------------------------------------------------------


@dataclass
class BigQueryTarget(Target):
    place: Place

    def fingerprint(self) -> Any:
        return (
            self.place.execute("select * from orders order by id"),
            self.place.execute(
                f"select table_name from `{self.place.schema}`.INFORMATION_SCHEMA.TABLES order by 1"
            ),
        )

    def restore(self) -> None:
        self.place.execute(f"create or replace table orders as select * from {ORDERS} as o")


@contextmanager
def _bigquery(servers: Servers, folder: Path) -> Iterator[Target]:
    with servers.bigquery.dataset() as place:
        place.execute(f"create table orders as select * from {ORDERS} as o")
        with BigQuery(place.output, WarehouseContext(folder)).open() as session:
            yield BigQueryTarget(session, "bigquery", place)


TARGETS = {
    "postgres": _postgres,
    "duckdb": _duckdb,
    "sqlite": _sqlite,
    "bigquery": _bigquery,
    "adapter": _adapter,
}
# The warehouses whose own parser decides, so that they refuse all that writes without our guard.
DECIDING = ("postgres", "duckdb", "sqlite", "bigquery")


@contextmanager
def open_target(name: str, servers: Servers, folder: Path) -> Iterator[Target]:
    """A target of its own. Raises PlaceMissing."""
    with ExitStack() as stack:
        yield stack.enter_context(TARGETS[name](servers, folder))
