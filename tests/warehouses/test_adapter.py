"""Any other warehouse: PostgreSQL, reached as if Sentinel had no module for it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
import sqlglot
import yaml
from sqlglot import exp

from sentinel.core.errors import ConfigError, QueryError, WarehouseError
from sentinel.dbt.connections import Connections
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project import DbtProject
from sentinel.ports import Query
from sentinel.warehouses.adapter import AdapterWarehouse
from tests.cli.conftest import Project
from tests.places.postgres import PostgresPlace
from tests.places.servers import Servers

from .contract import LONG, SessionContract, Watched

ORDERS = """
create table orders as
select * from (values (1, 'north', 40), (2, 'north', 70), (3, 'south', 90), (4, null, 5))
as t (id, region, amount)
"""
SLOW = "select count(*) from generate_series(1, 10000000000)"
WRONG = ("select no_such_column from orders", 'column "no_such_column" does not exist')
# sqlglot can't parse `using <`, and PostgreSQL would delete.
UNPARSED = "with gone as (delete from orders returning id) select id from gone order by id using <"

Open = Callable[..., AdapterWarehouse]


@dataclass
class WatchedPostgres(Watched):
    place: PostgresPlace

    def __post_init__(self) -> None:
        self.refused = {
            "copy orders to stdout": "begins with COPY",
            "call pg_catalog.pg_sleep(0)": "begins with CALL",
            "vacuum orders": "begins with VACUUM",
            "set role postgres": "begins with SET",
            "lock table orders": "begins with LOCK",
            "do $$ begin end $$": "begins with DO",
            "values (1)": "begins with VALUES",
            "select 'never closed": "can't be read",
            UNPARSED: "can't be parsed, and holds DELETE; an alert only reads",
        }

    def fingerprint(self) -> Any:
        return (
            self.place.execute("select * from orders order by id"),
            self.place.execute("select relname from pg_class order by relname"),
        )


def project(folder: Path, output: dict[str, Any]) -> Path:
    """A dbt project with this one target."""
    root = folder / "project"
    root.mkdir(exist_ok=True)
    (root / "dbt_project.yml").write_text("name: shop\nversion: '1.0'\nprofile: shop\n")
    profiles = {"shop": {"target": "dev", "outputs": {"dev": output}}}
    (root / "profiles.yml").write_text(yaml.safe_dump(profiles))
    return root


def connections(root: Path, **given: Any) -> Connections:
    options = DbtOptions(root, profiles_dir=root, **given)
    found = DbtProject(options)
    return Connections(options, found.profile(), found.folder)


@pytest.fixture
def open_with(postgres: PostgresPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """The warehouse of a profile with these other keys; its table `orders` is there."""
    for name in [name for name in os.environ if name.startswith("DBT_")]:
        monkeypatch.delenv(name)
    postgres.execute(ORDERS)

    def open_with(threads: int = 3, **keys: Any) -> AdapterWarehouse:
        # dbt-postgres leaves the search path alone: `schema` is where it makes models.
        output = {**postgres.output, "search_path": postgres.schema, **keys}
        root = project(tmp_path, {key: value for key, value in output.items() if value is not None})
        return AdapterWarehouse("postgres", connections(root), threads)

    return open_with


class TestSessionThroughDbt(SessionContract):
    @pytest.fixture
    def watched(self, postgres: PostgresPlace, open_with: Open) -> Watched:
        return WatchedPostgres(open_with(), SLOW, WRONG, postgres)


def read(warehouse: AdapterWarehouse, sql: str) -> list[tuple[Any, ...]]:
    with warehouse.open() as session:
        return list(session.fetch(Query(sql, LONG), 100).rows)


# -- what dbt does to a connection stays -------------------------------------------------------


def test_the_role_of_the_profile_outlives_a_rollback(
    postgres: PostgresPlace, open_with: Open
) -> None:
    role = f"reader_of_{postgres.dbname}"
    postgres.execute(f"create role {role}")
    try:
        postgres.execute(f"grant usage on schema {postgres.schema} to {role}")
        with open_with(threads=1, role=role).open() as session:
            for _ in range(2):  # a query ends with a rollback
                found = session.fetch(Query("select current_user", LONG), 1)
                assert found.rows == ((role,),)
            with pytest.raises(QueryError, match="permission denied for table orders"):
                session.fetch(Query("select * from orders", LONG), 1)
            assert session.fetch(Query("select current_user", LONG), 1).rows == ((role,),)
    finally:
        postgres.execute(f"drop owned by {role}")
        postgres.execute(f"drop role {role}")


def test_other_keys_of_the_profile_are_dbts(postgres: PostgresPlace, open_with: Open) -> None:
    postgres.execute("create schema elsewhere")
    postgres.execute("create table elsewhere.orders as select 7 as id")
    warehouse = open_with(search_path="elsewhere", application_name="watchman")
    sql = "select id, current_setting('application_name') from orders"
    assert read(warehouse, sql) == [(7, "watchman")]


def test_nothing_but_the_alerts_queries_is_asked_of_the_server(
    postgres: PostgresPlace, open_with: Open
) -> None:
    last = "select query from pg_stat_activity where application_name = 'watchman'"
    warehouse = open_with(threads=1, application_name="watchman", role=postgres.user)
    with warehouse.open():
        assert postgres.execute(last) == [("COMMIT",)]  # of dbt's `set role`


def test_target_and_vars_are_those_of_the_options(
    postgres: PostgresPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", postgres.password)
    named = {
        **postgres.output,
        "password": "{{ env_var('SHOP_PASSWORD') }}",
        "application_name": "{{ var('who', 'nobody') }}",
    }
    root = project(tmp_path, {**postgres.output, "dbname": "no_such_database"})
    profiles = yaml.safe_load((root / "profiles.yml").read_text())
    profiles["shop"]["outputs"]["prod"] = named
    (root / "profiles.yml").write_text(yaml.safe_dump(profiles))
    connect = connections(root, target="prod", vars="{who: watchman}")
    sql = "select current_database(), current_setting('application_name')"
    assert read(AdapterWarehouse("postgres", connect), sql) == [(postgres.dbname, "watchman")]


def test_connections_are_opened_by_several_threads_and_closed_after_the_batch(
    postgres: PostgresPlace, open_with: Open
) -> None:
    count = "select count(*) from pg_stat_activity where application_name = 'watchman'"
    warehouse = open_with(threads=4, application_name="watchman")
    with warehouse.open() as session, ThreadPoolExecutor(4) as pool:
        query = Query("select pg_backend_pid() from pg_sleep(0.3)", LONG)
        found = set(pool.map(lambda _: session.fetch(query, 1).rows, range(4)))
        assert len(found) == 4
        assert postgres.execute(count) == [(4,)]
    postgres.execute("select pg_sleep(0.2)")  # until the server has noticed
    assert postgres.execute(count) == [(0,)]


def test_each_connection_is_its_own_and_dbt_closes_none(
    postgres: PostgresPlace, tmp_path: Path
) -> None:
    root = project(tmp_path, postgres.output)
    options = DbtOptions(root, profiles_dir=root)
    shop = DbtProject(options)
    connect = Connections(options, shop.profile(), shop.folder)
    first, second = connect(), connect()
    try:
        assert shop.alerts() == ()  # dbt parses, and closes what it has opened
        pids = {first.get_backend_pid(), second.get_backend_pid()}
        asked = postgres.execute(
            f"select count(*) from pg_stat_activity where pid in ({', '.join(map(str, pids))})"
        )
        assert asked == [(2,)]
        assert (first.closed, second.closed) == (0, 0)
    finally:
        first.close()
        second.close()


# -- what goes wrong ---------------------------------------------------------------------------


def test_a_wrong_password_is_a_warehouse_error_without_it(open_with: Open) -> None:
    warehouse = open_with(password="s3cr3t-word", retries=0)
    with pytest.raises(
        WarehouseError, match=r"shop\.outputs\.dev: .*password auth.*failed"
    ) as error:
        warehouse.open().__enter__()
    sent = f"{error.value!r} {error.value.hint} {error.value.__cause__!r}"
    assert "s3cr3t" not in sent
    assert not isinstance(error.value, QueryError)
    assert error.value.hint == "`dbt debug` tries the same"


def test_a_secret_in_dbts_words_is_scrubbed(open_with: Open) -> None:
    # The server's message names the user, here the same word as the password.
    warehouse = open_with(user="s3cr3t-word", password="s3cr3t-word", retries=0)
    with pytest.raises(WarehouseError, match=r"for user \"\*\*\*\"") as error:
        warehouse.open().__enter__()
    assert "s3cr3t" not in str(error.value)


def test_a_profile_that_dbt_refuses_is_a_config_error(open_with: Open) -> None:
    warehouse = open_with(port="no number")
    with pytest.raises(ConfigError, match=r"shop\.outputs\.dev.*no number.*") as error:
        warehouse.open().__enter__()
    assert "dbt debug" in (error.value.hint or "")


def test_a_server_lost_in_a_batch_is_an_error_of_each_query(
    servers: Servers, postgres: PostgresPlace, open_with: Open
) -> None:
    main = servers.postgres.main
    with open_with(threads=1, retries=0, application_name="watchman").open() as session:
        main.execute(f"alter database {postgres.dbname} with allow_connections false")
        main.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'watchman'"
        )
        with pytest.raises(QueryError, match=r"terminating connection|closed the connection"):
            session.fetch(Query("select 1", LONG), 1)
        with pytest.raises(QueryError, match="not currently accepting connections"):
            session.fetch(Query("select 1", LONG), 1)
        main.execute(f"alter database {postgres.dbname} with allow_connections true")
        assert session.fetch(Query("select 1", LONG), 1).rows == ((1,),)


def test_a_timeout_cancels_on_the_server(postgres: PostgresPlace, open_with: Open) -> None:
    running = (
        "select count(*) from pg_stat_activity "
        "where application_name = 'watchman' and state = 'active'"
    )
    with open_with(threads=1, application_name="watchman").open() as session:
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(session.fetch, Query(SLOW, timedelta(seconds=1)), 1)
            while postgres.execute(running) != [(1,)]:
                assert not slow.done()
            with pytest.raises(QueryError, match="cancelled"):
                slow.result()
        assert postgres.execute(running) == [(0,)]


# -- drivers of other kinds, which can't be run here -------------------------------------------


class Driver:
    """A connection whose query runs until it is stopped, by whatever of `stops` it has."""

    def __init__(self, stops: str) -> None:
        self.stopped = threading.Event()
        self.said: list[str] = []
        self.stops = stops

    def cursor(self) -> Any:
        return CancellableCursor(self) if self.stops == "cursor" else DriverCursor(self)

    def commit(self) -> None:
        self.said.append("commit")

    def rollback(self) -> None:
        self.said.append("rollback")

    def close(self) -> None:
        self.said.append("close")
        self.stopped.set()


class DriverCursor:
    description = (("n", None, None, None, None, None, None),)

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def execute(self, sql: str) -> None:
        if "slow" in sql:
            assert self.driver.stopped.wait(30)
            if "close" in self.driver.said:
                raise RuntimeError("read of closed connection")

    def fetchmany(self, size: int) -> list[tuple[int]]:
        return [(1,)]

    def close(self) -> None:
        pass


class CancellableCursor(DriverCursor):
    def cancel(self) -> None:
        self.driver.said.append("cancel")
        self.driver.stopped.set()


class Wrapper:
    """As dbt-trino and dbt-databricks wrap; the latter's closes when nobody holds it."""

    def __init__(self, driver: Driver, attribute: str) -> None:
        setattr(self, attribute, driver)
        self.driver = driver

    def __del__(self) -> None:
        self.driver.said.append("gone")


@pytest.mark.parametrize("stops", ["cursor", "close"])
def test_what_has_no_cancel_is_stopped_by_its_cursor_or_closed(stops: str) -> None:
    made: list[Driver] = []

    def connect() -> Driver:
        made.append(Driver(stops))
        return made[-1]

    with AdapterWarehouse("sqlite", connect, 1).open() as session:
        # A driver that gives what it has so far when it is cancelled isn't believed.
        with pytest.raises(QueryError, match="cancelled: it took longer than its timeout of 1s"):
            session.fetch(Query("select 'slow' as n", timedelta(seconds=1)), 3)
        assert session.fetch(Query("select 1 as n", LONG), 3).rows == ((1,),)
        assert len(made) == (1 if stops == "cursor" else 2)
    assert ("cancel" if stops == "cursor" else "close") in made[0].said


@pytest.mark.parametrize("attribute", ["handle", "_conn"])
def test_a_wrapper_is_opened_and_kept_as_long_as_its_connection(attribute: str) -> None:
    driver = Driver("cursor")
    warehouse = AdapterWarehouse("sqlite", lambda: Wrapper(driver, attribute), 1)
    with warehouse.open() as session:
        gc.collect()
        assert session.fetch(Query("select 1 as n", LONG), 3).rows == ((1,),)
        assert "gone" not in driver.said
    gc.collect()
    assert driver.said[0] == "commit"
    assert driver.said[-2:] == ["close", "gone"]


def test_what_a_driver_raises_besides_its_own_errors_is_an_error_of_the_query() -> None:
    class Broken(DriverCursor):
        def execute(self, sql: str) -> None:
            raise ConnectionResetError("by peer")

    class BrokenDriver(Driver):
        def cursor(self) -> Any:
            return Broken(self)

    warehouse = AdapterWarehouse("sqlite", lambda: BrokenDriver("close"), 1)
    with (
        warehouse.open() as session,
        pytest.raises(QueryError, match=r"^ConnectionResetError: by peer$"),
    ):
        session.fetch(Query("select 1 as n", LONG), 3)


def test_a_server_that_is_met_by_the_first_query_only_is_met_when_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Late(Driver):
        def cursor(self) -> Any:
            raise ConnectionResetError("by peer")

    # Trino's driver is such a one; its dialect isn't installed here.
    monkeypatch.setattr("sentinel.warehouses.adapter._OPENED_LATE", ("sqlite",))
    warehouse = AdapterWarehouse("sqlite", lambda: Late("close"), 1)
    with pytest.raises(WarehouseError, match=r"can't be reached: .*by peer") as error:
        warehouse.open().__enter__()
    assert not isinstance(error.value, QueryError)


# -- types and dialects ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "timestamp"),
    [
        ("databricks", "TIMESTAMP_NTZ"),
        ("spark", "TIMESTAMP_NTZ"),
        ("snowflake", "TIMESTAMPNTZ"),
        ("redshift", "TIMESTAMP"),
        ("trino", "TIMESTAMP(6)"),
        ("postgres", "TIMESTAMP"),
        ("unheard_of", "TIMESTAMP"),
    ],
)
def test_an_instant_is_a_timestamp_without_zone_in_each_sql(kind: str, timestamp: str) -> None:
    moment = datetime(2026, 1, 2, 5, 4, 5, 678901, timezone(timedelta(hours=2)))
    timestamp_literal = AdapterWarehouse(kind, lambda: None).timestamp_literal(moment)
    assert timestamp_literal == f"CAST('2026-01-02 03:04:05.678901' AS {timestamp})"
    if kind != "unheard_of":
        tree = sqlglot.parse_one(f"select {timestamp_literal} as t", dialect=kind)
        cast = tree.find(exp.Cast)
        assert cast is not None
        assert cast.to.this in (exp.DataType.Type.TIMESTAMPNTZ, exp.DataType.Type.TIMESTAMP)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("snowflake", "pip install 'snowflake-sqlalchemy'"),
        ("redshift", "pip install 'sqlalchemy-redshift'"),
        ("databricks", "pip install 'databricks-sqlalchemy'"),
        ("trino", "pip install 'trino[sqlalchemy]'"),
        ("unheard_of", "install a package that provides one, in addition to dbt's adapter"),
    ],
)
def test_a_missing_dialect_names_the_package_to_install(kind: str, hint: str) -> None:
    warehouse = AdapterWarehouse(kind, lambda: None)
    with pytest.raises(ConfigError, match=f"no dialect for a warehouse of the type '{kind}'") as e:
        warehouse.open().__enter__()
    assert e.value.hint == hint


def test_the_tables_are_refused_with_the_key_that_helps() -> None:
    with pytest.raises(ConfigError, match=r"can't keep its tables .*'trino'") as error:
        AdapterWarehouse("trino", lambda: None).engine(read_only=False)
    assert "store.target" in (error.value.hint or "")


# -- the fallback ------------------------------------------------------------------------------


def test_without_a_dbt_of_python_it_says_what_is_needed(tmp_path: Path) -> None:
    root = project(tmp_path, {"type": "snowflake", "account": "x"})
    found = DbtProject(DbtOptions(root, profiles_dir=root))
    with pytest.raises(ConfigError, match=r"'snowflake' .*dbt-core 1\.9 or newer") as error:
        Connections(DbtOptions(root), found.profile(), found.folder, works=lambda: False)
    assert error.value.hint == "pip install 'dbt-core<2' dbt-snowflake"


def test_an_adapter_that_is_not_installed_is_a_config_error(tmp_path: Path) -> None:
    connect = connections(project(tmp_path, {"type": "snowflake", "account": "x"}))
    with pytest.raises(ConfigError, match=r"(?s)shop\.outputs\.dev: .*adapter type snowflake"):
        connect()


def test_nothing_of_dbt_is_imported_before_a_connection_is_opened(tmp_path: Path) -> None:
    root = project(tmp_path, {"type": "snowflake", "account": "x"})
    code = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from sentinel.bootstrap import Installation, ProgressReporter
from sentinel.dbt.options import DbtOptions
quiet = lambda *words: None
root = Path(sys.argv[1])
here = Installation(DbtOptions(root, profiles_dir=root), ProgressReporter(quiet, quiet, quiet, quiet))
print(type(here.warehouse).__name__, here.warehouse.timestamp_literal(datetime.now(UTC))[:4])
print([name for name in sys.modules if name.split('.')[0] in ('dbt', 'dbt_common', 'psycopg', 'psycopg2')])
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, root], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.stdout.splitlines() == ["AdapterWarehouse CAST", "[]"], ran.stderr


def without_postgres(group: str) -> list[EntryPoint]:
    return [point for point in entry_points(group=group) if point.name != "postgres"]


@pytest.fixture
def acme(postgres: PostgresPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project on a warehouse that Sentinel has no module for, with tables in DuckDB."""
    for name in [name for name in os.environ if name.startswith(("DBT_", "SENTINEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("sentinel.bootstrap.databases.entry_points", without_postgres)
    root = tmp_path / "acme"
    root.mkdir()
    acme = Project(root, monkeypatch)
    outputs = {
        "dev": {**postgres.output, "threads": 2},
        "sentinel": {"type": "duckdb", "path": "acme.duckdb"},
    }
    acme.write("dbt_project.yml", "name: acme\nversion: '1.0'\nprofile: acme\n")
    acme.write("profiles.yml", yaml.safe_dump({"acme": {"target": "dev", "outputs": outputs}}))
    acme.write(
        "models/sources.yml", f"sources: [{{name: {postgres.schema}, tables: [{{name: orders}}]}}]"
    )
    acme.alert(
        "revenue",
        "{{ config(meta={'sentinel': {}}) }}\n"
        "select case when sum(amount) < 1000 then 'ALERT' else 'OK' end as status,\n"
        "sum(amount) as actual_value, current_user as who, {{ sentinel.as_of() }} as at\n"
        f"from {{{{ source('{postgres.schema}', 'orders') }}}}\n",
    )
    postgres.execute(ORDERS)
    return acme


def test_an_alert_runs_there_and_its_state_is_in_the_target_of_the_store(acme: Project) -> None:
    assert acme.sentinel("init", "--skip-tables").code == 0
    acme.write(
        "sentinel.yml",
        "store: {target: sentinel}\ndefaults: {channels: [log]}\n"
        "channels: {log: {type: file, path: told.jsonl}}\n",
    )
    made = acme.sentinel("init")
    assert made.code == 0, made.err
    ran = acme.sentinel("run", "-s", "revenue", "--output", "json")
    assert ran.code == 1, ran.err
    (result,) = ran.document["results"]
    assert (result["phase"], result["actual_value"], result["context"]["who"]) == (
        "firing",
        205,
        "postgres",
    )
    rows = acme.query("select alert, phase from sentinel_state")
    assert rows == [("revenue", "firing")]
    assert [sent["event"] for sent in acme.sent()] == ["firing"]
    assert acme.sentinel("doctor").code == 0


@pytest.mark.parametrize("command", ["run", "init"])
def test_without_a_target_for_the_tables_nothing_is_evaluated_or_made(
    acme: Project, command: str
) -> None:
    assert acme.sentinel("init", "--skip-tables").code == 0
    acme.write("sentinel.yml", "channels: {console: {type: console}}\n")
    ran = acme.sentinel(command)
    assert ran.code == 2
    said = " ".join(ran.err.split())
    assert "target 'dev': it is of the type 'postgres'" in said
    assert "bigquery, duckdb, sqlite" in said
    assert "store.target" in said
