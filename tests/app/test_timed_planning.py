"""Time-based notifications: they need no query, and mostly no transaction."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from sentinel.app.alerts import Alerts
from sentinel.app.timed_planning import TimedPlan, TimedPlanning
from sentinel.core.errors import LeaseLost
from sentinel.core.notification import Notification, Status
from sentinel.core.routing import Routing, Traits
from sentinel.core.severity import Severity
from sentinel.core.state import Event, Phase, State
from sentinel.ports import Batch, HistoryQuery, Lease
from tests.fakes import NOW, MemoryStore, alerts_of, notification, silence, source, state, write

MINUTE = timedelta(minutes=1)
ROUTING = Routing({"log": Traits(groups=False)})


@dataclass
class Planned:
    """A store with an alert that fires since an hour, and reminds every hour."""

    store: MemoryStore = field(default_factory=MemoryStore)
    block: dict[str, Any] = field(default_factory=lambda: {"repeat_interval": "1h"})

    def __post_init__(self) -> None:
        self.write(firing())

    def write(self, *rows: State, ledger: tuple[Notification, ...] = ()) -> None:
        write(self.store, Batch(states=rows, notifications=ledger))

    @property
    def alerts(self) -> Alerts:
        alerts = alerts_of(source("revenue", self.block))
        return replace(alerts, known=frozenset({"model.shop.revenue"}))

    def plan(
        self, alerts: Alerts | None = None, lease: Lease | None = None, target: str = "prod"
    ) -> TimedPlan:
        planning = TimedPlanning(self.store, "shop", ROUTING, target)
        return planning(alerts or self.alerts, "me", lease, MINUTE)

    @property
    def history(self) -> list[tuple[str, str, str]]:
        rows = self.store.history(HistoryQuery())
        return [(row.kind, row.instance, row.triggered_by) for row in rows]


def firing(**others: Any) -> State:
    given: dict[str, Any] = {
        "phase": Phase.FIRING,
        "episode_id": "episode",
        "episode_started": NOW - 60 * MINUTE,
        "peak_severity": Severity.WARNING,
        "target": "prod",
    }
    return state(**given | others)


def sent(minutes: int, **others: Any) -> Notification:
    at = NOW - minutes * MINUTE
    return notification("episode", status=Status.SENT, at=at, sent_at=at, **others)


def test_a_reminder_that_is_due_is_planned_claimed_and_recorded() -> None:
    it = Planned()
    it.write(ledger=(sent(60),))
    commits = it.store.commits
    planned = it.plan()
    assert it.store.commits == commits + 1
    [new] = planned.claimed
    assert (new.event, new.claimed_by) == (Event.REMINDER, "me")
    assert planned.messages == [new.message_id]
    assert it.history == [("plan", "", "plan")]
    assert it.store.snapshot().states == (replace(firing(), version=1),), "its row stays as it is"


def test_what_is_not_due_yet_commits_no_empty_batch() -> None:
    it = Planned()
    it.write(ledger=(sent(30),))
    lease = it.store.acquire_lease("daemon", "me", MINUTE)
    commits, before = it.store.commits, it.store.lease("daemon")
    planned = it.plan(lease=lease)
    assert planned.messages == []
    assert it.store.commits == commits
    assert it.store.lease("daemon") == before
    assert planned.states == (replace(firing(), version=1),)


def test_calm_alerts_are_not_even_read() -> None:
    store = MemoryStore()
    write(store, Batch(states=(state(phase=Phase.OK, target="prod"),)))
    it = TimedPlanning(store, "shop", ROUTING, "prod")
    assert it(alerts_of(source("revenue")), "me").states == ()


def test_an_episode_that_a_silence_muted_is_notified_after_its_end() -> None:
    it = Planned()
    it.store.add_silence(silence("model.shop.revenue"))
    assert it.plan().messages == []
    it.store.clock.pass_by(timedelta(hours=3))
    assert [row.event for row in it.plan().claimed] == [Event.FIRING]


def test_history_has_rows_only_of_instances_with_a_notification() -> None:
    it = Planned(block={"dimensions": ["region"]})
    it.write(
        firing(
            instance="region=eu",
            episode_id="eu",
            state_key="eu",
            dimensions={"region": "eu"},
        )
    )
    it.write(ledger=(sent(1),))
    it.plan()
    assert it.history == [("plan", "region=eu", "plan")]


def test_a_removed_alert_is_noted_first_and_resolved_when_it_stays_away() -> None:
    it = Planned()
    it.write(ledger=(sent(1),))
    gone = Alerts((), (), known=frozenset())
    assert it.plan(gone).messages == []
    [row] = it.store.snapshot().states
    assert row.removed_since == NOW
    it.store.clock.pass_by(6 * MINUTE)
    planned = it.plan(gone)
    assert [(row.event, row.reason) for row in planned.claimed] == [(Event.RESOLVED, "removed")]
    assert it.store.snapshot().states == ()
    assert it.history == [("removal", "", "plan")]


def test_another_target_s_rows_are_not_removed() -> None:
    it = Planned()
    it.plan(Alerts((), (), known=frozenset()), target="dev")
    assert it.store.snapshot().states[0].removed_since is None


def test_nothing_is_removed_while_the_project_is_unknown() -> None:
    it = Planned()
    it.write(ledger=(sent(1),))
    it.plan(Alerts((), ()))
    assert it.store.snapshot().states[0].removed_since is None


def test_after_a_lost_race_the_plan_that_was_written_is_returned() -> None:
    it = Planned()

    @dataclass
    class Racing(MemoryStore):
        """Another daemon notifies first."""

        raced: bool = False

        def _write(self, batch: Batch) -> None:
            if not self.raced:
                self.raced = True
                write(self, batch)
            super()._write(batch)

    it.store = Racing(it.store.clock, tables=it.store.tables)
    assert it.plan().messages == [], "the second try finds nothing more to notify"
    assert len(it.store.notifications(Status)) == 1


def test_a_leader_that_lost_its_lease_plans_nothing() -> None:
    it = Planned()
    lease = it.store.acquire_lease("daemon", "me", MINUTE)
    it.store.clock.pass_by(2 * MINUTE)
    it.store.acquire_lease("daemon", "other", MINUTE)
    with pytest.raises(LeaseLost):
        it.plan(lease=lease)
    assert it.store.notifications(Status) == []


def test_planning_keeps_the_lease() -> None:
    it = Planned()
    lease = it.store.acquire_lease("daemon", "me", timedelta(seconds=10))
    it.plan(lease=lease)
    kept = it.store.lease("daemon")
    assert kept is not None
    assert kept.expires_at == NOW + MINUTE
