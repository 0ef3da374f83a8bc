"""Whatever is at a table's place and isn't the table that the dbt package made there, is refused."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sentinel.core.errors import StoreError, TablesForeign, TablesMissing
from sentinel.store.bigquery import BigQueryDialect
from sentinel.store.dialect import Dialect
from sentinel.store.duckdb import DuckDbDialect
from sentinel.store.postgres import PostgresDialect
from sentinel.store.sql import SqlStore
from sentinel.store.sqlite import SqliteDialect
from sentinel.warehouses.bigquery import BigQuery
from sentinel.warehouses.contract import WarehouseContext, WarehouseType
from sentinel.warehouses.duckdb import DuckDb
from sentinel.warehouses.postgres import Postgres
from sentinel.warehouses.sqlite import Sqlite
from tests.places.place import Place
from tests.places.servers import Servers
from tests.security.registry import STORES
from tests.store.made import create_statements, declared_columns, open_store, relations_of

STATE = "sentinel_state"
DIALECTS: Mapping[str, Callable[[], Dialect]] = {
    "bigquery": BigQueryDialect,
    "duckdb": DuckDbDialect,
    "postgres": PostgresDialect,
    "sqlite": SqliteDialect,
}
DATABASES: Mapping[str, WarehouseType] = {
    "bigquery": BigQuery,
    "duckdb": DuckDb,
    "postgres": Postgres,
    "sqlite": Sqlite,
}
# What the table is replaced by, on each warehouse. `original` is the table, moved away.
ASIDE = {
    "duckdb": "alter table sentinel_state rename to original",
    "postgres": "alter table sentinel_state rename to original",
    "sqlite": "alter table sentinel_state rename to original",
    "bigquery": "create table original as select * from sentinel_state",
}
KINDS: Mapping[str, Mapping[str, str]] = {
    "duckdb": {
        "a view": "create view sentinel_state as from original",
        "a copy": "create table sentinel_state as from original",
        "a renamed copy": "create table c as from original; comment on table c is "
        "'Sentinel keeps this table as shop.duckdb.main.c.'; alter table c rename to sentinel_state",
    },
    "postgres": {
        "a view": "create view sentinel_state as select * from original",
        "a materialized view": "create materialized view sentinel_state as select * from original",
        "a copy": "create table sentinel_state as select * from original",
        "a copy of its definition": "create table sentinel_state (like original including all)",
        "a copy with its comment": "create table sentinel_state (like original including all); "
        "do $$ begin execute format('comment on table sentinel_state is %L', "
        "obj_description('original'::regclass)); end $$",
        "a child": "create table sentinel_state () inherits (original)",
        "a partitioned table": "create table sentinel_state (like original) partition by list "
        "(project); create table part partition of sentinel_state default",
        "an unlogged table": "alter table original rename to sentinel_state; "
        "alter table sentinel_state set unlogged",
        "a table with a child": "alter table original rename to sentinel_state; "
        "create table child () inherits (sentinel_state)",
    },
    "sqlite": {
        "a view": "create view sentinel_state as select * from original",
        "a copy": "create table sentinel_state as select * from original",
        "a virtual table": "create virtual table sentinel_state using fts5(state_key)",
    },
    "bigquery": {
        "a view": "create view sentinel_state as select * from original",
        "a copy": "create table sentinel_state as select * from original",
        "a clone": "create table sentinel_state clone original",
        "a copy of its definition": "create table sentinel_state like original",
    },
}


def store_of(place: Place, schema: str | None = None, **keys: Any) -> SqlStore:
    where = {
        "duckdb": "shop",
        "postgres": getattr(place, "dbname", ""),
        "bigquery": getattr(place, "project", ""),
    }
    models = declared_columns(place.name)
    if place.name == "sqlite":
        relations = {model: f'{schema or "main"}."{model}"' for model in models}
    else:
        quote = "`" if place.name == "bigquery" else '"'
        relations = relations_of(where[place.name], models, schema or place.schema, quote)
    database = DATABASES[place.name]({**place.output, **keys}, WarehouseContext(Path("/")))
    return open_store(database, relations, "shop", DIALECTS[place.name]())


@pytest.fixture
def tables(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place with the five tables."""
    with servers.open_place(request.param, tmp_path) as place:
        where = None
        if request.param == "bigquery":
            where = f"{getattr(place, 'project', '')}.{place.schema}"
        for statement in create_statements(place.name, place=where):
            place.execute(statement)
        store_of(place).check(writing=True)
        yield place


def each_kind() -> list[Any]:
    return [
        pytest.param(store, statement, id=f"{store}: {name}")
        for store, kinds in KINDS.items()
        for name, statement in kinds.items()
    ]


def test_every_store_has_kinds() -> None:
    assert sorted(KINDS) == sorted(DIALECTS) == list(STORES)


@pytest.mark.parametrize(("tables", "statement"), each_kind(), indirect=["tables"])
def test_only_the_table_that_the_package_made_is_used(tables: Place, statement: str) -> None:
    tables.execute(ASIDE[tables.name])
    if tables.name == "bigquery":
        tables.execute("drop table sentinel_state")
    for each in [statement] if "$$" in statement else statement.split("; "):
        tables.execute(each)
    for writing in (True, False):
        with pytest.raises(TablesForeign, match=STATE) as caught:
            store_of(tables).check(writing=writing)
        assert "dbt run -s package:sentinel" in (caught.value.hint or "")


@pytest.mark.parametrize("tables", ["postgres"], indirect=True)
def test_a_foreign_table_is_refused(tables: Place) -> None:
    tables.execute("alter table sentinel_state rename to original")
    tables.execute(
        "create foreign data wrapper wrapper; create server elsewhere foreign data wrapper wrapper; "
        "create foreign table sentinel_state (state_key text) server elsewhere"
    )
    with pytest.raises(TablesForeign, match="foreign table"):
        store_of(tables).check()


@pytest.mark.parametrize("tables", ["postgres"], indirect=True)
def test_a_table_of_another_schema_is_not_found_by_the_search_path(tables: Place) -> None:
    tables.execute("create schema ci")
    with pytest.raises(TablesMissing):
        store_of(tables, "ci", search_path=f"ci,{tables.schema}").check()
    tables.execute("alter schema ci rename to was_ci")
    tables.execute(f"alter schema {tables.schema} rename to ci")
    with pytest.raises(TablesForeign):
        store_of(tables, "ci").check()


@pytest.mark.parametrize("tables", ["duckdb"], indirect=True)
def test_a_copied_duckdb_file_is_refused_whatever_it_is_attached_as(
    tables: Place, tmp_path: Path
) -> None:
    shutil.copy(tmp_path / "shop.duckdb", tmp_path / "dev.duckdb")
    relations = relations_of("dev", declared_columns())
    with pytest.raises(TablesForeign):
        open_store(DuckDb({"path": "dev.duckdb"}, WarehouseContext(tmp_path)), relations).check()
    duckdb.connect(str(tmp_path / "other.duckdb")).close()
    attached = {"path": "other.duckdb", "attach": [{"path": "dev.duckdb", "alias": "shop"}]}
    with pytest.raises(TablesForeign):
        open_store(
            DuckDb(attached, WarehouseContext(tmp_path)), relations_of("shop", declared_columns())
        ).check()


@pytest.mark.parametrize("tables", ["sqlite"], indirect=True)
def test_a_copied_sqlite_file_is_refused(tables: Place, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "shop.db", tmp_path / "dev.db")
    with pytest.raises(TablesForeign):
        store_of(tables, schemas_and_paths={"main": str(tmp_path / "dev.db")}).check()
    with closing(sqlite3.connect(tmp_path / "dev.db")) as connection:
        assert connection.execute("select count(*) from sentinel_state").fetchone() == (0,)


def test_a_relation_that_cannot_be_described_is_no_missing_table(
    servers: Servers, tmp_path: Path
) -> None:
    with servers.open_place("postgres", tmp_path) as place:
        relations = relations_of("another_database", declared_columns("postgres"), place.schema)
        database = Postgres(place.output, WarehouseContext(tmp_path))
        with pytest.raises(StoreError, match="cross-database"):
            open_store(database, relations, "shop", PostgresDialect()).check()
