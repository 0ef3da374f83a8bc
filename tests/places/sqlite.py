"""SQLite: a file in a folder. dbt-sqlite has an environment of its own, with Sentinel in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.places.place import Rows, environment, only_rows


@dataclass(frozen=True)
class SqlitePlace:
    file: Path
    bin: Path
    name: str = "sqlite"
    schema: str = "main"

    @property
    def output(self) -> dict[str, Any]:
        """dbt-sqlite attaches a file for each schema, and every *.db of `schema_directory`."""
        return {
            "type": "sqlite",
            "threads": 1,
            "database": "database",
            "schema": self.schema,
            "schemas_and_paths": {self.schema: str(self.file)},
            "schema_directory": str(self.file.parent / "schemas"),
        }

    def execute(self, sql: str) -> Rows:
        with closing(sqlite3.connect(self.file, timeout=30)) as connection, connection:
            return only_rows(connection.execute(sql).fetchall())


@contextmanager
def open_sqlite(folder: Path) -> Iterator[SqlitePlace]:
    """Raises PlaceMissing."""
    (folder / "schemas").mkdir(exist_ok=True)
    yield SqlitePlace(folder / "shop.db", environment("sqlite"))
