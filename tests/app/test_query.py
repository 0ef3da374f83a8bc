"""One alert's query, and the queries of a batch at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from sentinel.app.alerts import Alerts
from sentinel.app.batch import AlertEvaluation, BatchContext, BatchOptions
from sentinel.app.query import AlertQuery, QueryRunner, hash_sql, query_of
from sentinel.core.alert import Alert
from sentinel.core.due import Slot
from sentinel.core.errors import QueryError, WarehouseError, WarehouseLocked
from sentinel.core.evaluation import EvaluationResult, Outcome, QueryResult
from sentinel.core.project import Compiled
from sentinel.core.state import Phase, State
from sentinel.ports import Session, Snapshot
from tests.fakes import NOW, FakeWarehouse, alerts_of, counted, source, state, status

AS_OF = "/*sentinel:as_of*/now()/*sentinel:end*/"


def alert_of(name: str = "revenue", block: Mapping[str, Any] | None = None) -> Alert:
    [alert] = alerts_of(source(name, block)).valid
    return alert


@dataclass
class Bench:
    """A warehouse with one alert's query."""

    block: Mapping[str, Any] = field(default_factory=dict)
    states: tuple[State, ...] = ()
    slots: Mapping[str, Slot] = field(default_factory=dict)
    warehouse: FakeWarehouse = field(default_factory=FakeWarehouse)
    faults: list[tuple[str, str]] = field(default_factory=list)

    def run(self, sql: str | None = "select revenue", error: str | None = None) -> AlertEvaluation:
        alert = alert_of(block=self.block)
        batch = BatchContext(
            "run",
            Alerts((alert,), ()),
            Snapshot(self.states, (), NOW),
            BatchOptions(1, slots=self.slots),
        )
        query = AlertQuery(self.warehouse, "shop", batch, self._fault)
        with self.warehouse.open() as session:
            return query(session, alert, Compiled(alert.source.unique_id, sql, error))

    def _fault(self, alert: str, error: Exception) -> None:
        self.faults.append((alert, type(error).__name__))


# -- one alert's query


def test_a_status_is_read_with_its_cost_and_the_hash_of_its_sql() -> None:
    it = Bench()
    it.warehouse.answers["select revenue"] = replace(status("ALERT"), bytes_billed=7)
    evaluations = it.run()
    assert evaluations.result.outcome is Outcome.ALERT
    assert evaluations.sql_hash == hash_sql("select revenue")
    assert evaluations.bytes_billed == 7
    assert evaluations.duration_ms is not None
    assert evaluations.began_at is not None


@pytest.mark.parametrize(
    ("slots", "moment"),
    [
        ({}, "2026-01-02 09:00"),
        ({"model.shop.revenue": Slot(NOW - timedelta(hours=1))}, "2026-01-02 08:00"),
    ],
)
def test_the_as_of_of_the_sql_is_the_slot_or_the_start(
    slots: Mapping[str, Slot], moment: str
) -> None:
    it = Bench(slots=slots)
    it.run(f"select {AS_OF}")
    assert [query.sql for query in it.warehouse.queries][-1] == f"select at('{moment}')"


def test_a_query_names_its_alert_and_its_run() -> None:
    query = query_of(alert_of(), "select 1", "run")
    assert query.labels == {"sentinel_alert": "revenue", "sentinel_run": "run"}
    assert query_of(alert_of(), "select 1").labels == {"sentinel_alert": "revenue"}


def test_a_model_that_doesn_t_compile_asks_the_warehouse_nothing() -> None:
    it = Bench()
    assert it.run(None, "no such ref").result.error == "no such ref"
    assert it.run(None).result.error == "the model doesn't compile"
    assert it.warehouse.queries == []


def test_a_lost_warehouse_is_an_error_that_says_so() -> None:
    it = Bench()
    it.warehouse.answers["select revenue"] = WarehouseError("gone")
    result = it.run().result
    assert (result.error, result.unreachable) == ("gone", True)


def test_a_locked_warehouse_is_no_result() -> None:
    it = Bench()
    it.warehouse.answers["select revenue"] = WarehouseLocked("held")
    with pytest.raises(WarehouseLocked):
        it.run()


def test_an_unforeseen_error_is_the_alert_s_and_is_reported() -> None:
    it = Bench()
    it.warehouse.answers["select revenue"] = ZeroDivisionError("by zero")
    result = it.run().result
    assert (result.outcome, result.error) == (
        Outcome.ERROR,
        "unexpected ZeroDivisionError: by zero",
    )
    assert it.faults == [("revenue", "ZeroDivisionError")]


ROWS = {"shape": "rows", "samples": 2}


def rows_bench(block: Mapping[str, Any], *states: State, samples: Any = None) -> Bench:
    it = Bench(block, states)
    it.warehouse.answers["count", "select revenue"] = counted(3)
    it.warehouse.answers["describe", "select revenue"] = QueryResult(("id",), ())
    it.warehouse.answers["sample", "select revenue"] = samples or QueryResult(("id",), ((1,), (2,)))
    return it


def test_violating_rows_are_sampled_when_the_alert_starts_firing() -> None:
    [observation] = rows_bench(ROWS).run().result.observations
    assert observation.context == {"samples": [{"id": 1}, {"id": 2}]}


def test_an_alert_that_fires_already_is_not_sampled_again() -> None:
    it = rows_bench(ROWS, state(phase=Phase.FIRING, episode_id="e", episode_started=NOW))
    it.run()
    assert it.warehouse.asked_for("sample") == []


@pytest.mark.parametrize(
    ("failure", "faults"),
    [(QueryError("refused"), []), (KeyError("id"), [("revenue", "KeyError")])],
)
def test_samples_that_fail_leave_the_count_and_a_note(
    failure: Exception, faults: list[tuple[str, str]]
) -> None:
    it = rows_bench(ROWS, samples=failure)
    [observation] = it.run().result.observations
    assert observation.failures == 3
    assert (observation.message or "").endswith("; its samples could not be fetched")
    assert it.faults == faults


# -- the queries of a batch


ALERTS = tuple(alert_of(name) for name in ("a", "b", "c", "d"))


def observe(alert: Alert, outcome: Outcome = Outcome.OK) -> AlertEvaluation:
    return AlertEvaluation(alert, EvaluationResult(outcome))


def names(evaluations: list[AlertEvaluation | None]) -> list[str]:
    return [each.alert.name for each in evaluations if each is not None]


def test_as_many_queries_run_at_once_as_there_are_threads() -> None:
    together = threading.Barrier(3, timeout=10)

    def query(_session: Session, alert: Alert, _compiled: Compiled | None) -> AlertEvaluation:
        together.wait()  # breaks unless three queries are inside at the same time
        return observe(alert)

    runner = QueryRunner(FakeWarehouse(), query, BatchOptions(threads=3))
    assert sorted(names(list(runner(ALERTS[:3], {})))) == ["a", "b", "c"]


def test_reading_a_result_holds_up_no_other_alert_s_query() -> None:
    """Whatever an alert's query computes on first use must not lock the others out."""
    names_ = ("a", "b", "c", "d")
    together = threading.Barrier(len(names_), timeout=10)
    block = {"shape": "rows", "samples": 1, "dimensions": ["region"]}
    alerts = tuple(alert_of(name, block) for name in names_)
    warehouse, faults = FakeWarehouse(), []

    def meet(answer: QueryResult) -> QueryResult:
        together.wait()  # breaks unless all queries are at this step at the same time
        return answer

    for name in names_:
        sql = f"select {name}"
        warehouse.answers["describe", sql] = lambda: meet(QueryResult(("region", "id"), ()))
        warehouse.answers["count", sql] = lambda: meet(QueryResult(("region", "n"), (("eu", 1),)))
        warehouse.answers["sample", sql] = lambda: meet(QueryResult(("region", "id"), (("eu", 1),)))
    options = BatchOptions(threads=len(names_))
    batch = BatchContext("run", Alerts(alerts, ()), Snapshot((), (), NOW), options)
    query = AlertQuery(warehouse, "shop", batch, lambda *fault: faults.append(fault))
    compiled = {
        each.source.unique_id: Compiled(each.source.unique_id, f"select {each.name}")
        for each in alerts
    }
    evaluations = list(QueryRunner(warehouse, query, options)(alerts, compiled))
    assert sorted(names(evaluations)) == list(names_)
    assert faults == []
    assert {each.result.outcome for each in evaluations if each} == {Outcome.ALERT}


def test_each_query_gets_its_alert_s_sql() -> None:
    asked: dict[str, str | None] = {}

    def query(_session: Session, alert: Alert, compiled: Compiled | None) -> AlertEvaluation:
        asked[alert.name] = compiled.sql if compiled else None
        return observe(alert)

    sql = {"model.shop.a": Compiled("model.shop.a", "select 1")}
    list(QueryRunner(FakeWarehouse(), query, BatchOptions(1))(ALERTS[:2], sql))
    assert asked == {"a": "select 1", "b": None}


@pytest.mark.parametrize("outcome", [Outcome.ALERT, Outcome.ERROR])
def test_with_fail_fast_no_query_starts_after_the_first_failure(outcome: Outcome) -> None:
    def query(_session: Session, alert: Alert, _compiled: Compiled | None) -> AlertEvaluation:
        return observe(alert, outcome if alert.name == "b" else Outcome.OK)

    runner = QueryRunner(FakeWarehouse(), query, BatchOptions(1, fail_fast=True))
    outcomes = [each.result.outcome for each in runner(ALERTS, {}) if each]
    assert outcomes == [Outcome.OK, outcome, Outcome.SKIPPED, Outcome.SKIPPED]


def test_an_error_that_a_query_raises_is_raised_and_ends_the_batch() -> None:
    started: list[str] = []

    def query(_session: Session, alert: Alert, _compiled: Compiled | None) -> AlertEvaluation:
        started.append(alert.name)
        if alert.name == "a":
            raise WarehouseLocked("held")
        time.sleep(0.05)
        return observe(alert)

    warehouse = FakeWarehouse()
    many = tuple(alert_of(f"n{n}") for n in range(200))
    with pytest.raises(WarehouseLocked):
        list(QueryRunner(warehouse, query, BatchOptions(1))((ALERTS[0], *many), {}))
    assert len(started) < 200
    assert not warehouse.is_open


def test_a_consumer_that_stops_stops_the_queries() -> None:
    started: list[str] = []

    def query(_session: Session, alert: Alert, _compiled: Compiled | None) -> AlertEvaluation:
        started.append(alert.name)
        time.sleep(0.02)
        return observe(alert)

    many = tuple(alert_of(f"n{n}") for n in range(200))
    results = QueryRunner(FakeWarehouse(), query, BatchOptions(1))(many, {})
    next(results)
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(started) < 200


@pytest.mark.parametrize(("exclusive", "pauses"), [(False, True), (True, False)])
def test_slow_queries_give_a_pause_to_record_unless_the_warehouse_is_exclusive(
    exclusive: bool, pauses: bool
) -> None:
    def query(_session: Session, alert: Alert, _compiled: Compiled | None) -> AlertEvaluation:
        if alert.name == "b":
            time.sleep(0.3)
        return observe(alert)

    options = BatchOptions(1, max_wait=timedelta(milliseconds=50))
    results = list(QueryRunner(FakeWarehouse(exclusive=exclusive), query, options)(ALERTS[:2], {}))
    assert (None in results) is pauses
    assert names(results) == ["a", "b"]
    assert results[-1] is not None, "there is no pause after the last one"


def test_without_alerts_the_warehouse_is_not_opened() -> None:
    warehouse = FakeWarehouse(unreachable=WarehouseError("gone"))
    assert (
        list(QueryRunner(warehouse, lambda *_: observe(ALERTS[0]), BatchOptions(1))((), {})) == []
    )
