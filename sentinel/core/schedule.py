"""Cron as the standard has it (Vixie, as in Debian), in the alert's time zone; slots are UTC.

Five fields or a name. Sunday is 0 and 7. Day-of-month and day-of-week are joined by OR when neither
begins with a star, else by AND. A schedule whose minute or hour begins with a star follows the clock
and so keeps its pace when the clock is changed. Any other is made of fixed times: each comes once, one
inside a gap at the first instant after it, one inside an overlap the first time.

A calendar on naive local times knows when an expression matches; `Cron` maps that to UTC.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from hashlib import sha256
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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
_DAY = timedelta(days=1)
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# No time zone has ever moved its clock by more than a day at once.
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
        if not cron._calendar.comes():
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
        return _Calendar.read(self.expression)

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
        found: set[datetime] = set()
        end = self._local(stop) + shift
        for local in self._calendar.forwards(self._local(start) - shift):
            if local >= end:
                break
            found.update(slot for slot in self._slots(local) if start <= slot < stop)
        return len(found)

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(time_zone(self.zone)).replace(tzinfo=None)

    def _shift_near(self, moment: datetime) -> timedelta:
        """By how much the local clock is moved within a day of a moment; mostly nothing."""
        zone = time_zone(self.zone)
        around = (moment - _LARGEST_SHIFT, moment, moment + _LARGEST_SHIFT)
        offsets = [_offset(zone, each) for each in around]
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
        if local >= end:
            break
        for slot in cron._slots(local):
            if moment < slot < best:
                best, end = slot, cron._local(slot) + cron._shift_near(slot)
    return best


@lru_cache(maxsize=4096)
def _latest_until(cron: Cron, moment: datetime) -> datetime:
    best, end = datetime.min.replace(tzinfo=UTC), datetime.min  # noqa: DTZ901 - local
    for local in cron._calendar.backwards(cron._local(moment) + cron._shift_near(moment)):
        if local <= end:
            break
        for slot in cron._slots(local):
            if best < slot <= moment:
                best, end = slot, cron._local(slot) - cron._shift_near(slot)
    return best


@dataclass(frozen=True)
class _Calendar:
    """When a plain expression matches, on naive local times. `times` are minutes of the day."""

    times: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool
    keeps_pace: bool

    @classmethod
    def read(cls, expression: str) -> _Calendar:
        minute, hour, day, month, weekday = expression.split()
        return cls(
            times=_times(minute, hour),
            days=_numbers(day, 1, 31),
            months=_numbers(month, 1, 12),
            weekdays=_numbers(weekday, 0, 6),
            either=not day.startswith("*") and not weekday.startswith("*"),
            keeps_pace=minute.startswith("*") or hour.startswith("*"),
        )

    def comes(self) -> bool:
        """Whether any day matches. Each weekday falls on each date sooner or later, 29 February too."""
        return self.either or any(
            min(self.days) <= _LONGEST_MONTHS[each - 1] for each in self.months
        )

    def on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_date or by_weekday if self.either else by_date and by_weekday

    def forwards(self, start: datetime) -> Iterator[datetime]:
        """The local times from a minute on."""
        day, index = start.date(), bisect_left(self.times, _minute_of_day(start))
        while True:
            if self.on(day):
                midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local
                for time in self.times[index:]:
                    yield midnight + timedelta(minutes=time)
            if day.month in self.months:
                day += _DAY
            else:
                day = (day.replace(day=1) + 32 * _DAY).replace(day=1)
            index = 0

    def backwards(self, start: datetime) -> Iterator[datetime]:
        """The local times from a minute back."""
        day, index = start.date(), bisect_right(self.times, _minute_of_day(start))
        while True:
            if self.on(day):
                midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local
                for time in reversed(self.times[:index]):
                    yield midnight + timedelta(minutes=time)
            day = day - _DAY if day.month in self.months else day.replace(day=1) - _DAY
            index = len(self.times)

    def count(self, start: datetime, stop: datetime) -> int:
        """How many local times there are from `start` until before `stop`."""
        first, last = start.date().toordinal(), stop.date().toordinal()
        days = sum(self.on(date.fromordinal(each)) for each in range(first, last))
        return days * len(self.times) + self._passed(stop) - self._passed(start)

    def _passed(self, local: datetime) -> int:
        """How many of its day's times lie before a local time."""
        if not self.on(local.date()):
            return 0
        whole = local.replace(second=0, microsecond=0)
        return bisect_left(self.times, _minute_of_day(local) + (1 if local > whole else 0))


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


@lru_cache(maxsize=1024)
def _times(minute: str, hour: str) -> tuple[int, ...]:
    minutes, hours = sorted(_numbers(minute, 0, 59)), sorted(_numbers(hour, 0, 23))
    return tuple(60 * each + minute for each in hours for minute in minutes)


@lru_cache(maxsize=1024)
def _numbers(field: str, low: int, high: int) -> frozenset[int]:
    """The numbers of a plain field."""
    if field.startswith("*"):
        return frozenset(range(low, high + 1, int(field[2:] or 1)))
    return frozenset(map(int, field.split(",")))


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
    for item in field.split(","):
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
    return ",".join(str(each) for each in sorted(numbers))


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
