"""Compiling alerts runs the project's Jinja, which can ask the warehouse: it can't do more than that."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from sentinel.cli.main import COMMANDS, cli
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.profile import Profile
from sentinel.dbt.project import DbtProject
from sentinel.warehouses.adapter import AdapterWarehouse
from tests.places.place import BIN, Place, environment
from tests.places.place import profile as profile_of
from tests.places.postgres import PostgresPlace
from tests.places.servers import Servers

from ..registry import WAREHOUSES

MACROS = """
{% macro orders() %}{{ return(api.Relation.create(
    database=target.database, schema=target.schema, identifier='orders', type='table')) }}{% endmacro %}
{% macro another() %}{{ return(api.Relation.create(
    database=target.database, schema=target.schema, identifier='another', type='table')) }}{% endmacro %}
{% macro helpful() %}{% do run_query('delete from ' ~ orders() ~ ' where id > 0') %}1{% endmacro %}
{% macro my_materialization() %}{% call statement('python', language='python') %}
open(r'FOLDER/by_python', 'w').write('x')
def model(dbt, session): pass
{% endcall %}{% endmacro %}
{% macro generate_schema_name(name, node) %}{{ target.schema }}
{%- if execute %}{{ helpful() }}{% endif %}{% endmacro %}
{% macro generate_alias_name(custom_alias_name=none, node=none) %}
{%- do adapter.execute('delete from ' ~ orders() ~ ' where id > 0') -%}{{ node.name }}{% endmacro %}
"""

# Alerts whose Jinja writes, by name. Every one of them has to be refused.
WRITES: Mapping[str, str] = {
    "by_run_query": "{% do run_query('delete from ' ~ orders() ~ ' where id > 0') %}",
    "by_statement": "{% call statement('s', auto_begin=true) %}"
    "update {{ orders() }} set id = 7 where id > 0{% endcall %}",
    "by_execute": "{% do adapter.execute('insert into ' ~ orders() ~ ' select 9', auto_begin=True) %}",
    "by_two_statements": "{% do run_query('select 1; delete from ' ~ orders() ~ ' where id > 0; commit') %}",
    "by_macro": "{% set ignored = helpful() %}",
    "by_table": "{% do run_query('create table ' ~ another() ~ ' as select 1 as id') %}",
    "by_create": "{% do run_query(create_table_as(false, another(), 'select 1 as id')) %}",
    "by_drop": "{% do adapter.drop_relation(orders()) %}",
    "by_truncate": "{% do adapter.truncate_relation(orders()) %}",
    "by_rename": "{% do adapter.rename_relation(orders(), another()) %}",
    "by_schema": "{% do adapter.create_schema(api.Relation.create("
    "database=target.database, schema='made_by_jinja')) %}",
    "by_drop_schema": "{% do adapter.drop_schema(orders().without_identifier()) %}",
    "by_cursor": "{% set found = adapter.add_query('select 1') %}"
    "{% do found[1].execute('delete from ' ~ orders() ~ ' where id > 0') %}",
    "by_handle": "{% set found = adapter.add_query('select 1') %}"
    "{% do found[0].handle.cursor().execute('delete from ' ~ orders() ~ ' where id > 0') %}",
    "by_mode": "{% do run_query('set transaction read write') %}"
    "{% do run_query('delete from ' ~ orders() ~ ' where id > 0') %}{% do adapter.commit() %}",
    "by_python": "{% do my_materialization() %}",
    "by_csv": "{% do run_query('select 1 as a').to_csv('FOLDER/by_csv') %}",
    "by_json": "{% do run_query('select 1 as a').to_json('FOLDER/by/json') %}",
    "by_overwriting": "{% do run_query('select 1 as a').to_csv('dbt_project.yml') %}",
}
OF_ONE: Mapping[str, Mapping[str, str]] = {
    "postgres": {
        # sqlglot takes `a<U+00A0>$$...$$` for a text, PostgreSQL for the end of the statement.
        "by_no_break_space": "{% do run_query('select 1 as a\u00a0$$) x; commit; begin read write; "
        "delete from ' ~ orders() ~ ' where id > 0; commit; select * from (select 2 as b\u00a0$$') %}",
        "by_session": "{% do run_query('set session characteristics as transaction read write') %}"
        "{% do run_query('delete from ' ~ orders() ~ ' where id > 0') %}",
        "by_file": "{% do run_query('copy ' ~ orders() ~ \" to 'FOLDER/by_file'\") %}",
        "by_temporary": "{% do run_query('create temp table t as select 1 as id') %}",
    },
    "duckdb": {
        "by_file": "{% do run_query('copy ' ~ orders() ~ \" to 'FOLDER/by_file'\") %}",
        "by_attach": "{% do run_query(\"attach 'FOLDER/by_attach.duckdb' as other\") %}",
        "by_export": "{% do run_query(\"export database 'FOLDER/by_export'\") %}",
        "by_undeclared_file": "{% do run_query(\"select * from read_text('FOLDER/secret')\") %}",
        "by_macro_of_duckdb": "{% do run_query('create or replace temp macro avg(x) as 1') %}",
        "by_separator": "{% do run_query('select 1 as a\u2028; delete from ' ~ orders()) %}",
    },
    "sqlite": {
        "by_attach": "{% do run_query(\"attach 'FOLDER/by_attach.db' as other\") %}",
        "by_pragma": "{% do run_query('pragma query_only = off') %}"
        "{% do run_query('delete from ' ~ orders() ~ ' where id > 0') %}",
        "by_journal": "{% do run_query('pragma journal_mode = wal') %}",
    },
    "bigquery": {
        "by_copy": "{% do adapter.copy_table([orders()], another(), 'table') %}",
        "by_upload": "{% do adapter.upload_file("
        "'FOLDER/secret', target.database, target.schema, 'another') %}",
        "by_description": "{% do adapter.update_table_description("
        "target.database, target.schema, 'orders', 'changed') %}",
    },
}
# Alerts whose Jinja only reads, as dbt's and dbt_utils' macros do, and what they have to find.
READS: Mapping[str, tuple[str, str]] = {
    "values": (
        "{% set found = run_query('select distinct id from ' ~ orders() ~ ' order by id') %}",
        "found.columns[0].values() | map('int') | list == [1, 2]",
    ),
    "statement": (
        "{% call statement('s', fetch_result=true) %}/* why */ select max(id) as m from {{ orders() }}"
        " -- end\n{% endcall %}{% set found = load_result('s') %}",
        "found['data'][0][0] | int == 2 and found['table'].column_names == ('m',)",
    ),
    "columns": (
        "{% set found = adapter.get_columns_in_relation(orders()) %}",
        "found | map(attribute='name') | list == ['id']",
    ),
    "relation": (
        "{% set found = adapter.get_relation(target.database, target.schema, 'orders') %}",
        "found.identifier == 'orders'",
    ),
    "no_relation": (
        "{% set found = adapter.get_relation(target.database, target.schema, 'missing') %}",
        "found is none",
    ),
}


def alert(jinja: str, condition: str = "true") -> str:
    return (
        "{{ config(meta={'sentinel': {'shape': 'rows', 'channels': []}}) }}\n"
        f"{{% if execute %}}{jinja}{{% if not ({condition}) %}}"
        "{% do exceptions.raise_compiler_error('found: ' ~ found) %}{% endif %}{% endif %}\n"
        "select 1 as id"
    )


class Attacked:
    """A project on a place, compiled once by `sentinel validate`."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.root = folder / "shop"
        self.elsewhere = folder / "elsewhere"
        for each in (self.root / "models", self.root / "macros", self.elsewhere):
            each.mkdir(parents=True)
        self.elsewhere.joinpath("secret").write_text("keep me")
        place.execute("create table orders as select 1 as id union all select 2 as id")
        self.writes = {**WRITES, **OF_ONE.get(place.name, {})}
        self._write("models", {name: alert(text) for name, text in self.writes.items()})
        self._write("models", {name: alert(*each) for name, each in READS.items()})
        self._write("macros", {"macros": MACROS})
        hooks = {"on-run-start": "delete from {{ orders() }} where id > 0"}
        models = {"shop": {"+pre-hook": "delete from {{ orders() }} where id > 0"}}
        settings = {"name": "shop", "version": "1.0", "profile": "shop", **hooks, "models": models}
        self.root.joinpath("dbt_project.yml").write_text(yaml.safe_dump(settings))
        self.root.joinpath("profiles.yml").write_text(yaml.safe_dump(profile_of(place)))
        self.root.joinpath("sentinel.yml").write_text("channels: {console: {type: console}}\n")
        self.before = self.state()
        self.answer = self.sentinel("validate", "--output", "json")
        assert self.answer.stdout, self.answer.stderr
        self.findings = json.loads(self.answer.stdout)["findings"]
        self.after = self.state()

    def _write(self, kind: str, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            text = text.replace("FOLDER", str(self.elsewhere))
            self.root.joinpath(kind, f"{name}.sql").write_text(text, encoding="utf-8")

    def sentinel(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DBT_", "SENTINEL_"))}
        return subprocess.run(
            [self.place.bin / "sentinel", *words],
            cwd=self.root,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def state(self) -> Any:
        """The rows, the tables and schemas, and the files that aren't Sentinel's."""
        files = {
            path.relative_to(self.root.parent).as_posix(): path.read_bytes()
            for path in (*self.root.rglob("*"), *self.elsewhere.rglob("*"))
            if path.is_file() and "target" not in path.parts
        }
        return self.place.execute("select id from orders order by id"), catalog(self.place), files

    def said_of(self, name: str) -> list[str]:
        return [each["message"] for each in self.findings if each["subject"] == name]


def catalog(place: Place) -> Any:
    match place.name:
        case "postgres":
            return place.execute(
                "select nspname from pg_namespace where nspname not like 'pg_temp%' "
                "and nspname not like 'pg_toast_temp%' order by 1"
            ), place.execute("select relname from pg_class order by 1")
        case "duckdb":
            return (
                place.execute("select schema_name from duckdb_schemas() order by all"),
                place.execute("select table_name from duckdb_tables() order by all"),
            )
        case "sqlite":
            return place.execute("select name from sqlite_master order by 1")
        case "bigquery":
            client: Any = place.client  # type: ignore[attr-defined]  # of this place alone
            datasets = sorted(each.dataset_id for each in client.list_datasets())
            tables = sorted(each.table_id for each in client.list_tables(place.schema))
            described = client.get_table(f"{place.schema}.orders").description
            return datasets, tables, described
    raise AssertionError(f"no catalog is known of {place.name}")


@pytest.fixture(scope="module", params=WAREHOUSES)
def attacked(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp(request.param)
    folder.joinpath("place").mkdir()
    with servers.open_place(request.param, folder / "place") as place:
        yield Attacked(place, folder)


def test_jinja_that_writes_changes_nothing(attacked: Attacked) -> None:
    assert attacked.answer.returncode == 2, attacked.answer.stderr
    assert attacked.after == attacked.before


def test_jinja_that_writes_is_the_alerts_fault(attacked: Attacked) -> None:
    missing = [name for name in attacked.writes if not attacked.said_of(name)]
    # Nobody gets far enough to write: dbt itself asks first whether a relation is there.
    assert missing == []
    refused = "may only read|only reads|no file|one SELECT|does more than read|read-only|readonly"
    for name in ("by_run_query", "by_statement", "by_execute", "by_two_statements", "by_cursor"):
        (message,) = attacked.said_of(name)
        assert any(word in message for word in refused.split("|")), message


def test_jinja_that_reads_has_its_answers(attacked: Attacked) -> None:
    assert {name: attacked.said_of(name) for name in READS} == {name: [] for name in READS}


# -- offline -----------------------------------------------------------------------------------

# What each process of Python writes down, those of dbt too: libraries in C reach the listener instead.
WATCHER = """
import os, sys
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "sqlite3.connect"):
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{event} {arguments[-1] if event != 'socket.getaddrinfo' else arguments[0]}\\\\n")
sys.addaudithook(note)
"""
CHANNELS = """
channels:
  hook: {type: webhook, url: "https://hooks.example.com/x"}
  mail: {type: email, host: mail.example.com, from: a@example.com, to: [b@example.com]}
  chat: {type: slack, token: xoxb-1, channel: "#c"}
heartbeat: {url: "https://beats.example.com/x"}
"""
# Calls that dbt carries out while it parses, with or without `execute`.
AT_PARSE = {
    "duckdb": '{% do adapter.location_exists("x\' ; create table by_parsing as select 1; --") %}',
    "bigquery": "{% do adapter.list_schemas(target.database) %}",
    "postgres": "{% do adapter.verify_database(target.database) %}",
}


@contextmanager
def listener() -> Iterator[tuple[int, list[str]]]:
    """A port of this machine, and whoever connects to it."""
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                seen.append(str(address))
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], seen


def output(name: str, folder: Path, port: int) -> dict[str, Any]:
    match name:
        case "duckdb":
            return {"type": name, "path": str(folder / "missing.duckdb"), "schema": "main"}
        case "sqlite":
            files = {"main": str(folder / "missing.db")}
            paths = {"schemas_and_paths": files, "schema_directory": str(folder)}
            return {"type": name, "database": "database", "schema": "main", **paths}
        case "postgres":
            login = {"user": "u", "password": "p", "dbname": "d", "schema": "s"}
            return {"type": name, "host": "127.0.0.1", "port": port, **login}
        case "bigquery":
            where = {"project": "p", "dataset": "s", "api_endpoint": f"http://127.0.0.1:{port}"}
            return {"type": name, "method": "oauth-secrets", "token": "t", **where}
    raise AssertionError(f"no profile of {name} leads nowhere yet")


@pytest.mark.parametrize("jinja", ["", "at parse"])
@pytest.mark.parametrize("name", WAREHOUSES)
def test_offline_opens_no_connection(
    name: str, jinja: str, tmp_path: Path, servers: Servers
) -> None:
    if jinja and name not in AT_PARSE:
        return
    with listener() as (port, seen):
        root, watched = tmp_path / "shop", tmp_path / "watched"
        (root / "models").mkdir(parents=True)
        settings = {"name": "shop", "version": "1.0", "profile": "shop"}
        (root / "dbt_project.yml").write_text(yaml.safe_dump(settings))
        (root / "sentinel.yml").write_text(CHANNELS)
        profile = {"shop": {"target": "dev", "outputs": {"dev": output(name, tmp_path, port)}}}
        (root / "profiles.yml").write_text(yaml.safe_dump(profile))
        (root / "models/asks.sql").write_text(
            alert("{% set found = run_query('select 1') %}") + (AT_PARSE[name] if jinja else "")
        )
        (tmp_path / "sitecustomize.py").write_text(WATCHER)
        bin_ = environment("sqlite") if name == "sqlite" else BIN
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("DBT_", "SENTINEL_"))}
        environ |= {"PYTHONPATH": str(tmp_path), "WATCHED": str(watched)}
        # A selection, so that dbt parses and lists.
        ran = subprocess.run(
            [bin_ / "sentinel", "validate", "--offline", "--select", "tag:x", "asks"],
            cwd=root,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert "1 alert checked" in ran.stdout or (jinja and ran.returncode == 2), ran.stderr
    assert (seen, watched.read_text() if watched.exists() else "") == ([], "")
    assert list(tmp_path.glob("missing*")) == []


def test_every_command_with_offline_is_tried_here() -> None:
    with_it = {
        name
        for name in COMMANDS
        if any(
            "--offline" in parameter.opts
            for parameter in getattr(cli.get_command(click.Context(cli), name), "params", ())
        )
    }
    assert with_it == {"validate"}


# -- a warehouse without a module of its own ---------------------------------------------------


def test_dbts_own_connection_is_judged_where_there_is_no_session(
    postgres: PostgresPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Driven over PostgreSQL: dbt's adapter opens the connection, words alone decide."""
    for name in [name for name in os.environ if name.startswith("DBT_")]:
        monkeypatch.delenv(name)
    postgres.execute("create table orders as select 1 as id union all select 2 as id")
    root = tmp_path / "shop"
    for folder in ("models", "macros"):
        (root / folder).mkdir(parents=True)
    (root / "dbt_project.yml").write_text("name: shop\nversion: '1.0'\nprofile: shop\n")
    (root / "profiles.yml").write_text(yaml.safe_dump(profile_of(postgres)))
    macros = [line for line in MACROS.split("{% macro ") if not line.startswith("generate_")]
    (root / "macros/macros.sql").write_text("{% macro ".join(macros))
    writes = {k: v.replace("FOLDER", str(tmp_path)) for k, v in WRITES.items()}
    shows = ("{% set found = run_query('show server_version') %}", "found.rows | length == 1")
    reads = {name: alert(*each) for name, each in {**READS, "shows": shows}.items()}
    for name, text in {**{name: alert(each) for name, each in writes.items()}, **reads}.items():
        (root / "models" / f"{name}.sql").write_text(text)

    def by_words(
        profile: Profile,
        _root: Path,
        _files: Callable[[], Sequence[str]],
        by_dbt: Callable[[], Any],
    ) -> AbstractContextManager[Any]:
        return AdapterWarehouse(profile.type, by_dbt).introspection(by_dbt)

    project = DbtProject(DbtOptions(root, profiles_dir=root), cwd=root, introspection=by_words)
    found = project.compile(f"model.shop.{name}" for name in (*writes, *reads))
    assert {name: found[f"model.shop.{name}"].error for name in reads} == dict.fromkeys(reads)
    assert [name for name in writes if found[f"model.shop.{name}"].error is None] == []
    assert postgres.execute("select id from orders order by id") == [(1,), (2,)]
