"""Values of the warehouse made plain, and the names and keys made of them."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.values import hash_id, instance_name, isoformat, number, plain, to_json
from tests.core.builders import examples

PARIS_WINTER = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (7, 7),
        ("north", "north"),
        (1.5, 1.5),
        (2.0, 2),
        (-0.0, 0),
        (2.0**53 - 1, 2**53 - 1),
        (2.0**53, 2.0**53),
        (1e300, 1e300),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (Decimal("10.00"), 10),
        (Decimal("10.25"), 10.25),
        (Decimal("NaN"), "NaN"),
        (Decimal("-Infinity"), "-Infinity"),
        (date(2026, 1, 5), "2026-01-05"),
        (time(12, 30), "12:30:00"),
        (datetime.fromisoformat("2026-01-05T12:00:00"), "2026-01-05T12:00:00"),
        (datetime(2026, 1, 5, 12, tzinfo=PARIS_WINTER), "2026-01-05T11:00:00Z"),
        (timedelta(minutes=1, milliseconds=500), 60.5),
        (b"\x00\xff", "00ff"),
        (bytearray(b"\x01"), "01"),
        (memoryview(b"\x02"), "02"),
        ([Decimal("1"), date(2026, 1, 5)], [1, "2026-01-05"]),
        ((1, None), [1, None]),
        ({"a": Decimal("1.5"), 2: b"\x01"}, {"a": 1.5, "2": "01"}),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_every_value_of_a_warehouse_is_made_plain(value: Any, expected: Any) -> None:
    found = plain(value)

    assert (found, type(found)) == (expected, type(expected))
    assert json.loads(json.dumps(found, allow_nan=False)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (3, 3.0),
        (1.25, 1.25),
        (Decimal("0.1"), 0.1),
        (math.nan, None),
        (-math.inf, None),
        (Decimal("NaN"), None),
        (Decimal("1e400"), None),
        (10**400, None),
    ],
)
def test_a_number_is_a_finite_float_or_nothing(value: Any, expected: float | None) -> None:
    assert number(value) == expected


@pytest.mark.parametrize("value", ["5", "", True, b"5", date(2026, 1, 5), [1]])
def test_what_is_no_number_is_refused_with_its_value(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a number") as refusal:
        number(value)
    assert repr(plain(value)) in str(refusal.value)


def test_times_are_written_in_utc() -> None:
    assert isoformat(datetime(2026, 1, 5, 0, 30, tzinfo=PARIS_WINTER)) == "2026-01-04T23:30:00Z"
    assert isoformat(datetime(2026, 1, 5, 0, 0, 0, 5, UTC)) == "2026-01-05T00:00:00.000005Z"


def test_equal_values_give_equal_json() -> None:
    assert (
        to_json({"b": 1, "a": Decimal("2.50")}) == to_json({"a": 2.5, "b": 1}) == '{"a":2.5,"b":1}'
    )
    assert to_json("é") == '"é"'


def test_a_key_tells_apart_how_its_parts_are_cut() -> None:
    assert hash_id("a", "b") == hash_id("a", "b")
    cuts = [("a", "b"), ("ab",), ("a", "", "b"), ("b", "a"), ('a", "b',)]
    assert len({hash_id(*parts) for parts in cuts}) == len(cuts)
    assert len(hash_id("a")) == 32


@pytest.mark.parametrize(
    ("dimensions", "name"),
    [
        ({}, ""),
        ({"store": 12, "region": "north"}, "region=north, store=12"),
        ({"region": None}, "region=null"),
        ({"region": "null"}, 'region="null"'),
        ({"region": ""}, 'region=""'),
        ({"region": "a, store=1"}, 'region="a, store=1"'),
        ({"day": "2026-01-05"}, 'day="2026-01-05"'),
        ({"store": "12"}, 'store="12"'),
        ({"open": True}, "open=true"),
        ({"open": "true"}, 'open="true"'),
        ({"open": "false"}, 'open="false"'),
        ({"city": "São Paulo"}, "city=São Paulo"),
    ],
)
def test_an_instance_is_named_by_its_dimensions(dimensions: dict[str, Any], name: str) -> None:
    assert instance_name(dimensions) == name


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False).map(plain)
    | st.text()
    | st.sampled_from(["null", "true", "nan", "1", "a, b=1", 'a"', "a=b", " a", "a "])
)
dimensions = st.dictionaries(st.sampled_from(["a", "b", "region"]), scalars, max_size=3)


@examples
@given(dimensions, dimensions)
def test_different_values_never_share_a_name(one: dict[str, Any], other: dict[str, Any]) -> None:
    # As JSON, since True == 1 in Python and no warehouse takes them for the same.
    same = to_json(one) == to_json(other)

    assert (instance_name(one) == instance_name(other)) is same


@examples
@given(st.text(), st.text())
def test_different_texts_never_share_a_name(one: str, other: str) -> None:
    pair = instance_name({"a": one, "b": other})

    assert (instance_name({"a": other, "b": one}) == pair) is (one == other)
    assert instance_name({"a": f"{one}, b={other}"}) != pair
