"""Which of the selected alerts a run is for: those that are due, those of one slot, a share of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sentinel.app.alerts import Alerts
from sentinel.core.alert import Alert, BrokenAlert, row_ids
from sentinel.core.due import Slot, due_slot, last_slot, last_slots, this_slot
from sentinel.core.errors import UsageError
from sentinel.core.state import Health
from sentinel.core.values import isoformat
from sentinel.ports import Snapshot, StateReader

# A scheduler's clock may be a little ahead of the store's.
_AHEAD = timedelta(minutes=1)
_DIGITS = 6


@dataclass(frozen=True)
class DueAlerts:
    """Alerts and their slots, by id; an alert without a slot is evaluated manually."""

    alerts: Alerts
    slots: dict[str, Slot] = field(default_factory=dict)


def due_now(alerts: Alerts, store: StateReader) -> DueAlerts:
    """Those alerts that are due by the store's clock, each for its latest slot.

    A definition that is wrong has no schedule: it is due until its error is recorded.
    """
    snapshot = _snapshot(alerts, store)
    last = last_slots(snapshot.states)
    slots = {
        alert.id: slot
        for alert in alerts.valid
        if (slot := due_slot(alert, last_slot(alert, last), snapshot.now)) is not None
    }
    failed = {
        state.alert_id
        for state in snapshot.states
        # One failed evaluation is not enough: an alert may allow for a few, its definition may not.
        if state.is_head and state.health is Health.FAILING
    }
    chosen = _only(alerts, lambda a: a.id in slots or isinstance(a, BrokenAlert))
    broken = tuple(alert for alert in chosen.broken if alert.id not in failed)
    return DueAlerts(replace(chosen, broken=broken), slots)


def at_slot(alerts: Alerts, moment: datetime, store: StateReader) -> DueAlerts:
    """All the alerts, for one slot. Raises UsageError if it has not come yet."""
    snapshot = _snapshot(alerts, store)
    now = snapshot.now
    if moment > now + _AHEAD:
        raise UsageError(
            f"the slot {isoformat(moment)} lies in the future: it is {isoformat(now)} by the store",
            hint="--slot takes a time in UTC, or with its offset: 2026-01-31T08:00+01:00",
        )
    last = last_slots(snapshot.states)
    slots = {alert.id: Slot(moment) for alert in alerts.broken}
    slots |= {
        alert.id: this_slot(alert, last_slot(alert, last), moment, now) for alert in alerts.valid
    }
    return DueAlerts(alerts, slots)


def _snapshot(alerts: Alerts, store: StateReader) -> Snapshot:
    """The store, of these alerts under all the ids that their rows may go by."""
    return store.snapshot(row_ids(alerts.all))


@dataclass(frozen=True)
class Shard:
    """A share of the alerts, such as 2/5: `number` from 1 to `of`."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Raises ValueError."""
        number, slash, of = text.partition("/")
        plain = slash and all(each.isascii() and each.isdigit() for each in (number, of))
        if not plain or len(of) > _DIGITS or not 1 <= int(number) <= int(of):
            raise ValueError(f"{text!r} is not a shard; write the second of five as 2/5")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, alert: Alert | BrokenAlert) -> bool:
        """Whether an alert is in this share: by its id, so that it stays where it is."""
        digest = hashlib.sha256(alert.id.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1

    def of_alerts(self, alerts: Alerts) -> Alerts:
        return _only(alerts, self.holds)


def _only(alerts: Alerts, wanted: Callable[[Alert | BrokenAlert], bool]) -> Alerts:
    return replace(
        alerts,
        valid=tuple(alert for alert in alerts.valid if wanted(alert)),
        broken=tuple(alert for alert in alerts.broken if wanted(alert)),
    )
