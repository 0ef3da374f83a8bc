"""Warehouses without a module: nobody can be asked what a text is, so its words have to be enough."""

from __future__ import annotations

from typing import Any

import pytest

from sentinel.core.errors import QueryError
from sentinel.warehouses.introspection import JudgedHandle
from sentinel.warehouses.readonly import one_select, refuse_writing

# sqlglot's names of SQL, and none for SQL Server, whose type in dbt it doesn't know.
DIALECTS = ("", "tsql", "mysql", "snowflake", "databricks", "redshift", "trino", "clickhouse")

# SQL Server needs no semicolon between two statements.
UNSEPARATED = (
    "select 1 as a\ndelete from orders",
    "select 1 as a drop table orders",
    "select 1 as a from orders truncate table orders",
    "select 1 as a alter table orders add n int",
    "select 1 as a create table stolen (n int)",
    "select 1 as a\nexec xp_cmdshell 'dir'",
    "select 1 as a EXECUTE sp_who",
    "select 1 as a grant all on orders to public",
    "select 1 as a revoke all on orders from public",
    "select 1 as a shutdown with nowait",
    "select 1 as a where 1 = 1 kill 5",
    "select 1 as a\nmerge into orders using x on 1 = 1 when matched then delete",
    "select 1 as a bulk insert orders from 'x.csv'",
)
SHOWN = (
    "show tables drop table orders",
    "describe orders\ndelete from orders",
    "desc analyze delete from orders",
    "describe orders exec xp_cmdshell 'dir'",
)
# MySQL and MariaDB run such a comment.
IN_COMMENTS = (
    "select 1 as a /*!into outfile '/tmp/stolen'*/",
    "select 1 as a /*!50000 into outfile '/tmp/stolen' */",
    "select 1 as a /*M!100000 into outfile '/tmp/stolen' */",
)


class Handle:
    """A driver's connection that runs whatever it gets."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def cursor(self) -> Handle:
        return self

    def execute(self, sql: str) -> None:
        self.ran.append(sql)


def compiled(sql: str, dialect: str) -> list[str]:
    """What dbt's connection has run of it while an alert compiles."""
    handle = Handle()
    cursor: Any = JudgedHandle(handle, dialect).cursor()
    try:
        cursor.execute(sql)
    except QueryError:
        assert not handle.ran
    return handle.ran


def evaluated(sql: str, dialect: str) -> None:
    refuse_writing(one_select(sql, dialect), dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("sql", [*UNSEPARATED, *IN_COMMENTS])
def test_a_statement_without_a_semicolon_before_it_is_refused(sql: str, dialect: str) -> None:
    assert compiled(sql, dialect) == []
    with pytest.raises(QueryError):
        evaluated(sql, dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("sql", SHOWN)
def test_what_shows_or_describes_holds_no_other_statement(sql: str, dialect: str) -> None:
    assert compiled(sql, dialect) == []


def test_mysql_takes_dashes_without_a_space_for_two_minus_signs() -> None:
    sql = "select 5 --1 into outfile '/tmp/stolen'"
    assert compiled(sql, "mysql") == []
    with pytest.raises(QueryError):
        evaluated(sql, "mysql")
    evaluated("select 5 -- into words\n--\n--\tmore", "mysql")
    evaluated("select 5 --into words", "snowflake")


@pytest.mark.parametrize(
    "sql",
    [
        "select t.update, replace(t.a, 'x', 'y') as b from t -- exec the drop",
        "select 'drop table x' as a /* create */",
        'select "drop" as a from "create"',
        # sqlglot can't read these; the warehouse may.
        "select 1 as a from t where a ~~~ 1 and t.drop = 2",
        "select replace(a, 'x') ~~~ truncate(b) from t",
    ],
)
def test_words_that_only_look_like_statements_are_let_through(sql: str) -> None:
    assert compiled(sql, "snowflake") == [sql]
    evaluated(sql, "snowflake")


@pytest.mark.parametrize(
    "sql",
    ["show create table orders", "show tables in shop", "describe table extended shop.orders"],
)
def test_the_catalog_is_shown(sql: str) -> None:
    assert compiled(sql, "databricks") == [sql]
