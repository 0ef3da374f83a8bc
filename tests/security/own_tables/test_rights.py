"""A store that can't be written, and settings of dbt that would make it less than it is."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from google.api_core.exceptions import Forbidden
from google.cloud import bigquery

from sentinel.core.errors import TablesReadOnly
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.duckdb import DuckDb
from tests.package.conftest import DbtProject
from tests.places.postgres import PostgresPlace
from tests.places.servers import Servers
from tests.places.sqlite import SqlitePlace
from tests.store.made import create_statements, declared_columns, open_store, relations_of

from .conftest import TABLES, new_shop
from .test_copies import store_of


@pytest.fixture
def database(servers: Servers) -> Iterator[PostgresPlace]:
    with servers.postgres.database() as place:
        for statement in create_statements("postgres"):
            place.execute(statement)
        yield place


@pytest.mark.parametrize("lacking", ["insert", "update", "delete"])
def test_a_missing_privilege_is_named_before_a_query_runs(
    servers: Servers, database: PostgresPlace, lacking: str
) -> None:
    role = f"{database.dbname}_r"
    database.execute(f"create role {role}; grant usage on schema shop to {role}")
    try:
        database.execute(f"grant select on all tables in schema shop to {role}")
        for privilege in {"insert", "update", "delete"} - {lacking}:
            database.execute(f"grant {privilege} on all tables in schema shop to {role}")
        store = store_of(database, role=role)
        store.check()
        with pytest.raises(TablesReadOnly, match=f"lacks {lacking} on it") as caught:
            store.check(writing=True)
        assert f"grant {lacking}" in (caught.value.hint or "")
        database.execute(f"grant {lacking} on all tables in schema shop to {role}")
        store.check(writing=True)
        database.execute(f"alter database {database.dbname} set default_transaction_read_only = on")
        with pytest.raises(TablesReadOnly, match="read-only"):
            store.check(writing=True)
    finally:
        reset = f"alter database {database.dbname} reset default_transaction_read_only"
        servers.postgres.main.execute(reset)
        database.execute(f"drop owned by {role}; drop role {role}")


def test_a_duckdb_file_attached_read_only_is_said_as_that(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "state.duckdb")) as connection:
        for statement in create_statements("duckdb", place="state.duckdb.main"):
            connection.execute(statement)
    attached = {"path": "state.duckdb", "alias": "kept", "read_only": True}
    file = DuckDb({"path": "shop.duckdb", "attach": [attached]}, WarehouseContext(tmp_path))
    duckdb.connect(str(tmp_path / "shop.duckdb")).close()
    store = open_store(file, relations_of("kept", declared_columns()))
    store.check()
    with pytest.raises(TablesReadOnly, match="attached read-only"):
        store.check(writing=True)


def test_a_sqlite_file_that_cannot_be_written_is_said_as_that() -> None:
    """In a process that is nobody, for root may write any file."""
    with tempfile.TemporaryDirectory() as folder:
        place = SqlitePlace(Path(folder, "shop.db"), Path())
        for statement in create_statements("sqlite"):
            place.execute(statement)
        store_of(place).check(writing=True)
        place.file.chmod(0o444)
        Path(folder).chmod(0o555)
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            if os.geteuid() == 0:
                os.setuid(65534)
            store = store_of(place)
            store.check()
            try:
                store.check(writing=True)
            except TablesReadOnly as error:
                os.write(theirs, error.message.encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(theirs)
        with os.fdopen(ours) as answer:
            assert "attempt to write a readonly database" in answer.read()
        Path(folder).chmod(0o755)


def test_what_bigquery_refuses_is_said_before_a_query_runs(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with servers.open_place("bigquery", tmp_path) as place:
        where = f"{place.output['project']}.{place.schema}"
        for statement in create_statements("bigquery", place=where):
            place.execute(statement)
        store = store_of(place)
        store.check(writing=True)
        query = bigquery.Client.query

        def refuse(self: bigquery.Client, sql: str, **options: object) -> object:
            config = options.get("job_config")
            if sql.startswith("delete") and getattr(config, "dry_run", False):
                raise Forbidden(  # type: ignore[no-untyped-call]  # it has no types
                    "Permission bigquery.tables.updateData denied; reason: x"
                )
            return query(self, sql, **options)  # type: ignore[arg-type]  # passed on

        monkeypatch.setattr(bigquery.Client, "query", refuse)
        store.check()
        with pytest.raises(TablesReadOnly, match="updateData"):
            store.check(writing=True)


def test_doctor_and_run_say_that_the_store_is_read_only(
    database: PostgresPlace, tmp_path: Path
) -> None:
    role = f"{database.dbname}_r"
    database.execute(f"create role {role}; grant usage on schema shop to {role}")
    try:
        database.execute(f"grant select on all tables in schema shop to {role}")
        shop = new_shop(tmp_path / "shop", database, {"prod": {**database.output, "role": role}})
        done = shop.try_it("sentinel", "doctor", "--output", "json")
        [tables] = [each for each in json.loads(done.output)["checks"] if each["check"] == "tables"]
        assert done.code == 2
        assert not tables["ok"]
        assert "insert, update, delete" in tables["detail"] + str(tables["hint"])
        done = shop.try_it("sentinel", "run")
        assert done.code == 2
        assert "can't be written" in done.output
        shop.do("sentinel", "run", "--dry-run")
        shop.do("sentinel", "status")
    finally:
        database.execute(f"drop owned by {role}; drop role {role}")


LESS = {
    "DBT_EMPTY": "1",
    "DBT_FULL_REFRESH": "1",
    "DBT_SAMPLE": "1 day",
    "DBT_EXCLUDE_RESOURCE_TYPES": "model",
    "DBT_RESOURCE_TYPES": "test",
}


def test_no_variable_of_dbt_makes_relations_that_stay_empty(
    servers: Servers, tmp_path: Path
) -> None:
    with servers.open_place("duckdb", tmp_path) as place:
        shop = new_shop(tmp_path / "shop", place, {"prod": place.output})
        shop.do("sentinel", "init", env=LESS)
        place.execute(
            "insert into sentinel_state (state_key, project, alert_id, alert, instance, phase) "
            "values ('k', 'p', 'a', 'a', '', 'ok')"
        )
        assert place.execute("select alert from sentinel_alert_summary") == [("a",)]
        ran = json.loads(shop.do("sentinel", "run", "--output", "json", env=LESS))
        assert len(ran["results"]) == 1


def test_dbt_run_empty_makes_views_that_show_rows(filled: DbtProject, tmp_path: Path) -> None:
    project = filled.copy(tmp_path / "shop")
    before = project.rows()
    project.dbt("run", "--empty")
    assert project.rows() == before
    assert project.sql("select count(*) from sentinel_alert_summary") == [(4,)]
    assert set(before) == {name.removeprefix("sentinel_") for name in TABLES}
