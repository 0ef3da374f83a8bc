"""Read-only means read-only: what an alert's SQL can't do, on every warehouse.

The warehouse's own parser decides that an alert is one statement that reads; ours is the second guard.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.places.servers import Servers

from .hostile_sql import DECIDING, TARGETS, Target, open_target, without_guard
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


def test_no_generated_text_changes_anything_or_reads_what_it_may_not(target: Target) -> None:
    """The same texts every time; `make security-fuzz` tries others for an hour."""
    _attack(target)


def test_a_warehouse_that_decides_by_itself_needs_no_guard_of_ours(
    request: pytest.FixtureRequest, target: Target
) -> None:
    if request.node.callspec.params["target"] in DECIDING:
        with without_guard(target):
            _attack(target)


def _attack(target: Target) -> None:
    before = replace(target.tally)
    attack(target, 60 if target.dialect == "bigquery" else 200, from_seed=1)
    assert target.tally.accepted > before.accepted
    assert target.tally.refused > before.refused
