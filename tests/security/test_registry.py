"""The attacks run on everything that is registered."""

from __future__ import annotations

from tests.places.place import NAMES

from .registry import (
    CHANNELS,
    HTTP_CHANNELS,
    LOCAL_CHANNELS,
    SMTP_CHANNELS,
    STORES,
    WAREHOUSES,
    channel_type,
)


def test_every_registered_warehouse_and_store_has_a_place_in_the_tests() -> None:
    assert set(WAREHOUSES) == set(STORES) == set(NAMES)


def test_every_registered_channel_is_attacked() -> None:
    attacked = {channel_type(name) for name in (*HTTP_CHANNELS, *SMTP_CHANNELS, *LOCAL_CHANNELS)}
    assert attacked == set(CHANNELS)
