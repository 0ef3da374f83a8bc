"""Sentinel's tables on DuckDB as the dbt package declares them, made without dbt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import jinja2
import yaml

from sentinel.core.project import StoreTables
from sentinel.store.duckdb import DuckDbDialect
from sentinel.store.sql import SqlStore
from sentinel.warehouses.duckdb import DuckDb

MODELS = Path(__file__).parents[2] / "dbt_package" / "models" / "tables"
DUCKDB = SimpleNamespace(type="duckdb")


def declared_columns() -> dict[str, list[dict[str, Any]]]:
    """The columns of each table's model, in their order, with the types that DuckDB gets."""
    models = [
        model
        for path in sorted(MODELS.glob("*.yml"))
        for model in yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    ]
    return {
        model["name"]: [
            column | {"data_type": jinja2.Template(column["data_type"]).render(target=DUCKDB)}
            for column in model["columns"]
        ]
        for model in models
    }


def create_tables(path: Path) -> None:
    """The five tables, with the constraints of their contracts."""
    with duckdb.connect(str(path)) as connection:
        for model, columns in declared_columns().items():
            connection.execute(f"create table {model} ({', '.join(map(_column, columns))})")


def _column(column: Mapping[str, Any]) -> str:
    words = {"not_null": "not null", "primary_key": "primary key", "unique": "unique"}
    rules = [words[rule["type"]] for rule in column.get("constraints", ())]
    return " ".join([column["name"], column["data_type"], *rules])


def relations_of(database: str, models: Iterable[str]) -> dict[str, str]:
    """The relations as dbt names them."""
    return {model: f'"{database}"."main"."{model}"' for model in models}


def open_store(file: DuckDb, relations: Mapping[str, str], project: str = "shop") -> SqlStore:
    """The store of a project in a DuckDB file."""
    return SqlStore(
        project,
        StoreTables(relations),
        lambda read_only: file.engine(read_only=read_only),
        DuckDbDialect(),
    )
