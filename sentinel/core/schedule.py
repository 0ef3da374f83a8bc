"""Cron as the standard has it (Vixie, as in Debian), in the alert's time zone; slots are UTC.

Five fields or a name. Sunday is 0 and 7. Day-of-month and day-of-week are joined by OR when neither
begins with a star, else by AND. Beyond the standard, `L` is the last day of the month, `1#2` the
second Monday and `5L` the last Friday. A schedule whose minute or hour begins with a star follows the
clock and so keeps its pace when the clock is changed. Any other is made of fixed times: each comes once,
one inside a gap at the first instant after it, one inside an overlap the first time.

croniter reads expressions and walks from one matching local time to another. It differs from the
standard in what it accepts and in how it joins the two day fields, so this module checks each
expression, writes it plainly, and splits an OR into two. `Cron` maps naive local times to UTC.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from hashlib import sha256
from heapq import merge
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from croniter import croniter

NAMED = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "midnight": "0 0 * * *",
    "weekly": "0 0 * * 0",
    "monthly": "0 0 1 * *",
    "yearly": "0 0 1 1 *",
    "annually": "0 0 1 1 *",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, tuple(_MONTHS)),
    ("day of week", 0, 7, tuple(_DAYS)),
)
_ITEM = re.compile(r"(?P<low>\w+)(?:-(?P<high>\w+))?")
# Other digits than these ten are none to cron; beyond nine of them Python takes its time.
_NUMBER = re.compile(r"[0-9]{1,9}")
# The last day of the month, and where in the month a weekday is: its second one, its last one.
_LAST = "l"
_PLACED_WEEKDAY = re.compile(r"(?P<day>\w+)#(?P<place>\w+)|l(?P<after>\w+)|(?P<before>\w+)l")
_MINUTE, _DAY, _WEEK = timedelta(minutes=1), timedelta(days=1), timedelta(weeks=1)
# Any 28 years in a row have each kind of year, unless a century without a leap day is among them.
_ALL_KINDS_OF_YEARS = (date(2001, 1, 1), date(2029, 1, 1))
# The longest wait is that for 29 February on one weekday, across such a century: 40 years.
_LONGEST_WAIT = 50
# No time zone has ever changed its offset by more than a day.
_LARGEST_SHIFT = _DAY


@dataclass(frozen=True)
class Cron:
    """A schedule: `text` as written, `expression` as five plain fields, and its time zone."""

    text: str
    expression: str
    zone: str

    @classmethod
    def parse(cls, text: str, zone: str = "UTC") -> Cron:
        """Check and read a schedule.

        Raises ValueError saying which field is wrong, or that no day can ever match.
        """
        time_zone(zone)
        words = text.strip().lower().removeprefix("@")
        fields = NAMED.get(words, text.strip().lower()).split()
        if len(fields) != len(_FIELDS):
            raise ValueError(
                f"{text!r} is not a schedule: write five cron fields (minute hour day-of-month month "
                f"day-of-week), or one of {', '.join(NAMED)}"
            )
        plain = [_plain_field(field, *spec) for field, spec in zip(fields, _FIELDS, strict=True)]
        cron = cls(text=text, expression=" ".join(plain), zone=zone)
        # A star as day of month matches in every month: croniter, slow to import, isn't needed.
        if plain[2] != "*" and not cron._calendar.ever_matches():
            raise ValueError(f"{text!r} never comes: no month has such a day")
        return cron

    def next_after(self, moment: datetime) -> datetime:
        """The first slot strictly after an aware moment, in UTC."""
        return _next_after(self, moment.astimezone(UTC))

    def latest_until(self, moment: datetime) -> datetime:
        """The last slot at or before an aware moment, in UTC."""
        return _latest_until(self, moment.astimezone(UTC))

    def count_between(self, after: datetime, before: datetime) -> int:
        """How many slots lie strictly between two aware moments; exact, however many there are."""
        start = after.astimezone(UTC) + datetime.resolution
        stop = before.astimezone(UTC)
        total = 0
        for change, shift in _changes(time_zone(self.zone), start - _LARGEST_SHIFT, stop):
            # Away from a change local times and slots are one to one, so that days can be counted.
            total += self._count_plain(start, min(change, stop))
            total += self._count_shifted(max(start, change), min(change + shift, stop), shift)
            start = max(start, change + shift)
        return total + self._count_plain(start, stop)

    @cached_property
    def _calendar(self) -> _Calendar:
        return _read_calendar(self.expression)

    def _count_plain(self, start: datetime, stop: datetime) -> int:
        """Slots from `start` until before `stop`, between which the clock isn't changed."""
        if start >= stop:
            return 0
        shown = self._local(start)
        return self._calendar.count(shown, shown + (stop - start))

    def _count_shifted(self, start: datetime, stop: datetime, shift: timedelta) -> int:
        """Slots from `start` until before `stop`, close to a change of the clock by `shift`."""
        if start >= stop:
            return 0
        slots: set[datetime] = set()
        for local in self._calendar.between(self._local(start) - shift, self._local(stop) + shift):
            slots.update(slot for slot in self._slots(local) if start <= slot < stop)
        return len(slots)

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(time_zone(self.zone)).replace(tzinfo=None)

    def _shift_near(self, moment: datetime) -> timedelta:
        """By how much the local clock is moved within a day of a moment; mostly nothing."""
        zone = time_zone(self.zone)
        context = (moment - _LARGEST_SHIFT, moment, moment + _LARGEST_SHIFT)
        offsets = [_offset(zone, each) for each in context]
        return max(offsets) - min(offsets)

    def _slots(self, local: datetime) -> tuple[datetime, ...]:
        """The UTC moments of a naive local time: none, one, or two in an overlap."""
        zone = time_zone(self.zone)
        aware = local.replace(tzinfo=zone)
        offsets = aware.utcoffset(), aware.replace(fold=1).utcoffset()
        first, second = (local.replace(tzinfo=UTC) - (each or timedelta()) for each in offsets)
        keeps_pace = self._calendar.keeps_pace
        if first == second:
            return (first,)
        if first < second:  # the local time comes twice
            return (first, second) if keeps_pace else (first,)
        # The local time is skipped: `second` and `first` lie on the two sides of the gap's one instant.
        return () if keeps_pace else (_change_between(zone, second, first),)


# Many alerts share a few schedules, and are asked about the same moments.
@lru_cache(maxsize=4096)
def _next_after(cron: Cron, moment: datetime) -> datetime:
    # A slot is out of the local order by no more than the clock is moved near it.
    best, end = datetime.max.replace(tzinfo=UTC), datetime.max  # noqa: DTZ901 - local
    for local in cron._calendar.forwards(cron._local(moment) - cron._shift_near(moment)):
        for slot in cron._slots(local):
            if moment < slot < best:
                best, end = slot, cron._local(slot) + cron._shift_near(slot)
        if local >= end:
            break
    return best


@lru_cache(maxsize=4096)
def _latest_until(cron: Cron, moment: datetime) -> datetime:
    best, end = datetime.min.replace(tzinfo=UTC), datetime.min  # noqa: DTZ901 - local
    for local in cron._calendar.backwards(cron._local(moment) + cron._shift_near(moment)):
        for slot in cron._slots(local):
            if best < slot <= moment:
                best, end = slot, cron._local(slot) - cron._shift_near(slot)
        if local <= end:
            break
    return best


@dataclass(frozen=True)
class _Calendar:
    """The local times that a plain expression matches. `times` are minutes of the day."""

    times: tuple[int, ...]
    rules: tuple[_DayRule, ...]
    keeps_pace: bool

    def ever_matches(self) -> bool:
        return bool(self.rules)

    def matches(self, day: date) -> bool:
        return any(rule.matches(day) for rule in self.rules)

    def forwards(self, start: datetime) -> Iterator[datetime]:
        """The local times from a minute on; some twice, if two rules match."""
        return merge(*(rule.forwards(start) for rule in self.rules))

    def backwards(self, start: datetime) -> Iterator[datetime]:
        """The local times from a minute back; some twice, if two rules match."""
        return merge(*(rule.backwards(start) for rule in self.rules), reverse=True)

    def between(self, start: datetime, stop: datetime) -> Iterator[datetime]:
        """The local times from the minute of `start` until before `stop`."""
        start = start.replace(second=0, microsecond=0)
        for number in range(start.date().toordinal(), stop.date().toordinal() + 1):
            midnight = datetime.fromordinal(number)
            if self.matches(midnight):
                for time in self.times:
                    local = midnight + timedelta(minutes=time)
                    if start <= local < stop:
                        yield local

    def count(self, start: datetime, stop: datetime) -> int:
        """How many local times there are from `start` until before `stop`."""
        first, last = start.date().toordinal(), stop.date().toordinal()
        days = sum(self.matches(date.fromordinal(each)) for each in range(first, last))
        return days * len(self.times) + self._passed(stop) - self._passed(start)

    def _passed(self, local: datetime) -> int:
        """How many of its day's times lie before a local time."""
        if not self.matches(local.date()):
            return 0
        whole = local.replace(second=0, microsecond=0)
        return bisect_left(self.times, _minute_of_day(local) + (1 if local > whole else 0))


@dataclass(frozen=True)
class _DayRule:
    """Days on which day of month, month and day of week all match, and croniter to walk through them.

    `days` are numbers and `l`; `weekdays` has the places in the month of each weekday, numbers and `l`.
    """

    days: frozenset[int | str]
    months: frozenset[int]
    weekdays: Mapping[int, frozenset[int | str]]
    walker: croniter

    @classmethod
    def read(cls, expression: str) -> _DayRule:
        from croniter import croniter

        walker = croniter(expression, 0.0, day_or=False, max_years_between_matches=_LONGEST_WAIT)
        _, _, days, months, weekdays = walker.expanded
        places = walker.nth_weekday_of_month
        return cls(
            days=frozenset([*_numbers(days, 1, 31), *([_LAST] if _LAST in days else [])]),
            months=frozenset(_numbers(months, 1, 12)),
            weekdays={
                day: frozenset(places.get(day, range(1, 6))) for day in _numbers(weekdays, 0, 6)
            },
            walker=walker,
        )

    def ever_matches(self) -> bool:
        """Whether any day matches in any kind of year."""
        first, end = _ALL_KINDS_OF_YEARS
        return any(
            self.matches(date.fromordinal(each))
            for each in range(first.toordinal(), end.toordinal())
        )

    def matches(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        if day.day not in self.days and not (
            _LAST in self.days and (day + _DAY).month != day.month
        ):
            return False
        places = self.weekdays.get(day.isoweekday() % 7, frozenset())
        return (day.day + 6) // 7 in places or (
            _LAST in places and (day + _WEEK).month != day.month
        )

    def forwards(self, start: datetime) -> Iterator[datetime]:
        walker = self._walker_at(start, -_MINUTE)
        while True:
            yield walker.get_next(datetime)

    def backwards(self, start: datetime) -> Iterator[datetime]:
        walker = self._walker_at(start, _MINUTE)
        while True:
            yield walker.get_prev(datetime)

    def _walker_at(self, start: datetime, offset: timedelta) -> croniter:
        """A separate walker: croniter's have a position, and threads share the rule."""
        walker = copy(self.walker)
        walker.set_current(start.replace(second=0, microsecond=0) + offset)
        return walker


@lru_cache(maxsize=1024)
def _read_calendar(expression: str) -> _Calendar:
    """What croniter reads in a plain expression; many alerts share one."""
    minute, hour, day, month, weekday = expression.split()
    either = not day.startswith("*") and not weekday.startswith("*")
    # Even with day_or, croniter joins `1#1` and a day of month by AND, so an OR becomes two rules.
    days = [(day, "*"), ("*", weekday)] if either else [(day, weekday)]
    rules = [_DayRule.read(f"{minute} {hour} {day} {month} {weekday}") for day, weekday in days]
    minutes, hours, *_ = rules[0].walker.expanded
    return _Calendar(
        times=tuple(
            60 * hour + minute
            for hour in _numbers(hours, 0, 23)
            for minute in _numbers(minutes, 0, 59)
        ),
        rules=tuple(rule for rule in rules if rule.ever_matches()),
        keeps_pace=minute.startswith("*") or hour.startswith("*"),
    )


def jitter_offset(alert_id: str, jitter: timedelta) -> timedelta:
    """By how much an alert starts after its slots: from 0 until before `jitter`, always the same.

    Alerts are spread evenly. The slot itself stays the time of the schedule.
    """
    share = int.from_bytes(sha256(alert_id.encode()).digest()[:8])  # of 2**64
    return timedelta(microseconds=share * (jitter // datetime.resolution) >> 64)


def time_zone(name: str) -> ZoneInfo:
    """The IANA time zone of a name. Raises ValueError if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone; write it as Europe/Paris or UTC") from None


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _changes(
    zone: ZoneInfo, start: datetime, stop: datetime
) -> Iterator[tuple[datetime, timedelta]]:
    """The instants at which the clock is changed, and by how much."""
    offset = _offset(zone, start)
    while start < stop:
        following = start + _DAY
        changed = _offset(zone, following)
        if changed != offset:
            yield _change_between(zone, start, following), abs(changed - offset)
        start, offset = following, changed


def _change_between(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The instant between two UTC moments at which the zone's offset changes."""
    offset = _offset(zone, before)
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) / 2
        if _offset(zone, middle) == offset:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def _minute_of_day(local: datetime) -> int:
    return local.hour * 60 + local.minute


def _numbers(values: Sequence[int | str], low: int, high: int) -> list[int]:
    """The numbers that croniter read in a field."""
    return (
        [*range(low, high + 1)]
        if "*" in values
        else [each for each in values if isinstance(each, int)]
    )


@lru_cache(maxsize=1024)
def _plain_field(field: str, name: str, low: int, high: int, words: tuple[str, ...]) -> str:
    """One field without names, without one-value ranges, with Sunday as 0; checked."""

    def value(token: str) -> int:
        if token in words:
            return words.index(token) + (1 if name == "month" else 0)
        if not _NUMBER.fullmatch(token) or not low <= int(token) <= high:
            allowed = f"{low}-{high}" + (f" or {words[0]}-{words[-1]}" if words else "")
            raise ValueError(f"{token!r} in the {name} field is not one of {allowed}")
        return int(token)

    if "*" in field:
        first, _, rest = field.partition(",")
        return "*" if first == "*" and not rest else _starred(field, name)
    numbers: set[int] = set()
    placed: set[str] = set()
    for item in field.split(","):
        if name == "day of month" and item == _LAST:
            placed.add(_LAST)
            continue
        if name == "day of week" and (place := _PLACED_WEEKDAY.fullmatch(item)):
            placed.add(_place(place, value))
            continue
        span, slash, step_text = item.partition("/")
        match = _ITEM.fullmatch(span)
        if not match:
            raise ValueError(f"{item!r} in the {name} field is not cron")
        step = _step(step_text, name) if slash else 1
        start, stop = _span(match, value, name)
        if slash and match["high"] is None:
            stop = high
        numbers.update(range(start, stop + 1, step))
    if name == "day of week":
        numbers = {day % 7 for day in numbers}
        if numbers and placed:
            raise ValueError(
                f"{field!r} in the {name} field mixes whole weekdays with those of one week; write one kind"
            )
    return ",".join([*(str(each) for each in sorted(numbers)), *sorted(placed)])


def _place(match: re.Match[str], value: Callable[[str], int]) -> str:
    """A weekday's place in the month as croniter writes it: `1#2`, or `l5` for the last Friday."""
    if match["day"] is None:
        return f"{_LAST}{value(match['after'] or match['before']) % 7}"
    if match["place"] not in tuple("12345"):
        raise ValueError(f"{match.group()!r} in the day of week field: a weekday comes as #1 to #5")
    return f"{value(match['day']) % 7}#{match['place']}"


def _starred(field: str, name: str) -> str:
    """A field that begins with a star: `*/n` stays as it is, since it counts as a star."""
    first, _, rest = field.partition(",")
    if rest:
        raise ValueError(f"{field!r} in the {name} field: a star stands alone or as */n")
    star, slash, step_text = first.partition("/")
    if star != "*" or not slash:
        raise ValueError(f"{field!r} in the {name} field is not cron")
    _step(step_text, name)
    return first


def _step(text: str, name: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) == 0:
        raise ValueError(f"the step {text!r} in the {name} field is not a positive number")
    return int(text)


def _span(match: re.Match[str], value: Callable[[str], int], name: str) -> tuple[int, int]:
    start = value(match["low"])
    stop = value(match["high"] or match["low"])
    if name == "day of week" and stop == 0 and start > 0:
        stop = 7
    if stop < start:
        raise ValueError(f"the range {match.group()!r} in the {name} field runs backwards")
    return start, stop
