"""Tables as the dbt package declares them, made without dbt."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import jinja2
import pytest
import yaml

from sentinel.core.project import StoreTables
from sentinel.store.duckdb import DuckDbDialect
from sentinel.store.sql import SqlStore
from sentinel.warehouses.duckdb import DuckDb

MODELS = Path(__file__).parents[2] / "dbt_package" / "models" / "tables"
DUCKDB = SimpleNamespace(type="duckdb")


@pytest.fixture(scope="session")
def declared() -> dict[str, list[dict[str, Any]]]:
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


@pytest.fixture(scope="session")
def ddl(declared: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """A `create table` for each of the five tables, with the constraints of its contract."""
    return [
        f"create table {model} ({', '.join(map(_column, columns))})"
        for model, columns in declared.items()
    ]


def _column(column: Mapping[str, Any]) -> str:
    words = {"not_null": "not null", "primary_key": "primary key", "unique": "unique"}
    rules = [words[rule["type"]] for rule in column.get("constraints", ())]
    return " ".join([column["name"], column["data_type"], *rules])


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory, ddl: list[str]) -> Path:
    """A DuckDB file with the five tables, to copy."""
    path = tmp_path_factory.mktemp("empty") / "shop.duckdb"
    with duckdb.connect(str(path)) as connection:
        for statement in ddl:
            connection.execute(statement)
    return path


@pytest.fixture
def database(tmp_path: Path, empty: Path) -> Path:
    """A DuckDB file of one's own with the five tables."""
    return Path(shutil.copy(empty, tmp_path))


@pytest.fixture
def relations(declared: Mapping[str, Any]) -> dict[str, str]:
    return {model: f'"shop"."main"."{model}"' for model in declared}


@pytest.fixture
def open_store(database: Path, relations: Mapping[str, str]) -> Callable[..., SqlStore]:
    """A store of a project on that file; `changed` relations replace those of the project."""
    file = DuckDb({"path": database.name}, database.parent)

    def open_store(project: str = "shop", changed: Mapping[str, str] | None = None) -> SqlStore:
        tables = StoreTables({**relations} if changed is None else changed)
        return SqlStore(
            project, tables, lambda read_only: file.engine(read_only=read_only), DuckDbDialect()
        )

    return open_store
