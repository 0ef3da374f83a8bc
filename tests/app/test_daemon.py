"""The daemon with fakes at the ports and a clock that the tests move: its jobs are called by hand."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sentinel.app.alerts import Alerts
from sentinel.app.batch import EvaluatedBatch
from sentinel.app.daemon.parts import Intervals, LoadedProject
from sentinel.app.daemon.supervisor import Daemon
from sentinel.app.delivery.delivery import Delivery
from sentinel.app.delivery.result import DeliveryResult
from sentinel.app.evaluate import Evaluation
from sentinel.app.project_health import project_alert_id
from sentinel.app.timed_planning import TimedPlan, TimedPlanning
from sentinel.bootstrap.daemon_parts import assemble_daemon
from sentinel.core.due import Slot
from sentinel.core.errors import (
    ConfigError,
    ProjectError,
    SentinelError,
    StoreError,
    WarehouseError,
    WarehouseLocked,
)
from sentinel.core.evaluation import Outcome
from sentinel.core.project import AlertSource
from sentinel.core.routing import Routing, Traits
from sentinel.core.state import Health, Phase
from sentinel.ports import Outbox
from sentinel.store.leadership import TableLeadership
from tests.fakes import (
    NOW,
    Clock,
    FakeChannel,
    FakeProject,
    FakeWarehouse,
    MemoryStore,
    Tables,
    alerts_of,
    source,
    status,
)

MINUTE = timedelta(minutes=1)
ROUTING = Routing({"log": Traits(groups=False)})


@dataclass
class Lines:
    """A log that remembers."""

    said: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)

    def debug(self, event: str, **fields: Any) -> None:
        self.said.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.said.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.said.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.said.append(("error", event, fields))

    def of(self, level: str) -> list[str]:
        """The events of a level; of problems and faults what is wrong."""
        return [fields.get("error", event) for each, event, fields in self.said if each == level]


@dataclass
class Counted:
    """Instruments that only add up."""

    outcomes: Counter[str] = field(default_factory=Counter)
    readings: list[bool] = field(default_factory=list)
    leading: list[bool] = field(default_factory=list)
    depth: Outbox | None = None

    def evaluated(self, part: EvaluatedBatch, slots: Mapping[str, Slot]) -> None:
        self.outcomes.update(str(update.result.outcome) for update in part.updates)

    def planned(self, plan: TimedPlan) -> None: ...

    def delivered(self, delivered: DeliveryResult) -> None: ...

    def outbox(self, outbox: Outbox, now: datetime) -> None:
        self.depth = outbox

    def loaded(self, alerts: Alerts | None) -> None:
        self.readings.append(alerts is not None)

    def leads(self, leading: bool) -> None:
        self.leading.append(leading)


@dataclass
class Rig:
    """One or more daemons on one store, with one project."""

    clock: Clock = field(default_factory=Clock)
    tables: Tables = field(default_factory=Tables)
    warehouse: FakeWarehouse = field(default_factory=FakeWarehouse)
    channel: FakeChannel = field(default_factory=FakeChannel)
    sources: list[AlertSource] = field(default_factory=list)
    broken: SentinelError | None = None
    daemons: list[Daemon] = field(default_factory=list)
    log: Lines = field(default_factory=Lines)
    counted: Counted = field(default_factory=Counted)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock, tables=self.tables)

    def load(self) -> LoadedProject:
        if self.broken:
            raise self.broken
        alerts = alerts_of(*self.sources)
        known = frozenset(alert.id for alert in alerts.all) | {project_alert_id("shop")}
        project = FakeProject(self.sources)
        return LoadedProject(
            replace(alerts, known=known),
            Evaluation(project, self.warehouse, self.store, routing=ROUTING),
            TimedPlanning(self.store, "shop", ROUTING),
            self.store,
            "shop",
            ROUTING,
            {"log": self.channel},
            threads=4,
            health_channels=("log",),
        )

    def daemon(self, holder: str = "one", ttl: timedelta = timedelta(seconds=30)) -> Daemon:
        made = assemble_daemon(
            self.load,
            TableLeadership(lambda: self.store, "shop", holder, ttl),
            lambda loaded: Delivery(loaded.store, loaded.channels, holder),
            self.counted,
            self.log,
            holder,
            Intervals(lease_ttl=ttl),
            clock=self.clock.now,
        )
        self.daemons.append(made)
        made.load_first()
        made.elect()
        return made

    def tick(self, *daemons: Daemon, after: timedelta = MINUTE) -> None:
        """Time passes, and each daemon looks what is due."""
        self.clock.pass_by(after)
        for each in daemons or self.daemons:
            each.elect()
            each.start_due()
            each.parts.batches.settle()

    def recorded(self, alert: str = "revenue") -> list[tuple[datetime | None, str, int]]:
        """(slot, outcome, missed) of each evaluation, in order."""
        rows = sorted(self.tables.history.values(), key=lambda row: (row.recorded_at, row.as_of))
        return [
            (row.slot, str(row.outcome), row.missed_slots)
            for row in rows
            if row.alert == alert and row.kind == "evaluation" and row.instance == ""
        ]

    def sent(self) -> list[tuple[str, str]]:
        """(alert, event) of all notifications."""
        rows = sorted(self.tables.notifications.values(), key=lambda row: row.created_at)
        return [(row.payload["alert"], str(row.event)) for row in rows]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(sources=[source("revenue", {"schedule": "* * * * *"})])
    yield rig
    for each in rig.daemons:
        each.parts.batches.shutdown()


# -- slots -------------------------------------------------------------------------------------


def test_each_slot_is_evaluated_once(rig: Rig) -> None:
    daemon = rig.daemon()
    daemon.start_due()
    daemon.parts.batches.settle()
    for _ in range(3):
        rig.tick()
        daemon.start_due()
        daemon.parts.batches.settle()
    assert rig.recorded() == [(NOW + n * MINUTE, "ok", 0) for n in range(4)]


def test_an_evaluation_speaks_for_its_slot(rig: Rig) -> None:
    daemon = rig.daemon()
    daemon.start_due()
    daemon.parts.batches.settle()
    rig.clock.pass_by(timedelta(seconds=75))
    daemon.start_due()
    daemon.parts.batches.settle()
    rows = [row for row in rig.tables.history.values() if row.slot == NOW + MINUTE]
    assert [row.as_of for row in rows] == [NOW + MINUTE]
    assert rig.warehouse.asked[-1][1] == "select revenue"


def test_after_a_stall_the_latest_slot_runs_and_the_missed_are_counted(rig: Rig) -> None:
    rig.daemon()
    rig.tick(after=timedelta())
    rig.tick(after=10 * MINUTE)
    rig.tick()
    assert rig.recorded()[1:] == [(NOW + 10 * MINUTE, "ok", 9), (NOW + 11 * MINUTE, "ok", 0)]


def test_a_daemon_that_starts_catches_up_and_repeats_nothing(rig: Rig) -> None:
    rig.daemon("one")
    rig.tick(after=timedelta())
    rig.daemons.pop().parts.election.let_go()
    rig.clock.pass_by(5 * MINUTE)
    rig.daemon("two")
    rig.tick(after=timedelta())
    assert rig.recorded() == [(NOW, "ok", 0), (NOW + 5 * MINUTE, "ok", 4)]


def test_what_another_process_has_recorded_meanwhile_is_recorded_once(rig: Rig) -> None:
    daemon = rig.daemon()
    other = rig.daemon("other", ttl=timedelta(seconds=0))
    other.parts.election._lead(None)
    rig.clock.pass_by(MINUTE)
    for each in (daemon, other):
        each.start_due()
        each.parts.batches.settle()
    assert [slot for slot, _, _ in rig.recorded()] == [NOW + MINUTE]


def test_an_alert_still_running_at_its_next_slot_is_skipped_and_holds_up_nobody(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.sources.append(source("quick", {"schedule": "* * * * *"}))
    held = threading.Event()
    rig.warehouse.answers["select revenue"] = lambda: held.wait(20) and status("OK")
    monkeypatch.setattr("sentinel.app.daemon.batches._LINGER", timedelta(milliseconds=20))
    daemon = rig.daemon()
    daemon.start_due()
    _until(lambda: len(rig.recorded("quick")) == 1)
    rig.clock.pass_by(MINUTE)
    daemon.start_due()
    _until(lambda: len(rig.recorded("quick")) == 2 and len(rig.recorded()) == 1)
    assert rig.recorded() == [(NOW + MINUTE, "skipped", 0)]
    [skipped] = [row for row in rig.tables.history.values() if row.outcome is Outcome.SKIPPED]
    assert skipped.error == "still running for its slot 2026-01-02T09:00:00Z"
    held.set()
    daemon.parts.batches.settle()
    assert [slot for slot, outcome, _ in rig.recorded() if outcome == "ok"] == [NOW]
    rig.tick()
    assert rig.recorded()[-1] == (NOW + 2 * MINUTE, "ok", 1), "what was skipped was missed"


def test_what_is_quick_is_recorded_before_what_is_slow(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentinel.app.daemon.batches._LINGER", timedelta(milliseconds=20))
    rig.sources.append(source("quick", {"schedule": "* * * * *"}))
    held = threading.Event()
    rig.warehouse.answers["select revenue"] = lambda: held.wait(20) and status("OK")
    daemon = rig.daemon()
    daemon.start_due()
    _until(lambda: bool(rig.recorded("quick")))
    assert rig.recorded() == []
    held.set()
    daemon.parts.batches.settle()
    assert rig.recorded() == [(NOW, "ok", 0)]
    runs = {row.run_id for row in rig.tables.history.values()}
    assert len(runs) == 1, "it is one batch all the same"


def test_an_alert_without_a_schedule_is_left_to_people(rig: Rig) -> None:
    rig.sources.append(source("by_hand"))
    rig.daemon()
    rig.tick()
    assert rig.recorded("by_hand") == []


def test_a_broken_definition_is_told_once_and_over_when_it_is_mended(rig: Rig) -> None:
    rig.sources.append(source("wrong", {"schedule": "* * * * *", "severity": "awful"}))
    daemon = rig.daemon()
    daemon.parts.batches.settle()
    assert rig.recorded("wrong") == [(None, "error", 0)]
    rig.tick()
    _reload(daemon)
    assert len(rig.recorded("wrong")) == 1
    rig.sources[-1] = source("wrong", {"schedule": "* * * * *"})
    _reload(daemon)
    rig.tick()
    assert rig.sent() == [("wrong", "error"), ("wrong", "error_resolved")]


def test_a_run_by_hand_uses_no_slot_up(rig: Rig) -> None:
    daemon = rig.daemon()
    rig.tick(after=timedelta())
    rig.clock.pass_by(MINUTE + timedelta(seconds=1))
    loaded = rig.load()
    from sentinel.app.batch import BatchOptions

    loaded.evaluation(loaded.alerts, BatchOptions(threads=1))
    daemon.start_due()
    daemon.parts.batches.settle()
    # The slot lies before what was seen by hand: it goes into history, and is due no more.
    assert {slot for slot, _, _ in rig.recorded()} == {NOW, None, NOW + MINUTE}
    rig.tick()
    assert rig.recorded()[-1] == (NOW + 2 * MINUTE, "ok", 0)
    assert len(rig.recorded()) == 4


def test_when_the_clock_is_set_back_an_hour_slots_go_on(rig: Rig) -> None:
    rig.daemon()
    rig.tick(after=timedelta())
    rig.clock.moment += timedelta(hours=1)
    rig.tick(after=timedelta())
    rig.clock.moment -= timedelta(minutes=50)
    rig.tick(after=timedelta())
    rig.tick()
    slots = [slot for slot, _, _ in rig.recorded()]
    hour = NOW + timedelta(hours=1)
    assert set(slots) == {NOW, hour, NOW + 10 * MINUTE, NOW + 11 * MINUTE}
    assert len(slots) == 4


def test_what_was_recorded_before_the_clock_was_set_back_is_not_recorded_again(rig: Rig) -> None:
    rig.daemon()
    for _ in range(3):
        rig.tick()
    rig.clock.moment -= 2 * MINUTE
    for _ in range(4):
        rig.tick()
    slots = [slot for slot, _, _ in rig.recorded()]
    assert slots == [NOW + n * MINUTE for n in range(1, 6)]


# -- several daemons ---------------------------------------------------------------------------


def test_one_leads_and_the_others_stand_by_until_its_lease_runs_out(rig: Rig) -> None:
    one, two = rig.daemon("one"), rig.daemon("two")
    assert [each.status().leading for each in rig.daemons] == [True, False]
    assert two.status().ready, "standing by is its work"
    rig.tick(two)
    assert rig.recorded(), "the other one's lease has run out"
    assert two.status().leading
    one.elect()
    assert not one.status().leading


def test_a_leader_that_gives_up_is_followed_at_once(rig: Rig) -> None:
    one, two = rig.daemon("one"), rig.daemon("two")
    one.parts.election.let_go()
    two.elect()
    assert two.status().leading


def test_the_commit_of_a_leader_that_was_stopped_is_fenced_off(rig: Rig) -> None:
    held = threading.Event()
    rig.warehouse.answers["select revenue"] = lambda: held.wait(20) and status("ALERT")
    one = rig.daemon("one")
    one.start_due()
    _until(lambda: bool(rig.warehouse.asked))  # and then it is stopped, in the midst of its query
    two = rig.daemon("two")
    rig.clock.pass_by(MINUTE)
    rig.warehouse.answers["select revenue"] = status("OK")
    two.elect()
    two.start_due()
    two.parts.batches.settle()
    held.set()
    one.parts.batches.settle()
    assert rig.recorded() == [(NOW + MINUTE, "ok", 0)]
    assert rig.sent() == []
    assert not one.status().leading
    assert "standing by" in rig.log.of("warning")


def test_a_thousand_slots_with_stops_and_other_leaders_are_recorded_once_each(rig: Rig) -> None:
    """Whatever leads, each slot is recorded once or counted as missed, and no change is told twice."""
    import random

    chance = random.Random(5)
    daemons = [rig.daemon(name) for name in ("one", "two", "three")]
    firing = False
    for _ in range(1_000):
        if chance.random() < 0.1:
            firing = not firing
            rig.warehouse.answers["select revenue"] = status("ALERT" if firing else "OK")
        awake = [each for each in daemons if chance.random() < 0.7]
        rig.clock.pass_by(MINUTE)
        for each in awake:
            each.elect()
            each.start_due()
            if chance.random() < 0.5:
                each.parts.batches.settle()
        for each in awake:
            each.parts.batches.settle()
    rows = rig.recorded()
    slots = [slot for slot, outcome, _ in rows if outcome != "skipped"]
    assert len(slots) == len(set(slots)) > 600
    assert all(slot is not None for slot in slots)
    first, last = min(slots), max(slots)  # type: ignore[type-var]  # none of them is None
    assert first is not None and last is not None
    missed = sum(number for _, outcome, number in rows if outcome != "skipped")
    assert len(slots) + missed == (last - first) // MINUTE + 1, "none is lost sight of"
    events = [event for _, event in rig.sent()]
    assert events == ["firing", "resolved"] * (len(events) // 2) + ["firing"] * (len(events) % 2)


# -- the project -------------------------------------------------------------------------------


def test_a_project_that_cannot_be_read_keeps_the_last_good_one_and_is_told_once(rig: Rig) -> None:
    daemon = rig.daemon()
    rig.broken = ProjectError("models/a.sql: no such model")
    for _ in range(3):
        _reload(daemon)
    rig.tick()
    assert rig.recorded() == [(NOW + MINUTE, "ok", 0)]
    assert rig.sent() == [("dbt_project", "error")]
    assert daemon.status().problems == {"project": "models/a.sql: no such model"}
    assert daemon.status().ready
    assert rig.log.of("error") == ["models/a.sql: no such model"]
    [head] = [s for s in rig.tables.states.values() if s.alert == "dbt_project"]
    assert head.health is Health.FAILING
    rig.broken = None
    _reload(daemon)
    assert rig.sent()[1:] == [("dbt_project", "error_resolved")]
    assert daemon.status().problems == {}
    assert [s.alert for s in rig.tables.states.values()] == ["revenue"]


def test_while_the_project_cannot_be_read_no_alert_is_taken_for_removed(rig: Rig) -> None:
    rig.sources.append(source("stock", {"schedule": "* * * * *"}))
    rig.warehouse.answers["select stock"] = status("ALERT")
    daemon = rig.daemon()
    rig.tick()
    del rig.sources[-1]
    _reload(daemon)
    rig.broken = ProjectError("wrong")
    _reload(daemon)
    for _ in range(10):
        rig.tick()
        daemon.plan_timed()
    assert ("stock", "resolved") not in rig.sent()
    rig.broken = None
    _reload(daemon)
    for _ in range(10):
        rig.tick()
        daemon.plan_timed()
    assert rig.sent()[-1] == ("stock", "resolved")


def test_a_batch_under_way_ends_on_the_definitions_it_began_with(rig: Rig) -> None:
    held = threading.Event()
    rig.warehouse.answers["select revenue"] = lambda: held.wait(20) and status("ALERT")
    daemon = rig.daemon()
    daemon.start_due()
    rig.sources[0] = source("revenue", {"schedule": "* * * * *", "severity": "info"})
    daemon.parts.project.load_again()
    held.set()
    daemon.parts.batches.settle()
    [row] = rig.tables.notifications.values()
    assert row.payload["severity"] == "critical"


def test_new_schedules_hold_from_the_reload_on(rig: Rig) -> None:
    daemon = rig.daemon()
    rig.tick()
    rig.sources[0] = source("revenue", {"schedule": "0 * * * *"})
    rig.sources.append(source("new", {"schedule": "* * * * *"}))
    _reload(daemon)
    rig.tick()
    assert len(rig.recorded()) == 1
    assert rig.recorded("new") == [(NOW + 2 * MINUTE, "ok", 0)]
    assert daemon.status().alerts == 2


def test_configuration_that_is_wrong_at_the_start_is_for_a_person(rig: Rig) -> None:
    rig.broken = ConfigError("sentinel.yml:3: unknown key")
    with pytest.raises(ConfigError):
        rig.daemon()


def test_a_project_that_cannot_be_read_at_the_start_is_read_when_it_can_be(rig: Rig) -> None:
    rig.broken = ProjectError("wrong")
    daemon = rig.daemon()
    condition = daemon.status()
    assert (condition.alive, condition.ready, condition.problems) == (
        True, False, {"project": "wrong"},
    )  # fmt: skip
    rig.broken = None
    _reload(daemon)
    rig.tick()
    assert rig.recorded() == [(NOW + MINUTE, "ok", 0)]
    assert daemon.status().ready


# -- what fails --------------------------------------------------------------------------------


def test_a_locked_database_is_no_outcome_and_the_slot_stays_due(rig: Rig) -> None:
    daemon = rig.daemon()
    rig.warehouse.unreachable = WarehouseLocked("held by another process")
    rig.tick(after=timedelta())
    assert rig.recorded() == []
    rig.warehouse.unreachable = None
    rig.tick(after=timedelta(seconds=1))
    assert rig.recorded() == [], "it waits a moment"
    rig.tick(after=timedelta(seconds=1))
    assert rig.recorded() == [(NOW, "ok", 0)]
    assert daemon.status().ready


def test_a_lost_warehouse_is_an_error_of_its_alerts_told_once(rig: Rig) -> None:
    rig.sources.append(source("stock", {"schedule": "* * * * *"}))
    daemon = rig.daemon()
    rig.warehouse.unreachable = WarehouseError("connection refused")
    rig.tick()
    rig.tick()
    messages = {row.message_id for row in rig.tables.notifications.values()}
    assert sorted(rig.sent()) == [("revenue", "error"), ("stock", "error")]
    assert len(messages) == 1
    assert daemon.status().problems == {"warehouse": "connection refused"}
    assert not daemon.status().ready
    rig.warehouse.unreachable = None
    rig.tick()
    assert daemon.status().ready
    assert sorted(rig.sent()[2:]) == [("revenue", "error_resolved"), ("stock", "error_resolved")]


def test_a_lost_store_is_said_once_and_its_slots_are_recorded_when_it_is_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = rig.daemon()

    def fail(*_: Any) -> Any:
        raise StoreError("no connection")

    monkeypatch.setattr(rig.store, "_write", fail)
    for _ in range(3):
        rig.tick()
    assert rig.log.of("error") == ["no connection"]
    assert daemon.status().problems == {"store": "no connection"}
    assert not daemon.status().ready
    monkeypatch.undo()
    rig.tick()
    assert rig.recorded() == [(NOW + 4 * MINUTE, "ok", 0)]
    assert daemon.status().problems == {}


def test_missing_tables_keep_it_from_leading_and_name_the_command(rig: Rig) -> None:
    rig.store.missing = True
    daemon = rig.daemon()
    assert (daemon.status().leading, daemon.status().ready) == (False, False)
    [(_, event, fields)] = [each for each in rig.log.said if each[0] == "error"]
    assert (event, fields["concerns"]) == ("problem", "store")
    assert (fields["error"], fields["hint"]) == ("there are no tables", "`dbt run` makes them")
    rig.store.missing = False
    daemon.elect()
    rig.tick()
    assert rig.recorded() == [(NOW + MINUTE, "ok", 0)]
    assert daemon.status().ready


def test_a_fault_in_one_batch_ends_nothing_else(rig: Rig) -> None:
    def fault() -> Any:
        raise RuntimeError("boom")

    rig.warehouse.answers["select revenue"] = fault
    daemon = rig.daemon()
    rig.tick()
    assert rig.log.of("error") == ["unexpected RuntimeError"]
    rig.warehouse.answers.clear()
    rig.tick()
    assert rig.recorded() == [(NOW + MINUTE, "error", 0), (NOW + 2 * MINUTE, "ok", 0)]
    assert daemon.status().alive


# -- what comes by time ------------------------------------------------------------------------


def test_reminders_come_without_a_query(rig: Rig) -> None:
    rig.sources[0] = source("revenue", {"schedule": "0 * * * *", "repeat_interval": "10m"})
    rig.warehouse.answers["select revenue"] = status("ALERT")
    daemon = rig.daemon()
    rig.tick(after=timedelta())
    _sent(rig)
    asked = len(rig.warehouse.asked)
    for _ in range(12):
        rig.clock.pass_by(MINUTE)
        daemon.plan_timed()
        _sent(rig)
    assert rig.sent() == [("revenue", "firing"), ("revenue", "reminder")]
    assert len(rig.warehouse.asked) == asked
    assert [row.kind for row in rig.tables.history.values()][-1] == "plan"


def test_tending_writes_nothing_while_nothing_is_to_tell(rig: Rig) -> None:
    rig.warehouse.answers["select revenue"] = status("ALERT")
    daemon = rig.daemon()
    rig.tick()
    commits, rows = rig.store.commits, len(rig.tables.history)
    for _ in range(5):
        daemon.plan_timed()
    assert (rig.store.commits, len(rig.tables.history)) == (commits, rows)
    assert rig.counted.depth == Outbox(1, NOW + MINUTE)


def test_a_silence_of_another_process_is_seen_by_the_next_look(rig: Rig) -> None:
    from tests.fakes import silence

    rig.sources[0] = source("revenue", {"schedule": "0 * * * *", "repeat_interval": "10m"})
    rig.warehouse.answers["select revenue"] = status("ALERT")
    daemon = rig.daemon()
    rig.tick(after=timedelta())
    _sent(rig)
    rig.store.add_silence(silence("model.shop.revenue", ends_at=NOW + 20 * MINUTE))
    for minute in range(1, 30):
        rig.clock.pass_by(MINUTE)
        daemon.plan_timed()
        if minute < 20:
            assert rig.sent() == [("revenue", "firing")]
        _sent(rig)
    assert rig.sent()[1] == ("revenue", "reminder")


# -- by itself ---------------------------------------------------------------------------------


def test_it_works_by_itself_until_it_is_asked_to_stop(rig: Rig) -> None:
    """With its own threads and the real clock: an alert that was never evaluated is due at once."""
    rig.warehouse.answers["select revenue"] = status("ALERT")
    beats: list[bool] = []
    load = rig.load
    rig.load = lambda: replace(  # type: ignore[method-assign]  # a daemon with a heartbeat
        load(),
        heartbeat=lambda: beats.append(True),
        heartbeat_interval=timedelta(milliseconds=10),
    )
    rig.clock.now = lambda: datetime.now(UTC)  # type: ignore[method-assign]  # the real one
    daemon = assemble_daemon(
        rig.load,
        TableLeadership(lambda: rig.store, "shop", "me", MINUTE),
        lambda loaded: Delivery(loaded.store, loaded.channels, "me"),
        rig.counted,
        rig.log,
        "me",
        Intervals(plan_interval=timedelta(seconds=1), lease_ttl=MINUTE),
    )
    daemon.load_first()
    thread = threading.Thread(target=daemon.run)
    thread.start()
    _until(lambda: bool(rig.channel.accepted))
    _until(lambda: rig.counted.depth is not None)
    _until(lambda: len(beats) > 3)
    daemon.reload()
    _until(lambda: len(rig.counted.readings) == 2)
    assert daemon.status().ready
    daemon.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert rig.channel.sent == ["firing"]
    assert rig.log.of("info")[-1] == "stopped"
    lease = rig.tables.leases["daemon:shop"]
    assert lease.expires_at is not None and lease.expires_at <= datetime.now(UTC), "it is given up"


def test_it_beats_only_while_it_leads_and_is_ready(rig: Rig) -> None:
    beats: list[bool] = []
    load = rig.load
    rig.load = lambda: replace(load(), heartbeat=lambda: beats.append(True))  # type: ignore[method-assign]  # with a heartbeat
    one, two = rig.daemon("one"), rig.daemon("two")
    for each in (one, two):
        each.parts.heartbeat.beat()
    assert len(beats) == 1, "who stands by is silent"
    one.parts.problems.found("warehouse", "it is lost")
    one.parts.heartbeat.beat()
    assert len(beats) == 1


# -- words -------------------------------------------------------------------------------------


def test_every_line_of_a_batch_carries_run_alert_and_slot(rig: Rig) -> None:
    rig.warehouse.answers["select revenue"] = status("ALERT")
    rig.daemon()
    rig.tick()
    lines = [each for each in rig.log.said if each[1] in ("evaluated", "batch recorded")]
    assert [event for _, event, _ in lines] == ["evaluated", "batch recorded"]
    for _, _, fields in lines:
        assert fields["run_id"] and "alert" in fields
        assert fields["slot"] == "2026-01-02T09:01:00Z"
    assert lines[0][2]["events"] == ["firing"]
    assert rig.counted.outcomes == {"alert": 1}


def _reload(daemon: Daemon) -> None:
    daemon.parts.project.load_again()
    daemon.parts.batches.settle()


def _sent(rig: Rig) -> None:
    """All messages so far have arrived."""
    from sentinel.core.notification import Status

    for key, row in rig.tables.notifications.items():
        if not row.status.finished:
            rig.tables.notifications[key] = replace(
                row, status=Status.SENT, sent_at=rig.clock.now()
            )


def _until(met: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(1_000):
        if met():
            return
        done.wait(0.02)
    raise AssertionError("it did not come to that")


def test_phases_are_as_the_store_has_them(rig: Rig) -> None:
    rig.warehouse.answers["select revenue"] = status("ALERT")
    rig.daemon()
    rig.tick()
    [state] = rig.tables.states.values()
    assert (state.phase, state.last_slot) == (Phase.FIRING, NOW + MINUTE)
