"""One batch, with fakes at every port."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest

from sentinel.app.alerts import Alerts
from sentinel.app.batch import BatchOptions, EvaluatedBatch
from sentinel.app.delivery.claims import LEASE
from sentinel.app.evaluate import Evaluation
from sentinel.core.errors import (
    QueryError,
    StateConflict,
    TablesMissing,
    WarehouseError,
    WarehouseLocked,
)
from sentinel.core.evaluation import Outcome, QueryResult
from sentinel.core.notification import Notification, Status
from sentinel.core.project import AlertSource, Compiled
from sentinel.core.state import Event, Phase, State
from sentinel.ports import Attempt, Batch, Decision, HistoryQuery, Snapshot
from tests.fakes import (
    NOW,
    FakeProject,
    FakeWarehouse,
    MemoryStore,
    Tables,
    alerts_of,
    counted,
    mark,
    refused,
    source,
    state,
    status,
    write,
)

T = TypeVar("T")


@dataclass
class Shop:
    """A project, its warehouse and its store."""

    sources: tuple[AlertSource, ...]
    project: FakeProject = field(init=False)
    warehouse: FakeWarehouse = field(default_factory=FakeWarehouse)
    store: MemoryStore = field(default_factory=MemoryStore)
    progress: list[tuple[int, int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.project = FakeProject(self.sources)

    @property
    def alerts(self) -> Alerts:
        return alerts_of(*self.sources)

    def run(self, threads: int = 1, **options: Any) -> EvaluatedBatch:
        return self.evaluate(self.alerts, threads, **options)

    def evaluate(self, alerts: Alerts, threads: int = 1, **options: Any) -> EvaluatedBatch:
        evaluation = Evaluation(
            self.project,
            self.warehouse,
            self.store,
            scrub=lambda text: text.replace("t0ps3cret", "***"),
            progress=lambda *each: self.progress.append(each),
        )
        return evaluation(alerts, BatchOptions(threads, **options))

    def answer(self, name: str, answer: Any) -> None:
        """What the warehouse answers to every query of an alert."""
        self.warehouse.answers["select " + name] = answer

    def compiles_to(self, name: str, sql: str | None, error: str | None = None) -> None:
        unique_id = f"model.shop.{name}"
        self.project.compiled[unique_id] = Compiled(unique_id, sql, error)

    def state(self, name: str, instance: str = "") -> State:
        [found] = [
            each
            for each in self.store.snapshot([f"model.shop.{name}"]).states
            if each.instance == instance
        ]
        return found

    @property
    def outbox(self) -> list[Notification]:
        return list(self.store.notifications(Status))


def shop(*sources: AlertSource | str) -> Shop:
    return Shop(tuple(source(each) if isinstance(each, str) else each for each in sources))


def outcomes(evaluated: EvaluatedBatch) -> dict[str, str]:
    return {seen.alert.name: str(seen.result.outcome) for seen in evaluated.evaluations}


def error_of(evaluated: EvaluatedBatch, name: str) -> str:
    [found] = [seen.result.error for seen in evaluated.evaluations if seen.alert.name == name]
    assert found is not None
    return found


ALERT = status("ALERT", actual_value=5, threshold=10, message="low")


# -- what is recorded --------------------------------------------------------------------------


def test_a_batch_records_state_history_and_what_is_to_be_told_in_one_commit() -> None:
    it = shop("revenue", "stock")
    it.answer("revenue", ALERT)
    evaluated = it.run(triggered_by="schedule")
    assert outcomes(evaluated) == {"revenue": "alert", "stock": "ok"}
    assert it.store.commits == 1
    assert it.state("revenue").phase is Phase.FIRING
    assert it.state("stock").phase is Phase.OK
    history = it.store.history(HistoryQuery())
    assert [(row.alert, row.outcome, row.run_id, row.triggered_by) for row in history] == [
        ("revenue", "alert", evaluated.run_id, "schedule"),
        ("stock", "ok", evaluated.run_id, "schedule"),
    ]
    [sent] = it.outbox
    assert (sent.channel, sent.event, sent.status) == ("log", "firing", "pending")
    assert sent.payload["message"] == "low"
    assert evaluated.plan.notifications == (sent,)
    assert evaluated.started_at == NOW


def test_results_come_by_name_however_the_queries_ended() -> None:
    it = shop("c", "a", "b")
    evaluated = it.run(threads=3)
    assert [seen.alert.name for seen in evaluated.evaluations] == ["a", "b", "c"]
    assert [update.alert.name for update in evaluated.updates] == ["a", "b", "c"]


def test_progress_is_told_for_each_alert() -> None:
    it = shop("a", "b", source("c", {"schedule": "never"}))
    it.run()
    assert [(done, total) for done, total, _ in it.progress] == [(2, 3), (3, 3)]
    assert {name for *_, name in it.progress} == {"a", "b"}


def test_two_runs_have_different_ids_and_both_are_in_history() -> None:
    it = shop("revenue")
    first = it.run()
    it.store.clock.pass_by(timedelta(minutes=1))
    second = it.run()
    assert first.run_id != second.run_id
    assert [row.run_id for row in it.store.history(HistoryQuery())] == [
        second.run_id,
        first.run_id,
    ]


def test_a_firing_that_goes_on_is_told_once() -> None:
    it = shop("revenue")
    it.answer("revenue", ALERT)
    it.run()
    mark(it.store, it.store.claim("me", timedelta(minutes=1), 9), Attempt(Status.SENT))
    it.store.clock.pass_by(timedelta(minutes=1))
    evaluated = it.run()
    assert len(it.outbox) == 1
    assert [decision.reason for decision in evaluated.plan.decisions] == ["already_notified"]
    assert evaluated.messages == []


def test_a_failed_send_never_counts_as_told_and_is_sent_with_the_next_run() -> None:
    it = shop("revenue")
    it.answer("revenue", ALERT)
    [message] = it.run().messages
    it.store.clock.pass_by(timedelta(minutes=1))
    pending = it.run()
    assert [decision.reason for decision in pending.plan.decisions] == ["not_delivered_yet"]
    assert pending.messages == [message]
    later = it.store.now() + timedelta(hours=1)
    dead_now = Attempt(Status.DEAD, not_before=later)
    mark(it.store, it.store.claim("me", timedelta(minutes=1), 9), dead_now)
    it.store.clock.pass_by(timedelta(minutes=1))
    dead = it.run()
    assert [decision.reason for decision in dead.plan.decisions] == ["undeliverable"]
    assert (dead.messages, [row.message_id for row in dead.unfinished]) == ([], [message])


def test_who_will_send_at_once_has_claimed_what_there_is_to_tell_by_the_same_commit() -> None:
    it = shop(*(f"a{n:02}" for n in range(20)))
    for alert in it.sources:
        it.answer(alert.name, ALERT)
    evaluated = it.run(holder="me:1")
    assert it.store.commits == 1
    claimed = [row for row in it.outbox if row.status is Status.CLAIMED]
    assert len(claimed) == len(evaluated.claimed) == 16
    assert {(row.claimed_by, row.claim_token, row.attempts) for row in claimed} == {("me:1", 1, 1)}
    assert {row.claim_until for row in claimed} == {NOW + LEASE}
    assert len(evaluated.messages) == 20


def test_what_waits_for_an_earlier_message_is_not_claimed_yet() -> None:
    it = shop(source("revenue", {"warn_if": ">1", "error_if": ">9"}))
    it.answer("revenue", counted(5))
    it.run()
    it.store.clock.pass_by(timedelta(minutes=1))
    it.answer("revenue", counted(10))
    risen = it.run(holder="me:1")
    assert [row.event for row in risen.plan.notifications] == ["severity"]
    assert risen.claimed == []


def test_what_a_dead_process_had_claimed_is_not_taken_for_told() -> None:
    it = shop("revenue")
    it.answer("revenue", ALERT)
    [message] = it.run(holder="gone").messages
    it.store.clock.pass_by(LEASE)
    again = it.run(holder="me:1")
    assert [decision.reason for decision in again.plan.decisions] == ["not_delivered_yet"]
    assert again.messages == [message]
    assert [row.message_id for row in it.store.claim("me:1", LEASE, 9, again.messages)] == [message]


def test_a_query_carries_its_bounds_and_the_labels_that_trace_its_cost() -> None:
    it = shop(source("revenue", {"max_bytes_billed": 500, "timeout": "90s"}), "stock")
    run_id = it.run().run_id
    by_name = {query.labels["sentinel_alert"]: query for query in it.warehouse.queries}
    assert by_name.keys() == {"revenue", "stock"}
    assert {query.labels["sentinel_run"] for query in it.warehouse.queries} == {run_id}
    assert by_name["revenue"].max_bytes_billed == 500
    assert by_name["revenue"].timeout == timedelta(seconds=90)
    assert by_name["stock"].max_bytes_billed is None


def test_the_duration_and_the_hash_of_the_sql_are_recorded() -> None:
    it = shop("revenue")
    it.compiles_to("revenue", "select /*sentinel:as_of*/ now() /*sentinel:end*/")
    it.run()
    it.store.clock.pass_by(timedelta(minutes=1))
    it.run()
    second, first = it.store.history(HistoryQuery())
    assert first.sql_hash == second.sql_hash is not None
    assert first.duration_ms is not None


def test_bytes_billed_are_summed_over_the_queries_of_an_evaluation() -> None:
    it = shop(source("orders", {"shape": "rows", "samples": 1}))
    it.warehouse.answers = {
        ("count", "select orders"): replace(counted(2), bytes_billed=100),
        ("sample", "select orders"): QueryResult(("id",), ((1,),), bytes_billed=11),
    }
    [seen] = it.run().evaluations
    assert seen.bytes_billed == 111


# -- dry runs ----------------------------------------------------------------------------------


def test_a_dry_run_judges_and_writes_nothing() -> None:
    it = shop("revenue", source("broken", {"schedule": "never"}))
    it.answer("revenue", ALERT)
    evaluated = it.run(dry_run=True)
    assert outcomes(evaluated) == {"revenue": "alert", "broken": "error"}
    assert [update.steps[0].after.phase for update in evaluated.updates][1] is Phase.FIRING
    assert {row.event for row in evaluated.plan.notifications} == {"firing", "error"}
    assert it.store.commits == 0
    assert it.store.tables == Tables()


# -- the edges of a batch ----------------------------------------------------------------------


def test_without_tables_nothing_is_compiled_or_asked() -> None:
    it = shop("revenue")
    it.store.missing = True
    with pytest.raises(TablesMissing):
        it.run()
    assert it.warehouse.asked == []


def test_a_locked_warehouse_is_no_outcome() -> None:
    it = shop("revenue")
    it.warehouse.unreachable = WarehouseLocked("held by another process")
    with pytest.raises(WarehouseLocked):
        it.run()
    assert (it.store.commits, it.store.tables.history) == (0, {})


def test_a_lost_warehouse_is_an_error_of_every_alert_told_once() -> None:
    it = shop("revenue", "stock")
    it.warehouse.unreachable = WarehouseError("gone")
    evaluated = it.run()
    assert [seen.result.error for seen in evaluated.evaluations] == ["gone", "gone"]
    rows = evaluated.plan.notifications
    assert {row.reason for row in rows} == {"warehouse_unreachable"}
    assert (len(rows), len({row.message_id for row in rows})) == (2, 1)


def test_a_warehouse_lost_in_the_midst_of_a_batch_keeps_what_was_seen() -> None:
    it = shop("revenue", "stock")
    it.warehouse.answers["select stock"] = WarehouseError("the connection is gone")
    evaluated = it.run()
    outcomes = {seen.alert.name: str(seen.result.outcome) for seen in evaluated.evaluations}
    assert outcomes == {"revenue": "ok", "stock": "error"}
    assert {row.reason for row in evaluated.plan.notifications} == {"warehouse_unreachable"}


def test_the_warehouse_is_closed_before_the_store_writes() -> None:
    it = shop("revenue")
    seen = []

    @dataclass
    class Watching(MemoryStore):
        def commit(
            self,
            alert_ids: Iterable[str],
            decide: Callable[[Snapshot], Decision[T]],
            slots: Mapping[str, datetime] | None = None,
        ) -> T:
            seen.append(it.warehouse.is_open)
            return super().commit(alert_ids, decide, slots)

    it.store = Watching()
    it.run()
    assert seen == [False]


def test_after_a_lost_race_the_same_observation_is_judged_again_without_a_query() -> None:
    it = shop("revenue")
    it.answer("revenue", ALERT)

    @dataclass
    class Racing(MemoryStore):
        """Another run makes the row while this one decides."""

        raced: bool = False

        def commit(
            self,
            alert_ids: Iterable[str],
            decide: Callable[[Snapshot], Decision[T]],
            slots: Mapping[str, datetime] | None = None,
        ) -> T:
            def late(snapshot: Snapshot) -> Decision[T]:
                decision = decide(snapshot)
                if not self.raced:
                    self.raced = True
                    theirs = state(phase=Phase.OK, last_as_of=NOW - timedelta(minutes=5))
                    write(self, Batch(states=(theirs,)))
                return decision

            return super().commit(alert_ids, late, slots)

    it.store = Racing()
    evaluated = it.run()
    assert it.warehouse.asked_for("fetch") == ["select revenue"]
    assert it.state("revenue").version == 2
    assert it.state("revenue").phase is Phase.FIRING
    [update] = evaluated.updates
    assert update.steps[0].before.version == 1
    assert len(it.outbox) == 1


def test_a_race_that_is_always_lost_is_told() -> None:
    it = shop("revenue")

    @dataclass
    class Losing(MemoryStore):
        def _write(self, batch: Batch) -> None:
            raise StateConflict("another writer was first")

    it.store = Losing()
    with pytest.raises(StateConflict):
        it.run()
    assert it.warehouse.asked_for("fetch") == ["select revenue"]


# -- queries -----------------------------------------------------------------------------------


def test_what_stands_between_the_marks_becomes_the_time_that_the_run_speaks_for() -> None:
    it = shop("revenue")
    it.compiles_to(
        "revenue",
        "select 'it''s /* no */ mark' where a > /*sentinel:as_of*/ now(\n) /*sentinel:end*/ - 1 "
        "and b < /*sentinel:as_of*/ now() /*sentinel:end*/",
    )
    it.run()
    assert set(it.warehouse.asked) == {
        (method, "select 'it''s /* no */ mark' where a > at('2026-01-02 09:00') - 1 "
                 "and b < at('2026-01-02 09:00')")
        for method in ("describe", "fetch")
    }  # fmt: skip
    assert it.state("revenue").last_as_of == NOW


def test_a_run_speaks_for_the_time_when_it_began_and_is_recorded_when_it_ended() -> None:
    it = shop("revenue")

    def slow() -> QueryResult:
        it.store.clock.pass_by(timedelta(minutes=5))
        return ALERT

    it.warehouse.answers["fetch", "select revenue"] = slow
    it.run()
    [row] = it.store.history(HistoryQuery())
    assert (row.as_of, row.recorded_at) == (NOW, NOW + timedelta(minutes=5))
    assert it.state("revenue").episode_started == NOW
    assert it.outbox[0].created_at == NOW + timedelta(minutes=5)


def test_at_most_as_many_queries_run_at_once_as_there_are_threads() -> None:
    it = shop(*(f"alert_{n}" for n in range(9)))

    def slow() -> QueryResult:
        time.sleep(0.005)
        return status("OK")

    it.warehouse.answers = {("fetch", f"select alert_{n}"): slow for n in range(9)}
    it.run(threads=2)
    assert it.warehouse.most_at_once == 2


def test_threads_run_queries_at_once() -> None:
    it = shop(*(f"alert_{n}" for n in range(3)))
    together = threading.Barrier(3, timeout=10)

    def meet() -> QueryResult:
        together.wait()
        return status("OK")

    for n in range(3):
        it.warehouse.answers["fetch", f"select alert_{n}"] = meet
    assert set(outcomes(it.run(threads=3)).values()) == {"ok"}
    assert it.warehouse.most_at_once == 3


@pytest.mark.parametrize(
    ("definition", "methods"),
    [
        ({}, ["describe", "fetch"]),
        ({"shape": "status"}, ["describe", "fetch"]),
        ({"shape": "rows"}, ["count"]),
        ({"warn_if": ">1"}, ["count"]),
    ],
)
def test_no_more_is_asked_than_the_shape_needs(
    definition: dict[str, Any], methods: list[str]
) -> None:
    it = shop(source("it", definition))
    it.warehouse.answers["count", "select it"] = counted(0)
    assert outcomes(it.run()) == {"it": "ok"}
    assert [method for method, _ in it.warehouse.asked] == methods


def test_rows_are_counted_for_each_instance() -> None:
    it = shop(source("orders", {"shape": "rows", "dimensions": ["region"]}))
    it.warehouse.answers = {
        ("describe", "select orders"): QueryResult(("id", "REGION"), ()),
        ("count", "select orders"): QueryResult(("region", "failures"), (("n", 2), (None, 1))),
    }
    it.run()
    assert it.state("orders", "region=n").actual_value == 2
    assert it.state("orders", "region=null").phase is Phase.FIRING


# -- one alert's trouble -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "answer", "words"),
    [
        ({}, refused("Binder Error: no such column"), "Binder Error: no such column"),
        ({}, QueryResult(("status",), (("OK",), ("OK",))), "the query gives 2 rows"),
        ({}, QueryResult(("status",), (("FINE",),)), "holds 'FINE'"),
        ({}, QueryResult(("status",), ()), "the query gives no row"),
        ({}, QueryResult(("status",), (("OK",),) * 3, truncated=True), "more than 3 rows"),
        ({}, QueryResult(("actual_value",), ((1,),)), "none named status"),
        (
            {"shape": "rows", "dimensions": ["d"]},
            QueryResult(("d", "failures"), ((1, 1),), truncated=True),
            "more than 10,000 combinations",
        ),
        (
            {"shape": "rows", "dimensions": ["d"]},
            QueryResult(("d", "failures"), (([1, 2], 1),)),
            "a column of lists or mappings",
        ),
        ({"shape": "status", "dimensions": ["d"]}, status("OK"), "no column 'd'"),
    ],
)
def test_an_alert_that_can_t_be_evaluated_stops_no_other(
    definition: dict[str, Any], answer: Any, words: str
) -> None:
    it = shop("a", source("b", definition), "c")
    it.answer("b", answer)
    evaluated = it.run(threads=2)
    assert outcomes(evaluated) == {"a": "ok", "b": "error", "c": "ok"}
    assert words in error_of(evaluated, "b")
    assert it.state("b").health == "failing"
    assert [(row.alert_id, row.event) for row in it.outbox] == [("model.shop.b", "error")]
    assert it.outbox[0].payload["message"] == error_of(evaluated, "b")


def test_a_model_that_doesn_t_compile_is_an_error_of_its_alert() -> None:
    it = shop("a", "b")
    it.compiles_to("a", None, "'no_such_macro' is undefined")
    evaluated = it.run()
    assert outcomes(evaluated) == {"a": "error", "b": "ok"}
    assert error_of(evaluated, "a") == "'no_such_macro' is undefined"
    assert it.warehouse.asked_for("fetch") == ["select b"]


def test_a_broken_definition_is_an_error_with_the_place_of_each_fault() -> None:
    it = shop("a", source("b", {"timeout": "soon", "severty": "info", "channels": ["log"]}))
    it.project.lines = {"timeout": 3, "severty": 4}
    evaluated = it.run()
    assert outcomes(evaluated) == {"a": "ok", "b": "error"}
    assert sorted(error_of(evaluated, "b").splitlines()) == [
        "models/alerts/b.sql:3: `timeout`: 'soon' is not a duration; write it as 30s, 15m, 2h or 1d",
        "models/alerts/b.sql:4: unknown key `severty`; did you mean `severity`?",
    ]
    assert it.warehouse.asked_for("fetch") == ["select a"]
    assert [(row.alert_id, row.channel) for row in it.outbox] == [("model.shop.b", "log")]


def test_an_error_holds_no_secret() -> None:
    it = shop("a")
    it.answer("a", refused("can't reach https://t0ps3cret"))
    evaluated = it.run()
    assert error_of(evaluated, "a") == "can't reach https://***"
    [row] = it.store.history(HistoryQuery())
    assert row.error == "can't reach https://***"
    assert "t0ps3cret" not in str(it.outbox)


def test_an_error_moves_no_phase() -> None:
    it = shop("a")
    it.answer("a", ALERT)
    it.run()
    it.store.clock.pass_by(timedelta(minutes=1))
    it.answer("a", refused("gone"))
    it.run()
    assert it.state("a").phase is Phase.FIRING
    assert [row.event for row in it.outbox] == ["firing", "error"]


# -- fail fast ---------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [ALERT, refused("gone")])
def test_with_fail_fast_nothing_is_started_after_the_first_trouble(answer: Any) -> None:
    it = shop("a", "b", "c", "d")
    it.answer("b", answer)
    evaluated = it.run(fail_fast=True)
    assert list(outcomes(evaluated).values())[2:] == ["skipped", "skipped"]
    assert it.warehouse.asked_for("describe") == ["select a", "select b"]
    assert "not evaluated" in error_of(evaluated, "c")


def test_a_skipped_alert_is_in_history_and_changes_nothing() -> None:
    it = shop("a", "b")
    it.answer("a", ALERT)
    it.run(fail_fast=True)
    assert [each.alert for each in it.store.snapshot().states] == ["a"]
    assert [(row.alert, row.outcome) for row in it.store.history(HistoryQuery())] == [
        ("a", Outcome.ALERT),
        ("b", Outcome.SKIPPED),
    ]
    assert [row.alert_id for row in it.outbox] == ["model.shop.a"]


def test_without_fail_fast_everything_is_evaluated() -> None:
    it = shop("a", "b", "c")
    it.answer("a", refused("gone"))
    it.answer("b", ALERT)
    assert outcomes(it.run()) == {"a": "error", "b": "alert", "c": "ok"}


def test_with_fail_fast_a_broken_definition_lets_nothing_start() -> None:
    it = shop("a", source("b", {"schedule": "never"}))
    assert outcomes(it.run(fail_fast=True)) == {"a": "skipped", "b": "error"}
    assert it.warehouse.asked == []


# -- samples -----------------------------------------------------------------------------------


def sampling(**definition: Any) -> Shop:
    it = shop(source("orders", {"shape": "rows", "samples": 2, **definition}))
    it.warehouse.answers = {
        ("count", "select orders"): counted(3),
        ("sample", "select orders"): QueryResult(("ID", "Region"), ((1, "n"), (2, "s"))),
    }
    return it


def test_samples_are_fetched_when_the_alert_fires_and_not_while_it_goes_on() -> None:
    it = sampling()
    it.run()
    assert it.warehouse.asked_for("sample") == ["select orders"]
    assert it.outbox[0].payload["context"] == {
        "samples": [{"id": 1, "region": "n"}, {"id": 2, "region": "s"}]
    }
    it.store.clock.pass_by(timedelta(minutes=1))
    it.run()
    assert it.warehouse.asked_for("sample") == ["select orders"]


def test_samples_that_can_t_be_fetched_keep_nobody_from_being_told() -> None:
    it = shop(source("orders", {"shape": "rows", "samples": 2}))
    it.warehouse.answers = {
        ("count", "select orders"): QueryResult(("failures",), ((3,),)),
        ("sample", "select orders"): QueryError("too slow"),
    }
    it.run()
    [row] = it.outbox
    assert row.event is Event.FIRING
    assert row.payload["message"] == "3 violating rows; its samples could not be fetched"


def test_samples_are_not_fetched_while_all_is_well() -> None:
    it = sampling()
    it.warehouse.answers["count", "select orders"] = counted(0)
    it.run()
    assert it.warehouse.asked_for("sample") == []


def test_samples_are_not_fetched_unless_asked_for() -> None:
    it = sampling(samples=0)
    it.run()
    assert it.warehouse.asked_for("sample") == []
    assert it.outbox[0].payload["context"] == {}


def test_samples_wait_until_a_pending_alert_fires() -> None:
    it = sampling(**{"for": 2})
    it.run()
    assert it.warehouse.asked_for("sample") == []
    it.store.clock.pass_by(timedelta(minutes=1))
    it.run()
    assert it.warehouse.asked_for("sample") == ["select orders"]


def test_samples_hold_only_the_columns_asked_for() -> None:
    it = sampling(sample_columns=["region"])
    it.run()
    assert it.outbox[0].payload["context"] == {"samples": [{"region": "n"}, {"region": "s"}]}


def test_each_instance_has_its_own_samples_and_only_those_that_fire_now_have_any() -> None:
    it = sampling(dimensions=["region"])
    it.warehouse.answers["describe", "select orders"] = QueryResult(("id", "region"), ())
    it.warehouse.answers["count", "select orders"] = QueryResult(
        ("region", "failures"), (("n", 1),)
    )
    it.run()
    it.store.clock.pass_by(timedelta(minutes=1))
    it.warehouse.answers["count", "select orders"] = QueryResult(
        ("region", "failures"), (("n", 1), ("s", 1))
    )
    evaluated = it.run()
    [sent] = evaluated.plan.notifications
    assert (sent.instance, sent.payload["context"]) == (
        "region=s",
        {"samples": [{"id": 2, "region": "s"}]},
    )
    rows = it.store.history(HistoryQuery(limit=3))
    assert {row.instance: row.context for row in rows if row.instance} == {
        "region=n": {},
        "region=s": {"samples": [{"id": 2, "region": "s"}]},
    }
