"""Functions that run SQL in a text, or reach files and the server: found by calling what is there."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from sentinel.core.errors import QueryError
from sentinel.ports import Query, Session
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.duckdb import DuckDb
from sentinel.warehouses.postgres import Postgres
from sentinel.warehouses.readonly import one_select
from sentinel.warehouses.sqlite import Sqlite
from tests.places.postgres import PostgresPlace
from tests.places.servers import Servers

TIMEOUT = timedelta(seconds=20)
SECRET = "swordfish"


def refused(name: str, dialect: str, call: str) -> bool:
    """Whether a call is refused by its name, before the warehouse sees it."""
    try:
        one_select(call, dialect)
    except QueryError as error:
        assert f"calls {name}" in error.message, error.message
        return True
    return False


# -- PostgreSQL ----------------------------------------------------------------------------------

# Functions of a real server which are volatile, and which only look at things or end with the query.
NAMES = """
amvalidate array_sample array_shuffle bernoulli brinhandler bthandler clock_timestamp
current_query currtid2 currval dsnowball_init dsnowball_lexize gen_random_uuid ginhandler
gisthandler hashhandler heap_tableam_handler lastval lo_close lo_get lo_lseek lo_lseek64 lo_tell
lo_tell64 loread nextval pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock
pg_advisory_unlock_all pg_advisory_unlock_shared pg_advisory_xact_lock
pg_advisory_xact_lock_shared pg_blocking_pids pg_collation_actual_version pg_config
pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system pg_current_logfile
pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn
pg_database_collation_actual_version pg_database_size pg_extension_config_dump
pg_get_backend_memory_contexts pg_get_multixact_members pg_get_shmem_allocations
pg_get_wal_replay_pause_state pg_get_wal_resource_managers pg_indexes_size pg_is_in_recovery
pg_is_wal_replay_paused pg_isolation_test_session_is_blocked pg_jit_available
pg_last_committed_xact pg_last_wal_receive_lsn pg_last_wal_replay_lsn
pg_last_xact_replay_timestamp pg_lock_status pg_notification_queue_usage pg_notify
pg_partition_ancestors pg_partition_tree pg_prepared_xact pg_relation_size
pg_safe_snapshot_blocking_pids pg_sequence_last_value pg_show_replication_origin_status pg_sleep
pg_sleep_for pg_sleep_until pg_stat_clear_snapshot pg_stat_force_next_flush pg_stat_get_io
pg_stat_get_recovery_prefetch pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit
pg_stat_get_xact_function_calls pg_stat_get_xact_function_self_time
pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans pg_stat_get_xact_tuples_deleted
pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated
pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_newpage_updated
pg_stat_get_xact_tuples_returned pg_stat_get_xact_tuples_updated pg_stat_have_stats
pg_table_size pg_tablespace_size pg_total_relation_size pg_try_advisory_lock
pg_try_advisory_lock_shared pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared
pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_xact_status random random_normal
set_config setseed setval spghandler system timeofday txid_status
"""
HARMLESS = frozenset(NAMES.split())
# A value for each type of an argument, so that a call gets as far as it can.
VALUES = {
    "bool": "true", "int2": "1::int2", "int4": "1", "int8": "1::int8", "float8": "1.0::float8",
    "oid": "1::oid", "regclass": "'orders'::regclass", "refcursor": "'c'::refcursor",
    "tsquery": "'a'::tsquery", "name": "'orders'::name", "json": "'{}'::json", "jsonb": "'{}'::jsonb",
    "bytea": "'a'::bytea", "interval": "interval '0'", "char": "'a'::\"char\"",
    "regconfig": "'simple'::regconfig",
    "numeric": "1::numeric",
}  # fmt: skip


@pytest.fixture(scope="module")
def postgres_place(servers: Servers) -> Iterator[PostgresPlace]:
    with servers.postgres.database() as place:
        [(data,)] = place.execute("select current_setting('data_directory')")
        place.execute(f"copy (select '{SECRET}') to '{data}/secret.txt'")
        place.execute(
            "create table orders as select 1 as id;"
            "create function seen() returns tsvector language plpgsql as $$ begin "
            "raise exception 'SQL IN A TEXT HAS RUN'; end $$"
        )
        yield place


@pytest.fixture(scope="module")
def postgres_session(postgres_place: PostgresPlace) -> Iterator[Session]:
    credentials = {**postgres_place.output, "search_path": postgres_place.schema}
    with Postgres(credentials, WarehouseContext(Path(), 1)).open() as session:
        yield session


def _calls(place: PostgresPlace, text: str) -> Iterator[tuple[str, str]]:
    """Each function of the server with a text among its arguments, and a call in which it is `text`."""
    rows = place.execute(
        "select p.proname, p.proretset, (select array_agg(t.typname order by a.n) "
        "from unnest(p.proargtypes) with ordinality as a (oid, n) join pg_type as t on t.oid = a.oid)"
        "::text[] from pg_proc as p where p.pronamespace = 'pg_catalog'::regnamespace "
        "and p.prokind = 'f' and 'text'::regtype = any (p.proargtypes) order by p.proname, p.oid"
    )
    for name, many, types in rows:
        values = [f"'{text}'" if t == "text" else VALUES.get(t, f"null::{t}") for t in types]
        call = f"{name}({', '.join(values)})"
        yield name, f"select * from {call} as f" if many else f"select {call}"


def _outcome(calling: psycopg.Connection, sql: str) -> str:
    """What a call gives, or what the server says of it."""
    try:
        calling.execute("set local statement_timeout = '2s'")
        calling.execute("declare c cursor for select seen()")
        return str(calling.execute(sql).fetchall())
    except psycopg.Error as error:
        return str(error)
    finally:
        calling.rollback()


@pytest.fixture
def calling(postgres_place: PostgresPlace) -> Iterator[psycopg.Connection]:
    """A superuser's own connection, in transactions that only read."""
    output = postgres_place.output
    arguments = {key: output[key] for key in ("host", "port", "user", "password", "dbname")}
    options = f"-c search_path={postgres_place.schema}"
    with psycopg.connect(**arguments, options=options) as connection:
        connection.read_only = True
        yield connection


def test_every_function_of_postgresql_that_runs_sql_in_a_text_is_refused(
    postgres_place: PostgresPlace, calling: psycopg.Connection
) -> None:
    found = set()
    for name, call in _calls(postgres_place, "select seen()"):
        if re.match(r"pg_sleep|pg_(terminate|cancel)", name):
            continue
        if "SQL IN A TEXT HAS RUN" in _outcome(calling, call):
            found.add(name)
            assert refused(name, "postgres", call), call
    assert {"query_to_xml", "cursor_to_xml", "ts_stat", "ts_rewrite"} <= found


def test_every_function_of_postgresql_that_reads_a_file_is_refused(
    postgres_place: PostgresPlace, calling: psycopg.Connection
) -> None:
    found = set()
    for name, call in _calls(postgres_place, "secret.txt"):
        if SECRET in _outcome(calling, call):
            found.add(name)
            assert refused(name, "postgres", call), call
    assert found >= {"pg_read_file"}


def test_every_volatile_function_of_postgresql_is_refused_or_known_to_be_harmless(
    postgres_place: PostgresPlace,
) -> None:
    rows = postgres_place.execute(
        "select distinct proname from pg_proc where pronamespace = 'pg_catalog'::regnamespace "
        "and prolang = 12 and provolatile = 'v' "
        "and prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)"
    )
    names = {name for (name,) in rows}
    unknown = {name for name in names if not refused(name, "postgres", f"select {name}()")}
    assert unknown - HARMLESS == set()


@pytest.mark.parametrize(
    "relation", ["pg_hba_file_rules", 'pg_catalog."pg_file_settings"', "pg_ident_file_mappings"]
)
def test_a_view_of_postgresql_over_a_refused_function_is_refused(
    postgres_session: Session, relation: str
) -> None:
    with pytest.raises(QueryError, match=r" pg_\w+, which does more than read tables"):
        postgres_session.fetch(Query(f"select * from {relation}", TIMEOUT), 5)


@pytest.mark.parametrize("relation", ["pg_roles", "pg_shadow", "pg_stat_activity", "pg_settings"])
def test_other_views_of_postgresql_can_be_read(postgres_session: Session, relation: str) -> None:
    postgres_session.fetch(Query(f"select * from {relation}", TIMEOUT), 5)


def test_a_function_that_the_owner_keeps_from_ordinary_users_is_refused_whatever_its_name(
    postgres_place: PostgresPlace,
) -> None:
    """As those of extensions that Sentinel has never heard of."""
    postgres_place.execute(
        "create function reach_out(text) returns text language internal as 'upper';"
        "revoke execute on function reach_out(text) from public;"
        "create function add_one(n int) returns int language sql as 'select n + 1';"
        "revoke execute on function add_one(int) from public"
    )
    credentials = {**postgres_place.output, "search_path": postgres_place.schema}
    with Postgres(credentials, WarehouseContext(Path(), 1)).open() as session:
        for call in ("reach_out('a')", "\"reach_out\"('a')", "shop.reach_out('a')"):
            with pytest.raises(QueryError, match="calls reach_out"):
                session.fetch(Query(f"select {call}", TIMEOUT), 1)
        assert session.fetch(Query("select add_one(1)", TIMEOUT), 1).rows == ((2,),)


@pytest.mark.parametrize(
    "sql",
    [
        "select U&\"pg\\005fread_file\"('secret.txt')",
        "select u&\"pg!005fread_file\" uescape '!' ('secret.txt')",
        "select pg_catalog.U&\"pg\\005fread_file\"('secret.txt')",
        "select pg_catalog . /* */ \"pg_read_file\" -- \n ('secret.txt')",
        "select ('secret.txt'::text).pg_read_file",
        "select ('secret.txt'::text) . \"pg_read_file\"",
        "select t.a.pg_read_file from (select 'secret.txt'::text as a) as t",
        "select * from rows from (pg_read_file('secret.txt')) as f",
        "select a from orders, lateral pg_read_file('secret.txt') as a",
        "select 1 where pg_read_file('secret.txt') like 'sword%'",
        "select 1 |/* '*/ length(pg_read_file('secret.txt')) /* ' */ 1 from orders",
        "select 1 #-- '\n length(pg_read_file('secret.txt')) --'\n from orders",
        "select 1 as a$$, pg_read_file('secret.txt') as b$$",
        "select 1 as é$$, pg_read_file('secret.txt') as b$$",
        "select E'\\'' || pg_read_file('secret.txt') || E'\\''",
        "select 'a' -- \r || pg_read_file('secret.txt')",
        "select $a$ $A$ $a$ || pg_read_file('secret.txt') || $a$ $a$",
        "select /* /* */ ' */ pg_read_file('secret.txt') --'",
        "select PG_READ_FILE('secret.txt')",
        "select * from ts_stat('select to_tsvector(''simple'', pg_read_file(''secret.txt''))')",
        "select pg_read_file('secret.txt') from orders for no key update of orders skip locked",
    ],
)
def test_a_function_can_t_be_hidden_by_the_way_its_name_is_written(
    postgres_session: Session, sql: str
) -> None:
    with pytest.raises(QueryError) as caught:
        postgres_session.fetch(Query(sql, TIMEOUT), 5)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "sql",
    [
        "select 'pg_read_file(''x'')' as a, \"pg_read_file\" from (select 1 as pg_read_file) as t",
        "select U&'\\0041' || E'\\n' || $$ ; pg_read_file('x') $$ || $q$ '; delete $q$ as a",
        "select 1 as \"größe\" , 2 as größe -- pg_read_file('x');\n /* ; /* pg_read_file('x') */ ; */",
        "select 'now'::regproc::text, 1 operator(pg_catalog.+) 2 as a, (orders).id from orders",
        "select '\u00a0\u2028\ufeff;' as \"\u00a0;\" from orders",
    ],
)
def test_what_only_looks_dangerous_runs(postgres_session: Session, sql: str) -> None:
    assert len(postgres_session.fetch(Query(sql, TIMEOUT), 5).rows) == 1


# -- DuckDB --------------------------------------------------------------------------------------


@pytest.fixture
def duckdb_session(tmp_path: Path) -> Iterator[Session]:
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute("create table orders as select 1 as id")
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "declared").mkdir()
    with DuckDb(
        {"path": "shop.duckdb"}, WarehouseContext(tmp_path, 1, declared_files=lambda: ["declared"])
    ).open() as session:
        yield session


def test_no_function_of_duckdb_reads_a_file_or_runs_sql_that_nobody_has_looked_at(
    duckdb_session: Session, tmp_path: Path
) -> None:
    """Every function of the library that takes a text is called with a file, and with SQL."""
    rows = duckdb_session.fetch(
        Query(
            "select distinct function_name, function_type in ('table', 'table_macro') "
            "from duckdb_functions() where parameter_types[1] in ('VARCHAR', 'ANY', 'T') "
            "and function_name similar to '[a-z_0-9]+' or function_type = 'table'",
            TIMEOUT,
        ),
        5_000,
    ).rows
    assert len(rows) > 200
    before = {path.name for path in tmp_path.rglob("*")}
    for text in (
        f"{tmp_path}/secret.txt",
        "from read_text(''secret.txt'')",
        "select ''sword''||''fish''",
    ):
        for name, table in rows:
            call = f"from {name}('{text}')" if table else f"select {name}('{text}') as a"
            try:
                found = duckdb_session.fetch(Query(call, TIMEOUT), 5)
            except QueryError:
                continue
            assert SECRET not in str(found.rows), call
    assert {path.name for path in tmp_path.rglob("*")} == before


def test_text_that_looks_like_a_part_of_duckdb_s_tree_is_text(duckdb_session: Session) -> None:
    text = '"type":"DELETE_NODE","function_name":"query"'
    found = duckdb_session.fetch(Query(f'select \'{text}\' as "a""function_name"', TIMEOUT), 5)
    assert found.rows == ((text,),)


@pytest.mark.parametrize(
    "sql",
    [
        "from sqlite_scan('other.db', 't')",
        "select a from (from main.SQLITE_SCAN('other.db', 't')) as x",
        "select (select max(n) from sqlite_scan('other.db', 't')) as a from orders",
        "from orders, lateral (from \"sqlite_scan\"('other.db', 't'))",
        "with x as (from sqlite_query('other', 'pragma query_only')) from x",
        "from postgres_query('other', 'delete from t returning 1')",
        "from postgres_scan_pushdown('host=other', 'public', 't')",
        "from postgres_execute('other', 'delete from t')",
        "from mysql_query('other', 'select 1')",
    ],
)
def test_no_extension_of_duckdb_opens_another_database(duckdb_session: Session, sql: str) -> None:
    """sqlite_scan opens any file whatever DuckDB's bounds are; others run SQL that nobody has read."""
    with pytest.raises(QueryError, match=r"calls \w+, which opens another database"):
        duckdb_session.fetch(Query(sql, TIMEOUT), 5)


def test_a_common_table_expression_may_have_the_name_of_such_a_function(
    duckdb_session: Session,
) -> None:
    sql = "with base_query (n) as (select 1) select n from base_query"
    assert duckdb_session.fetch(Query(sql, TIMEOUT), 5).rows == ((1,),)


def test_a_column_of_duckdb_may_have_the_name_of_a_refused_function(
    duckdb_session: Session,
) -> None:
    sql = "select s.query, s.checkpoint from (select 'x' as query, 2 as checkpoint) as s"
    assert duckdb_session.fetch(Query(sql, TIMEOUT), 5).rows == (("x", 2),)


@pytest.mark.parametrize(
    "sql",
    [
        "with x as (copy (select 1 as n) to '{}/declared/stolen.csv') select 1 as a",
        "with x as (copy orders to '{}/declared/stolen.csv') from x",
        "with x as (insert into orders values (2) returning id) from x",
        "with x as (update orders set id = 2 returning id) from x where 1 = 1",
        "with x as (delete from orders returning id) select 1 as a from x",
        "select (with x as (copy (select 1 as n) to '{}/declared/stolen.csv') select 1) as a",
        "from (with x as (copy (select 1 as n) to '{}/declared/stolen.csv') select 1 as a)",
        "select 1 as a where exists (with x as (copy orders to '{}/declared/stolen.csv') from x)",
        "(with x as (copy orders to '{}/declared/stolen.csv') from x) union all select 1",
    ],
)
def test_a_statement_of_duckdb_inside_of_a_select_writes_nothing(
    duckdb_session: Session, tmp_path: Path, sql: str
) -> None:
    with pytest.raises(QueryError):
        duckdb_session.fetch(Query(sql.format(tmp_path), TIMEOUT), 5)
    assert list((tmp_path / "declared").iterdir()) == []


# -- SQLite --------------------------------------------------------------------------------------


def test_no_function_of_sqlite_reaches_beyond_the_database(tmp_path: Path) -> None:
    """Every function and every virtual table of the library, called with a file."""
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("create table orders as select 1 as id")
    (tmp_path / "secret.txt").write_text(SECRET)
    before = {path.name for path in tmp_path.iterdir()}
    warehouse = Sqlite({"schemas_and_paths": {"main": "shop.db"}}, WarehouseContext(tmp_path, 1))
    with sqlite3.connect(":memory:") as connection:
        names = {name for (name,) in connection.execute("select name from pragma_function_list")}
        modules = {name for (name,) in connection.execute("select name from pragma_module_list")}
    file = tmp_path / "secret.txt"
    with warehouse.open() as session:
        for name in sorted(filter(str.isidentifier, names)):
            for arguments in (f"'{file}'", f"'{file}', '{file}'", f"'stolen', '{file}'"):
                _assert_secret_is_kept(session, f"select {name}({arguments}) as a")
        for name in sorted(modules):
            _assert_secret_is_kept(session, f"select * from {name}")
            _assert_secret_is_kept(session, f"select * from {name}('{file}')")
    assert {path.name for path in tmp_path.iterdir()} == before


def _assert_secret_is_kept(session: Session, sql: str) -> None:
    try:
        found: Any = session.fetch(Query(sql, TIMEOUT), 5).rows
    except QueryError as error:
        found = error
    assert SECRET not in str(found), sql


# -- BigQuery ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["external_query", "EXTERNAL_QUERY", "`external_query`"])
def test_sql_for_another_database_is_refused_on_bigquery(name: str) -> None:
    sql = f"select * from {name}('eu.shop', 'delete from orders')"
    assert refused(name.strip("`"), "bigquery", sql)
