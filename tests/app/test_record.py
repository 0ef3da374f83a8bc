"""What is recorded is composed in one place, whoever records it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sentinel.app.record import Entry, Record, Recorder
from sentinel.core.errors import LeaseLost
from sentinel.core.evaluation import EvaluationResult, Outcome
from sentinel.core.history import Execution
from sentinel.core.lifecycle import AlertUpdate
from sentinel.core.notification import Notification, Status
from sentinel.core.planning import current_update
from sentinel.core.severity import Severity
from sentinel.core.state import EvaluationTime, Event, Phase, State, Step, Transition
from sentinel.ports import Batch, Decision, HistoryQuery, Lease, Snapshot
from tests.fakes import NOW, MemoryStore, alerts_of, notification, source, state

MINUTE = timedelta(minutes=1)
[ALERT] = alerts_of(source("revenue")).valid
CAUSE = Execution("run", "manual", EvaluationTime(NOW, NOW), sql_hash="hash", attempt=2)


def firing(instance: str = "", **others: Any) -> State:
    """A row that fires, in an episode named after its instance."""
    return state(
        instance=instance,
        phase=Phase.FIRING,
        episode_id=f"episode {instance}".strip(),
        episode_started=NOW,
        peak_severity=Severity.WARNING,
        **others,
    )


def snapshot(*states: State, ledger: Iterable[Notification] = ()) -> Snapshot:
    return Snapshot(states, tuple(ledger), NOW)


def update(*rows: State, **others: Any) -> AlertUpdate:
    """An evaluation that leaves these rows as its result."""
    steps = tuple(Step(row, row, Outcome.ALERT) for row in rows)
    return AlertUpdate(ALERT, EvaluationResult(Outcome.ALERT), steps, **others)


def resolution(row: State) -> AlertUpdate:
    """The end of a row's episode."""
    after = replace(row, phase=Phase.OK, episode_id=None)
    assert row.episode_id is not None
    end = Transition(Event.RESOLVED, "condition_ok", row.episode_id, NOW, Severity.WARNING)
    return AlertUpdate(ALERT, EvaluationResult(Outcome.OK), (Step(row, after, Outcome.OK, (end,)),))


def compose(*updates: AlertUpdate, on: Snapshot, unchanged: bool = False, **options: Any) -> Record:
    entries = [Entry(each, CAUSE, unchanged) for each in updates]
    return Recorder("shop", **options).compose(entries, on)


def test_the_batch_holds_what_was_planned_and_the_rows_that_changed() -> None:
    row = firing(version=3)
    record = compose(update(row), on=snapshot(row))
    [new] = record.plan.notifications
    assert (new.channel, new.event, new.status) == ("log", Event.FIRING, Status.PENDING)
    assert record.batch.notifications == (new,)
    assert record.batch.states == (row,)
    [history] = record.batch.history
    assert (history.run_id, history.sql_hash, history.attempt) == ("run", "hash", 2)
    assert [each["reason"] for each in history.reasons] == ["not_notified_yet"]


def test_steps_for_history_alone_write_no_state() -> None:
    row = firing()
    step = Step(row, row, Outcome.ALERT, recorded_only=True)
    record = compose(AlertUpdate(ALERT, EvaluationResult(Outcome.ALERT), (step,)), on=snapshot(row))
    assert record.batch.states == ()
    assert len(record.batch.history) == 1


def test_dropped_rows_are_not_written() -> None:
    row, other = firing("a"), firing("b")
    record = compose(update(row, dropped=(row,), noted=(other, row)), on=snapshot(row))
    assert record.batch.states == (other,)
    assert record.batch.dropped == (row,)


def test_history_has_a_row_for_an_unseen_instance_with_a_notification() -> None:
    head, unseen, sent = state(), firing("a"), firing("b")
    ledger = [notification("episode b", status=Status.SENT)]
    record = compose(
        update(head, unseen=(unseen, sent)), on=snapshot(head, unseen, sent, ledger=ledger)
    )
    assert [row.instance for row in record.batch.history] == ["", "a"]
    row = record.batch.history[1]
    assert (row.kind, row.run_id, row.sql_hash, row.attempt) == ("plan", "run", None, 1)
    assert record.batch.states == (head,), "its row is not written"


def test_an_unchanged_alert_is_planned_for_and_has_history_only_of_notifications() -> None:
    quiet, loud = firing("a"), firing("b")
    ledger = [notification("episode a", status=Status.SENT)]
    record = compose(
        current_update(ALERT, [quiet, loud]),
        on=snapshot(quiet, loud, ledger=ledger),
        unchanged=True,
    )
    assert record.batch.states == ()
    assert [row.instance for row in record.batch.history] == ["b"]
    assert [row.instance for row in record.batch.notifications] == ["b"]
    assert not record.empty


def test_nothing_planned_is_an_empty_record_whatever_the_lease() -> None:
    row = firing()
    ledger = [notification(row.episode_id or "", status=Status.SENT)]
    record = compose(
        current_update(ALERT, [row]),
        on=snapshot(row, ledger=ledger),
        unchanged=True,
        lease=Lease("daemon", "me", 1),
    )
    assert record.empty
    assert record.batch != Batch()


def test_a_holder_claims_new_notifications() -> None:
    record = compose(update(firing()), on=snapshot(firing()), holder="me")
    [new] = record.batch.notifications
    assert (new.status, new.claimed_by, new.attempts) == (Status.CLAIMED, "me", 1)
    assert record.plan.notifications == (new,)


def test_a_notification_that_waits_for_an_earlier_one_is_not_claimed() -> None:
    row = firing()
    ledger = [notification("episode", status=Status.CLAIMED, claimed_by="other")]
    record = compose(resolution(row), on=snapshot(row, ledger=ledger), holder="me")
    assert [each.status for each in record.batch.notifications] == [Status.PENDING]


def test_a_superseded_notification_holds_up_no_claim() -> None:
    row = firing()
    pending = notification("episode")
    record = compose(resolution(row), on=snapshot(row, ledger=[pending]), holder="me")
    assert record.batch.superseded == (pending.notification_id,)
    assert [(each.reason, each.status) for each in record.batch.notifications] == [
        ("fired_and_resolved", Status.CLAIMED)
    ]


def test_a_dead_notification_is_revived_when_its_channel_is_planned_again() -> None:
    row = firing()
    dead = notification(
        "episode", status=Status.DEAD, at=NOW - 60 * MINUTE, not_before=NOW - MINUTE
    )
    record = compose(update(row), on=snapshot(row, ledger=[dead]))
    assert record.batch.revived == record.plan.revived == (dead.notification_id,)


def test_recording_renews_the_lease_by_the_store_s_clock() -> None:
    lease = Lease("daemon", "me", 7, NOW - MINUTE, NOW)
    record = compose(
        update(firing()), on=snapshot(firing()), lease=lease, lease_ttl=timedelta(seconds=30)
    )
    assert record.batch.lease == replace(lease, expires_at=NOW + timedelta(seconds=30))
    assert compose(update(firing()), on=snapshot(firing())).batch.lease is None


def test_without_the_lease_nothing_is_recorded() -> None:
    store = MemoryStore()
    lease = store.acquire_lease("daemon", "me", MINUTE)
    store.clock.pass_by(2 * MINUTE)
    assert store.acquire_lease("daemon", "other", MINUTE)
    recorder = Recorder("shop", lease=lease, lease_ttl=MINUTE)

    def decide(read: Snapshot) -> Decision[None]:
        return Decision(recorder.compose([Entry(update(firing()), CAUSE)], read).batch, None)

    with pytest.raises(LeaseLost):
        store.commit([ALERT.id], decide)
    assert store.snapshot().states == ()
    assert not store.history(HistoryQuery())


def test_an_alert_s_rows_may_have_its_id_or_the_one_from_before() -> None:
    [named] = alerts_of(source("revenue", {"id": "daily"})).valid
    assert named.row_ids == ("daily", "model.shop.revenue")
    assert ALERT.row_ids == ("model.shop.revenue",)
    [broken] = alerts_of(source("revenue", {"id": "daily", "severity": "awful"})).broken
    assert broken.row_ids == ("daily", "model.shop.revenue")
