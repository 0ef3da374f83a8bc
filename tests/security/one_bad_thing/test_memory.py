"""An evaluation needs no more memory than is stated, whatever the warehouse holds.

The quick ones of the measurements in memory.py, which makes a table of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.places.place import Place
from tests.places.servers import Servers
from tests.security.registry import WAREHOUSES

from .memory import KINDS, measured

# What the Kubernetes manifest allows, less what a daemon has beside its evaluations.
MOST_MB = 900


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[Place]:
    with servers.open_place(request.param, tmp_path) as opened:
        yield opened


def test_every_warehouse_is_measured_but_those_that_bound_cells_themselves() -> None:
    """BigQuery has no rows beyond 100 MB, and gives results in pages."""
    assert set(WAREHOUSES) == {*KINDS, "bigquery"}


def measure(case: str, place: Place) -> dict[str, Any]:
    peak, said = measured(case, place)
    assert peak < MOST_MB
    return said


def test_a_dimension_of_50_mb_is_an_error_that_names_the_column(place: Place) -> None:
    said = measure("dimension of 50 MB", place)
    assert said["outcome"] == "error"
    assert "the column 'd' has a value of 50,000,000" in said["error"]


def test_a_message_of_200_mb_is_cut_or_an_error(place: Place) -> None:
    said = measure("message of 200 MB", place)
    if place.name == "sqlite":  # it needs several times the length of a value to cut it
        assert "not enough memory" in said["error"]
    else:
        assert said["message"].endswith("… (200,000,000 characters, cut)")


def test_10_000_instances_are_evaluated(servers: Servers, tmp_path: Path) -> None:
    """On DuckDB, which computes in the same process: the others need less."""
    with servers.open_place("duckdb", tmp_path) as place:
        said = measure("10,000 instances", place)
        assert (said["outcome"], said["instances"]) == ("alert", 10_000)


def test_thousands_of_columns_are_cut(place: Place) -> None:
    said = measure("5,000 columns", place)
    assert said["outcome"] == "alert"
    assert "columns, cut" in said["context"]["…"]
