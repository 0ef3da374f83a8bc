"""Due alerts: for each alert the latest slot that was not evaluated.

A slot is the time that an evaluation refers to; with `jitter` it starts a little later.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sentinel.core.alert import Alert
from sentinel.core.schedule import jitter_offset
from sentinel.core.state import State


@dataclass(frozen=True)
class Slot:
    """The slot to evaluate, in UTC, and the number of missed slots before it."""

    at: datetime
    missed: int = 0


@dataclass(frozen=True)
class Due:
    """An alert and its slot."""

    alert: Alert
    slot: Slot


def start_offset(alert: Alert) -> timedelta:
    """The constant delay between an alert's slots and its starts."""
    jitter = alert.rules.jitter
    return jitter_offset(alert.id, jitter) if jitter else jitter


def due_slot(alert: Alert, last: datetime | None, now: datetime) -> Slot | None:
    """The slot that an alert is due for at `now`; None if it isn't due or has no schedule.

    `last` is the last evaluated slot. It is ignored if it is in the future, since the clock was set
    back then. An alert that was never evaluated is due for its latest slot.
    """
    if alert.cron is None:
        return None
    at = alert.cron.latest_until(now - start_offset(alert))
    if last is None or last > now:
        return Slot(at)
    if at <= last:
        return None
    return Slot(at, alert.cron.count_between(last, at))


def this_slot(alert: Alert, last: datetime | None, moment: datetime, now: datetime) -> Slot:
    """A slot from an external schedule, and the number of missed slots before it.

    If `moment` isn't a slot of the alert's own schedule, missed slots can't be counted.
    """
    if alert.cron is None or last is None or not last < moment <= now:
        return Slot(moment)
    if alert.cron.latest_until(moment) != moment:
        return Slot(moment)
    return Slot(moment, alert.cron.count_between(last, moment))


def last_slots(states: Iterable[State]) -> dict[str, datetime | None]:
    """The last slot of each alert, by the id in its rows."""
    return {state.alert_id: state.last_slot for state in states if state.is_head}


def last_slot(alert: Alert, last: Mapping[str, datetime | None]) -> datetime | None:
    """An alert's last slot, also if its rows still have its earlier id."""
    return next((slot for key in alert.row_ids if (slot := last.get(key))), None)


@dataclass
class Timetable:
    """Next starts of alerts, as a heap: the cost of finding due alerts grows with their number only.

    It has no clock. Callers report evaluated slots with `done`, and retries with `again`.
    """

    _alerts: dict[str, Alert] = field(default_factory=dict)
    _last: dict[str, datetime | None] = field(default_factory=dict)
    _starts: list[tuple[datetime, str]] = field(default_factory=list)
    _planned: dict[str, datetime] = field(default_factory=dict)
    _seen: datetime | None = None

    def fill(
        self, alerts: Iterable[Alert], last: Mapping[str, datetime | None], now: datetime
    ) -> None:
        """Restart with these alerts and each one's last evaluated slot."""
        self._alerts = {alert.id: alert for alert in alerts if alert.cron is not None}
        self._last = {key: last_slot(alert, last) for key, alert in self._alerts.items()}
        self._plan_all(now)

    def _plan_all(self, now: datetime) -> None:
        self._starts, self._planned, self._seen = [], {}, now
        for key, alert in self._alerts.items():
            due = due_slot(alert, self._last[key], now)
            self._plan(key, now if due else self._after(alert, now))

    def next(self) -> datetime | None:
        """The next time at which an alert is due; None without schedules."""
        while self._starts and self._planned.get(self._starts[0][1]) != self._starts[0][0]:
            heapq.heappop(self._starts)  # planned for another time since
        return self._starts[0][0] if self._starts else None

    def due(self, now: datetime) -> list[Due]:
        """Take due alerts, each once for its latest slot, and plan their next slots."""
        if self._seen is not None and now < self._seen:
            self._plan_all(now)  # the clock was set back: planned starts are too late
        self._seen = now
        found: list[Due] = []
        while (start := self.next()) is not None and start <= now:
            _, key = heapq.heappop(self._starts)
            alert = self._alerts[key]
            slot = due_slot(alert, self._last[key], now)
            if slot is not None:
                found.append(Due(alert, slot))
            self._plan(key, self._after(alert, now))
        return found

    def done(self, alert_id: str, slot: datetime) -> None:
        """Note that a slot was evaluated, here or elsewhere."""
        if alert_id in self._last:
            self._last[alert_id] = slot

    def again(self, alert_id: str, at: datetime) -> None:
        """Plan an alert again at this time, since its slot could not be recorded."""
        if alert_id in self._alerts and at < self._planned.get(alert_id, at + timedelta(1)):
            self._plan(alert_id, at)

    def _after(self, alert: Alert, now: datetime) -> datetime:
        assert alert.cron is not None
        offset = start_offset(alert)
        return alert.cron.next_after(now - offset) + offset

    def _plan(self, key: str, start: datetime) -> None:
        self._planned[key] = start
        heapq.heappush(self._starts, (start, key))
