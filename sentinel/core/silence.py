"""A time-limited mute of chosen alerts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sentinel.core.values import to_json


def dimension_text(value: Any) -> str:
    """A value of a dimension as people write it after `--dimension name=`."""
    return value if isinstance(value, str) else to_json(value)


@dataclass(frozen=True)
class Silence:
    """One row of sentinel_silences: the columns, in their order.

    `alert_ids` were frozen when it was made of `selector`; `dimensions`, where given, narrow it to
    the instances that have these values.
    """

    silence_id: str
    project: str
    alert_ids: Sequence[str]
    dimensions: Mapping[str, Any] | None
    selector: str | None
    comment: str | None
    author: str
    os_user: str | None
    created_at: datetime
    starts_at: datetime
    ends_at: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None

    def in_force(self, at: datetime) -> bool:
        """Whether it mutes at a moment: from its start up to, not including, its end."""
        return self.starts_at <= at < min(self.ends_at, self.ended_at or self.ends_at)

    def mutes(
        self, alert_ids: Collection[str], dimensions: Mapping[str, Any], at: datetime
    ) -> bool:
        """Whether it mutes an alert, known by one of these ids, and an instance of it."""
        return (
            self.in_force(at)
            and any(each in self.alert_ids for each in alert_ids)
            and all(
                name in dimensions and dimension_text(dimensions[name]) == dimension_text(value)
                for name, value in (self.dimensions or {}).items()
            )
        )
