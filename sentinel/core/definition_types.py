"""The types of the keys of `meta.sentinel`, as people write their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
)

from sentinel.core.duration import format_duration, parse_duration


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a duration; write it as 30s, 15m, 2h or 1d")
    return parse_duration(value)


def _positive(value: object) -> timedelta:
    length = _duration(value)
    if length <= timedelta():
        raise ValueError("must be longer than 0")
    return length


def listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def unique(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(format_duration)]


PositiveDuration = Annotated[
    timedelta, BeforeValidator(_positive), PlainSerializer(format_duration)
]


Names = Annotated[tuple[str, ...], BeforeValidator(listed), AfterValidator(unique)]


@dataclass(frozen=True)
class HoldPeriod:
    """How long a condition has to last: for a length of time, or for a count of slots."""

    length: timedelta = timedelta()
    count: int = 0

    def met(self, held: timedelta, count: int) -> bool:
        return count >= self.count if self.count else held >= self.length


def read_hold_period(value: object) -> HoldPeriod:
    if isinstance(value, HoldPeriod):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("a count of slots can't be negative")
        return HoldPeriod(count=value)
    return HoldPeriod(length=_duration(value))


_CONDITION = re.compile(
    r"\s*(?:(?P<sign>>=|<=|<>|!=|==|=|>|<)\s*(?P<number>-?\d+(?:\.\d+)?)"
    r"|between\s+(?P<low>-?\d+(?:\.\d+)?)\s+and\s+(?P<high>-?\d+(?:\.\d+)?))\s*",
    re.IGNORECASE,
)


_SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
}


@dataclass(frozen=True)
class Comparison:
    """A condition on a number of rows, as dbt writes it: `>10`, `!= 0`, `between 5 and 10`."""

    text: str
    sign: str
    low: float
    high: float

    @classmethod
    def parse(cls, text: object) -> Comparison:
        if isinstance(text, Comparison):
            return text
        match = _CONDITION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"{text!r} is not a condition; write it as '>10', '!= 0' or '>=5'")
        low = float(match["number"] or match["low"])
        return cls(text=match.string, sign=match["sign"] or "between", low=low,
                   high=float(match["high"] or low))  # fmt: skip

    def met(self, count: int) -> bool:
        if self.sign == "between":
            return self.low <= count <= self.high
        return _SIGNS[self.sign](count, self.low)


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", value):
        raise ValueError(f"{value!r} is not a plain column name")
    return value.lower()


Column = Annotated[
    str, BeforeValidator(lambda value: _name(value) if isinstance(value, str) else value)
]


Columns = Annotated[tuple[Column, ...], BeforeValidator(listed)]


RowCondition = Annotated[Comparison, BeforeValidator(Comparison.parse)]


NotifyOn = Literal["firing", "resolved", "error"]


class Escalation(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    after: PositiveDuration
    channels: Names
