"""The places themselves, before anything of Sentinel runs on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, GoogleAPICallError, NotFound
from google.cloud.bigquery import QueryJobConfig, ScalarQueryParameter

from tests.places import place as places
from tests.places.bigquery import LAUNCHER, BigQueryPlace, once
from tests.places.place import Place, PlaceMissing, Rows, environment, only_rows
from tests.places.postgres import ANOTHER_SERVER, PostgresPlace, run_postgres
from tests.places.servers import Servers

# -- every place -------------------------------------------------------------------------------

TABLES = {
    "duckdb": "select table_name from information_schema.tables",
    "postgres": "select tablename from pg_tables where schemaname in ('shop', 'public')",
    "sqlite": "select name from sqlite_master",
    "bigquery": "select table_name from {schema}.INFORMATION_SCHEMA.TABLES",
}


def test_a_place_starts_empty_and_keeps_what_is_written(place: Place) -> None:
    tables = TABLES[place.name].format(schema=place.schema)
    assert place.execute(tables) == []
    assert place.execute("select 1") == [(1,)]
    kind = "int64" if place.name == "bigquery" else "integer"
    assert place.execute(f"create table numbers (n {kind})") == []
    place.execute("insert into numbers values (7)")
    assert place.execute(f"select n from {place.schema}.numbers") == [(7,)]
    assert place.execute(tables) == [("numbers",)]


def test_the_profile_and_the_environment_are_those_of_the_warehouse(place: Place) -> None:
    assert place.output["type"] == place.name
    assert place.schema in (place.output.get("schema"), place.output.get("dataset"))
    for command in ("dbt", "sentinel", "python"):
        assert (place.bin / command).exists()
    installed = f"import importlib.util as u; assert u.find_spec('dbt.adapters.{place.name}')"
    subprocess.run([place.bin / "python", "-c", installed], check=True)


def test_a_missing_environment_is_said_with_what_makes_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "ROOT", tmp_path)
    with pytest.raises(PlaceMissing, match="make setup-places"):
        environment("sqlite")


def test_there_is_no_other_place(servers: Servers, tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="oracle"):
        servers.open_place("oracle", tmp_path)


# -- PostgreSQL --------------------------------------------------------------------------------


def test_a_postgres_server_can_be_named(
    postgres: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://{postgres.user}:{postgres.password}@{postgres.host}:{postgres.port}"
    monkeypatch.setenv(ANOTHER_SERVER, f"{url}/{postgres.dbname}")
    with run_postgres() as server, server.database() as another:
        assert another.dbname != postgres.dbname
        assert another.execute("select current_database()") == [(another.dbname,)]
    names = "select datname from pg_database"
    assert (another.dbname,) not in postgres.execute(names)


def test_nothing_of_a_postgres_server_outlives_killed_tests() -> None:
    script = """
import os
from tests.places.postgres import run_postgres
with run_postgres() as server:
    print(server.main.execute("show data_directory")[0][0], flush=True)
    os._exit(1)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=places.ROOT,
        env={name: value for name, value in os.environ.items() if name != ANOTHER_SERVER},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    data = Path(done.stdout.strip())
    assert data.name == "data"
    deadline = time.monotonic() + 60
    while data.parent.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not data.parent.exists()


# -- BigQuery: what the launcher mends in the stand-in, and what is so on the real service too --


def run(bigquery: BigQueryPlace, sql: str, how: str = "query", **settings: Any) -> Rows:
    """By jobs.query, or by jobs.insert; `settings` are parameters, unless they are the job's."""
    values = {name: settings.pop(name) for name in list(settings) if name not in JOB}
    kinds = {str: "STRING", int: "INT64", type(None): "STRING"}
    config = QueryJobConfig(
        query_parameters=[
            ScalarQueryParameter(name, kinds[type(value)], value) for name, value in values.items()
        ],
        **settings,
    )
    if how == "query":
        return bigquery.query(sql, config)
    job = bigquery.client.query(
        sql, job_config=bigquery.config(config), retry=once(), job_retry=once(), timeout=60
    )
    rows = job.result(retry=once(), job_retry=once(), timeout=60)
    return only_rows([row.values() for row in rows])


JOB = ("job_timeout_ms",)
HOW = pytest.mark.parametrize("how", ["query", "insert"])


@HOW
@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        ("select 1 +", BadRequest, "Syntax error"),
        ("select * from missing", NotFound, "missing"),
        ("select * from no_dataset.missing", NotFound, "no_dataset"),
        ("select nothing from kept", BadRequest, "nothing"),
        ("select error('on purpose')", BadRequest, "on purpose"),
        ("raise using message = 'raised'", BadRequest, "raised"),
        ("select 1; select nothing from kept", BadRequest, "nothing"),
        ("create table kept (k string)", Conflict, "Already Exists"),
    ],
)
def test_failing_sql_is_an_error(
    bigquery: BigQueryPlace, how: str, sql: str, error: type[Exception], message: str
) -> None:
    bigquery.execute("create table kept (k string, primary key (k) not enforced)")
    with pytest.raises(error, match=message) as raised:
        run(bigquery, sql, how)
    assert "\x1b" not in str(raised.value)


SCRIPT = """
begin transaction;
merge kept using (
    select json_value(item, '$.k') as k, cast(json_value(item, '$.n') as int64) as n
    from unnest(json_query_array(@rows)) as item
) as written on kept.k = written.k
when matched then update set n = written.n
when not matched then insert (k, n) values (written.k, written.n);
update kept set word = written.word
from (
    select json_value(item, '$.k') as k, json_value(item, '$.word') as word
    from unnest(json_query_array(@rows)) as item
) as written
where kept.k = written.k;
insert into told (k) values ('told');
delete from told where k = @gone;
if (select count(*) from kept) <> @expected then
    raise using message = 'sentinel: lost race';
end if;
commit transaction;
select k, n, word, @nothing from kept order by k
"""
WORD = "żółw 😀 \" ' \\ \n ? @rows"
ROWS = json.dumps([{"k": "a", "n": 2**53 + 1, "word": WORD}, {"k": "b", "n": 2}])


@pytest.fixture
def tables(bigquery: BigQueryPlace) -> BigQueryPlace:
    bigquery.execute("create table kept (k string, n int64, word string)")
    bigquery.execute("create table told (k string)")
    bigquery.execute("insert into kept values ('a', 1, 'old')")
    bigquery.execute("insert into told values ('gone')")
    return bigquery


@HOW
def test_a_script_takes_parameters_and_answers_with_its_last_select(
    tables: BigQueryPlace, how: str
) -> None:
    given: dict[str, Any] = {"rows": ROWS, "gone": "gone", "nothing": None}
    rows = run(tables, SCRIPT, how, expected=2, **given)
    assert rows == [("a", 2**53 + 1, WORD, None), ("b", 2, None, None)]
    assert tables.execute("select k from told") == [("told",)]


@HOW
@pytest.mark.parametrize("failing", ["raise", "error", "cast"])
def test_of_a_transaction_that_fails_nothing_stays(
    tables: BigQueryPlace, how: str, failing: str
) -> None:
    expected = 3 if failing == "raise" else 2
    broken = {
        "error": "insert into told select error('sentinel: lost race');",
        "cast": "insert into told select cast(cast('sentinel: lost race' as int64) as string);",
    }
    script = SCRIPT.replace("commit", broken.get(failing, "") + "commit")
    given: dict[str, Any] = {"rows": ROWS, "gone": "gone", "nothing": None}
    with pytest.raises(BadRequest, match="sentinel: lost race"):
        run(tables, script, how, expected=expected, **given)
    assert tables.execute("select k, n, word from kept") == [("a", 1, "old")]
    assert tables.execute("select k from told") == [("gone",)]


def test_variables_and_parameters_mix(tables: BigQueryPlace) -> None:
    script = """
        declare total int64 default @first;
        declare word string;
        set total = total + @first;
        set word = @word;
        if total = 4 and (select count(*) from kept where k = @key) = 1 then
            select total, word, @word;
        end if
    """
    rows = run(tables, script, first=2, word=WORD, key="a")
    assert rows == [(4, WORD, WORD)]


def test_a_script_knows_what_went_before(tables: BigQueryPlace) -> None:
    script = """
        declare changed int64;
        update kept set n = 5 where k = 'a';
        set changed = @@row_count;
        assert changed = 1 as 'not one';
        begin
            select error('boom');
        exception when error then
            select changed, strpos(@@error.message, 'boom') > 0;
        end
    """
    assert run(tables, script) == [(1, True)]
    with pytest.raises(BadRequest, match="not one"):
        run(tables, "select 1; assert (select count(*) from kept) = 2 as 'not one'")


def test_scripts_at_the_same_time_behave_as_if_one_waited(tables: BigQueryPlace) -> None:
    """The real service may abort one of two, which is as good: nothing gets lost."""

    def add_one(_: int) -> int:
        script = """
            declare found int64;
            begin transaction;
            set found = (select n from kept where k = 'a');
            update kept set n = found + 1 where k = 'a';
            commit transaction
        """
        try:
            run(tables, script)
        except GoogleAPICallError:
            assert not tables.emulated
            return 0
        return 1

    with ThreadPoolExecutor(2) as pool:
        added = sum(pool.map(add_one, range(6)))
    assert tables.execute("select n from kept") == [(1 + added,)]


@pytest.mark.parametrize(
    ("sql", "kind", "columns"),
    [
        ("select k, n from kept", "SELECT", [("k", "STRING"), ("n", "INTEGER")]),
        ("(select 1.5 as half)", "SELECT", [("half", "FLOAT")]),
        ("with one as (select true as yes) select * from one", "SELECT", [("yes", "BOOLEAN")]),
        ("delete from kept where true", "DELETE", None),
        ("merge kept using told on kept.k = told.k when matched then delete", "MERGE", None),
        ("create table another as select 1 as one", "CREATE_TABLE_AS_SELECT", None),
        ("drop table kept", "DROP_TABLE", None),
        ("select 1; delete from kept where true", "SCRIPT", None),
        ("declare one int64; delete from kept where true", "SCRIPT", None),
    ],
)
def test_a_dry_run_tells_the_statement_and_its_columns_and_changes_nothing(
    tables: BigQueryPlace, sql: str, kind: str, columns: list[tuple[str, str]] | None
) -> None:
    if not tables.emulated and kind == "SELECT" and "half" in sql:
        columns = [("half", "NUMERIC")]
    config = tables.config(QueryJobConfig(dry_run=True, use_query_cache=False))
    job = tables.client.query(sql, job_config=config, retry=once(), job_retry=once())
    assert job.statement_type == kind
    if columns is not None:
        assert [(each.name, each.field_type) for each in job.schema or ()] == columns
    assert tables.execute("select count(*) from kept") == [(1,)]


@pytest.mark.parametrize(("sql", "error"), [("select 1 +", BadRequest), ("from", BadRequest)])
def test_a_dry_run_of_failing_sql_is_an_error(
    tables: BigQueryPlace, sql: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        tables.client.query(
            sql, job_config=QueryJobConfig(dry_run=True), retry=once(), job_retry=once()
        )


@HOW
def test_a_job_stops_after_its_timeout(bigquery: BigQueryPlace, how: str) -> None:
    endless = """
        select sum(a * b) from unnest(generate_array(1, 200000)) as a,
        unnest(generate_array(1, 200000)) as b
    """
    with pytest.raises(GoogleAPICallError, match="timed out"):
        run(bigquery, endless, how, job_timeout_ms=500)
    assert bigquery.execute("select 1") == [(1,)]


def test_a_table_of_a_dbt_contract_keeps_its_constraints(bigquery: BigQueryPlace) -> None:
    bigquery.execute(
        "create or replace table contracted "
        "(k string not null primary key not enforced, n int64) options() "
        "as (select k, n from (select '' as k, 1 as n) as model_subq where false)"
    )
    for _ in range(2):  # the key isn't enforced
        bigquery.execute("insert into contracted (k) values ('a')")
    with pytest.raises(BadRequest):
        bigquery.execute("insert into contracted (n) values (1)")
    assert bigquery.execute("select count(*) from contracted") == [(2,)]


def test_the_stand_in_ends_when_its_input_closes() -> None:
    python = environment("bqemulator") / "python"
    with subprocess.Popen(
        [python, "-P", LAUNCHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        process.communicate(timeout=timedelta(seconds=30).total_seconds())
    assert process.returncode == 0
    assert "tests.places.bigquery_launcher" not in sys.modules
