"""The attacks run on everything that is registered."""

from __future__ import annotations

from tests.places.place import NAMES

from .registry import (
    CHANNELS,
    EXAMPLES,
    STORES,
    WAREHOUSES,
)


def test_every_registered_warehouse_and_store_has_a_place_in_the_tests() -> None:
    assert set(WAREHOUSES) == set(STORES) == set(NAMES)


def test_every_registered_channel_is_attacked() -> None:
    assert {example.kind for example in EXAMPLES.values()} == set(CHANNELS)
