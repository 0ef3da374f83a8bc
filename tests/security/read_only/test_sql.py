"""Read-only means read-only: what an alert's SQL can't do, on every warehouse.

The warehouse's own parser decides that an alert is one statement that reads; ours is the second guard.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sentinel.core.errors import QueryError
from sentinel.ports import Query
from sentinel.warehouses.readonly import one_select
from tests.places.servers import Servers

from ..registry import WAREHOUSES
from .generated_sql import attack
from .hostile_sql import DECIDING, SPACES, TARGETS, Target, open_target, without_guard

TIMEOUT = timedelta(seconds=20)
# Without a letter that looks like a space, and is one to nobody.
ODD_SPACES = sorted(set(SPACES) - set(" \t\n\r\uffa0"))


@pytest.fixture(scope="module", params=[*TARGETS])
def target(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """A warehouse in which nothing may change, and a session of one connection."""
    with open_target(request.param, servers, tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


@pytest.fixture
def name(request: pytest.FixtureRequest, target: Target) -> str:
    """The target's."""
    found: str = request.node.callspec.params["target"]
    return found


def fetch(target: Target, sql: str) -> tuple[tuple[Any, ...], ...]:
    return target.session.fetch(Query(sql, TIMEOUT), 10).rows


def test_every_registered_warehouse_is_attacked() -> None:
    assert set(WAREHOUSES) | {"adapter"} == set(TARGETS)


# -- one statement -------------------------------------------------------------------------------

SCRIPTS = (
    "select 'OK' as status, 1 as a{0}$$) x; commit; begin read write; delete from orders; commit; "
    "select * from (select 'OK' as status, 2 as b{0}$$",
    "select 'OK' as status, 1 as a{0}$$; create temp macro avg(x) as 99; select 2 as b{0}$$",
    "select 1 as a --{0}; delete from orders where 1 = 1; --\n",
    "select 1 as a{0}; delete from orders where 1 = 1",
    "{0}select 1 as a; delete from orders where 1 = 1",
    "select{0}1 as a) x; delete from orders where 1 = 1; select * from (select 1",
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_refused_whatever_character_hides_it(target: Target, script: str) -> None:
    for space in (*ODD_SPACES, "\r", " "):
        text = script.format(space)
        target.attack(text)
        if "--" not in script or space in "\r\x85\u2028\u2029":
            with pytest.raises(QueryError):
                fetch(target, text)


@pytest.mark.parametrize("space", ODD_SPACES, ids=lambda space: f"U+{ord(space):04X}")
def test_a_character_that_parsers_read_differently_is_named_with_its_line(
    target: Target, space: str
) -> None:
    with pytest.raises(QueryError, match=rf"U\+{ord(space):04X} .* in line 2"):
        fetch(target, f"select 1 as a,\n 2 as{space}b")


def test_text_quoted_names_and_comments_may_hold_other_characters(
    target: Target, name: str
) -> None:
    odd = "\u00a0\u2003\u200b\u2028\u3000\ufeff"
    quote = "`" if name == "bigquery" else '"'
    label = "größe" if name == "bigquery" else odd
    sql = f"select '{odd}' as a, 2 as {quote}{label}{quote} -- größe\u00a0\u200b, größer\n"
    found = target.session.fetch(Query(sql, TIMEOUT), 10)
    assert found.columns == ("a", label)
    assert found.rows == ((odd, 2),)


@pytest.mark.parametrize(
    "sql",
    [
        "select 1 as a) as x, (select 2 as b",
        "select 1 as a) as x union all select * from (select 2 as a",
        "select 1 as a) as x where 1 = 0 -- ",
        "select 1 as a from (select 2 as b",
        "select 1 as a /* ",
        "select 1 as a, $$ ",
        "select 1 as a, ' ",
    ],
)
def test_a_statement_that_closes_the_bracket_around_it_is_refused(target: Target, sql: str) -> None:
    """By the guard, and by what the warehouse makes of the statement alone."""
    query = Query(sql, TIMEOUT)
    for way in (
        lambda: target.session.fetch(query, 10),
        lambda: target.session.count(query, [], 10),
        lambda: target.session.count(query, ["a"], 10),
        lambda: target.session.sample(query, [], 10),
        lambda: target.session.sample(query, ["a"], 10),
        lambda: target.session.describe(query),
    ):
        with pytest.raises(QueryError):
            way()


@pytest.mark.parametrize(
    "sql", ["select 1 as a) as x, (select 2 as b", "select 1 as a) as x where 1 = 0 -- "]
)
def test_the_server_reads_an_alert_alone_before_it_reads_the_query_around_it(
    target: Target, name: str, sql: str
) -> None:
    if name not in ("postgres", "duckdb"):
        return
    with without_guard(target), pytest.raises(QueryError, match=r"syntax error at or near \"\)\""):
        target.session.count(Query(sql, TIMEOUT), [], 10)


def test_the_alert_reaches_postgresql_by_the_protocol_that_takes_one_statement(
    servers: Servers, tmp_path: Path
) -> None:
    with open_target("postgres", servers, tmp_path) as target, tempfile.TemporaryFile() as wire:
        session: Any = target.session
        with session._engine.connect() as connection:
            connection.connection.driver_connection.pgconn.trace(wire.fileno())
        assert fetch(target, "select 7 as traced") == ((7,),)
        with without_guard(target), pytest.raises(QueryError, match="multiple commands"):
            fetch(target, "select 7 as traced; delete from orders")
        with session._engine.connect() as connection:
            connection.connection.driver_connection.pgconn.untrace()
        wire.seek(0)
        sent = [line.split(b"\t", 3) for line in wire.read().splitlines() if b"traced" in line]
        by = {fields[-1].split(b"\t")[0].split()[0] for fields in sent if b"F" in fields}
        assert by == {b"Parse"}


# -- nothing is left behind ----------------------------------------------------------------------

# What an alert might leave, and an alert that would notice.
SET_ON_POSTGRES = {
    "search_path": "pg_catalog", "role": "pg_monitor", "timezone": "Asia/Tokyo", "datestyle": "German",
    "statement_timeout": "1ms", "default_transaction_read_only": "off", "extra_float_digits": "-5",
    "session_replication_role": "replica", "application_name": "changed", "intervalstyle": "iso_8601",
}  # fmt: skip
ON_POSTGRES = {
    **{
        f"select set_config('{name}', '{value}', {local})": f"select current_setting('{name}')"
        for name, value in SET_ON_POSTGRES.items()
        for local in ("true", "false")
    },
    "select pg_advisory_lock(42)": "select count(*) from pg_locks where locktype = 'advisory'",
    "select pg_try_advisory_lock_shared(1, 2)": "select count(*) from pg_locks where locktype = 'advisory'",
    "select 7 as a": (
        "select (select count(*) from pg_prepared_statements), (select count(*) from pg_cursors)"
    ),
    "select pg_notify('a', 'b')": "select count(*) from pg_listening_channels()",
    "select nextval('numbers')": "select last_value, is_called from numbers",
}
LEFT: Mapping[str, Mapping[str, str]] = {
    "postgres": ON_POSTGRES,
    "adapter": ON_POSTGRES,
    "duckdb": {
        "create temp macro avg(x) as 99": "select avg(amount) from orders",
        "create temp view orders as select 1 as id": "select count(*) from orders",
        "set variable v = 1": "select getvariable('v')",
        "select 7 as a": "select count(*) from duckdb_prepared_statements()",
        "pivot orders on region using sum(amount)": "select count(*) from duckdb_types() where not internal",
        "select * from (pivot orders on region using sum(amount))": (
            "select count(*) from duckdb_types() where not internal"
        ),
        "set search_path = 'temp'": "select current_setting('search_path')",
    },
    "sqlite": {
        "select 7 as a": "select count(*) from sqlite_stmt where sql like '%7 as a%'",
        "create temp view orders as select 1 as id": "select count(*) from orders",
        "pragma case_sensitive_like = on": "select 'a' like 'A'",
        "select * from pragma_case_sensitive_like(1)": "select 'a' like 'A'",
        "select max(id) from orders": "select total_changes(), changes(), last_insert_rowid()",
    },
    "bigquery": {
        "create temp table orders as select 1 as id": "select count(*) from orders",
        "set @@dataset_id = 'elsewhere'": "select count(*) from orders",
    },
}


def test_an_alert_leaves_nothing_to_the_next_one_on_its_connection(
    target: Target, name: str
) -> None:
    for first, second in LEFT[name].items():
        if name == "bigquery":
            second = second.replace("orders", f"{target.place.schema}.orders")  # type: ignore[attr-defined]  # only its own has one
        before = fetch(target, second)
        with_errors(target, first)
        assert fetch(target, second) == before, first


def test_an_alert_that_fails_leaves_nothing_either(target: Target, name: str) -> None:
    if name in ("postgres", "adapter"):
        before = fetch(target, "select current_setting('timezone'), current_user::text")
        for setting in ("timezone", "role"):
            value = SET_ON_POSTGRES[setting]
            with_errors(
                target, f"select 1 / (length(set_config('{setting}', '{value}', false)) - 10)"
            )
        assert fetch(target, "select current_setting('timezone'), current_user::text") == before


def test_an_alert_doesn_t_decide_what_is_random_for_the_next_one(target: Target, name: str) -> None:
    if name not in ("postgres", "adapter", "duckdb"):
        return  # no seed can be set by a SELECT
    found = set()
    for _ in range(3):
        fetch(target, "select setseed(0.5)")
        found |= set(fetch(target, "select random()"))
    assert len(found) == 3


def with_errors(target: Target, sql: str) -> None:
    try:
        fetch(target, sql)
    except QueryError as error:
        assert str(error)


# -- the guard -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["postgres", "redshift"])
@pytest.mark.parametrize(
    "sql",
    [
        "select 1 as a$$; delete from orders; select 2 as b$$",
        "select 1 |/* '*/; delete from orders; select /* ' */ 1",
        "select 1 ||/* '*/; delete from orders; select /* ' */ 1",
        "select 1 #-- '\n; delete from orders --'\n",
        "select 1 @-- $$\n; delete from orders -- $$\n",
        "select E'\\'' as a; delete from orders; select '\\'' as b",
        "select U&'\\' as a; delete from orders; select '\\'",
        "select 'a' as b -- '\r; delete from orders --'",
        "select /* /* */ ; */ 1; delete from orders",
        "select 1 as é$$; delete from orders; select 2 as é$$",
        "select $é$ $ $é$; delete from orders; select $é$",
    ],
)
def test_the_guard_reads_a_text_as_postgresql_does(dialect: str, sql: str) -> None:
    with pytest.raises(QueryError):
        one_select(sql, dialect)


# -- generated texts -----------------------------------------------------------------------------


def test_no_generated_text_changes_anything_or_reads_what_it_may_not(target: Target) -> None:
    """The same texts every time; `make security-fuzz` tries others for an hour."""
    _attack(target)


def test_a_warehouse_that_decides_by_itself_needs_no_guard_of_ours(
    target: Target, name: str
) -> None:
    if name in DECIDING:
        with without_guard(target):
            _attack(target)


def _attack(target: Target) -> None:
    before = replace(target.tally)
    attack(target, 60 if target.dialect == "bigquery" else 200, from_seed=1)
    assert target.tally.accepted > before.accepted
    assert target.tally.refused > before.refused
