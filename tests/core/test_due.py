"""What is due when: slots, jitter, what was missed, and a clock that is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sentinel.core.alert import Alert
from sentinel.core.due import Slot, Timetable, due_slot, last_slot, last_slots, start_offset
from sentinel.core.state import State
from tests.fakes import alerts_of, source

MINUTE = timedelta(minutes=1)
NINE = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def alert(name: str = "revenue", schedule: str | None = "* * * * *", **others: Any) -> Alert:
    block = {"schedule": schedule} if schedule else {}
    return alerts_of(source(name, block | others)).valid[0]


def notified(timetable: Timetable, now: datetime) -> list[tuple[str, datetime, int]]:
    return [(d.alert.name, d.slot.at, d.slot.missed) for d in timetable.due(now)]


@pytest.mark.parametrize(
    ("last", "now", "slot"),
    [
        (None, NINE, Slot(NINE)),
        (None, NINE + MINUTE / 2, Slot(NINE)),
        (NINE - MINUTE, NINE, Slot(NINE)),
        (NINE, NINE + MINUTE / 2, None),
        (NINE, NINE + MINUTE, Slot(NINE + MINUTE)),
        (NINE, NINE + 5 * MINUTE, Slot(NINE + 5 * MINUTE, missed=4)),
        # A clock that was set back: what lies ahead of it says nothing.
        (NINE + 60 * MINUTE, NINE, Slot(NINE)),
    ],
)
def test_an_alert_is_due_for_its_latest_slot_once(
    last: datetime | None, now: datetime, slot: Slot | None
) -> None:
    assert due_slot(alert(), last, now) == slot


def test_without_a_schedule_nothing_is_due() -> None:
    assert due_slot(alert(schedule=None), None, NINE) is None


def test_jitter_delays_the_start_and_leaves_the_slot() -> None:
    spread = alert(jitter="10m")
    offset = start_offset(spread)
    assert timedelta() < offset < 10 * MINUTE
    hourly = alert(schedule="0 * * * *", jitter="10m")
    assert start_offset(hourly) == offset, "it belongs to the alert"
    last = NINE - 60 * MINUTE
    assert due_slot(hourly, last, NINE + offset - MINUTE / 60) is None
    assert due_slot(hourly, last, NINE + offset) == Slot(NINE)


def test_the_last_slot_stands_on_the_head_and_is_found_by_the_id_from_before() -> None:
    renamed = alert(id="stable")
    key = renamed.source.unique_id
    rows = [
        State("k", "shop", key, key, "revenue", last_slot=NINE),
        State("l", "shop", key, key, "revenue", instance="region=x", last_slot=NINE + MINUTE),
    ]
    assert last_slot(renamed, last_slots(rows)) == NINE


def test_everything_due_at_one_moment_is_taken_together_and_once() -> None:
    timetable = Timetable()
    timetable.fill(
        [alert("a"), alert("b"), alert("hourly", "0 * * * *"), alert("by_hand", None)],
        dict.fromkeys((alert(n).id for n in ("a", "b", "hourly")), NINE - 60 * MINUTE),
        NINE - MINUTE / 2,
    )
    assert timetable.next() == NINE - MINUTE / 2, "what was missed is due at once"
    before = NINE - MINUTE
    assert notified(timetable, NINE - MINUTE / 2) == [("a", before, 58), ("b", before, 58)]
    for name in ("a", "b"):
        timetable.done(alert(name).id, before)
    assert timetable.next() == NINE
    assert notified(timetable, NINE - MINUTE / 4) == []
    assert sorted(notified(timetable, NINE)) == [
        ("a", NINE, 0), ("b", NINE, 0), ("hourly", NINE, 0),
    ]  # fmt: skip
    assert notified(timetable, NINE) == []
    assert timetable.next() == NINE + MINUTE


def test_after_a_stall_the_latest_slot_runs_once_and_the_missed_are_counted() -> None:
    timetable = Timetable()
    timetable.fill([alert("a")], {alert("a").id: NINE}, NINE)
    assert notified(timetable, NINE + 10 * MINUTE) == [("a", NINE + 10 * MINUTE, 9)]
    timetable.done(alert("a").id, NINE + 10 * MINUTE)
    assert notified(timetable, NINE + 10.5 * MINUTE) == []
    assert notified(timetable, NINE + 11 * MINUTE) == [("a", NINE + 11 * MINUTE, 0)]


def test_what_could_not_be_recorded_is_looked_at_again() -> None:
    timetable = Timetable()
    timetable.fill([alert("hourly", "0 * * * *")], {alert("hourly").id: NINE - 60 * MINUTE}, NINE)
    assert notified(timetable, NINE) == [("hourly", NINE, 0)]
    timetable.again(alert("hourly").id, NINE + MINUTE)
    assert timetable.next() == NINE + MINUTE
    assert notified(timetable, NINE + MINUTE) == [("hourly", NINE, 0)]
    timetable.done(alert("hourly").id, NINE)
    timetable.again(alert("hourly").id, NINE + 2 * MINUTE)
    assert notified(timetable, NINE + 2 * MINUTE) == [], "it was recorded since"
    assert timetable.next() == NINE + 60 * MINUTE


def test_a_later_look_does_not_put_off_an_earlier_one() -> None:
    timetable = Timetable()
    timetable.fill([alert("a")], {alert("a").id: NINE}, NINE)
    timetable.again(alert("a").id, NINE + 5 * MINUTE)
    timetable.again("unknown", NINE)
    assert timetable.next() == NINE + MINUTE


def test_when_the_clock_is_set_back_nothing_waits_for_it_to_catch_up() -> None:
    timetable = Timetable()
    timetable.fill([alert("a")], {alert("a").id: NINE}, NINE)
    assert notified(timetable, NINE + 60 * MINUTE) == [("a", NINE + 60 * MINUTE, 59)]
    timetable.done(alert("a").id, NINE + 60 * MINUTE)
    back = NINE + 10 * MINUTE
    assert notified(timetable, back) == [("a", back, 0)]
    timetable.done(alert("a").id, back)
    assert timetable.next() == back + MINUTE


def test_an_empty_timetable_has_no_next_start() -> None:
    timetable = Timetable()
    timetable.fill([alert("by_hand", None)], {}, NINE)
    assert timetable.next() is None
    assert timetable.due(NINE) == []
