"""Opens places. A server is started when the first test asks for it, and kept for the others."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tests.places.bigquery import BigQueryServer, run_bigquery
from tests.places.duckdb import open_duckdb
from tests.places.place import Place
from tests.places.postgres import PostgresServer, run_postgres
from tests.places.sqlite import open_sqlite


@dataclass
class Servers:
    """The servers of one pytest process. `running` stops them when it is closed."""

    running: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def postgres(self) -> PostgresServer:
        return self.running.enter_context(run_postgres())

    @cached_property
    def bigquery(self) -> BigQueryServer:
        return self.running.enter_context(run_bigquery())

    def open_place(self, name: str, folder: Path) -> AbstractContextManager[Place]:
        """A fresh empty database. `folder` is where a warehouse of files has its file."""
        match name:
            case "duckdb":
                return open_duckdb(folder)
            case "sqlite":
                return open_sqlite(folder)
            case "postgres":
                return self.postgres.database()
            case "bigquery":
                return self.bigquery.dataset()
        raise ValueError(f"there is no place {name!r}")
