"""Alerts that leave the project, are switched off, or gain an id, over several runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from sentinel.app.alerts import select_alerts
from sentinel.app.batch import BatchOptions, EvaluatedBatch
from sentinel.app.evaluate import Evaluation
from sentinel.core.alert import DefinitionContext
from sentinel.core.notification import Status
from sentinel.core.project import AlertSource, Selection
from sentinel.core.routing import Routing, Traits
from sentinel.ports import Attempt, HistoryQuery
from tests.fakes import FakeProject, FakeWarehouse, MemoryStore, mark, source, status

ROUTING = Routing({"log": Traits(groups=False)})
AROUND = DefinitionContext(defaults={"channels": ["log"]}, routing=ROUTING)
REVENUE, STOCK = source("revenue"), source("stock")


@dataclass
class Shop:
    """A project that changes between runs."""

    store: MemoryStore = field(default_factory=MemoryStore)
    warehouse: FakeWarehouse = field(default_factory=FakeWarehouse)

    def __post_init__(self) -> None:
        self.warehouse.answers["select revenue"] = status("ALERT")

    def run(
        self, *sources: AlertSource, minutes: float = 6, target: str = "prod"
    ) -> EvaluatedBatch:
        self.store.clock.pass_by(timedelta(minutes=minutes))
        project = FakeProject(sources)
        evaluation = Evaluation(project, self.warehouse, self.store, routing=ROUTING, target=target)
        evaluated = evaluation(select_alerts(project, AROUND, Selection()), BatchOptions(1))
        for row in self.store.claim("me", timedelta(minutes=1), 99):
            mark(self.store, [row], Attempt(Status.SENT))
        return evaluated

    def events(self) -> list[tuple[str, str]]:
        rows = self.store.notifications(Status)
        return [(str(row.event), row.reason) for row in rows]

    def alerts(self) -> set[str]:
        return {state.alert for state in self.store.snapshot().states}


def test_an_alert_that_is_removed_while_it_fires_is_resolved_and_forgotten() -> None:
    it = Shop()
    it.run(REVENUE, STOCK)
    it.run(STOCK)
    assert it.events() == [("firing", "first_firing")]
    assert it.alerts() == {"revenue", "stock"}
    it.run(STOCK)
    assert it.events() == [("firing", "first_firing"), ("resolved", "removed")]
    assert it.alerts() == {"stock"}
    [row] = [row for row in it.store.history(HistoryQuery()) if row.kind == "removal"]
    assert (row.alert, row.outcome, row.events, row.phase_before) == (
        "revenue",
        None,
        ["resolved"],
        "firing",
    )


def test_an_alert_that_is_removed_for_a_single_parse_fires_on() -> None:
    it = Shop()
    it.run(REVENUE, STOCK)
    it.run(STOCK)
    it.run(REVENUE, STOCK)
    it.run(STOCK)
    assert it.events() == [("firing", "first_firing")]
    assert "revenue" in it.alerts()


def test_two_parses_within_five_minutes_remove_nothing() -> None:
    it = Shop()
    it.run(REVENUE, STOCK)
    it.run(STOCK)
    it.run(STOCK, minutes=4)
    assert "revenue" in it.alerts()
    it.run(STOCK, minutes=1)
    assert "revenue" not in it.alerts()


def test_another_target_removes_nothing() -> None:
    it = Shop()
    it.run(REVENUE, STOCK)
    it.run(STOCK, target="dev")
    it.run(STOCK, target="dev")
    assert "revenue" in it.alerts()
    assert it.events() == [("firing", "first_firing")]


def test_an_alert_that_is_not_selected_is_not_removed() -> None:
    it = Shop()
    it.run(REVENUE, STOCK)
    project = FakeProject((REVENUE, STOCK), chosen=frozenset({STOCK.unique_id}))
    for _ in range(2):
        it.store.clock.pass_by(timedelta(minutes=6))
        evaluation = Evaluation(project, it.warehouse, it.store, routing=ROUTING, target="prod")
        evaluation(select_alerts(project, AROUND, Selection(("stock",))), BatchOptions(1))
    assert "revenue" in it.alerts()


def test_an_alert_that_is_switched_off_is_resolved_for_that_reason() -> None:
    it = Shop()
    it.run(REVENUE, STOCK)
    off = replace(REVENUE, block={"enabled": False})
    it.run(off, STOCK)
    it.run(off, STOCK)
    assert it.events()[-1] == ("resolved", "disabled")


def test_an_alert_that_gains_an_id_keeps_its_episode_and_tells_nobody_again() -> None:
    it = Shop()
    it.run(REVENUE, STOCK)
    named = replace(REVENUE, block={"id": "finance.revenue"})
    it.run(named, STOCK)
    it.run(named, STOCK)
    assert it.events() == [("firing", "first_firing")]
    [state] = [state for state in it.store.snapshot().states if state.alert == "revenue"]
    assert state.alert_id == "finance.revenue"
    it.warehouse.answers["select revenue"] = status("OK")
    it.run(named, STOCK)
    assert it.events()[-1] == ("resolved", "recovered")


def test_twins_of_one_id_are_broken_and_their_state_stays() -> None:
    it = Shop()
    named = replace(REVENUE, block={"id": "one"})
    it.run(named, STOCK)
    twin = replace(STOCK, block={"id": "one"})
    it.run(named, twin)
    it.run(named, twin)
    assert "one" in {state.alert_id for state in it.store.snapshot().states}
    assert ("resolved", "removed") not in it.events()


def test_a_dry_run_removes_nothing() -> None:
    it = Shop()
    it.run(REVENUE, STOCK)
    project = FakeProject((STOCK,))
    before: Any = dict(it.store.tables.states)
    evaluation = Evaluation(project, it.warehouse, it.store, routing=ROUTING, target="prod")
    evaluation(select_alerts(project, AROUND, Selection()), BatchOptions(1, dry_run=True))
    assert it.store.tables.states == before
