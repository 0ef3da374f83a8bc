"""Cron as the standard has it (Vixie), in the alert's time zone; slots are UTC.

Five fields or a name. Sunday is 0 and 7. Day-of-month and day-of-week are joined by OR when neither
begins with a star, else by AND. Each slot comes once across both changes of the clock: a fixed local
time inside a gap comes at the first instant after it, one inside an overlap comes the first time; a
schedule whose hour field begins with a star keeps its pace through both.

croniter walks the calendar on naive local times; this module checks the expression before (croniter
takes six fields, reads `3-3` as a star and takes words that are not cron) and maps the outcome to UTC.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterBadDateError, croniter

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
# No time zone has ever moved its clock by more than a day at once.
_LARGEST_SHIFT = timedelta(days=1)


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
        if not _comes(plain):
            day, weekday = plain[2], plain[4]
            if day.startswith("*") or weekday.startswith("*"):
                raise ValueError(f"{text!r} never comes: no month has such a day")
            # By OR the weekday is left; croniter would find neither.
            plain[2] = "*"
        return cls(text=text, expression=" ".join(plain), zone=zone)

    def next_after(self, moment: datetime) -> datetime:
        """The first slot strictly after an aware moment, in UTC."""
        moment = moment.astimezone(UTC)
        best: datetime | None = None
        start = self._local(moment) - self._shift_near(moment)
        for local in self._local_times(start, forwards=True):
            for slot in self._slots(local):
                if slot > moment and (best is None or slot < best):
                    best = slot
            if best is not None and local >= self._local(best) + self._shift_near(best):
                break
        assert best is not None  # parse() has seen that the schedule comes
        return best

    def latest_until(self, moment: datetime) -> datetime:
        """The last slot at or before an aware moment, in UTC."""
        moment = moment.astimezone(UTC)
        best: datetime | None = None
        start = self._local(moment) + self._shift_near(moment) + timedelta(minutes=1)
        for local in self._local_times(start, forwards=False):
            for slot in self._slots(local):
                if slot <= moment and (best is None or slot > best):
                    best = slot
            if best is not None and local <= self._local(best) - self._shift_near(best):
                break
        assert best is not None
        return best

    def count_between(self, after: datetime, before: datetime) -> int:
        number, slot = 0, self.next_after(after)
        while slot < before:
            number, slot = number + 1, self.next_after(slot)
        return number

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(time_zone(self.zone)).replace(tzinfo=None)

    def _shift_near(self, moment: datetime) -> timedelta:
        """By how much the local clock is moved within a day of a moment; mostly nothing."""
        zone = time_zone(self.zone)
        around = (moment - _LARGEST_SHIFT, moment, moment + _LARGEST_SHIFT)
        offsets = [each.astimezone(zone).utcoffset() or timedelta() for each in around]
        return max(offsets) - min(offsets)

    def _local_times(self, start: datetime, *, forwards: bool) -> Iterator[datetime]:
        walk = _walk(self.expression, start)
        while True:
            yield walk.get_next(datetime) if forwards else walk.get_prev(datetime)

    def _slots(self, local: datetime) -> tuple[datetime, ...]:
        """The UTC moments of a naive local time: none, one, or two in an overlap."""
        zone = time_zone(self.zone)
        first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        keeps_pace = self.expression.split()[1].startswith("*")
        if first == second:
            return (first,)
        if first < second:  # the local time comes twice
            return (first, second) if keeps_pace else (first,)
        # The local time is skipped: `second` and `first` lie on the two sides of the gap's one instant.
        return () if keeps_pace else (_end_of_gap(zone, second, first),)


def time_zone(name: str) -> ZoneInfo:
    """The IANA time zone of a name. Raises ValueError if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone; write it as Europe/Paris or UTC") from None


def _end_of_gap(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The instant between two UTC moments at which the zone's offset changes."""
    offset = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def _comes(fields: Sequence[str]) -> bool:
    try:
        _walk(" ".join(fields), datetime(2024, 1, 1)).get_next(datetime)  # noqa: DTZ001 - local
    except CroniterBadDateError:
        return False
    return True


def _walk(expression: str, start: datetime) -> croniter:
    return croniter(expression, start, implement_cron_bug=True)


def _plain_field(field: str, name: str, low: int, high: int, words: tuple[str, ...]) -> str:
    """One field without names, without one-value ranges, with Sunday as 0; checked."""

    def value(token: str) -> int:
        if token in words:
            return words.index(token) + (1 if name == "month" else 0)
        if not token.isdigit() or not low <= int(token) <= high:
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
    if not text.isdigit() or int(text) == 0:
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


def jitter_offset(alert_id: str, jitter: timedelta) -> timedelta:
    """When an alert starts after its slots: always the same, in [0, `jitter`)."""
    digest = hashlib.sha256(alert_id.encode()).digest()
    return jitter * (int.from_bytes(digest[:6], "big") / 2**48)
