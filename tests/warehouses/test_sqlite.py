"""SQLite: real files, and real processes that hold them."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from sentinel.core.errors import ConfigError, QueryError, WarehouseError, WarehouseLocked
from sentinel.ports import Query
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.sqlite import Sqlite

from .contract import LONG, SessionContract, Watched

ORDERS = """
create table orders (id integer, region text, amount integer);
insert into orders values (1, 'north', 40), (2, 'north', 70), (3, 'south', 90), (4, null, 5);
"""
SLOW = (
    "with recursive numbers as (select 1 as n union all select n + 1 from numbers) "
    "select count(*) from numbers"
)
WRONG = ("select no_such_column from orders", "no such column: no_such_column")


@dataclass
class WatchedSqlite(Watched):
    folder: Path

    def __post_init__(self) -> None:
        out = self.folder / "out.db"
        self.refused = {
            f"attach '{out}' as other": "begins with ATTACH",
            "detach main": "begins with DETACH",
            f"vacuum into '{out}'": "begins with VACUUM",
            "vacuum": "begins with VACUUM",
            "reindex": "begins with REINDEX",
            "analyze": "begins with ANALYZE",
            "pragma user_version = 7": "begins with PRAGMA",
            "pragma query_only = off": "begins with PRAGMA",
            "savepoint here": "begins with SAVEPOINT",
            "replace into orders values (1, 'x', 1)": "begins with REPLACE",
            "create temp table t as select 1 as n": "one SELECT",
            "create virtual table t using fts5(a)": "one SELECT",
            "values (1)": "begins with VALUES",
            "select 'never closed": "can't be read",
            "select load_extension('anything')": "not authorized",
            "select fts3_tokenizer('simple')": "not authorized",
        }

    def fingerprint(self) -> Any:
        files = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.folder.rglob("*")
            if path.is_file()
        }
        with closing(sqlite3.connect(self.folder / "shop.db")) as connection:
            return files, connection.execute("select * from orders order by id").fetchall()

    def moment(self, value: Any) -> datetime:
        assert isinstance(value, str)
        return datetime.fromisoformat(value)


def made(path: Path, script: str = ORDERS) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return made(tmp_path / "shop.db")


def on(folder: Path, others: Mapping[str, Any] = {}, **arguments: Any) -> Sqlite:
    """The database of a profile like dbt-sqlite's, with `shop.db` as its schema `main`."""
    credentials = {"schemas_and_paths": {"main": "shop.db"}, "schema_directory": "schemas"}
    return Sqlite({**credentials, **others}, WarehouseContext(folder, **arguments))


def read(database: Sqlite, sql: str) -> list[tuple[Any, ...]]:
    with database.open() as session:
        return list(session.fetch(Query(sql, LONG), 100).rows)


class TestSqliteSession(SessionContract):
    @pytest.fixture
    def watched(self, shop: Path) -> Watched:
        return WatchedSqlite(on(shop.parent, threads=3), SLOW, WRONG, shop.parent)


# -- queries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("((select 1 as n))", [(1,)]),
        ("( -- a word\n select 1 as n) -- another", [(1,)]),
        ("(select ')' as n)", [(")",)]),
        ("select (1) as n", [(1,)]),
        ("with a as (select 1 as n) select * from (select n from a)", [(1,)]),
    ],
)
def test_brackets_around_a_whole_query_are_taken_off_and_no_others(
    shop: Path, sql: str, rows: list[tuple[Any, ...]]
) -> None:
    assert read(on(shop.parent), sql) == rows


def test_brackets_that_are_not_around_the_whole_are_left_to_sqlite(shop: Path) -> None:
    with pytest.raises(QueryError, match="syntax error"):
        read(on(shop.parent), "(select 1) union all (select 2)")


def test_table_functions_json_and_windows_are_reading(shop: Path) -> None:
    sql = (
        "select value, row_number() over (order by value) as n, json_extract('[7]', '$[0]') "
        "from json_each('[3, 1]') order by value"
    )
    assert read(on(shop.parent), sql) == [(1, 1, 7), (3, 2, 7)]


@pytest.mark.parametrize(
    ("table", "sql"),
    [
        ("fts5(body)", "select body from found where found match 'late'"),
        ("fts4(body)", "select body from found where found match 'late'"),
        ("rtree(body, low, high)", "select 'late' from found"),
    ],
)
def test_virtual_tables_can_be_read_and_not_written(shop: Path, table: str, sql: str) -> None:
    try:
        made(shop, f"create virtual table found using {table}")
    except sqlite3.OperationalError as error:
        pytest.skip(f"this SQLite was built without it: {error}")
    made(shop, "insert into found values ({})".format("'late'" if "fts" in table else "1, 1, 2"))
    assert read(on(shop.parent), sql) == [("late",)]
    with (
        on(shop.parent).engine(read_only=True) as engine,
        engine.connect() as connection,
        pytest.raises(DBAPIError, match="readonly"),
    ):
        connection.exec_driver_sql("delete from found")


def test_an_instant_compares_with_times_as_text(shop: Path) -> None:
    timestamp_literal = on(shop.parent).timestamp_literal(datetime(2026, 1, 2, tzinfo=UTC))
    assert timestamp_literal == "'2026-01-02 00:00:00.000000'"
    assert read(on(shop.parent), f"select '2026-01-01 23:59:59' < {timestamp_literal}") == [(1,)]


def test_a_text_that_is_no_unicode_is_an_error_of_its_query(shop: Path) -> None:
    with pytest.raises(QueryError, match="UTF-8"):
        read(on(shop.parent), "select cast(x'ff' as text) as t")


# -- reading only ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    ["delete from orders", "create table t (n)", "pragma user_version = 7", "drop table orders"],
)
def test_an_engine_that_only_reads_can_t_write_even_what_was_not_recognized(
    shop: Path, statement: str
) -> None:
    before = shop.read_bytes()
    with (
        on(shop.parent).engine(read_only=True) as engine,
        engine.connect() as connection,
        pytest.raises(DBAPIError, match="readonly"),
    ):
        connection.exec_driver_sql(statement)
    assert shop.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "attach '{}' as other",
        "pragma query_only = off",
        "pragma writable_schema = on",
        "create temp table t (n)",
        "begin immediate",
        "delete from orders",
        "vacuum into '{}'",
        "select writefile('{}', 'x')",
        "select load_extension('{}')",
    ],
)
def test_sqlite_itself_refuses_an_alert_more_than_reading(
    shop: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.setattr("sentinel.warehouses.session.one_select", lambda sql, _: sql)
    monkeypatch.setattr("sentinel.warehouses.sqlite.one_select", lambda sql, _: sql)
    out = shop.parent / "out"
    with pytest.raises(
        QueryError, match=r"not authorized|authorization denied|no such function|readonly database"
    ):
        read(on(shop.parent), statement.format(out))
    assert not out.exists()


@pytest.mark.parametrize("pragma", ["table_info('orders')", "user_version", "database_list"])
def test_pragmas_are_no_tables_for_an_alert(shop: Path, pragma: str) -> None:
    with pytest.raises(QueryError, match="not authorized"):
        read(on(shop.parent), f"select * from pragma_{pragma}")


def test_the_engine_of_the_store_can_write(shop: Path) -> None:
    with on(shop.parent).engine(read_only=False) as engine, engine.begin() as connection:
        connection.exec_driver_sql("delete from orders where id > 1")
    assert read(on(shop.parent), "select id from orders") == [(1,)]


def test_a_transaction_that_fails_leaves_nothing(shop: Path) -> None:
    with on(shop.parent).engine(read_only=False) as engine:
        with pytest.raises(ZeroDivisionError), engine.begin() as connection:
            connection.exec_driver_sql("delete from orders")
            raise ZeroDivisionError
        with engine.begin() as connection:
            found: int = connection.exec_driver_sql("select count(*) from orders").scalar_one()
    assert found == 4


def test_a_reading_transaction_sees_one_state(shop: Path) -> None:
    made(shop, "pragma journal_mode = wal")
    count = "select count(*) from orders"
    with on(shop.parent).engine(read_only=True) as engine:
        with engine.begin() as connection:
            first: int = connection.exec_driver_sql(count).scalar_one()
            made(shop, "delete from orders")
            assert connection.exec_driver_sql(count).scalar_one() == first == 4
        with engine.begin() as connection:
            assert connection.exec_driver_sql(count).scalar_one() == 0


# -- the profile -------------------------------------------------------------------------------


def test_a_relative_path_starts_from_the_project(
    shop: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert read(on(shop.parent), "select 1") == [(1,)]
    whole = on(Path(), {"schemas_and_paths": {"main": str(shop)}})
    assert read(whole, "select count(*) from main.orders") == [(4,)]


@pytest.mark.parametrize("name", ["with space", "100%", "a?b#c", "it's", "żółw"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    made(tmp_path / f"{name}.db")
    database = on(tmp_path, {"schemas_and_paths": {"main": f"{name}.db", "copy": f"{name}.db"}})
    assert read(database, "select count(*) from copy.orders") == [(4,)]


def test_schemas_are_the_files_of_the_profile_and_of_its_directory(shop: Path) -> None:
    (shop.parent / "schemas").mkdir()
    made(shop.parent / "given.db", "create table t as select 1 as n")
    made(shop.parent / "schemas" / "found.db", "create table t as select 2 as n")
    made(shop.parent / "schemas" / "again.db", "create table t as select 3 as n")
    paths = {"main": "shop.db", "given": "given.db", "other": "schemas/again.db"}
    database = on(shop.parent, {"schemas_and_paths": paths})
    sql = "select given.t.n, found.t.n, other.t.n from given.t, found.t, other.t"
    assert read(database, sql) == [(1, 2, 3)]
    with pytest.raises(QueryError, match="no such table"):
        read(database, "select * from again.t")
    with (
        database.engine(read_only=True) as engine,
        engine.connect() as connection,
        pytest.raises(DBAPIError, match="readonly"),
    ):
        connection.exec_driver_sql("delete from found.t")
    with database.engine(read_only=False) as engine, engine.begin() as connection:
        connection.exec_driver_sql("update found.t set n = 9")
    assert read(database, "select n from found.t") == [(9,)]


def test_a_schema_that_dbt_has_not_made_yet_is_left_out_and_not_made(shop: Path) -> None:
    database = on(shop.parent, {"schemas_and_paths": {"main": "shop.db", "later": "later.db"}})
    assert read(database, "select count(*) from orders") == [(4,)]
    with pytest.raises(QueryError, match="no such table"):
        read(database, "select * from later.t")
    assert [path.name for path in shop.parent.iterdir()] == ["shop.db"]


def test_two_files_for_one_schema_are_refused_by_name(shop: Path) -> None:
    (shop.parent / "schemas").mkdir()
    other = made(shop.parent / "schemas" / "main.db")
    with pytest.raises(WarehouseError, match=f"{other}.*'main'"):
        read(on(shop.parent), "select 1")


@pytest.mark.parametrize("given", [None, {}, {"other": "other.db"}, "shop.db"])
def test_a_profile_without_the_schema_main_is_refused_with_advice(
    tmp_path: Path, given: Any
) -> None:
    with pytest.raises(ConfigError, match="`main`") as caught:
        Sqlite({"schemas_and_paths": given}, WarehouseContext(tmp_path))
    assert "{main: shop.db}" in (caught.value.hint or "")


def test_a_database_in_memory_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=":memory:") as caught:
        Sqlite({"schemas_and_paths": {"main": ":memory:"}}, WarehouseContext(tmp_path))
    assert "give each schema a file" in (caught.value.hint or "")


@pytest.mark.parametrize("read_only", [True, False])
def test_a_missing_file_is_named_and_not_made(tmp_path: Path, read_only: bool) -> None:
    with (
        pytest.raises(WarehouseError, match=r"no SQLite file .*shop\.db") as caught,
        on(tmp_path).engine(read_only=read_only),
    ):
        pass
    assert not isinstance(caught.value, WarehouseLocked)
    assert "dbt build" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("schema", ["main", "other"])
def test_a_file_that_is_no_database_is_said_at_once(shop: Path, schema: str) -> None:
    (shop.parent / "text.db").write_text("no database " * 1000)
    waited: list[str] = []
    paths = {"main": "shop.db"} | {schema: "text.db"}
    database = on(shop.parent, {"schemas_and_paths": paths}, notify=waited.append)
    with pytest.raises(WarehouseError, match="not a database") as caught:
        read(database, "select 1")
    assert not isinstance(caught.value, WarehouseLocked)
    assert waited == []


def test_an_extension_that_is_not_there_is_told(shop: Path) -> None:
    database = on(shop.parent, {"extensions": ["./no_such_thing"]})
    words = "no_such_thing" if hasattr(sqlite3.Connection, "load_extension") else "built without"
    with pytest.raises((WarehouseError, ConfigError), match=words):
        read(database, "select 1")


# -- other processes ---------------------------------------------------------------------------


@contextmanager
def held_by_another_process(
    path: Path, begin: str = "begin exclusive"
) -> Iterator[subprocess.Popen[str]]:
    """A process that is writing into the file, until its standard input ends."""
    script = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute(sys.argv[2])\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path), begin],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "open\n"
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


@pytest.mark.parametrize("read_only", [True, False])
def test_a_held_file_is_waited_for_visibly_and_then_told_as_locked(
    shop: Path, read_only: bool
) -> None:
    waited: list[str] = []
    database = on(shop.parent, notify=waited.append, lock_timeout=timedelta(seconds=0.4))
    with (
        held_by_another_process(shop),
        pytest.raises(WarehouseLocked, match=f"the SQLite file {shop} is held") as caught,
        database.engine(read_only=read_only),
    ):
        pass
    assert waited == [f"waiting: {caught.value}"]


def test_a_held_schema_beside_main_is_waited_for_too(shop: Path) -> None:
    other = made(shop.parent / "other.db")
    database = on(
        shop.parent,
        {"schemas_and_paths": {"main": "shop.db", "other": "other.db"}},
        lock_timeout=timedelta(seconds=0.2),
    )
    with held_by_another_process(other), pytest.raises(WarehouseLocked, match="is held"):
        read(database, "select 1")


def test_a_file_that_comes_free_during_the_wait_is_opened(shop: Path) -> None:
    waiting = threading.Event()
    database = on(shop.parent, notify=lambda _: waiting.set())
    with held_by_another_process(shop) as holder:

        def let_go() -> None:
            assert waiting.wait(10)
            assert holder.stdin
            holder.stdin.close()

        thread = threading.Thread(target=let_go)
        thread.start()
        assert read(database, "select count(*) from orders") == [(4,)]
        thread.join()
    assert waiting.is_set()


def test_alerts_are_read_while_another_process_has_begun_to_write(shop: Path) -> None:
    with held_by_another_process(shop, "begin immediate"):
        assert read(on(shop.parent), "select count(*) from orders") == [(4,)]


def test_a_transaction_waits_for_another_writer_visibly_before_it_reads(shop: Path) -> None:
    waited: list[str] = []
    database = on(shop.parent, notify=waited.append, lock_timeout=timedelta(seconds=0.4))
    with (
        held_by_another_process(shop, "begin immediate"),
        database.engine(read_only=False) as engine,
        pytest.raises(WarehouseLocked) as caught,
        engine.begin(),
    ):
        pass
    assert waited == [f"waiting: {caught.value}"]


def test_a_query_that_meets_a_lock_is_told_as_locked(shop: Path) -> None:
    database = on(shop.parent, lock_timeout=timedelta(seconds=0.2))
    with (
        database.open() as session,
        held_by_another_process(shop),
        pytest.raises(WarehouseLocked, match="is held"),
    ):
        session.fetch(Query("select * from orders", LONG), 3)


def test_a_commit_that_meets_a_reader_is_told_as_locked_and_writes_nothing(shop: Path) -> None:
    database = on(shop.parent, lock_timeout=timedelta(seconds=0.2))
    reading = "begin; select * from orders"
    with closing(sqlite3.connect(shop, isolation_level=None)) as reader:
        reader.execute(reading.split(";")[0])
        reader.execute(reading.split(";")[1]).fetchall()
        with (
            database.engine(read_only=False) as engine,
            pytest.raises(WarehouseLocked),
            engine.begin() as connection,
        ):
            connection.exec_driver_sql("delete from orders")
    assert read(on(shop.parent), "select count(*) from orders") == [(4,)]


def test_a_result_that_was_cut_holds_no_lock(shop: Path) -> None:
    with on(shop.parent).open() as session:
        session.fetch(Query("select * from orders", LONG), 1)
        with held_by_another_process(shop):
            pass


@pytest.mark.parametrize("read_only", [True, False])
def test_after_a_batch_another_process_can_write(shop: Path, read_only: bool) -> None:
    with on(shop.parent).engine(read_only=read_only) as engine, engine.begin() as connection:
        connection.exec_driver_sql("select * from orders").fetchall()
    with held_by_another_process(shop):
        pass


def test_what_a_killed_writer_left_is_told_with_what_undoes_it(shop: Path) -> None:
    script = (
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1])\n"
        "connection.execute('pragma cache_size = 5')\n"
        "connection.execute('pragma cache_spill = 5')\n"
        "connection.execute('update orders set region = region || hex(zeroblob(9000))')\n"
        "os._exit(0)\n"
    )
    made(shop, "insert into orders select a.id, 'east', b.id from orders a, orders b, orders c")
    subprocess.run([sys.executable, "-c", script, str(shop)], check=True)
    with pytest.raises(WarehouseError, match="killed while it wrote") as caught:
        read(on(shop.parent), "select 1")
    assert "dbt build" in (caught.value.hint or "")
    with on(shop.parent).engine(read_only=False):
        pass
    assert read(on(shop.parent), "select count(*) from orders") == [(68,)]
