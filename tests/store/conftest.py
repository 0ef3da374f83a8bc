from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sentinel.store.sql import SqlStore
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.duckdb import DuckDb

from . import made


@pytest.fixture(scope="session")
def declared() -> dict[str, list[dict[str, Any]]]:
    """The columns of each table's model, in their order, with the types that DuckDB gets."""
    return made.declared_columns()


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DuckDB file with the five tables, to copy."""
    path = tmp_path_factory.mktemp("empty") / "shop.duckdb"
    made.create_tables(path)
    return path


@pytest.fixture
def database(tmp_path: Path, empty: Path) -> Path:
    """A DuckDB file of one's own with the five tables."""
    return Path(shutil.copy(empty, tmp_path))


@pytest.fixture
def relations(declared: Mapping[str, Any]) -> dict[str, str]:
    return made.relations_of("shop", declared)


@pytest.fixture
def open_store(database: Path, relations: Mapping[str, str]) -> Callable[..., SqlStore]:
    """A store of a project on that file; `changed` relations replace those of the project."""
    file = DuckDb({"path": database.name}, WarehouseContext(database.parent))

    def open_store(project: str = "shop", changed: Mapping[str, str] | None = None) -> SqlStore:
        return made.open_store(file, relations if changed is None else changed, project)

    return open_store
