"""Read-only means read-only: what an alert's SQL can't do, on every warehouse.

The warehouse's own parser decides that an alert is one statement that reads; ours is the second guard.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places.servers import Servers

from .hostile_sql import DIALECTS, TARGETS, Target, open_target
from .property_read_only import attack
from .registry import WAREHOUSES


@pytest.fixture(scope="module", params=[*TARGETS])
def target(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """A warehouse in which nothing may change, and a session of one connection."""
    with open_target(request.param, servers, tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


def test_every_registered_warehouse_is_attacked() -> None:
    assert set(WAREHOUSES) | {"adapter"} == set(TARGETS)


def test_no_generated_text_changes_anything_or_reads_what_it_may_not(
    request: pytest.FixtureRequest, target: Target
) -> None:
    """The same texts every time; `make security-fuzz` tries others for an hour."""
    name = request.node.callspec.params["target"]
    attack(target, name, {"bigquery": 60}.get(name, 400), from_seed=1)
    assert target.tally.accepted > 10
    assert target.tally.refused > 10
    assert DIALECTS[name] == target.dialect
