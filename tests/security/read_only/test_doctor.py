"""`sentinel doctor` shows rights that Sentinel doesn't need, and how to do without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from sentinel.bootstrap import Installation, ProgressReporter
from sentinel.dbt.options import DbtOptions
from sentinel.ports import Relation, Rights
from tests.places.place import Place
from tests.places.postgres import PostgresPlace

from ..registry import WAREHOUSES

# Names that have to be quoted, each in its own way.
SCHEMA = 'Sales "EU"'


def installation(root: Path, target: str = "dev") -> Installation:
    silent = ProgressReporter(lambda _: None, lambda _: None, lambda _: None, lambda *_: None)
    return Installation(DbtOptions(root, profiles_dir=root, target=target), silent)


def rights(
    output: dict[str, Any], root: Path, schema: str, own: tuple[Relation, ...] = ()
) -> Rights:
    root.mkdir(exist_ok=True)
    (root / "dbt_project.yml").write_text("name: shop\nversion: '1.0'\nprofile: shop\n")
    (root / "sentinel.yml").write_text("channels: {}\n")
    profile = {"shop": {"target": "dev", "outputs": {"dev": output}}}
    (root / "profiles.yml").write_text(yaml.safe_dump(profile))
    found: Rights = installation(root).warehouse.rights(
        [Relation(None, schema, "orders"), Relation(None, "watched", "orders")], own
    )
    return found


@pytest.mark.parametrize("place", WAREHOUSES, indirect=True)
def test_every_warehouse_knows_the_rights_or_says_that_it_does_not(
    place: Place, tmp_path: Path
) -> None:
    place.execute("create table orders as select 1 as id")
    found = rights(place.output, tmp_path / "project", place.schema)
    # The places are used as an administrator, and their files are of this user alone.
    known = {"postgres": True, "duckdb": False, "sqlite": False, "bigquery": False}[place.name]
    assert bool(found.beyond_reading) == known
    assert bool(found.unchecked) == (place.name == "bigquery")


@pytest.mark.parametrize("place", ["duckdb", "sqlite"], indirect=True)
def test_a_file_that_others_can_change_is_shown(place: Place, tmp_path: Path) -> None:
    place.execute("create table orders as select 1 as id")
    file: Path = place.file  # type: ignore[attr-defined]  # of these two places
    file.chmod(0o666)
    found = rights(place.output, tmp_path / "project", place.schema)
    assert found.beyond_reading == (f"every user of this machine can change {file}",)
    assert found.remedy == (f"chmod o-w '{file}'",)
    file.chmod(0o644)
    file.parent.chmod(0o777)
    found = rights(place.output, tmp_path / "project", place.schema)
    assert found.beyond_reading == (
        f"every user of this machine can replace files in {file.parent}",
    )


# -- PostgreSQL --------------------------------------------------------------------------------

Make = Callable[..., dict[str, Any]]


@contextmanager
def role(place: PostgresPlace, name: str, *statements: str) -> Iterator[dict[str, Any]]:
    """The output of a role that can log in, with these rights; `{role}` stands for it."""
    place.execute(f"create role {name} login password 'x'")
    try:
        for statement in statements:
            place.execute(
                statement.format(role=name, schema=f'"{SCHEMA.replace(chr(34), chr(34) * 2)}"')
            )
        yield {**place.output, "user": name.strip('"'), "password": "x"}
    finally:
        place.execute(f"drop owned by {name}")
        place.execute(f"drop role {name}")


@pytest.fixture
def make(postgres: PostgresPlace) -> Iterator[Make]:
    """Makes a role."""
    quoted = '"' + SCHEMA.replace('"', '""') + '"'
    for schema in (quoted, "watched"):
        postgres.execute(f"create schema {schema}")
        postgres.execute(f"create table {schema}.orders as select 1 as id")
        postgres.execute(f"create table {schema}.sentinel_state as select 1 as id")
    with ExitStack() as stack:
        yield lambda *statements: stack.enter_context(
            role(postgres, f'"reader {uuid4().hex[:6]}"', *statements)
        )


ALONE = "grant usage on schema {schema} to {role}"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("alter role {role} superuser", "is a superuser"),
        ("alter role {role} createrole", "CREATEROLE"),
        ("alter role {role} createdb", "CREATEDB"),
        ("alter role {role} replication", "REPLICATION"),
        ("alter role {role} bypassrls", "BYPASSRLS"),
        ("grant pg_read_server_files to {role}", "pg_read_server_files"),
        ("grant pg_write_server_files to {role}", "pg_write_server_files"),
        ("grant pg_execute_server_program to {role}", "pg_execute_server_program"),
        ("grant pg_write_all_data to {role}", "pg_write_all_data"),
        ("grant insert on {schema}.orders to {role}", f"can write {SCHEMA}.orders"),
        ("grant update (id) on {schema}.orders to {role}", f"can write {SCHEMA}.orders"),
        ("grant delete on watched.orders to {role}", "can write watched.orders"),
        ("grant truncate on watched.orders to {role}", "can write watched.orders"),
        ("alter table watched.orders owner to {role}", "can write watched.orders"),
        ("grant create on schema watched to {role}", "can create tables in the schema 'watched'"),
        ("grant insert on watched.sentinel_state to {role}", "can write watched.sentinel_state"),
    ],
)
def test_a_right_beyond_reading_is_shown(
    make: Make, statement: str, words: str, tmp_path: Path
) -> None:
    found = rights(make(ALONE, statement), tmp_path / "project", SCHEMA)
    assert any(words in each for each in found.beyond_reading), found


def test_a_right_that_the_role_can_take_on_is_shown(
    make: Make, postgres: PostgresPlace, tmp_path: Path
) -> None:
    """`set role` reaches what isn't inherited, and `reset role` what the profile's `role` hides."""
    with role(postgres, '"a writer"', "grant insert on watched.orders to {role}") as writer:
        output = make(ALONE, 'grant "a writer" to {role}', "alter role {role} noinherit")
        found = rights(output, tmp_path / "project", SCHEMA)
        assert any("can write watched.orders" in each for each in found.beyond_reading)
        hidden = {**writer, "role": "pg_read_all_data"}
        postgres.execute('grant pg_read_all_data to "a writer"')
        found = rights(hidden, tmp_path / "project", SCHEMA)
        assert any("can write watched.orders" in each for each in found.beyond_reading)


def test_a_role_that_only_reads_and_one_that_writes_sentinels_tables_are_quiet(
    make: Make, tmp_path: Path
) -> None:
    reader = make(ALONE, "grant select on all tables in schema watched to {role}")
    assert rights(reader, tmp_path / "project", SCHEMA) == Rights()
    both = make(ALONE, "grant insert, update, delete on watched.sentinel_state to {role}")
    own = (Relation(None, "watched", "sentinel_state"),)
    assert rights(both, tmp_path / "project", SCHEMA, own) == Rights()


def test_the_statements_work_when_they_are_pasted_and_then_doctor_is_quiet(
    make: Make, postgres: PostgresPlace, tmp_path: Path
) -> None:
    output = make(ALONE, "grant insert on {schema}.orders to {role}")
    found = rights(output, tmp_path / "project", SCHEMA)
    reader = f"{output['user']}_reader"
    try:
        for statement in found.remedy:
            postgres.execute(statement)
        login = {**output, "user": reader, "password": "choose one"}
        assert rights(login, tmp_path / "project", SCHEMA) == Rights()
        place = replace(postgres, user=reader, password="choose one")
        quoted = '"' + SCHEMA.replace('"', '""') + '"'
        assert place.execute(f"select * from {quoted}.orders") == [(1,)]
        # As after the next `dbt run`.
        postgres.execute("drop table watched.orders")
        postgres.execute("create table watched.orders as select 2 as id")
        assert place.execute("select * from watched.orders") == [(2,)]
    finally:
        postgres.execute(f'drop owned by "{reader}"')
        postgres.execute(f'drop role "{reader}"')
