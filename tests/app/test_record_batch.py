"""A batch is recorded whole, or without those alerts that can't be recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from sentinel.app.alerts import Alerts
from sentinel.app.batch import AlertEvaluation, BatchContext, BatchOptions, EvaluatedBatch
from sentinel.app.record_batch import BatchRecorder
from sentinel.core.due import Slot
from sentinel.core.errors import LeaseLost, StoreError, StoreLost
from sentinel.core.evaluation import EvaluationResult, Observation, Outcome
from sentinel.core.notification import Status
from sentinel.core.severity import Severity
from sentinel.core.state import Phase
from sentinel.ports import Batch, HistoryQuery, Lease, Snapshot
from tests.fakes import NOW, MemoryStore, alerts_of, source, state, write

MINUTE = timedelta(minutes=1)
FIRES = EvaluationResult(Outcome.ALERT, (Observation("", Outcome.ALERT, Severity.WARNING),))


@dataclass
class PickyStore(MemoryStore):
    """A store that can't write rows of these alerts, or nothing of them but an error."""

    refused: frozenset[str] = frozenset()
    takes_errors: bool = False
    error: type[Exception] = ValueError

    def _write(self, batch: Batch) -> None:
        for row in batch.history:
            is_error = row.outcome is Outcome.ERROR
            if row.alert in self.refused and not (self.takes_errors and is_error):
                raise self.error("no")
        super()._write(batch)


@dataclass
class Bench:
    """A batch of alerts that were all observed as firing."""

    names: tuple[str, ...] = ("revenue",)
    store: MemoryStore = field(default_factory=MemoryStore)
    known: frozenset[str] | None = None
    faults: list[tuple[str, str]] = field(default_factory=list)

    def record(self, result: EvaluationResult = FIRES, **options: Any) -> EvaluatedBatch:
        alerts = alerts_of(*map(source, self.names))
        alerts = Alerts(alerts.valid, (), known=self.known)
        before = Snapshot((), (), self.store.now())
        batch = BatchContext("run", alerts, before, BatchOptions(1, **options), "prod")
        recorder = BatchRecorder(
            self.store,
            "shop",
            None,
            batch,
            scrub=lambda text: text.replace("no", "***"),
            on_fault=lambda name, error: self.faults.append((name, type(error).__name__)),
        )
        return recorder([AlertEvaluation(alert, result) for alert in alerts.valid])

    @property
    def outcomes(self) -> Mapping[str, str]:
        rows = self.store.history(HistoryQuery())
        return {row.alert: str(row.outcome) for row in rows if row.kind == "evaluation"}


def test_a_batch_is_one_transaction() -> None:
    it = Bench(("revenue", "stock"))
    evaluated = it.record()
    assert it.store.commits == 1
    assert it.outcomes == {"revenue": "alert", "stock": "alert"}
    assert len(evaluated.plan.notifications) == 2


def test_a_leader_that_lost_its_lease_records_nothing() -> None:
    it = Bench()
    lease = it.store.acquire_lease("daemon", "me", MINUTE)
    it.store.clock.pass_by(2 * MINUTE)
    assert it.store.acquire_lease("daemon", "other", MINUTE)
    with pytest.raises(LeaseLost):
        it.record(lease=lease, lease_ttl=MINUTE)
    assert it.outcomes == {}
    assert it.store.snapshot().states == ()
    assert it.store.notifications(Status) == []


def test_recording_keeps_the_lease() -> None:
    it = Bench()
    lease = it.store.acquire_lease("daemon", "me", timedelta(seconds=10))
    it.record(lease=lease, lease_ttl=MINUTE)
    assert it.store.lease("daemon") == Lease("daemon", "me", 1, NOW, NOW + MINUTE)


def test_a_slot_that_is_recorded_already_changes_and_notifies_nothing() -> None:
    it = Bench()
    slots = {"model.shop.revenue": Slot(NOW)}
    it.record(slots=slots)
    before = it.store.snapshot()
    again = it.record(EvaluationResult(Outcome.ALERT, FIRES.observations), slots=slots)
    assert again.recorded_before == {"model.shop.revenue"}
    assert it.store.snapshot() == before
    assert len(it.store.history(HistoryQuery())) == 1
    assert again.plan.notifications == ()


def test_a_slot_that_ended_in_an_error_is_recorded_again_as_the_next_attempt() -> None:
    it = Bench()
    slots = {"model.shop.revenue": Slot(NOW)}
    it.record(EvaluationResult.failed("down"), slots=slots)
    it.record(slots=slots)
    rows = it.store.history(HistoryQuery())
    assert sorted((row.attempt, str(row.outcome)) for row in rows) == [(1, "error"), (2, "alert")]


def test_an_alert_that_can_t_be_recorded_gets_an_error_and_the_others_are_recorded() -> None:
    names = ("a", "b", "c", "d", "e")
    it = Bench(names, PickyStore(refused=frozenset("c"), takes_errors=True))
    evaluated = it.record()
    assert it.outcomes == {**dict.fromkeys(names, "alert"), "c": "error"}
    assert it.faults == [("c", "ValueError")]
    [error] = [each.result.error for each in evaluated.updates if each.alert.name == "c"]
    assert error is not None
    assert "can't be recorded" in error
    assert "***" in error, "without secrets"
    assert evaluated.unrecorded == frozenset()


@dataclass
class LosingStore(MemoryStore):
    """A store whose connection is lost so many times, and which answers in between."""

    losses: int = 1

    def _write(self, batch: Batch) -> None:
        if self.losses:
            self.losses -= 1
            raise StoreLost("the connection was closed")
        super()._write(batch)


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_a_lost_connection_is_no_alert_s_fault(names: tuple[str, ...]) -> None:
    it = Bench(names, LosingStore())
    it.record()
    assert it.outcomes == dict.fromkeys(names, "alert")
    assert it.faults == []


def test_a_store_that_is_lost_again_and_again_records_nothing() -> None:
    it = Bench(("a", "b"), LosingStore(losses=9))
    with pytest.raises(StoreLost):
        it.record()
    assert it.outcomes == {}
    assert it.faults == []


def test_an_alert_whose_error_can_t_be_recorded_either_is_reported_as_unrecorded() -> None:
    it = Bench(("a", "b", "c"), PickyStore(refused=frozenset("b")))
    evaluated = it.record()
    assert it.outcomes == {"a": "alert", "c": "alert"}
    assert evaluated.unrecorded == {"model.shop.b"}
    assert {each.alert.name for each in evaluated.evaluations} == {"a", "b", "c"}


def test_a_store_that_can_record_no_alert_raises_its_error() -> None:
    it = Bench(("a", "b", "c"), PickyStore(refused=frozenset("abc"), error=StoreError))
    with pytest.raises(StoreError):
        it.record()
    assert it.faults == []


def test_an_unreachable_store_is_asked_once() -> None:
    @dataclass
    class Down(MemoryStore):
        tries: int = 0

        def _write(self, batch: Batch) -> None:
            self.tries += 1
            raise StoreError("down")

        def now(self) -> Any:
            if self.tries:
                raise StoreError("down")
            return super().now()

    store = Down()
    with pytest.raises(StoreError, match="down"):
        Bench(("a", "b"), store).record()
    assert store.tries == 1


def test_a_dry_run_decides_and_writes_nothing() -> None:
    it = Bench()
    assert len(it.record(dry_run=True).plan.notifications) == 1
    assert it.store.commits == 0
    assert it.outcomes == {}


def test_orphaned_alerts_are_updated_in_the_same_transaction() -> None:
    it = Bench(known=frozenset({"model.shop.revenue"}))
    gone = state("gone", phase=Phase.OK, target="prod")
    write(it.store, Batch(states=(gone,)))
    commits = it.store.commits
    it.record()
    assert it.store.commits == commits + 1
    rows = {row.alert: row.removed_since for row in it.store.snapshot().states}
    assert rows == {"revenue": None, "gone": NOW}


def test_orphaned_alerts_are_recorded_also_beside_an_alert_that_can_t_be() -> None:
    store = PickyStore(refused=frozenset({"revenue"}))
    write(store, Batch(states=(state("gone", phase=Phase.OK, target="prod"),)))
    it = Bench(("revenue", "stock"), store, frozenset({"model.shop.revenue", "model.shop.stock"}))
    it.record()
    [row] = [row for row in store.snapshot().states if row.alert == "gone"]
    assert row.removed_since == NOW
