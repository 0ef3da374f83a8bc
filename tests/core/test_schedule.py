"""Cron as the standard has it, held against an oracle that walks minute by minute.

The oracle is written from crontab(5) and cron(8) of Debian, and shares no code with the module.
"""

from __future__ import annotations

import random
import subprocess
import sys
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.core.schedule import NAMED, Cron, jitter_offset, time_zone
from tests.core.builders import examples

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
MEANT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
}


# -- the oracle ---------------------------------------------------------------------------------------


def numbers(field: str, low: int, high: int, names: list[str], first: int) -> frozenset[int]:
    """The numbers of a cron field."""
    found: set[int] = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        if span == "*":
            start, stop = low, high
        else:
            ends = [
                names.index(end) + first if end in names else int(end) for end in span.split("-")
            ]
            start, stop = ends[0], (high if step and len(ends) == 1 else ends[-1])
            if stop < start:
                stop += 7  # fri-sun
        found |= set(range(start, stop + 1, int(step or 1)))
    return frozenset(found)


@dataclass(frozen=True)
class Oracle:
    """When a local time matches, by the words of crontab(5)."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool
    keeps_pace: bool

    @classmethod
    def read(cls, expression: str) -> Oracle:
        minute, hour, day, month, weekday = MEANT.get(expression, expression).split()
        return cls(
            minutes=numbers(minute, 0, 59, [], 0),
            hours=numbers(hour, 0, 23, [], 0),
            days=numbers(day, 1, 31, [], 0),
            months=numbers(month, 1, 12, MONTHS, 1),
            weekdays=frozenset(each % 7 for each in numbers(weekday, 0, 7, WEEKDAYS, 0)),
            either=day[0] != "*" and weekday[0] != "*",
            keeps_pace=minute[0] == "*" or hour[0] == "*",
        )

    def on(self, day: date) -> bool:
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        wanted = by_day or by_weekday if self.either else by_day and by_weekday
        return wanted and day.month in self.months

    def at(self, local: datetime) -> bool:
        timely = local.minute in self.minutes and local.hour in self.hours
        return timely and self.on(local.date())


@dataclass(frozen=True)
class Minute:
    """A minute of the world as a clock on the wall shows it."""

    utc: datetime
    local: datetime
    again: bool
    skipped: tuple[datetime, ...]


@lru_cache
def clock(zone: str, noon: datetime) -> tuple[Minute, ...]:
    """All minutes of the three days before and after a noon in UTC."""
    shown: list[Minute] = []
    utc, latest = noon - 3 * DAY, datetime.min  # noqa: DTZ901 - local by design
    while utc < noon + 3 * DAY:
        local = utc.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        skipped = []
        if shown:
            missing = latest + MINUTE
            while missing < local:
                skipped.append(missing)
                missing += MINUTE
        shown.append(Minute(utc, local, local <= latest, tuple(skipped)))
        latest = max(latest, local)
        utc += MINUTE
    return tuple(shown)


def expected_slots(expression: str, zone: str, noon: datetime) -> Iterator[datetime]:
    """A fixed time that is skipped comes after the gap, one that comes twice counts once."""
    oracle = Oracle.read(expression)
    for minute in clock(zone, noon):
        if oracle.keeps_pace:
            if oracle.at(minute.local):
                yield minute.utc
        elif any(oracle.at(local) for local in minute.skipped) or (
            not minute.again and oracle.at(minute.local)
        ):
            yield minute.utc


# -- the zones around their changes -------------------------------------------------------------------

CHANGES = [
    ("Europe/Paris", datetime(2026, 3, 29, 12, tzinfo=UTC)),
    ("Europe/Paris", datetime(2026, 10, 25, 12, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 12, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 12, tzinfo=UTC)),
    # Half an hour.
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 12, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 12, tzinfo=UTC)),
    # At midnight: a day that begins at one, and an hour before midnight that comes twice.
    ("Africa/Cairo", datetime(2026, 4, 24, 12, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 10, 29, 12, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 4, 5, 12, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 9, 6, 12, tzinfo=UTC)),
]
CHOSEN = [
    *MEANT,
    "* * * * *",
    "*/7 * * * *",
    "*/90 * * * *",
    "59 * * * *",
    "0 */2 * * *",
    "30 2 * * *",
    "*/15 2 * * *",
    "* 2 * * *",
    "*/10 1-3 * * *",
    "*/20 0,23 * * *",
    "0-59/10 1-3 * * *",
    "15,45 1-3 * * *",
    "0 0 * * *",
    "30 0 * * *",
    "59 23 * * *",
    "0 0-23 * * *",
    "30 1 * * sun",
    "30 2 * * 0",
    "30 2 * * 7",
    "0 0 * * fri-sun",
    "0 0 * * 5-7",
    "0 12 3-3 * *",
    "0 12 */2 * *",
    "0 12 */2 * mon",
    "0 12 1-31 * */2",
    "0 12 25,29 * mon",
    "0 12 31 feb,apr tue",
    "0 12 * * */3",
    "10-50/20 9-17/4 * mar-nov mon-fri",
    "5/20 22/1 * * 3-3",
]


def some_expression(dice: random.Random) -> str:
    """Any schedule, more often one that comes within a week."""

    def field(low: int, high: int, stars: int, names: Sequence[str] = ()) -> str:
        start, stop = sorted(dice.sample(range(low, high + 1), 2))
        one, two = str(start), str(stop)
        if names and dice.random() < 0.5:
            one, two = names[start - low], names[stop - low]
        made = [
            one,
            f"{one},{two}",
            f"{one}-{two}",
            f"{one}-{one}",
            f"{one}-{two}/{dice.randint(1, 5)}",
            f"{one}/{dice.randint(1, 5)}",
            f"{two},{one}-{two}/{dice.randint(2, 5)},{one}",
            f"*/{dice.randint(1, high)}",
        ]
        return dice.choice(["*"] * stars + made)

    minute, hour, day = field(0, 59, 1), field(0, 23, 3), field(1, 31, 8)
    month, weekday = field(1, 12, 24, MONTHS), field(0, 7, 3, [*WEEKDAYS, "sun"])
    return f"{minute} {hour} {day} {month} {weekday}"


def moments(dice: random.Random, zone: str, noon: datetime) -> list[datetime]:
    """Moments anywhere in the window, and close around the change of the clock."""
    shown = clock(zone, noon)
    change = next(m.utc for m in shown[1:] if m.skipped or m.again)
    anywhere = [noon + DAY * dice.uniform(-2.9, 2.9) for _ in range(3)]
    close = [change + timedelta(minutes=dice.uniform(-90, 90)) for _ in range(2)]
    exact = [change, change - MINUTE, change - timedelta(microseconds=1)]
    return anywhere + close + exact


@pytest.mark.parametrize(("zone", "noon"), CHANGES, ids=lambda each: str(each)[:20])
def test_slots_are_those_of_the_standard_through_both_changes_of_the_clock(
    zone: str, noon: datetime
) -> None:
    dice = random.Random(f"{zone} {noon}")
    for text in [*CHOSEN, *(some_expression(dice) for _ in range(40))]:
        slots = list(expected_slots(text, zone, noon))
        try:
            cron = Cron.parse(text, zone)
        except ValueError as refusal:
            assert "never comes" in str(refusal), text
            assert slots == []
            continue
        for moment in moments(dice, zone, noon):
            after = bisect_right(slots, moment)
            if after < len(slots):
                assert cron.next_after(moment) == slots[after], (text, moment)
            else:
                assert cron.next_after(moment) >= noon + 3 * DAY, (text, moment)
            if after:
                assert cron.latest_until(moment) == slots[after - 1], (text, moment)
            else:
                assert cron.latest_until(moment) < noon - 3 * DAY, (text, moment)


@pytest.mark.parametrize(("zone", "noon"), CHANGES, ids=lambda each: str(each)[:20])
def test_every_slot_between_two_moments_is_found_once_and_counted(
    zone: str, noon: datetime
) -> None:
    dice = random.Random(f"every {zone} {noon}")
    for text in [*CHOSEN, *(some_expression(dice) for _ in range(20))]:
        slots = list(expected_slots(text, zone, noon))
        if not slots:
            continue
        cron = Cron.parse(text, zone)
        ends = [*moments(dice, zone, noon)[2:], *dice.sample(slots, min(2, len(slots)))]
        for after in ends:
            for before in ends:
                number = max(0, bisect_left(slots, before) - bisect_right(slots, after))
                assert cron.count_between(after, before) == number, (text, after, before)
        if len(slots) < 300:
            start, stop = noon - 3 * DAY, noon + 3 * DAY
            assert list(onwards(cron, start - MINUTE, stop)) == slots, text
            assert list(back(cron, stop - timedelta(microseconds=1), start)) == slots[::-1], text


def onwards(cron: Cron, start: datetime, stop: datetime) -> Iterator[datetime]:
    slot = cron.next_after(start)
    while slot < stop:
        yield slot
        slot = cron.next_after(slot)


def back(cron: Cron, start: datetime, stop: datetime) -> Iterator[datetime]:
    slot = cron.latest_until(start)
    while slot >= stop:
        yield slot
        slot = cron.latest_until(slot - timedelta(microseconds=1))


@pytest.mark.parametrize("zone", sorted({zone for zone, _ in CHANGES}))
@pytest.mark.parametrize(
    ("text", "number"),
    [
        # Whatever a clock shows, a year has so many minutes, less the first instant itself.
        ("* * * * *", 365 * 24 * 60 - 1),
        ("0 0-23 * * *", None),
        ("*/10 1-3 * * *", None),
        ("30 12 * * *", 365),
        ("30 2 * * *", 365),
        ("0 0 * * *", 365),
        ("0 12 * * mon", 52),
        ("0 12 29 2 *", 0),
    ],
)
def test_the_slots_of_a_whole_year_are_counted(zone: str, text: str, number: int | None) -> None:
    cron = Cron.parse(text, zone)
    # Never a slot of any of these but of the first.
    after = datetime(2026, 1, 1, 15, 5, tzinfo=UTC)
    before = datetime(2027, 1, 1, 15, 5, tzinfo=UTC)
    if number is None:
        number = sum(1 for _ in onwards(cron, after, before))

    assert cron.count_between(after, before) == number


def test_nothing_lies_between_a_moment_and_an_earlier_one() -> None:
    cron = Cron.parse("* * * * *", "Europe/Paris")
    noon = datetime(2026, 3, 29, 12, tzinfo=UTC)

    assert cron.count_between(noon, noon) == 0
    assert cron.count_between(noon, noon + MINUTE) == 0
    assert cron.count_between(noon, noon + 2 * MINUTE) == 1
    assert cron.count_between(noon, noon - DAY) == 0


@pytest.mark.parametrize(
    ("text", "zone", "first_slots"),
    [
        # Fixed times in the gap of an hour come at the first instant after it, and once.
        ("30 2 * * *", "Europe/Paris", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("0,30 2 * * *", "Europe/Paris", ["03-28 01:00", "03-28 01:30", "03-29 01:00"]),
        ("0 3 * * *", "Europe/Paris", ["03-28 02:00", "03-29 01:00", "03-30 01:00"]),
        # Fixed times in the hour that comes twice come once, the first time.
        ("30 2 25 10 *", "Europe/Paris", ["10-25 00:30"]),
        # Finer schedules keep their pace.
        ("0 */1 29 3 *", "Europe/Paris", ["03-28 23:00", "03-29 00:00", "03-29 01:00"]),
        ("30 * 4 4 *", "America/Santiago", ["04-04 03:30", "04-04 04:30", "04-04 05:30"]),
        ("*/30 1-3 29 3 *", "Europe/Paris", ["03-29 00:00", "03-29 00:30", "03-29 01:00"]),
        # And may lie in the gap whole, where the same times without a star come once.
        ("*/30 2 * * *", "Europe/Paris", ["03-28 01:00", "03-28 01:30", "03-30 00:00"]),
        ("0-59/30 2 * * *", "Europe/Paris", ["03-28 01:00", "03-28 01:30", "03-29 01:00"]),
        # Midnight that doesn't exist.
        ("0 0 24 4 *", "Africa/Cairo", ["04-23 22:00"]),
        ("30 23 29 10 *", "Africa/Cairo", ["10-29 20:30"]),
    ],
)
def test_a_time_that_is_skipped_or_comes_twice_runs_once(
    text: str, zone: str, first_slots: list[str]
) -> None:
    cron = Cron.parse(text, zone)
    moment = datetime(2026, 3, 28, tzinfo=UTC)
    for expected in first_slots:
        moment = cron.next_after(moment)
        assert f"{moment:%Y-%m-%d %H:%M}" == f"2026-{expected}"


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("*/20 2 * * *", ["00:00", "00:20", "00:40", "01:00", "01:20", "01:40"]),
        ("0,20,40 2 * * *", ["00:00", "00:20", "00:40"]),
        ("0,20,40 */2 * * *", ["00:00", "00:20", "00:40", "01:00", "01:20", "01:40"]),
        ("0-59/20 1,2 * * *", ["00:00", "00:20", "00:40"]),
    ],
)
def test_a_star_in_minute_or_hour_keeps_pace_where_listed_times_come_once(
    text: str, slots: list[str]
) -> None:
    cron = Cron.parse(text, "Europe/Paris")
    two = datetime(2026, 10, 25, 0, tzinfo=UTC)  # in summer time, and in winter time an hour later
    found = onwards(cron, two - MINUTE, two + 2 * 60 * MINUTE)

    assert [f"{slot:%H:%M}" for slot in found] == slots


def test_an_hourly_schedule_runs_twice_in_the_hour_that_comes_twice() -> None:
    cron = Cron.parse("30 * * * *", "America/Santiago")
    slots = [datetime(2026, 4, 5, 1, 30, tzinfo=UTC)]
    for _ in range(3):
        slots.append(cron.next_after(slots[-1]))

    assert [slot.hour for slot in slots] == [1, 2, 3, 4]
    assert [slot.astimezone(ZoneInfo("America/Santiago")).hour for slot in slots] == [22, 23, 23, 0]


# -- the calendar -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "0 6 29 2 *",
        "0 6 29 2 */7",
        "0 6 30 2 mon",
        "0 6 31 2,4 fri-sun",
        "0 6 31 * *",
        "0 6 31 4-9 *",
        "0 6 13 * fri",
        "0 6 */9 * *",
        "0 6 */9 * */2",
        "0 6 1-7 */3 sat",
        "0 6 1-31 * mon",
        "0 6 * 1-1 sun",
        "0 6 5-5 dec,jan *",
        "0 6 28-31/3 feb-apr 7-7",
        "0 6 */31 */12 *",
    ],
)
def test_days_are_those_of_the_standard_over_the_years(text: str) -> None:
    oracle, cron = Oracle.read(text), Cron.parse(text)
    first = datetime(2025, 1, 1, 6, tzinfo=UTC)
    days = [first + number * DAY for number in range(13 * 366)]
    expected = [day for day in days if oracle.on(day.date())][:40]

    slot, found = first - MINUTE, []
    for _ in expected:
        slot = cron.next_after(slot)
        found.append(slot)

    assert found == expected
    assert found


def test_any_days_are_those_of_the_standard_over_the_years() -> None:
    dice = random.Random("days")
    first = datetime(2024, 1, 1, 6, tzinfo=UTC)
    days = [first + number * DAY for number in range(5 * 366)]
    for _ in range(200):
        text = " ".join(["0", "6", *some_expression(dice).split()[2:]])
        oracle = Oracle.read(text)
        expected = [day for day in days if oracle.on(day.date())]
        try:
            cron = Cron.parse(text)
        except ValueError as refusal:
            assert "never comes" in str(refusal), text
            assert expected == []
            continue
        found = onwards(cron, first - MINUTE, days[-1] + MINUTE)
        assert list(islice(found, 40)) == expected[:40], text
        assert cron.count_between(first - MINUTE, days[-1] + MINUTE) == len(expected), text


@pytest.mark.parametrize(
    "text",
    [
        "0 0 31 2 *",
        "0 0 30 feb *",
        "0 0 31 4,6,9,11 *",
        "0 0 31 2 */2",
        "0 0 30-31 2 *",
        # The 1st alone, and a Monday from the 8th to the 14th.
        "0 0 */31 * 1#2",
    ],
)
def test_a_day_that_no_month_has_never_comes(text: str) -> None:
    with pytest.raises(ValueError, match="never comes: no month has such a day") as refusal:
        Cron.parse(text)
    assert repr(text) in str(refusal.value)


# -- beyond the standard ------------------------------------------------------------------------------


def last_day(day: date) -> bool:
    return (day + DAY).day == 1


def placed(day: date, weekday: int, place: int | str) -> bool:
    """Whether a day is the nth or last such weekday of its month, by listing them."""
    listed = [date(day.year, day.month, 1) + number * DAY for number in range(31)]
    same = [each for each in listed if each.month == day.month and each.isoweekday() % 7 == weekday]
    if place == "last":
        return day == same[-1]
    return int(place) <= len(same) and day == same[int(place) - 1]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0 6 L * *", last_day),
        ("0 6 L 2 *", lambda day: last_day(day) and day.month == 2),
        ("0 6 L,30 * *", lambda day: last_day(day) or day.day == 30),
        (
            "0 6 1,15,L 2-4 *",
            lambda day: (day.day in (1, 15) or last_day(day)) and 2 <= day.month <= 4,
        ),
        ("0 6 L * mon", lambda day: last_day(day) or day.isoweekday() == 1),
        ("0 6 L * */3", lambda day: last_day(day) and day.isoweekday() % 7 in (0, 3, 6)),
        (
            "0 6 L 2 */4",
            lambda day: last_day(day) and day.month == 2 and day.isoweekday() in (4, 7),
        ),
        ("0 6 * * 1#1", lambda day: placed(day, 1, 1)),
        ("0 6 * * mon#5", lambda day: placed(day, 1, 5)),
        ("0 6 * 2 7#5", lambda day: day.month == 2 and placed(day, 0, 5)),
        ("0 6 * * tue#1,tue#3", lambda day: placed(day, 2, 1) or placed(day, 2, 3)),
        ("0 6 * * tue#1,fri#2", lambda day: placed(day, 2, 1) or placed(day, 5, 2)),
        ("0 6 * * 5L", lambda day: placed(day, 5, "last")),
        ("0 6 * * L5", lambda day: placed(day, 5, "last")),
        ("0 6 * * sunL,mon#1", lambda day: placed(day, 0, "last") or placed(day, 1, 1)),
        ("0 6 * 2 thuL", lambda day: day.month == 2 and placed(day, 4, "last")),
        # By OR, as neither begins with a star; with one, by AND.
        ("0 6 15 * 1#1", lambda day: day.day == 15 or placed(day, 1, 1)),
        ("0 6 L * 1#1", lambda day: last_day(day) or placed(day, 1, 1)),
        ("0 6 31 2 1#1", lambda day: day.month == 2 and placed(day, 1, 1)),
        ("0 6 */2 * 1#1", lambda day: day.day % 2 == 1 and placed(day, 1, 1)),
        ("0 6 */2 * 5L", lambda day: day.day % 2 == 1 and placed(day, 5, "last")),
        ("0 6 */31 * 1#1", lambda day: day.day == 1 and placed(day, 1, 1)),
    ],
)
def test_the_last_day_and_a_weekdays_place_are_those_of_the_calendar(
    text: str, wanted: Callable[[date], bool]
) -> None:
    first = datetime(2023, 12, 15, 6, tzinfo=UTC)
    days = [first + number * DAY for number in range(29 * 366)]
    expected = [day for day in days if wanted(day.date())]
    cron, end = Cron.parse(text), days[-1] + MINUTE

    assert expected
    assert cron.count_between(first - MINUTE, end) == len(expected)
    assert list(islice(onwards(cron, first - MINUTE, end), 120)) == expected[:120]
    assert list(islice(back(cron, days[-1], first), 120)) == expected[::-1][:120]


def test_the_last_day_of_february_is_the_29th_in_leap_years() -> None:
    cron = Cron.parse("0 9 L 2 *", "Europe/Paris")
    slots = list(onwards(cron, datetime(2024, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)))

    assert [f"{slot:%m-%d}" for slot in slots] == ["02-29", "02-28", "02-28", "02-28", "02-29"]


def test_the_longest_wait_is_found() -> None:
    # The 29th is a February's fifth Monday every 28 years, and across 2100 after 40.
    cron = Cron.parse("0 0 */28 2 1#5")

    before, after = datetime(2072, 2, 29, tzinfo=UTC), datetime(2112, 2, 29, tzinfo=UTC)
    assert cron.next_after(before) == after
    assert cron.latest_until(after - MINUTE) == before


def test_a_schedule_of_any_day_is_read_without_importing_croniter() -> None:
    script = (
        "import sys; from sentinel.core.schedule import Cron\n"
        "Cron.parse('*/5 8-18 * jan mon-fri'); Cron.parse('daily', 'Europe/Paris')\n"
        "assert 'croniter' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_threads_walk_one_schedule_each_on_its_own() -> None:
    cron = Cron.parse("7 3 L * *", "Asia/Kolkata")
    starts = [datetime(2020, 1, 1, 12, tzinfo=UTC) + number * DAY for number in range(400)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            slots = list(pool.map(cron.next_after, starts))
    finally:
        sys.setswitchinterval(interval)

    for start, slot in zip(starts, slots, strict=True):
        assert start < slot <= start + 32 * DAY
        assert last_day(slot.astimezone(ZoneInfo("Asia/Kolkata")).date())


# -- how it is written --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("0 0 * * *", "0 0 * * *"),
        ("  0   0 * *  * ", "0 0 * * *"),
        ("*/5 */2 */3 */4 */6", "*/5 */2 */3 */4 */6"),
        ("0 0 3-3 * *", "0 0 3 * *"),
        ("0 0 * * 3-3", "0 0 * * 3"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * 0,7", "0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("0 0 * * fri-sun", "0 0 * * 0,5,6"),
        ("0 0 * * sun-tue", "0 0 * * 0,1,2"),
        ("0 0 * * Mon,WED", "0 0 * * 1,3"),
        ("0 0 * * sun", "0 0 * * 0"),
        ("0 0 * JAN-mar,12 *", "0 0 * 1,2,3,12 *"),
        ("10-20/5 20/2 * * *", "10,15,20 20,22 * * *"),
        ("5,5,1 0 * * *", "1,5 0 * * *"),
        ("0 0 30 2 mon", "0 0 30 2 1"),
        ("0 9 L * *", "0 9 l * *"),
        ("0 9 L,15,1-2 * *", "0 9 1,2,15,l * *"),
        ("0 9 * * 1#1", "0 9 * * 1#1"),
        ("0 9 * * Mon#3,sun#1,7#1", "0 9 * * 0#1,1#3"),
        ("0 9 * * 5L", "0 9 * * l5"),
        ("0 9 * * friL,L7", "0 9 * * l0,l5"),
    ],
)
def test_fields_are_made_plain(text: str, expression: str) -> None:
    cron = Cron.parse(text)

    assert (cron.text, cron.expression, cron.zone) == (text, expression, "UTC")


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("hourly", "0 * * * *"),
        ("daily", "0 0 * * *"),
        ("midnight", "0 0 * * *"),
        ("weekly", "0 0 * * 0"),
        ("monthly", "0 0 1 * *"),
        ("yearly", "0 0 1 1 *"),
        ("annually", "0 0 1 1 *"),
    ],
)
def test_a_schedule_may_be_a_name(name: str, expression: str) -> None:
    for text in (name, f"@{name}", name.title()):
        assert Cron.parse(text).expression == expression


def test_months_and_weekdays_have_their_english_names() -> None:
    months = ",".join(MONTHS)
    weekdays = ",".join(WEEKDAYS)

    assert Cron.parse(f"0 0 1 {months} *").expression == "0 0 1 1,2,3,4,5,6,7,8,9,10,11,12 *"
    assert Cron.parse(f"0 0 * * {weekdays}").expression == "0 0 * * 0,1,2,3,4,5,6"
    for number, name in enumerate(MONTHS):
        assert Cron.parse(f"0 0 1 {name} *").expression == f"0 0 1 {number + 1} *"
    for number, name in enumerate(WEEKDAYS):
        assert Cron.parse(f"0 0 * * {name}").expression == f"0 0 * * {number}"


@pytest.mark.parametrize("text", ["", "*", "0 0 * *", "0 0 0 * * *", "@reboot", "fortnightly", "@"])
def test_what_has_not_five_fields_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write five cron fields") as refusal:
        Cron.parse(text)
    assert all(name in str(refusal.value) for name in NAMED)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("60 * * * *", "'60' in the minute field is not one of 0-59"),
        ("* 24 * * *", "'24' in the hour field is not one of 0-23"),
        ("* * 0 * *", "'0' in the day of month field is not one of 1-31"),
        ("* * 32 * *", "'32' in the day of month field is not one of 1-31"),
        ("* * * 13 *", "'13' in the month field is not one of 1-12 or jan-dec"),
        ("* * * * 8", "'8' in the day of week field is not one of 0-7 or sun-sat"),
        ("* * * * jan", "'jan' in the day of week field is not one of 0-7 or sun-sat"),
        ("* * mon * *", "'mon' in the day of month field is not one of 1-31"),
        ("5-3 * * * *", "the range '5-3' in the minute field runs backwards"),
        ("* * * * sat-mon", "the range 'sat-mon' in the day of week field runs backwards"),
        ("*/0 * * * *", "the step '0' in the minute field is not a positive number"),
        ("1-5/ * * * *", "the step '' in the minute field is not a positive number"),
        ("*/x * * * *", "the step 'x' in the minute field is not a positive number"),
        ("*,5 * * * *", "'*,5' in the minute field: a star stands alone or as */n"),
        ("5,* * * * *", "'5,*' in the minute field: a star stands alone or as */n"),
        ("*5 * * * *", "'*5' in the minute field is not cron"),
        ("*x/5 * * * *", "'*x/5' in the minute field is not cron"),
        ("5/x * * * *", "the step 'x' in the minute field is not a positive number"),
        ("** * * * *", "'**' in the minute field is not cron"),
        ("1,,2 * * * *", "'' in the minute field is not cron"),
        ("-5 * * * *", "'-5' in the minute field is not cron"),
        ("1-2-3 * * * *", "'1-2-3' in the minute field is not cron"),
        ("* * ? * *", "'?' in the day of month field is not cron"),
        ("* * l-3 * *", "'l' in the day of month field is not one of 1-31"),
        ("* * 1-l * *", "'l' in the day of month field is not one of 1-31"),
        ("* * l/2 * *", "'l' in the day of month field is not one of 1-31"),
        ("* * lw * *", "'lw' in the day of month field is not one of 1-31"),
        ("* * 15w * *", "'15w' in the day of month field is not one of 1-31"),
        ("* * 5l * *", "'5l' in the day of month field is not one of 1-31"),
        ("l * * * *", "'l' in the minute field is not one of 0-59"),
        ("* * * l *", "'l' in the month field is not one of 1-12 or jan-dec"),
        ("* * * * l", "'l' in the day of week field is not one of 0-7 or sun-sat"),
        ("* * * * l8", "'8' in the day of week field is not one of 0-7 or sun-sat"),
        ("* * * * 8#1", "'8' in the day of week field is not one of 0-7 or sun-sat"),
        ("* * * * 1#0", "'1#0' in the day of week field: a weekday comes as #1 to #5"),
        ("* * * * 1#6", "'1#6' in the day of week field: a weekday comes as #1 to #5"),
        ("* * * * 1#l", "'1#l' in the day of week field: a weekday comes as #1 to #5"),
        ("* * * * mon-fri#2", "'mon-fri#2' in the day of week field is not cron"),
        ("* * * * 1#1/2", "'1#1/2' in the day of week field is not cron"),
        ("* * * * *#1", "'*#1' in the day of week field is not cron"),
        (
            "* * * * mon,fri#2",
            "'mon,fri#2' in the day of week field mixes whole weekdays with those of one week; "
            "write one kind",
        ),
        ("h * * * *", "'h' in the minute field is not one of 0-59"),
        ("² * * * *", "'²' in the minute field is not one of 0-59"),
        ("٣ * * * *", "'٣' in the minute field is not one of 0-59"),
        ("*/² * * * *", "the step '²' in the minute field is not a positive number"),
    ],
)
def test_a_field_that_is_not_cron_is_refused_by_its_name(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="field") as refusal:
        Cron.parse(text)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "name", ["", "Paris", "Europe", "../etc/passwd", "GMT+25", "Europe/paris "]
)
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone; write it as Europe/Paris or UTC"):
        time_zone(name)
    with pytest.raises(ValueError, match="is not a time zone"):
        Cron.parse("daily", name)


# -- the two directions -------------------------------------------------------------------------------


@settings(examples, max_examples=60)
@given(
    text=st.sampled_from(CHOSEN),
    zone=st.sampled_from(sorted({zone for zone, _ in CHANGES})),
    moment=st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - zone by `timezones`
)
def test_the_latest_slot_is_the_one_before_the_next(text: str, zone: str, moment: datetime) -> None:
    cron = Cron.parse(text, zone)
    following, latest = cron.next_after(moment), cron.latest_until(moment)

    assert latest <= moment < following
    assert cron.next_after(latest) == following
    assert cron.latest_until(following) == following
    assert cron.latest_until(following - timedelta(microseconds=1)) == latest
    assert following.tzinfo is UTC
    assert latest.tzinfo is UTC


def test_a_moment_of_any_zone_is_understood() -> None:
    cron = Cron.parse("0 6 * * *", "Europe/Paris")
    moment = datetime(2026, 1, 5, 0, 30, tzinfo=ZoneInfo("America/New_York"))

    assert cron.next_after(moment) == datetime(2026, 1, 6, 5, tzinfo=UTC)
    assert cron.latest_until(moment) == datetime(2026, 1, 5, 5, tzinfo=UTC)


# -- jitter -------------------------------------------------------------------------------------------


def test_the_jitter_of_an_alert_is_always_the_same() -> None:
    hour = timedelta(hours=1)

    # What daemons have agreed on, whatever their version.
    assert jitter_offset("model.shop.revenue", hour) == timedelta(seconds=2703.226530)
    assert jitter_offset("model.shop.orders", hour) == timedelta(seconds=2015.786629)


def test_jitter_spreads_alerts_evenly_over_its_length() -> None:
    minute = timedelta(minutes=1)
    offsets = [jitter_offset(f"model.shop.alert_{number}", minute) for number in range(10_000)]
    by_second = Counter(offset // timedelta(seconds=1) for offset in offsets)

    assert sorted(by_second) == list(range(60))
    assert all(120 < number < 220 for number in by_second.values())


@settings(examples)
@given(alert_id=st.text(), jitter=st.timedeltas(timedelta(microseconds=1), timedelta(days=30)))
def test_jitter_stays_within_its_length(alert_id: str, jitter: timedelta) -> None:
    assert timedelta() <= jitter_offset(alert_id, jitter) < jitter


def test_no_jitter_moves_nothing() -> None:
    assert jitter_offset("model.shop.revenue", timedelta()) == timedelta()
