"""What a test knows of a warehouse, whichever it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[2]
# The environment that runs the tests: it may be the one of another dbt version.
BIN = Path(sys.executable).parent
NAMES = ("duckdb", "postgres", "sqlite", "bigquery")

Rows = list[tuple[Any, ...]]


class Place(Protocol):
    """A fresh database, or dataset, of one warehouse; it is gone when its test ends."""

    @property
    def name(self) -> str:
        """One of NAMES, which is the `type` of the dbt profile too."""

    @property
    def output(self) -> dict[str, Any]:
        """The target of a dbt profile that leads here."""

    @property
    def bin(self) -> Path:
        """The folder of the `dbt` and the `sentinel` that can reach it."""

    @property
    def schema(self) -> str:
        """The schema of the output. It exists, and is where `execute` looks for tables."""

    def execute(self, sql: str) -> Rows:
        """Runs one statement, committed; its rows, none if it has no result.

        Raises what the driver raises.
        """


class PlaceMissing(Exception):
    """An environment that a place needs isn't installed."""


def environment(name: str) -> Path:
    """The `bin` folder of an environment beside .venv. Raises PlaceMissing."""
    folder = ROOT / f".venv-{name}"
    if not (folder / ".ready").exists():
        raise PlaceMissing(f"{folder.name} isn't installed: `make setup-places` installs it")
    return folder / "bin"


def profile(place: Place, name: str = "shop") -> dict[str, Any]:
    """What profiles.yml holds to lead to one place."""
    return {name: {"target": "dev", "outputs": {"dev": place.output}}}


def only_rows(rows: Sequence[Sequence[Any]]) -> Rows:
    """Rows of a driver as plain tuples."""
    return [tuple(row) for row in rows]
