"""Cron as the standard has it, held against an oracle that walks minute by minute."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.core.schedule import NAMED, Cron, time_zone
from tests.core.builders import examples

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()  # noqa: SIM905 - one line
WEEKDAYS = "sun mon tue wed thu fri sat".split()  # noqa: SIM905 - one line


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

    expression: str

    def __post_init__(self) -> None:
        minute, hour, day, month, weekday = self.expression.split()
        object.__setattr__(self, "minutes", numbers(minute, 0, 59, [], 0))
        object.__setattr__(self, "hours", numbers(hour, 0, 23, [], 0))
        object.__setattr__(self, "days", numbers(day, 1, 31, [], 0))
        object.__setattr__(self, "months", numbers(month, 1, 12, MONTHS, 1))
        weekdays = {each % 7 for each in numbers(weekday, 0, 7, WEEKDAYS, 0)}
        object.__setattr__(self, "weekdays", weekdays)
        object.__setattr__(self, "either", day[0] != "*" and weekday[0] != "*")
        object.__setattr__(self, "keeps_pace", hour[0] == "*")

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    either: bool = False
    keeps_pace: bool = False

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
    utc, latest = noon - 3 * DAY, datetime.min
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
    oracle = Oracle(expression)
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
    "* * * * *",
    "*/7 * * * *",
    "*/90 * * * *",
    "59 * * * *",
    "0 */2 * * *",
    "30 2 * * *",
    "*/15 2 * * *",
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

    def field(low: int, high: int, stars: int) -> str:
        start, stop = sorted(dice.sample(range(low, high + 1), 2))
        made = [
            str(start),
            f"{start},{stop}",
            f"{start}-{stop}",
            f"{start}-{start}",
            f"{start}-{stop}/{dice.randint(1, 5)}",
            f"*/{dice.randint(1, high)}",
        ]
        return dice.choice(["*"] * stars + made)

    weekday = dice.choice(["*", field(0, 7, 0), dice.choice(WEEKDAYS), "mon-fri", "sat-sun"])
    return f"{field(0, 59, 1)} {field(0, 23, 3)} {field(1, 31, 6)} {field(1, 12, 20)} {weekday}"


def moments(dice: random.Random, zone: str, noon: datetime) -> list[datetime]:
    """Moments anywhere in the window, and close around the change of the clock."""
    shown = clock(zone, noon)
    change = next(m.utc for m in shown[1:] if m.skipped or m.again)
    anywhere = [noon + DAY * dice.uniform(-2.9, 2.9) for _ in range(4)]
    close = [change + timedelta(minutes=dice.uniform(-90, 90)) for _ in range(4)]
    exact = [change, change - MINUTE, change - timedelta(microseconds=1), change + MINUTE]
    return anywhere + close + exact


@pytest.mark.parametrize(("zone", "noon"), CHANGES, ids=lambda each: str(each)[:20])
def test_slots_are_those_of_the_standard_through_both_changes_of_the_clock(
    zone: str, noon: datetime
) -> None:
    dice = random.Random(f"{zone} {noon}")
    for text in [*CHOSEN, *(some_expression(dice) for _ in range(25))]:
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
