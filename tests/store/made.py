"""Sentinel's tables as the dbt package declares them, made without dbt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import jinja2
import yaml

from sentinel.core.project import StoreTables
from sentinel.store.dialect import Dialect
from sentinel.store.duckdb import DuckDbDialect
from sentinel.store.sql import SqlStore
from sentinel.warehouses.contract import Database

MODELS = Path(__file__).parents[2] / "dbt_package" / "models" / "tables"
# What a dbt adapter makes of the type names that a model's contract may use anywhere, where the
# warehouse doesn't take them as they are.
TYPES: Mapping[str, Mapping[str, str]] = {
    "postgres": {"string": "text"},
    "sqlite": {"string": "text"},
    "bigquery": {"bigint": "int64", "float": "float64"},
}
RULES = {"not_null": "not null", "primary_key": "primary key", "unique": "unique"}
# Where a key is no more than a promise, it has to be called one.
UNENFORCED = {"bigquery": {"primary_key": "primary key not enforced"}}


def declared_columns(kind: str = "duckdb") -> dict[str, list[dict[str, Any]]]:
    """The columns of each table's model, in their order, with the types that a target gets."""
    target = SimpleNamespace(type=kind)
    models = [
        model
        for path in sorted(MODELS.glob("*.yml"))
        for model in yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    ]
    return {
        model["name"]: [
            column | {"data_type": jinja2.Template(column["data_type"]).render(target=target)}
            for column in model["columns"]
        ]
        for model in models
    }


PLACES = {"duckdb": "shop.duckdb.main", "sqlite": "shop.db"}
MARK_ON_POSTGRES = """do $$ declare made record; begin
    for made in
        select pg_class.oid, relname, nspname from pg_class
        join pg_namespace on pg_namespace.oid = relnamespace
        where relkind = 'r' and relname like 'sentinel\\_%'
    loop
        execute format('comment on table %I.%I is %L', made.nspname, made.relname,
            'Sentinel keeps this table as ' || current_database() || '.' || made.nspname || '.'
            || made.relname || ' (' || made.oid || ').');
    end loop;
end $$"""


def create_statements(
    kind: str, name: Callable[[str], str] = str, place: str | None = None
) -> list[str]:
    """The statements that make the five tables, with the constraints of their contracts and the
    marks that the dbt package leaves.

    `name` is how a model's table is called in SQL, `place` where it is.
    """
    types, rules = TYPES.get(kind, {}), RULES | UNENFORCED.get(kind, {})
    place = place or PLACES.get(kind, "")

    def column(declared: Mapping[str, Any]) -> str:
        data_type = types.get(declared["data_type"], declared["data_type"])
        constraints = [rules[rule["type"]] for rule in declared.get("constraints", ())]
        return " ".join([declared["name"], data_type, *constraints])

    statements = []
    for model, columns in declared_columns(kind).items():
        create = f"create table {name(model)} ({', '.join(map(column, columns))})"
        mark = f"Sentinel keeps this table as {place}.{model}."
        match kind:
            case "duckdb":
                statements += [create, f"comment on table {name(model)} is '{mark}'"]
            case "sqlite":
                key = columns[0]["name"]
                statements += [create, f'create index "{mark}" on {name(model)} ({key}) where 0']
            case "bigquery":
                statements.append(f'{create} options (description = "{mark}")')
            case _:
                statements.append(create)
    return [*statements, MARK_ON_POSTGRES] if kind == "postgres" else statements


def create_tables(path: Path) -> None:
    """The five tables in a DuckDB file."""
    with duckdb.connect(str(path)) as connection:
        for statement in create_statements("duckdb", place=f"{path.name}.main"):
            connection.execute(statement)


def relations_of(
    database: str, models: Iterable[str], schema: str = "main", quote: str = '"'
) -> dict[str, str]:
    """The relations as dbt names them."""
    return {
        model: ".".join(f"{quote}{part}{quote}" for part in (database, schema, model))
        for model in models
    }


def open_store(
    database: Database,
    relations: Mapping[str, str],
    project: str = "shop",
    dialect: Dialect | None = None,
) -> SqlStore:
    """The store of a project in a database; DuckDB's dialect if none is given."""
    return SqlStore(
        project,
        StoreTables(relations),
        lambda read_only: database.engine(read_only=read_only),
        dialect or DuckDbDialect(),
    )
