"""PostgreSQL: a real server, where the user of most tests is superuser, so nothing but Sentinel holds it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError

from sentinel.core.errors import ConfigError, QueryError, WarehouseError
from sentinel.ports import Query, Session
from sentinel.warehouses import postgres
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.postgres import Postgres
from tests.docs.pages import all_pages
from tests.places.postgres import PostgresPlace
from tests.places.servers import Servers

from .contract import LONG, SessionContract, Watched

SET_UP = """
create table orders as select * from (values (1, 'north', 40), (2, 'north', 70), (3, 'south', 90),
    (4, null, 5)) as t (id, region, amount);
create sequence numbers;
create function writes() returns int language sql volatile
    as $$ insert into orders values (9, 'x', 1) returning id $$;
create function writes_by_and_by(setting text) returns int language plpgsql volatile as $$ begin
    perform set_config(setting, 'off', false); insert into orders values (9, 'x', 1); return 1; end $$;
"""
SLOW = "select pg_sleep(300)"
WRONG = (
    "select no_such_column from orders",
    'column "no_such_column" does not exist\nLINE 1: select',
)
REFUSED = {
    "copy orders to '/tmp/orders.csv'": "begins with COPY",
    "copy (select * from orders) to program 'true'": "begins with COPY",
    "copy orders from '/etc/hostname'": "begins with COPY",
    "do $$ begin delete from orders; end $$": "begins with DO",
    "call no_such_procedure()": "begins with CALL",
    "lock table orders": "begins with LOCK",
    "vacuum": "begins with VACUUM",
    "listen a": "begins with LISTEN",
    "prepare p as select 1": "begins with PREPARE",
    "set role postgres": "begins with SET",
    "reset all": "begins with RESET",
    "select pg_read_file('/etc/hostname')": "calls pg_read_file",
    "select pg_catalog.pg_read_file('/etc/hostname') as text": "calls pg_read_file",
    "select \"pg_read_file\" /* */ ('/etc/hostname')": "calls pg_read_file",
    "select PG_READ_BINARY_FILE('/etc/hostname')": "calls PG_READ_BINARY_FILE",
    "select ('/etc/hostname'::text).pg_read_file": "calls pg_read_file",
    "select * from pg_ls_dir('.') as d": "calls pg_ls_dir",
    "select x from (select 1 as x) as t where exists (select from pg_ls_logdir())": "pg_ls_logdir",
    "with a as (select pg_stat_file('.')) select * from a": "calls pg_stat_file",
    "select lo_import('/etc/hostname')": "calls lo_import",
    "select lo_export(1, '/tmp/orders')": "calls lo_export",
    "select lo_from_bytea(0, 'a')": "calls lo_from_bytea",
    "select * from dblink('dbname=postgres', 'delete from orders') as t (a text)": "calls dblink",
    "select dblink_exec('dbname=postgres', 'delete from orders')": "calls dblink_exec",
    "select pg_terminate_backend(1)": "calls pg_terminate_backend",
    "select pg_cancel_backend(1)": "calls pg_cancel_backend",
    "select pg_reload_conf()": "calls pg_reload_conf",
    "select query_to_xml('select pg_read_file(''/etc/hostname'')', true, true, '')": "query_to_xml",
    # The server ends these texts earlier than they seem to end.
    "select E'a'\n'\\'') as t; commit; begin read write; drop table orders; select * from (select 1 --'": (
        "can't be read"
    ),
    # Nothing here can parse this; the server can.
    "select pg_read_file('/etc/hostname') from orders for no key update of orders skip locked": "calls",
}


@dataclass
class WatchedPostgres(Watched):
    place: PostgresPlace

    def __post_init__(self) -> None:
        self.refused = REFUSED

    def fingerprint(self) -> Any:
        return checksums(self.place)


def checksums(place: PostgresPlace) -> dict[str, Any]:
    """Of every table that isn't the server's own, of the sequence and the large objects."""
    tables = place.execute(
        "select format('%I.%I', schemaname, tablename) from pg_tables "
        "where schemaname not in ('pg_catalog', 'information_schema') order by 1"
    )
    found = {
        name: place.execute(
            f"select count(*), md5(string_agg(t::text, '|' order by t::text)) from {name} as t"
        )
        for (name,) in tables
    }
    others = "select (select count(*) from pg_largeobject_metadata), last_value from numbers"
    return found | {"others": place.execute(others)}


def opened(place: PostgresPlace, threads: int = 3, **others: Any) -> Postgres:
    """As its profile says, with `search_path` so that tables need no schema."""
    credentials = {**place.output, "search_path": place.schema, **others}
    return Postgres(
        {k: v for k, v in credentials.items() if v is not None}, WarehouseContext(Path(), threads)
    )


@pytest.fixture(scope="module")
def shop(servers: Servers) -> Iterator[PostgresPlace]:
    """A database that no test changes."""
    with servers.postgres.database() as place:
        place.execute(SET_UP)
        yield place


@pytest.fixture
def own(postgres: PostgresPlace) -> PostgresPlace:
    """A database of a test's own."""
    postgres.execute(SET_UP)
    return postgres


@pytest.fixture
def session(shop: PostgresPlace) -> Iterator[Session]:
    """One connection only: each query has the one that the query before has used."""
    with opened(shop, 1).open() as session:
        yield session


def rows(session: Session, sql: str, timeout: timedelta = LONG) -> list[tuple[Any, ...]]:
    return list(session.fetch(Query(sql, timeout), 100).rows)


def read(database: Postgres, sql: str) -> list[tuple[Any, ...]]:
    with database.open() as session:
        return rows(session, sql)


class TestPostgresSession(SessionContract):
    @pytest.fixture
    def watched(self, shop: PostgresPlace) -> Watched:
        return WatchedPostgres(opened(shop), SLOW, WRONG, shop)


# -- only reading --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "select writes()",
        "select * from orders where id = writes()",
        "select nextval('numbers')",
        "select setval('numbers', 7)",
        "select set_config('transaction_read_only', 'off', false), writes()",
        "select set_config('transaction_read_only', 'off', true), writes()",
        "select set_config('default_transaction_read_only', 'off', false), writes()",
        "select set_config('session_replication_role', 'replica', false), writes()",
        "select writes_by_and_by('transaction_read_only')",
        "select writes_by_and_by('default_transaction_read_only')",
        "select * from orders for update",
    ],
)
def test_what_writes_within_a_select_fails_and_changes_nothing(
    shop: PostgresPlace, session: Session, sql: str
) -> None:
    before = checksums(shop)
    with pytest.raises(QueryError):
        rows(session, sql)
    assert checksums(shop) == before


@pytest.mark.parametrize(
    "setting",
    [
        ("default_transaction_read_only", "off"),
        ("role", "pg_monitor"),
        ("search_path", "pg_catalog"),
        ("statement_timeout", "1"),
        ("timezone", "Asia/Tokyo"),
        ("standard_conforming_strings", "off"),
    ],
)
@pytest.mark.parametrize("local", ["true", "false"])
def test_what_a_query_sets_ends_with_it(
    session: Session, setting: tuple[str, str], local: str
) -> None:
    name, value = setting
    asked = f"select current_setting('{name}'), pg_backend_pid()"
    [(before, pid)] = rows(session, asked)
    changed = f"select current_setting('{name}') from set_config('{name}', '{value}', {local})"
    assert before not in rows(session, changed)[0]
    assert rows(session, asked) == [(before, pid)]
    with pytest.raises(QueryError, match="read-only"):
        rows(session, "select writes()")


def test_a_query_that_fails_sets_nothing_either(session: Session) -> None:
    with pytest.raises(QueryError, match="division by zero"):
        rows(session, "select 1 / (length(set_config('role', 'pg_monitor', false)) - 10)")
    assert rows(session, "select current_user::text") == [("postgres",)]


def test_an_advisory_lock_is_free_after_the_query_that_took_it(
    shop: PostgresPlace, session: Session
) -> None:
    free = "select pg_try_advisory_lock(42)"
    # Given back at once: a backend that ends lets go of its locks a little later.
    elsewhere = f"{free} and pg_advisory_unlock(42)"
    assert rows(session, free) == [(True,)]
    assert shop.execute(elsewhere) == [(True,)]
    with pytest.raises(QueryError, match="division by zero"):
        rows(session, "select 1 / (pg_try_advisory_lock(42)::int - 1)")  # it is taken, and then
    assert shop.execute(elsewhere) == [(True,)]


def test_the_session_can_only_read_even_what_was_not_recognized(shop: PostgresPlace) -> None:
    with opened(shop).engine(read_only=True) as engine, engine.connect() as connection:
        for sql, words in {
            "delete from orders": "read-only transaction",
            "rollback; delete from orders": "multiple commands",
        }.items():
            with pytest.raises(DBAPIError, match=words):
                connection.exec_driver_sql(sql)
            connection.rollback()


def test_each_transaction_is_read_only_whatever_the_session_s_default(shop: PostgresPlace) -> None:
    """As behind a pooler that drops what a session begins with."""
    role = "postgres; set default_transaction_read_only = off"
    with pytest.raises(QueryError, match="read-only transaction"):
        read(opened(shop, role=role), "select writes()")


def test_all_functions_that_the_server_keeps_from_ordinary_users_are_refused(
    shop: PostgresPlace, session: Session
) -> None:
    """Save for those that only show what the server is doing."""
    shown = (
        "pg_config pg_current_logfile pg_get_backend_memory_contexts pg_get_shmem_allocations "
        "pg_show_replication_origin_status pg_stat_have_stats"
    )
    reserved = shop.execute(
        "select distinct proname from pg_proc where pronamespace = 'pg_catalog'::regnamespace "
        "and not has_function_privilege('public', oid, 'execute')"
    )
    assert len(reserved) > 30
    for (name,) in reserved:
        if name not in shown.split():
            with pytest.raises(QueryError, match=f"calls {name}"):
                rows(session, f"select {name}()")


def test_a_name_that_only_looks_like_a_refused_one_is_let_through(session: Session) -> None:
    sql = "select 'pg_read_file(' as pg_read_file, count(id) as lo_price from orders -- dblink('a')"
    assert rows(session, sql) == [("pg_read_file(", 4)]


def test_the_engine_of_the_store_can_write(own: PostgresPlace) -> None:
    database = opened(own)
    with database.engine(read_only=False) as engine, engine.begin() as connection:
        connection.exec_driver_sql("delete from orders where id > 1")
    assert read(database, "select id from orders") == [(1,)]


# -- results -------------------------------------------------------------------------------------


def test_of_a_large_result_only_what_is_asked_for_reaches_the_client(shop: PostgresPlace) -> None:
    """Half a million rows, of which a thousand are asked for."""
    script = (
        "import sys\n"
        "from datetime import timedelta\n"
        "from pathlib import Path\n"
        "from sentinel.ports import Query\n"
        "from sentinel.warehouses.contract import WarehouseContext\n"
        "from sentinel.warehouses.postgres import Postgres\n"
        "from tests.peak import peak_bytes\n"
        "def used(): return peak_bytes() // 1024**2\n"
        "with Postgres(eval(sys.argv[1]), WarehouseContext(Path())).open() as session:\n"
        "    session.fetch(Query('select 1', timedelta(minutes=1)), 1000)\n"
        "    before = used()\n"
        "    sql = 'select n, md5(n::text) as t from generate_series(1, 500000) as n'\n"
        "    found = session.fetch(Query(sql, timedelta(minutes=1)), 1000)\n"
        "    print(len(found.rows), found.truncated, used() - before < 10)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, repr(shop.output)], capture_output=True, text=True
    )
    assert done.stdout.split() == ["1000", "True", "True"], done.stderr


def test_the_plan_of_an_alert_may_use_parallel_workers(own: PostgresPlace) -> None:
    """A server-side cursor would bound memory too, but its plans are never parallel."""
    own.execute("create table many as select n from generate_series(1, 10000) as n")
    own.execute(
        "create function runs_in(n int) returns int language plpgsql parallel safe "
        "as $$ begin return pg_backend_pid(); end $$"
    )
    for setting in ("debug_parallel_query = on", "parallel_leader_participation = off"):
        own.execute(f"alter database {own.dbname} set {setting}")
    with opened(own, 1).open() as session:
        [(leader,)] = rows(session, "select pg_backend_pid()")
        [(worker,)] = rows(session, "select max(runs_in(n)) from many")
    assert worker != leader


def test_rows_come_in_the_order_of_the_query(session: Session) -> None:
    assert rows(session, "select id from orders order by amount desc -- largest first") == [
        (3,),
        (2,),
        (1,),
        (4,),
    ]


def test_a_column_may_have_any_name(session: Session) -> None:
    name = 'a %s "b" :c'
    sql = 'select region as "a %s ""b"" :c" from orders where id = 3'
    assert session.count(Query(sql, LONG), [name], 3).rows == (("south", 1),)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12.50::numeric", Decimal("12.50")),
        ("1e308::float", 1e308),
        ("true", True),
        ("array[1, 2]", [1, 2]),
        ("""'{"a": [1]}'::jsonb""", {"a": [1]}),
        ("interval '1 day'", timedelta(days=1)),
        ("interval '-1 year 2 mons -3 days'", timedelta(days=-303)),
        ("'::1'::inet", "::1"),
        ("'10.0.0.0/8'::cidr", "10.0.0.0/8"),
        ("array['::1'::inet]", ["::1"]),
        ("row(1, 'x')", "(1,x)"),
        ("array[row(1, 2)]", '{"(1,2)"}'),
        ("'{[1,3)}'::int4multirange", "{[1,3)}"),
        ("'00000000-0000-0000-0000-000000000001'::uuid", UUID(int=1)),
        ("'\\x00ff'::bytea", b"\x00\xff"),
        ("date 'infinity'", date(9999, 12, 31)),
        ("date '-infinity'", date(1, 1, 1)),
        ("timestamptz '-infinity'", datetime(1, 1, 1, tzinfo=UTC)),
        ("timestamp 'infinity'", datetime.fromisoformat("9999-12-31T23:59:59.999999")),
        ("time '24:00'", time_of_day(0, 0)),
        ("timestamptz '1800-01-01 00:00:00+00'", datetime(1800, 1, 1, tzinfo=UTC)),
    ],
)
def test_values_are_those_of_the_driver(session: Session, expression: str, value: Any) -> None:
    assert rows(session, f"select {expression}") == [(value,)]


def test_a_range_is_written_as_it_always_was(session: Session) -> None:
    [(whole, dates)] = rows(session, "select '[1,5)'::int4range, '[2026-01-01,)'::daterange")
    assert (str(whole), str(dates)) == ("[1, 5)", "[2026-01-01, None)")


def test_an_instant_has_the_offset_of_the_session_s_zone_also_one_without_a_name(
    own: PostgresPlace,
) -> None:
    for zone, offset in {"Asia/Tokyo": 9, "<-03>+03": -3}.items():
        own.execute(f"alter database {own.dbname} set timezone = '{zone}'")
        [(found,)] = read(opened(own), "select timestamptz '2026-01-02 00:00:00+00'")
        assert (
            found.isoformat()
            == datetime(2026, 1, 2, tzinfo=UTC)
            .astimezone(timezone(timedelta(hours=offset)))
            .isoformat()
        )


def test_dates_are_read_whatever_the_style_of_the_server(own: PostgresPlace) -> None:
    own.execute(f"alter database {own.dbname} set datestyle = 'German'")
    sql = "select date '2026-01-02', timestamp '2026-01-02 03:04:05'::text"
    for _ in range(2):
        assert read(opened(own, 1), sql) == [(date(2026, 1, 2), "2026-01-02 03:04:05")]
    with opened(own, 1).open() as session:
        assert rows(session, sql) == rows(session, sql)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding_is_read(servers: Servers, encoding: str) -> None:
    main = servers.postgres.main
    name = f"encoded_{encoding.lower()}"
    main.execute(
        f"create database {name} encoding '{encoding}' template template0 lc_collate 'C' lc_ctype 'C'"
    )
    try:
        place = replace(main, dbname=name, schema="public")
        assert read(opened(place), "select 'abc', '\\xff'::bytea") == [("abc", b"\xff")]
        utf8 = opened(place, client_encoding="UTF8")
        if encoding == "LATIN1":
            assert read(opened(place), "select 'é', chr(233)") == [("é", "é")]
            assert read(utf8, "select 'é', chr(233)") == [("é", "é")]
        else:
            with pytest.raises(QueryError, match=r"can't be read: 'ascii' codec can't decode"):
                read(opened(place), "select chr(233)")
            assert read(utf8, "select 'é'") == [("é",)]
    finally:
        main.execute(f"drop database {name} with (force)")


@pytest.mark.parametrize(
    "expression",
    [
        "timestamp '20000-01-01'",
        "date '20000-01-01'",
        "date '0044-03-15 BC'",
        "interval '1000000000 days'",
        "interval '178000000 years'",
        "array[date '20000-01-01']",
    ],
)
def test_a_value_that_python_has_no_room_for_is_an_error_of_its_query(
    session: Session, expression: str
) -> None:
    with pytest.raises(QueryError, match="can't be read"):
        rows(session, f"select {expression}")
    assert rows(session, "select 1") == [(1,)]


# -- time ----------------------------------------------------------------------------------------


def test_an_instant_has_the_type_of_as_of(session: Session) -> None:
    timestamp_literal = opened_nowhere().timestamp_literal(datetime(2026, 1, 2, tzinfo=UTC))
    sql = f"select pg_typeof({timestamp_literal})::text, pg_typeof(now() at time zone 'UTC')::text"
    assert rows(session, sql) == [("timestamp without time zone",) * 2]


def test_instants_are_right_whatever_the_zone_of_the_server(own: PostgresPlace) -> None:
    own.execute(f"alter database {own.dbname} set timezone = 'Asia/Tokyo'")
    database = opened(own)
    timestamp_literal = database.timestamp_literal(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    zoned = "timestamptz '2026-01-02 12:04:05 Asia/Tokyo'"
    [(zone, plain, kept, same)] = read(
        database,
        f"select current_setting('timezone'), {timestamp_literal}, {zoned}, "
        f"{zoned} at time zone 'UTC' = {timestamp_literal}",
    )
    assert zone == "Asia/Tokyo"  # the session is as dbt's
    assert plain == datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - it has no zone, by contract
    assert kept == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert same


# -- timeouts ------------------------------------------------------------------------------------


def running(place: PostgresPlace, marker: str) -> int:
    sql = (
        "select count(*) from pg_stat_activity where state = 'active' "
        f"and query like '%{marker}%' and pid <> pg_backend_pid()"
    )
    [(number,)] = place.execute(sql)
    return int(number)


def until(true: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_after_a_timeout_nothing_runs_on_the_server(
    shop: PostgresPlace, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_NET", timedelta(hours=1))  # it is the cancel that ends it
    sql = "select pg_sleep(20) -- runs out"
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(rows, session, sql, timedelta(seconds=2))
        assert until(lambda: running(shop, "runs out") == 1)
        with pytest.raises(QueryError, match="timeout of 2s"):
            query.result()
    assert until(lambda: running(shop, "runs out") == 0)


def test_a_statement_that_waits_for_a_lock_is_cancelled_before_it_runs(own: PostgresPlace) -> None:
    """The server locks the tables of a statement when it reads it."""
    import psycopg

    arguments = {key: own.output[key] for key in ("host", "port", "user", "password", "dbname")}
    with (
        opened(own, 1).open() as session,
        psycopg.connect(**arguments) as holder,
    ):
        holder.execute(f"lock table {own.schema}.orders")
        with pytest.raises(QueryError, match="timeout of 1s"):
            rows(session, "select * from orders", timedelta(seconds=1))
        holder.rollback()
        assert len(rows(session, "select * from orders")) == 4


def test_a_query_whose_process_is_gone_ends_on_the_server(own: PostgresPlace) -> None:
    script = (
        "import sys\n"
        "from datetime import timedelta\n"
        "from pathlib import Path\n"
        "from sentinel.ports import Query\n"
        "from sentinel.warehouses.contract import WarehouseContext\n"
        "from sentinel.warehouses import postgres\n"
        "postgres._NET = timedelta(seconds=-55)\n"
        "with postgres.Postgres(eval(sys.argv[1]), WarehouseContext(Path())).open() as session:\n"
        "    session.fetch(Query(sys.argv[2], timedelta(seconds=60)), 3)\n"
    )
    arguments = [sys.executable, "-c", script, repr(own.output), SLOW + " -- left alone"]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        assert until(lambda: running(own, "left alone") == 1)
        process.kill()
    assert until(lambda: running(own, "left alone") == 0)


def test_a_query_that_loses_its_connection_is_an_error_and_the_session_goes_on(
    shop: PostgresPlace, session: Session
) -> None:
    def end() -> None:
        assert until(lambda: running(shop, "is ended") == 1)
        shop.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where query like '%is ended%' and pid <> pg_backend_pid()"
        )

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(QueryError, match=r"terminating connection|server closed the connection"):
        rows(session, SLOW + " -- is ended")
    thread.join()
    assert rows(session, "select 1") == [(1,)]


# -- the profile ---------------------------------------------------------------------------------


NOWHERE = {
    "host": "127.0.0.1",
    "port": 1,
    "user": "u",
    "password": "swordfish",
    "dbname": "shop",
    "schema": "s",
}


def opened_nowhere(notify: Callable[[str], None] = lambda _: None, **others: Any) -> Postgres:
    return Postgres(NOWHERE | others, WarehouseContext(Path(), notify=notify))


@pytest.mark.parametrize("key", ["host", "port", "user", "password", "dbname", "schema"])
def test_a_key_that_is_missing_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"the PostgreSQL profile has no `{key}`$"):
        Postgres(NOWHERE | {key: None}, WarehouseContext(Path()))


@pytest.mark.parametrize("key", ["port", "connect_timeout", "keepalives_idle", "retries"])
@pytest.mark.parametrize("value", ["many", -1, True, 1.5])
def test_a_number_that_is_none_is_named(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"`{key}` of the PostgreSQL profile"):
        Postgres(NOWHERE | {key: value}, WarehouseContext(Path()))


def test_dbt_s_other_names_of_keys_are_understood(shop: PostgresPlace) -> None:
    others: dict[str, Any] = {
        "dbname": None,
        "database": shop.dbname,
        "password": None,
        "pass": shop.password,
    }
    assert read(opened(shop, **others, port=str(shop.port)), "select 1") == [(1,)]


def settings_of(database: Postgres, *names: str) -> tuple[Any, ...]:
    listed = ", ".join(f"current_setting('{name}')" for name in names)
    return read(database, f"select {listed}")[0]


def test_the_session_is_named_after_sentinel_unless_the_profile_names_it(
    shop: PostgresPlace,
) -> None:
    assert settings_of(opened(shop), "application_name") == ("sentinel",)
    assert settings_of(opened(shop, application_name="mine"), "application_name") == ("mine",)


def test_the_search_path_is_the_profile_s_whatever_is_in_it(own: PostgresPlace) -> None:
    own.execute('create schema "north sea"')
    own.execute('create table "north sea".ships as select 7 as n')
    path = '"north sea", shop'
    assert settings_of(opened(own, search_path=path), "search_path") == (path,)
    assert read(opened(own, search_path=path), "select n, id from ships, orders limit 1")
    assert settings_of(opened(own, search_path=None), "search_path") == ('"$user", public',)


@pytest.mark.parametrize("read_only", [True, False])
def test_the_role_is_taken_on_each_connection_and_outlives_rollbacks(
    own: PostgresPlace, read_only: bool
) -> None:
    own.execute(f'create role "{own.dbname} Reader"')
    try:
        database = opened(own, 2, role=f'"{own.dbname} Reader"')
        with database.engine(read_only=read_only) as engine:
            with engine.connect() as first, engine.connect() as second:
                assert [who(first), who(second)] == [f"{own.dbname} Reader"] * 2
                first.rollback()
                assert who(first) == f"{own.dbname} Reader"
            for _ in range(3):
                with engine.connect() as again:
                    assert who(again) == f"{own.dbname} Reader"
        with pytest.raises(QueryError, match="permission denied"):
            read(database, f"select * from {own.schema}.orders")
    finally:
        own.execute(f'drop role "{own.dbname} Reader"')


def who(connection: Any) -> str:
    return str(connection.exec_driver_sql("select current_user::text").scalar_one())


def test_a_role_that_is_not_there_is_told_at_once(shop: PostgresPlace) -> None:
    with pytest.raises(WarehouseError, match='role "nobody_at_all" does not exist'):
        read(opened(shop, role="nobody_at_all"), "select 1")


def parameters(place: PostgresPlace, **others: Any) -> Mapping[str, str]:
    """What the driver was told, of a connection that a profile leads to."""
    with opened(place, **others).engine(read_only=True) as engine, engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        return dict(driver.info.get_parameters())


def test_every_key_of_the_profile_reaches_the_driver(shop: PostgresPlace, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("no key")
    key.chmod(0o600)
    given = {
        "sslmode": "allow",
        "sslcert": str(tmp_path / "no.crt"),
        "sslkey": str(key),
        "sslrootcert": str(tmp_path / "root.crt"),
        "keepalives_idle": 17,
        "connect_timeout": 3,
        "application_name": "mine",
        "client_encoding": "UTF8",
    }
    found = parameters(shop, **given)
    assert {name: found.get(name) for name in given} == {k: str(v) for k, v in given.items()}


def test_what_the_profile_leaves_out_is_dbt_s_default(shop: PostgresPlace) -> None:
    found = parameters(shop, keepalives_idle=0, search_path="")
    assert found["connect_timeout"] == "10"
    assert "keepalives_idle" not in found
    assert "search_path" not in found["options"]
    assert not {"sslcert", "sslkey", "sslrootcert"} & set(found)


def test_every_key_that_dbt_knows_is_on_the_page() -> None:
    from dbt.adapters.postgres.connections import PostgresCredentials

    page = next(page for page in all_pages() if str(page).endswith("connect-postgres.md"))
    known = {field.name for field in fields(PostgresCredentials) if field.init}
    assert known | set(PostgresCredentials._ALIASES) <= set(re.findall(r"`(\w+)`", page.prose))


def test_a_demand_for_ssl_is_kept(shop: PostgresPlace) -> None:
    with pytest.raises(WarehouseError, match="server does not support SSL"):
        read(opened(shop, sslmode="require", retries=0), "select 1")


def test_a_host_that_is_a_folder_is_that_of_a_socket(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match=rf"socket .*{tmp_path}/\.s\.PGSQL\.7"):
        read(opened_nowhere(host=str(tmp_path), port=7, retries=0), "select 1")


# -- a server that can't be reached --------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_connecting_is_tried_as_often_as_the_profile_says(
    retries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    tries = 0
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(20)

        def hang_up() -> None:
            nonlocal tries
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                tries += 1
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        database = opened_nowhere(
            said.append, port=server.getsockname()[1], retries=retries, sslmode="disable"
        )
        with pytest.raises(WarehouseError, match="server closed the connection") as caught:
            read(database, "select 1")
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert tries == retries + 1
    assert len(said) == retries
    assert all("trying again: " in each and "server closed" in each for each in said)
    assert "swordfish" not in str(caught.value) + "".join(said)


def test_dbt_s_default_is_to_try_once_more() -> None:
    said: list[str] = []
    with pytest.raises(WarehouseError, match=r"database shop: .*Connection refused"):
        read(opened_nowhere(said.append), "select 1")
    assert len(said) == 1


def test_a_wrong_password_is_told_without_it(shop: PostgresPlace) -> None:
    with pytest.raises(WarehouseError, match="password authentication failed") as caught:
        read(opened(shop, password="swordfish", retries=0), "select 1")
    assert "swordfish" not in f"{caught.value!r} {caught.value.hint}"
    assert caught.value.__cause__ is None


def test_a_password_that_the_server_repeats_is_not_told(shop: PostgresPlace) -> None:
    with pytest.raises(WarehouseError, match=r'role "\*+" does not exist'):
        read(opened(shop, role=f'"{shop.password}"'), "select 1")


def test_a_database_that_is_closed_is_told_and_opened_when_it_is_open_again(
    own: PostgresPlace, servers: Servers
) -> None:
    main, database = servers.postgres.main, opened(own, retries=0)
    main.execute(f"alter database {own.dbname} allow_connections false")
    with pytest.raises(WarehouseError, match="not currently accepting connections"):
        read(database, "select 1")
    main.execute(f"alter database {own.dbname} allow_connections true")
    assert read(database, "select 1") == [(1,)]


def test_the_driver_is_imported_only_when_a_server_is_opened() -> None:
    script = (
        "import sys, pathlib\n"
        "from sentinel.warehouses.contract import WarehouseContext\n"
        "from sentinel.warehouses.postgres import Postgres\n"
        "Postgres(dict.fromkeys(['host', 'user', 'password', 'dbname', 'schema'], 'x') | "
        "{'port': 1}, WarehouseContext(pathlib.Path('.')))\n"
        "assert not {'psycopg', 'psycopg2'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)
