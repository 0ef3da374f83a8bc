"""Durations as people write and read them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.duration import format_duration, parse_duration
from tests.core.builders import examples


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("30s", timedelta(seconds=30)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("1h30m", timedelta(minutes=90)),
        (" 5M ", timedelta(minutes=5)),
        ("0s", timedelta()),
    ],
)
def test_a_duration_is_read(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "1.5h", "5 m", "5w", "5min", "1h-5m", "P1D"])
def test_anything_else_is_refused_with_the_ways_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 30s, 15m, 2h or 1d") as refusal:
        parse_duration(text)
    assert repr(text) in str(refusal.value)


def test_a_duration_beyond_what_time_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        parse_duration("99999999999d")


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(milliseconds=900), "0s"),
        (timedelta(seconds=-5), "0s"),
        (timedelta(seconds=45), "45s"),
        (timedelta(minutes=90), "1h 30m"),
        (timedelta(days=2, hours=3, minutes=4, seconds=5), "2d 3h"),
        (timedelta(days=1, seconds=5), "1d 5s"),
    ],
)
def test_people_read_the_two_largest_units(length: timedelta, text: str) -> None:
    assert format_duration(length) == text


@examples
@given(st.integers(0, 59), st.integers(0, 59))
def test_what_two_units_can_say_is_read_back(minutes: int, seconds: int) -> None:
    length = timedelta(minutes=minutes, seconds=seconds)

    assert parse_duration(format_duration(length).replace(" ", "")) == length
