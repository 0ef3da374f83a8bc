"""DuckDB: a file in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.places.place import BIN, Rows, only_rows


@dataclass(frozen=True)
class DuckDbPlace:
    file: Path
    name: str = "duckdb"
    bin: Path = BIN
    schema: str = "main"

    @property
    def output(self) -> dict[str, Any]:
        return {
            "type": "duckdb",
            "path": str(self.file),
            "schema": self.schema,
            "threads": 1,
            "retries": {"connect_attempts": 7},  # a daemon may hold the file: 1, 2, 4, ... seconds
        }

    def execute(self, sql: str) -> Rows:
        """Opens the file for one statement only: an open one locks every other process out."""
        import duckdb

        with duckdb.connect(str(self.file)) as connection:
            return only_rows(connection.execute(sql).fetchall())


@contextmanager
def open_duckdb(folder: Path) -> Iterator[DuckDbPlace]:
    yield DuckDbPlace(folder / "shop.duckdb")
