"""DuckDB: real files, and real processes that hold them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy.exc import DBAPIError

from sentinel.core.errors import ConfigError, QueryError, WarehouseError, WarehouseLocked
from sentinel.ports import Query
from sentinel.warehouses.duckdb import DuckDb

from .contract import LONG, SessionContract, Watched

ORDERS = """
create table orders as
select * from (values (1, 'north', 40), (2, 'north', 70), (3, 'south', 90), (4, null, 5))
as t (id, region, amount)
"""


SLOW = "select count(*) from range(10000000000) as a, range(1000) as b"
WRONG = (
    "select no_such_column from orders",
    'Binder Error: Referenced column "no_such_column" not found',
)


@dataclass
class WatchedDuckDb(Watched):
    folder: Path

    def __post_init__(self) -> None:
        out = self.folder / "out"
        self.refused = {
            f"copy orders to '{out}.csv'": "begins with COPY",
            f"copy (select * from orders) to '{out}.parquet' (format parquet)": "begins with COPY",
            f"export database '{out}'": "begins with EXPORT",
            f"attach '{out}.duckdb' as other": "begins with ATTACH",
            "install httpfs": "begins with INSTALL",
            "load json": "begins with LOAD",
            "set threads = 1": "begins with SET",
            "pragma version": "begins with PRAGMA",
            "call pragma_version()": "begins with CALL",
            "checkpoint": "begins with CHECKPOINT",
            "use memory": "begins with USE",
            "values (1)": "begins with VALUES",
            "select 'never closed": "can't be read",
        }

    def fingerprint(self) -> Any:
        files = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.folder.rglob("*")
            if path.is_file()
        }
        with duckdb.connect(str(self.folder / "shop.duckdb"), read_only=True) as connection:
            tables = connection.execute(
                "select database_name, table_name from duckdb_tables() order by all"
            ).fetchall()
            return files, tables, connection.execute("from orders order by all").fetchall()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(ORDERS)
    return path


class TestDuckDbSession(SessionContract):
    @pytest.fixture
    def watched(self, shop: Path) -> Watched:
        warehouse = DuckDb({"path": shop.name}, shop.parent, 3)
        return WatchedDuckDb(warehouse, SLOW, WRONG, shop.parent)


def read(database: DuckDb, sql: str) -> list[tuple[Any, ...]]:
    with database.open() as session:
        return list(session.fetch(Query(sql, LONG), 100).rows)


# -- values ------------------------------------------------------------------------------------


def test_an_instant_has_the_type_of_as_of(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb"}, shop.parent)
    instant = database.instant(datetime(2026, 1, 2, tzinfo=UTC))
    sql = f"select typeof({instant}), typeof(make_timestamp(epoch_us(now())))"
    assert read(database, sql) == [("TIMESTAMP", "TIMESTAMP")]


def test_a_value_that_python_has_no_room_for_is_an_error_of_its_query(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb"}, shop.parent)
    with database.open() as session, pytest.raises(QueryError, match="can't be read"):
        session.fetch(Query("select interval 1000000000 day as d", LONG), 3)


# -- the profile -------------------------------------------------------------------------------


def test_the_session_can_only_read_even_what_was_not_recognized(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb"}, shop.parent)
    with (
        database.engine(read_only=True) as engine,
        engine.connect() as connection,
        pytest.raises(DBAPIError, match="read-only"),
    ):
        connection.exec_driver_sql("delete from orders")


def test_the_engine_of_the_store_can_write(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb"}, shop.parent)
    with database.engine(read_only=False) as engine, engine.begin() as connection:
        connection.exec_driver_sql("delete from orders where id > 1")
    assert read(database, "select id from orders") == [(1,)]


def test_a_relative_path_starts_from_the_project(
    shop: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert read(DuckDb({"path": "shop.duckdb"}, shop.parent), "select 1") == [(1,)]
    assert read(DuckDb({"path": str(shop)}, Path()), "select 1") == [(1,)]


def test_a_link_keeps_its_name_since_dbt_takes_the_database_s_name_from_it(shop: Path) -> None:
    link = shop.parent / "dev.duckdb"
    link.symlink_to(shop)
    database = DuckDb({"path": "dev.duckdb"}, shop.parent)
    assert Path(database.path) == link
    assert read(database, "select count(*) from orders") == [(4,)]


def test_settings_config_options_and_extensions_are_those_of_the_profile(shop: Path) -> None:
    database = DuckDb(
        {
            "path": "shop.duckdb",
            "settings": {"TimeZone": "Asia/Tokyo", "errors_as_json": False},
            "config_options": {"threads": 3, "allow_unsigned_extensions": "true"},
            "extensions": ["json", {"name": "parquet"}],
        },
        shop.parent,
    )
    asked = (
        "select current_setting('TimeZone'), current_setting('threads'), "
        "current_setting('allow_unsigned_extensions'), json_extract('{\"a\": 7}', '$.a')::int"
    )
    assert read(database, asked) == [("Asia/Tokyo", 3, True, 7)]


def test_settings_hold_on_every_connection_of_the_pool(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb", "settings": {"TimeZone": "Asia/Tokyo"}}, shop.parent)
    with database.engine(read_only=True) as engine:
        connections = [engine.connect() for _ in range(3)]
        zones: set[str] = {
            connection.exec_driver_sql("select current_setting('TimeZone')").scalar_one()
            for connection in connections
        }
        for connection in connections:
            connection.close()
    assert zones == {"Asia/Tokyo"}


@pytest.mark.parametrize(
    ("attachment", "schema"),
    [
        ({"path": "more.duckdb"}, "more"),
        ({"path": "more.duckdb", "alias": "other"}, "other"),
        ({"path": "more.duckdb", "alias": "other", "read_only": True}, "other"),
        ({"path": "more.duckdb", "alias": "other", "options": {"read_only": True}}, "other"),
        ({"path": "more.duckdb", "alias": "other", "type": "duckdb"}, "other"),
    ],
)
def test_attached_databases_are_there_for_reading(
    shop: Path, attachment: dict[str, Any], schema: str
) -> None:
    with duckdb.connect(str(shop.parent / "more.duckdb")) as connection:
        connection.execute("create table t as select 42 as n")
    database = DuckDb({"path": "shop.duckdb", "attach": [attachment]}, shop.parent)
    assert read(database, f"select n from {schema}.t") == [(42,)]
    with (
        database.engine(read_only=True) as engine,
        engine.connect() as connection,
        pytest.raises(DBAPIError, match="read-only"),
    ):
        connection.exec_driver_sql(f"delete from {schema}.t")


@pytest.mark.parametrize("credentials", [{}, {"path": ":memory:"}, {"path": ":memory:shop"}])
def test_a_database_in_memory_is_refused_with_advice(
    credentials: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=":memory:") as caught:
        DuckDb(credentials, tmp_path)
    assert "path: warehouse.duckdb" in (caught.value.hint or "")


def test_keys_of_the_profile_that_are_not_understood_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'plugins', 'secrets'"):
        DuckDb({"path": "a.duckdb", "plugins": [{}], "secrets": [{}]}, tmp_path)


def test_a_missing_file_is_named_and_not_made(tmp_path: Path) -> None:
    database = DuckDb({"path": "nowhere.duckdb"}, tmp_path)
    with pytest.raises(WarehouseError, match=r"no DuckDB file .*nowhere\.duckdb") as caught:
        read(database, "select 1")
    assert not isinstance(caught.value, WarehouseLocked)
    assert "dbt build" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_said_at_once_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "clock.duckdb").write_text("no database " * 1000)
    waited: list[str] = []
    database = DuckDb({"path": "clock.duckdb"}, tmp_path, notify=waited.append)
    with pytest.raises(WarehouseError, match="not a valid DuckDB database") as caught:
        read(database, "select 1")
    assert not isinstance(caught.value, WarehouseLocked)
    assert waited == []


def test_a_wrong_setting_is_told_in_duckdb_s_words(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb", "settings": {"no_such_thing": 1}}, shop.parent)
    with pytest.raises(WarehouseError, match=r'unrecognized.*"no_such_thing"'):
        read(database, "select 1")


def test_an_extension_that_is_not_installed_is_told_and_not_fetched(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb", "extensions": ["no_such_thing"]}, shop.parent)
    with pytest.raises(WarehouseError, match=r"no_such_thing.* not found"):
        read(database, "select 1")


# -- other processes ---------------------------------------------------------------------------


@contextmanager
def held_by_another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the file open for writing, until its standard input ends."""
    script = (
        "import duckdb, sys\n"
        "connection = duckdb.connect(sys.argv[1])\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
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
def test_a_held_file_is_waited_for_visibly_and_then_names_its_holder(
    shop: Path, read_only: bool
) -> None:
    waited: list[str] = []
    database = DuckDb(
        {"path": "shop.duckdb"},
        shop.parent,
        notify=waited.append,
        lock_timeout=timedelta(seconds=0.6),
    )
    with (
        held_by_another_process(shop) as holder,
        pytest.raises(WarehouseLocked) as caught,
        database.engine(read_only=read_only),
    ):
        pass
    assert str(caught.value).startswith(f"the DuckDB file {shop} is held by process {holder.pid} (")
    assert waited
    assert waited[0] == f"waiting: {caught.value}"


def test_a_file_that_comes_free_during_the_wait_is_opened(shop: Path) -> None:
    waiting = threading.Event()
    database = DuckDb(
        {"path": "shop.duckdb"},
        shop.parent,
        notify=lambda _: waiting.set(),
        lock_timeout=timedelta(seconds=30),
    )
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


def test_a_held_attachment_is_named_and_not_the_main_file(shop: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.duckdb"
    with held_by_another_process(other):
        database = DuckDb(
            {"path": "shop.duckdb", "attach": [{"path": "other.duckdb"}]},
            shop.parent,
            lock_timeout=timedelta(seconds=0.2),
        )
        with pytest.raises(WarehouseLocked, match=r"the DuckDB file .*other\.duckdb is held"):
            read(database, "select 1")


@pytest.mark.parametrize("read_only", [True, False])
def test_after_a_batch_another_process_can_write(shop: Path, read_only: bool) -> None:
    database = DuckDb({"path": "shop.duckdb"}, shop.parent, 3)
    with (
        database.engine(read_only=read_only) as engine,
        engine.connect() as first,
        engine.connect() as second,
    ):
        first.exec_driver_sql("select 1")
        second.exec_driver_sql("select 1")
    with held_by_another_process(shop):
        pass


def test_after_a_batch_that_failed_another_process_can_write(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb"}, shop.parent, 3)
    with pytest.raises(QueryError), database.open() as session:
        session.fetch(Query("select no_such_column from orders", LONG), 3)
    with held_by_another_process(shop):
        pass


def test_two_processes_read_at_once(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb"}, shop.parent)
    script = "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).sql('from orders').shape)"
    with database.open() as session:
        session.fetch(Query("select 1", LONG), 3)
        done = subprocess.run(
            [sys.executable, "-c", script, str(shop)], capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (0, "(4, 3)\n"), done.stderr


def test_the_driver_is_imported_only_when_a_file_is_opened() -> None:
    script = (
        "import sys, pathlib\n"
        "from sentinel.warehouses.duckdb import DuckDb\n"
        "DuckDb({'path': 'x.duckdb'}, pathlib.Path('.'))\n"
        "assert 'duckdb' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
