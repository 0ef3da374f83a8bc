"""DuckDB: real files, and real processes that hold them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
from sentinel.warehouses.contract import WarehouseContext
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
            "copy from database shop to other": "begins with COPY",
            "select * from query('select * from orders')": "calls query",
            "select * from \"query\"('drop table orders')": "calls query",
            "from json_execute_serialized_sql(json_serialize_sql('select 1'))": "calls json_execute",
            f"from enable_logging('QueryLog', storage='file', storage_path='{out}')": "enable_logging",
            f"from enable_profiling(format='json', save_location='{out}.json')": "enable_profiling",
            "select * from checkpoint()": "calls checkpoint",
            "from truncate_duckdb_logs()": "calls truncate_duckdb_logs",
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
        warehouse = DuckDb({"path": shop.name}, WarehouseContext(shop.parent, 3))
        return WatchedDuckDb(warehouse, SLOW, WRONG, shop.parent)


def read(database: DuckDb, sql: str) -> list[tuple[Any, ...]]:
    with database.open() as session:
        return list(session.fetch(Query(sql, LONG), 100).rows)


# -- files -------------------------------------------------------------------------------------

SHIPPED = "n,name\n1,anna\n2,boris\n"


@pytest.fixture
def project(shop: Path) -> Path:
    """The project's folder, with files beside the database and views over some of them."""
    folder = shop.parent
    for name in ("shipped.csv", "secret.csv", "data/a.csv", "data/b.csv", "data/deep/c.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SHIPPED)
    (folder / "data" / "keys.txt").write_text(SHIPPED)
    with (
        pytest.MonkeyPatch.context() as patch,
        duckdb.connect(str(shop)) as connection,
    ):
        patch.chdir(folder)  # as dbt does
        connection.execute("copy orders to 'data/orders.parquet'")
        connection.execute("copy orders to 'data/orders.json'")
        connection.execute("create view shipped as from read_csv('shipped.csv')")
        connection.execute("create view secret as from read_csv('secret.csv')")
        connection.execute("create view parts as from read_csv('data/*.csv')")
    return folder


@pytest.fixture(params=["in the project's folder", "elsewhere"])
def anywhere(
    request: pytest.FixtureRequest,
    project: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The project's folder; this process may be in another one."""
    elsewhere = request.param == "elsewhere"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere") if elsewhere else project)
    return project


def declaring(folder: Path, *files: str, **more: Any) -> DuckDb:
    """A database whose dbt project declares these files."""
    return DuckDb(
        {"path": "shop.duckdb", **more}, WarehouseContext(folder, 2, declared_files=lambda: files)
    )


READERS = [
    "from '{}'",
    'from "{}"',
    "from read_csv('{}')",
    "from read_csv_auto('{}')",
    "from read_csv(['{}'])",
    "from read_text('{}')",
    "from read_blob('{}')",
    "from read_json('{}')",
    "from read_json_auto('{}')",
    "from read_json_objects('{}')",
    "from read_ndjson('{}')",
    "from read_ndjson_auto('{}')",
    "from read_ndjson_objects('{}')",
    "from read_parquet('{}')",
    "from parquet_scan('{}')",
    "from parquet_metadata('{}')",
    "from parquet_schema('{}')",
    "from sniff_csv('{}')",
    "from glob('{}')",
    "from query_table('{}')",
    "select (select max(content) from read_text('{}')) as content",
    "with hidden as (from read_text('{}')) select * from hidden",
]


@pytest.mark.parametrize(
    "file",
    [
        "secret.csv",
        "{}/secret.csv",
        "data/../secret.csv",
        "data/orders.parquet",
        "data/orders.json",
        "*.csv",
        "/etc/hostname",
        "https://localhost:9/x.csv",
        "s3://bucket/x.parquet",
    ],
)
def test_a_file_that_is_not_declared_is_read_by_nothing_and_nothing_changes(
    project: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.chdir(project)
    database = declaring(project, "shipped.csv", "data/*.csv")
    watched = WatchedDuckDb(database, SLOW, WRONG, project)
    before = watched.fingerprint()
    with database.open() as session:
        for reader in READERS:
            sql = reader.format(file.format(project))
            with pytest.raises(QueryError, match=r"Cannot access|does not exist"):
                session.fetch(Query(sql, LONG), 3)
    assert watched.fingerprint() == before


def test_a_refusal_says_what_makes_a_file_readable(project: Path) -> None:
    with pytest.raises(QueryError, match=r"Cannot access.*secret\.csv.*meta\.external_location"):
        read(declaring(project), "from secret")


def test_without_declared_files_there_are_the_tables_only(anywhere: Path) -> None:
    database = declaring(anywhere)
    assert read(database, "select count(*) from orders") == [(4,)]
    for sql in ("from shipped", "from secret", "from 'shipped.csv'", f"from '{anywhere}/data'"):
        with pytest.raises(QueryError, match=r"Cannot access|does not exist"):
            read(database, sql)


@pytest.mark.parametrize(
    "declared", ["shipped.csv", "./shipped.csv", "data/../shipped.csv", "{}/shipped.csv"]
)
def test_a_declared_file_is_read_by_every_name_and_in_views(anywhere: Path, declared: str) -> None:
    database = declaring(anywhere, declared.format(anywhere))
    names = ["shipped", "'shipped.csv'", f"'{anywhere}/shipped.csv'", "read_csv('shipped.csv')"]
    for name in names:
        assert read(database, f"select count(*) from {name}") == [(2,)], name
    with pytest.raises(QueryError, match="Cannot access"):
        read(database, "from secret")


def test_a_declared_pattern_gives_what_matches_it_and_nothing_else(anywhere: Path) -> None:
    database = declaring(anywhere, "data/*.csv")
    for name in ("parts", "'data/*.csv'", f"'{anywhere}/data/*.csv'"):
        assert read(database, f"select count(*) from {name}") == [(4,)], name
    assert read(database, "select count(*) from 'data/a.csv'") == [(2,)]
    for file in ("data/keys.txt", "data/deep/c.csv", "data/orders.parquet", "data/**", "data/*"):
        with pytest.raises(QueryError, match="Cannot access"):
            read(database, f"from read_text('{file}')")


def test_a_declared_folder_gives_all_that_is_below_it(anywhere: Path) -> None:
    database = declaring(anywhere, "data")
    assert read(database, "select count(*) from 'data/deep/c.csv'") == [(2,)]
    assert read(database, f"select count(*) from '{anywhere}/data/*/*.csv'") == [(2,)]
    with pytest.raises(QueryError, match="Cannot access"):
        read(database, "from read_text('data/../secret.csv')")


def test_a_file_of_the_same_name_where_sentinel_runs_is_not_taken_for_it(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "shipped.csv").write_text("n,name\n9,nobody\n")
    monkeypatch.chdir(elsewhere)
    database = declaring(project, "shipped.csv")
    assert read(database, f"select count(*) from '{project}/shipped.csv'") == [(2,)]
    with pytest.raises(QueryError, match="Cannot access"):
        read(database, "from shipped")


def test_a_declared_place_on_the_net_is_allowed_and_its_neighbours_are_not(project: Path) -> None:
    database = declaring(project, "s3://shop/day/*.parquet", "https://localhost:9/x.csv")
    for sql in ("from 's3://shop/day/1.parquet'", "from 'https://localhost:9/x.csv'"):
        with pytest.raises(QueryError) as caught:  # no httpfs here, or nobody listens
            read(database, sql)
        assert "disabled by configuration" not in str(caught.value).split("extension")[0]
    for sql in ("from 's3://shop/night/1.parquet'", "from 'https://localhost:9/y.csv'"):
        with pytest.raises(QueryError, match="Cannot access"):
            read(database, sql)


def test_a_name_with_quotes_and_percent_is_a_name(project: Path) -> None:
    (project / "it's 100%.csv").write_text(SHIPPED)
    database = declaring(project, "it's 100%.csv", "no such file.csv")
    assert read(database, f"select count(*) from read_csv('{project}/it''s 100%.csv')") == [(2,)]


def test_bounds_hold_on_every_connection_and_can_t_be_undone(project: Path) -> None:
    database = declaring(project, "shipped.csv", settings={"TimeZone": "Asia/Tokyo"})
    with database.open() as session:
        engine = session._engine  # type: ignore[attr-defined]  # beneath what refuses statements
        connections = [engine.connect() for _ in range(2)]
        for statement in (
            "set enable_external_access = true",
            "set allowed_directories = ['/']",
            "reset allowed_paths",
            "set lock_configuration = false",
            "install httpfs",
            "attach 'secret.duckdb'",
            "copy orders to 'secret.csv'",
            "export database 'data'",
            f"call enable_logging(storage='file', storage_path='{project}')",
            "pragma enable_profiling",
        ):
            for connection in connections:
                with pytest.raises(DBAPIError, match=r"locked|disabled|Cannot|read-only"):
                    connection.exec_driver_sql(statement)
                connection.rollback()
        zones = {
            c.exec_driver_sql("select current_setting('TimeZone')").scalar() for c in connections
        }
        for connection in connections:
            connection.close()
    assert zones == {"Asia/Tokyo"}
    assert (project / "secret.csv").read_text() == SHIPPED


def test_the_profile_can_t_widen_the_bounds(project: Path) -> None:
    database = declaring(
        project,
        settings={"allowed_directories": f"['{project}']", "lock_configuration": True},
        config_options={"Enable_External_Access": "true"},
    )
    with pytest.raises(QueryError, match="Cannot access"):
        read(database, f"from '{project}/secret.csv'")


def test_attached_databases_extensions_and_spilling_work_within_the_bounds(project: Path) -> None:
    with duckdb.connect(str(project / "more.duckdb")) as connection:
        connection.execute("create table t as select 42 as n")
    database = declaring(
        project,
        attach=[{"path": "more.duckdb", "alias": "other"}],
        extensions=["icu", "parquet"],
        settings={"memory_limit": "60MB", "threads": 1},
    )
    assert read(database, "select n from other.t") == [(42,)]
    spilling = (
        "select count(*) from (select range as n, repeat('x', 100) || range as t "
        "from range(1500000) order by t desc limit 1400000)"
    )
    assert read(database, spilling) == [(1_400_000,)]


def test_what_another_process_left_in_the_write_ahead_log_is_read(project: Path) -> None:
    script = (
        "import duckdb, os, sys\n"
        "connection = duckdb.connect(sys.argv[1])\n"
        'connection.execute("pragma disable_checkpoint_on_shutdown")\n'
        "connection.execute(\"insert into orders values (5, 'west', 1)\")\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(project / "shop.duckdb")], check=True)
    assert (project / "shop.duckdb.wal").stat().st_size > 0
    assert read(declaring(project), "select count(*) from orders") == [(5,)]


def test_the_store_is_not_held_to_the_files_and_may_read_what_the_tables_need(
    project: Path,
) -> None:
    with declaring(project).engine(read_only=False) as engine, engine.begin() as connection:
        connection.exec_driver_sql(
            f"insert into orders select n, name, 1 from '{project}/secret.csv'"
        )
    assert read(declaring(project), "select count(*) from orders") == [(6,)]


def test_the_project_is_asked_for_its_files_before_the_database_is_held(project: Path) -> None:
    def files() -> list[str]:
        with held_by_another_process(project / "shop.duckdb"):
            return ["shipped.csv"]

    database = DuckDb({"path": "shop.duckdb"}, WarehouseContext(project, declared_files=files))
    assert read(database, "select count(*) from shipped") == [(2,)]


@pytest.mark.parametrize("settings", [{}, {"TimeZone": "Asia/Tokyo"}])
def test_a_second_session_in_this_process_waits_for_the_first(
    project: Path, settings: dict[str, str]
) -> None:
    waiting = threading.Event()
    second = DuckDb(
        {"path": "shop.duckdb", "settings": settings},
        WarehouseContext(
            project, notify=lambda _: waiting.set(), declared_files=lambda: ["shipped.csv"]
        ),
    )
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.extend(read(second, "select count(*) from shipped"))
    )
    with declaring(project, settings=settings).open():
        thread.start()
        assert waiting.wait(10)
        impatient = declaring(project, settings=settings)
        impatient._lock_timeout = timedelta(0)
        with pytest.raises(WarehouseLocked, match="another session of this process"):
            read(impatient, "select 1")
    thread.join(20)
    assert found == [(2,)]


def test_sessions_of_one_process_that_begin_and_end_at_once_wait_for_each_other(
    shop: Path,
) -> None:
    """As a daemon's evaluations and deliveries do; one opens the file while another lets it go."""

    def work(read_only: bool) -> None:
        database = DuckDb({"path": "shop.duckdb"}, WarehouseContext(shop.parent, 1))
        for _ in range(30):
            with database.engine(read_only=read_only) as engine, engine.connect() as connection:
                connection.exec_driver_sql("select 1").fetchall()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number % 2 == 0) for number in range(4)]:
            done.result()


# -- values ------------------------------------------------------------------------------------


def test_an_instant_has_the_type_of_as_of(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb"}, WarehouseContext(shop.parent))
    timestamp_literal = database.timestamp_literal(datetime(2026, 1, 2, tzinfo=UTC))
    sql = f"select typeof({timestamp_literal}), typeof(make_timestamp(epoch_us(now())))"
    assert read(database, sql) == [("TIMESTAMP", "TIMESTAMP")]


def test_a_value_that_python_has_no_room_for_is_an_error_of_its_query(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb"}, WarehouseContext(shop.parent))
    with database.open() as session, pytest.raises(QueryError, match="can't be read"):
        session.fetch(Query("select interval 1000000000 day as d", LONG), 3)


# -- the profile -------------------------------------------------------------------------------


def test_the_session_can_only_read_even_what_was_not_recognized(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb"}, WarehouseContext(shop.parent))
    with (
        database.engine(read_only=True) as engine,
        engine.connect() as connection,
        pytest.raises(DBAPIError, match="read-only"),
    ):
        connection.exec_driver_sql("delete from orders")


def test_the_engine_of_the_store_can_write(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb"}, WarehouseContext(shop.parent))
    with database.engine(read_only=False) as engine, engine.begin() as connection:
        connection.exec_driver_sql("delete from orders where id > 1")
    assert read(database, "select id from orders") == [(1,)]


def test_a_relative_path_starts_from_the_project(
    shop: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert read(DuckDb({"path": "shop.duckdb"}, WarehouseContext(shop.parent)), "select 1") == [
        (1,)
    ]
    assert read(DuckDb({"path": str(shop)}, WarehouseContext(Path())), "select 1") == [(1,)]


def test_a_link_keeps_its_name_since_dbt_takes_the_database_s_name_from_it(shop: Path) -> None:
    link = shop.parent / "dev.duckdb"
    link.symlink_to(shop)
    database = DuckDb({"path": "dev.duckdb"}, WarehouseContext(shop.parent))
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
        WarehouseContext(shop.parent),
    )
    asked = (
        "select current_setting('TimeZone'), current_setting('threads'), "
        "current_setting('allow_unsigned_extensions'), json_extract('{\"a\": 7}', '$.a')::int"
    )
    assert read(database, asked) == [("Asia/Tokyo", 3, True, 7)]


def test_settings_hold_on_every_connection_of_the_pool(shop: Path) -> None:
    database = DuckDb(
        {"path": "shop.duckdb", "settings": {"TimeZone": "Asia/Tokyo"}},
        WarehouseContext(shop.parent),
    )
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
    database = DuckDb(
        {"path": "shop.duckdb", "attach": [attachment]}, WarehouseContext(shop.parent)
    )
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
        DuckDb(credentials, WarehouseContext(tmp_path))
    assert "path: warehouse.duckdb" in (caught.value.hint or "")


def test_keys_of_the_profile_that_are_not_understood_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'plugins', 'secrets'"):
        DuckDb({"path": "a.duckdb", "plugins": [{}], "secrets": [{}]}, WarehouseContext(tmp_path))


def test_a_missing_file_is_named_and_not_made(tmp_path: Path) -> None:
    database = DuckDb({"path": "nowhere.duckdb"}, WarehouseContext(tmp_path))
    with pytest.raises(WarehouseError, match=r"no DuckDB file .*nowhere\.duckdb") as caught:
        read(database, "select 1")
    assert not isinstance(caught.value, WarehouseLocked)
    assert "dbt build" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_said_at_once_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "clock.duckdb").write_text("no database " * 1000)
    waited: list[str] = []
    database = DuckDb({"path": "clock.duckdb"}, WarehouseContext(tmp_path, notify=waited.append))
    with pytest.raises(WarehouseError, match="not a valid DuckDB database") as caught:
        read(database, "select 1")
    assert not isinstance(caught.value, WarehouseLocked)
    assert waited == []


def test_a_wrong_setting_is_told_in_duckdb_s_words(shop: Path) -> None:
    database = DuckDb(
        {"path": "shop.duckdb", "settings": {"no_such_thing": 1}}, WarehouseContext(shop.parent)
    )
    with pytest.raises(WarehouseError, match=r'unrecognized.*"no_such_thing"'):
        read(database, "select 1")


def test_an_extension_that_is_not_installed_is_told_and_not_fetched(shop: Path) -> None:
    database = DuckDb(
        {"path": "shop.duckdb", "extensions": ["no_such_thing"]}, WarehouseContext(shop.parent)
    )
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
        WarehouseContext(shop.parent, notify=waited.append, lock_timeout=timedelta(seconds=0.6)),
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
        WarehouseContext(
            shop.parent, notify=lambda _: waiting.set(), lock_timeout=timedelta(seconds=30)
        ),
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
            WarehouseContext(shop.parent, lock_timeout=timedelta(seconds=0.2)),
        )
        with pytest.raises(WarehouseLocked, match=r"the DuckDB file .*other\.duckdb is held"):
            read(database, "select 1")


@pytest.mark.parametrize("read_only", [True, False])
def test_after_a_batch_another_process_can_write(shop: Path, read_only: bool) -> None:
    database = DuckDb({"path": "shop.duckdb"}, WarehouseContext(shop.parent, 3))
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
    database = DuckDb({"path": "shop.duckdb"}, WarehouseContext(shop.parent, 3))
    with pytest.raises(QueryError), database.open() as session:
        session.fetch(Query("select no_such_column from orders", LONG), 3)
    with held_by_another_process(shop):
        pass


def test_two_processes_read_at_once(shop: Path) -> None:
    database = DuckDb({"path": "shop.duckdb"}, WarehouseContext(shop.parent))
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
        "from sentinel.warehouses.contract import WarehouseContext\n"
        "from sentinel.warehouses.duckdb import DuckDb\n"
        "DuckDb({'path': 'x.duckdb'}, WarehouseContext(pathlib.Path('.')))\n"
        "assert 'duckdb' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
