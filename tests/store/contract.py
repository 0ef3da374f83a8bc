"""What every store does. A store's tests subclass `StoreContract`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

import pytest

from sentinel.core.errors import LeaseLost, StateConflict
from sentinel.core.evaluation import Outcome
from sentinel.core.history import HistoryRow
from sentinel.core.notification import Notification, Status
from sentinel.core.severity import Severity
from sentinel.core.silence import Silence
from sentinel.core.state import Event, Health, Phase, State
from sentinel.ports import (
    Attempt,
    Batch,
    Decision,
    HistoryQuery,
    Outbox,
    PrunedRows,
    Snapshot,
    Store,
)
from tests.fakes import mark, notification, state, write

Row = TypeVar("Row", State, HistoryRow, Notification, Silence)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ODD = 'it\'s "odd" :name %s {{ x }} \\ \n\t\0 żółw 😀 ünï\N{COMBINING ACUTE ACCENT}'
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


class MakeStore(Protocol):
    """Stores of different projects over the same empty tables."""

    def __call__(self, project: str = "shop") -> Store: ...


def history_row(key: str, **others: Any) -> HistoryRow:
    """A row of sentinel_history of the project `shop`."""
    given: dict[str, Any] = {field.name: None for field in fields(HistoryRow)} | {
        "evaluation_id": key,
        "kind": "evaluation",
        "run_id": "run",
        "triggered_by": "manual",
        "project": "shop",
        "alert_id": "model.shop.revenue",
        "alert": "revenue",
        "instance": "",
        "as_of": MOMENT,
        "attempt": 1,
        "missed_slots": 0,
        "outcome": Outcome.OK,
        "phase_before": "ok",
        "phase_after": "ok",
        "events": [],
        "reasons": [],
        "recorded_at": MOMENT,
    }
    return HistoryRow(**given | others)


def silence(key: str, **others: Any) -> Silence:
    """A silence of the project `shop`, in force for a day from MOMENT."""
    given: dict[str, Any] = {
        "silence_id": key,
        "project": "shop",
        "alert_ids": ["model.shop.revenue"],
        "dimensions": None,
        "selector": None,
        "comment": None,
        "author": "someone",
        "os_user": None,
        "created_at": MOMENT,
        "starts_at": MOMENT,
        "ends_at": MOMENT + DAY,
    }
    return Silence(**given | others)


FULL_STATE = state(
    "revenue",
    ODD,
    dimensions={"region": ODD, "n": None, "deep": [1, {"a": True}]},
    phase=Phase.RECOVERING,
    phase_since=MOMENT,
    held_s=2**53 + 1,
    alert_count=2**31,
    severity=Severity.WARNING,
    peak_severity=Severity.CRITICAL,
    episode_id="episode",
    episode_started=datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
    incident_id="incident",
    last_as_of=MOMENT,
    last_slot=datetime(2026, 1, 2, tzinfo=UTC),
    last_outcome=Outcome.EMPTY,
    actual_value=0.1 + 0.2,
    threshold=-1.7976931348623157e308,
    message=ODD,
    health=Health.FAILING,
    health_since=MOMENT,
    error_count=3,
    health_episode_id="health",
    acked_at=MOMENT,
    acked_by="someone",
    ack_comment=ODD,
    missing_since=MOMENT,
    removed_since=MOMENT,
    updated_at=datetime(9998, 12, 31, 23, 59, 59, 999999, UTC),
    target="prod",
)
FULL_HISTORY = history_row(
    "full",
    slot=MOMENT,
    attempt=2**40,
    missed_slots=7,
    outcome=Outcome.ALERT,
    severity="critical",
    actual_value=5e-324,
    threshold=1e300,
    failures=2**53 + 1,
    message=ODD,
    context={ODD: [ODD, None, 1.5, 2**70, {"b": False}]},
    events=["firing", ODD],
    reasons=[{"channel": ODD, "event": "firing", "notified": True, "reason": "first_firing"}],
    episode_id="episode",
    incident_id="incident",
    error=ODD,
    sql_hash="hash",
    duration_ms=0,
    bytes_billed=2**62,
)
FULL_NOTIFICATION = notification(
    "episode",
    ODD,
    Event.ERROR_RESOLVED,
    n=2**40,
    instance=ODD,
    incident_id="incident",
    reason=ODD,
    payload={"text": ODD, "values": [None, 0.1, {"x": ODD}]},
    status=Status.DEAD,
    attempts=2**31,
    claimed_by=ODD,
    claim_token=2**53 + 1,
    claim_until=MOMENT,
    recipients_done=["a@example.com", ODD],
    remote_ref=ODD,
    last_error=ODD,
    sent_at=MOMENT,
)
FULL_SILENCE = silence(
    "full",
    alert_ids=["model.shop.revenue", ODD],
    dimensions={"region": ODD, "n": None},
    selector=ODD,
    comment=ODD,
    author=ODD,
    os_user=ODD,
    ended_at=MOMENT + MINUTE,
    ended_by=ODD,
)


class StoreContract:
    """A subclass gives the fixtures `make_store` and `wait`."""

    nul = "\0"
    """What the character NUL in a text comes back as: not every warehouse can hold it."""

    def kept(self, row: Row) -> Row:
        """A row as it comes back."""
        texts: dict[str, Any] = {
            field.name: value.replace("\0", self.nul)
            for field in fields(row)
            if isinstance(value := getattr(row, field.name), str) and "\0" in value
        }
        return replace(row, **texts)

    @pytest.fixture
    def make_store(self) -> MakeStore:
        raise NotImplementedError

    @pytest.fixture
    def wait(self) -> Callable[[timedelta], None]:
        """Lets time pass on the store's clock."""
        return lambda length: time.sleep(length.total_seconds())

    @pytest.fixture
    def store(self, make_store: MakeStore) -> Store:
        return make_store()

    def test_tables_that_are_there_pass_the_check(self, store: Store) -> None:
        store.check()

    def test_the_clock_is_in_utc_and_goes_on(
        self, store: Store, wait: Callable[[timedelta], None]
    ) -> None:
        first = store.now()
        assert first.utcoffset() == timedelta()
        wait(timedelta(milliseconds=5))
        assert store.now() > first

    # -- what is written is what is read -------------------------------------------------------

    def test_every_field_of_a_state_comes_back(self, store: Store) -> None:
        _set(store, FULL_STATE)
        assert _states(store) == [self.kept(replace(FULL_STATE, version=1))]

    def test_a_state_with_nothing_but_its_keys_comes_back(self, store: Store) -> None:
        _set(store, state())
        assert _states(store) == [state(version=1)]

    def test_every_field_of_a_state_can_be_changed(self, store: Store) -> None:
        bare = state("revenue", ODD)
        _set(store, bare)
        _set(store, replace(FULL_STATE, version=1))
        assert _states(store) == [self.kept(replace(FULL_STATE, version=2))]
        _set(store, replace(bare, version=2))
        assert _states(store) == [self.kept(replace(bare, version=3))]

    def test_every_field_of_a_history_row_comes_back(self, store: Store) -> None:
        write(store, Batch(history=(FULL_HISTORY,)))
        assert list(store.history(HistoryQuery())) == [self.kept(FULL_HISTORY)]

    def test_reasons_of_earlier_versions_come_back_by_their_present_names(
        self, store: Store
    ) -> None:
        old = {"channel": "ops", "event": "firing", "told": False, "reason": "already_told"}
        write(store, Batch(history=(history_row("old", reasons=[old]),)))
        [row] = store.history(HistoryQuery())
        assert row.reasons == [
            {
                "channel": "ops",
                "event": "firing",
                "notified": False,
                "reason": "already_notified",
            }
        ]

    def test_a_history_row_with_nothing_but_its_keys_comes_back(self, store: Store) -> None:
        write(store, Batch(history=(history_row("bare"),)))
        assert list(store.history(HistoryQuery())) == [history_row("bare")]

    def test_every_field_of_a_notification_comes_back(self, store: Store) -> None:
        write(store, Batch(notifications=(FULL_NOTIFICATION,)))
        assert list(store.notifications(Status)) == [self.kept(FULL_NOTIFICATION)]

    def test_a_notification_that_was_never_tried_comes_back(self, store: Store) -> None:
        bare = notification(recipients_done=[])
        write(store, Batch(notifications=(bare,)))
        assert list(store.notifications(Status)) == [bare]

    # -- commit --------------------------------------------------------------------------------

    def test_a_commit_returns_the_result_of_its_decision(self, store: Store) -> None:
        _set(store, state())
        batch = Batch(states=(state(version=1, held_s=5),), history=(history_row("a"),))
        read = store.commit(["model.shop.revenue"], lambda snapshot: Decision(batch, snapshot))
        assert read.states == (state(version=1),)
        assert _states(store) == [state(version=2, held_s=5)]

    def test_a_decision_that_fails_leaves_nothing(self, store: Store) -> None:
        def decide(_: Snapshot) -> Decision[None]:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.commit(["model.shop.revenue"], decide)
        assert _everything(store) == ([], [], [])

    @pytest.mark.parametrize("part", ["history", "notifications", "superseded"])
    def test_a_write_that_fails_leaves_nothing_of_the_batch(self, store: Store, part: str) -> None:
        write(
            store,
            Batch(
                states=(state(),),
                history=(history_row("old"),),
                notifications=(notification("old"),),
            ),
        )
        before = _everything(store)
        clash: dict[str, Any] = {
            "history": (history_row("new"), history_row("old")),
            "notifications": (notification("new"), notification("old")),
            "superseded": ("no such row",),
        }
        batch = Batch(
            states=(state(version=1, held_s=5), state("stock")),
            history=(history_row("another"),),
            notifications=(notification("another"),),
        )
        with pytest.raises(StateConflict):
            write(store, replace(batch, **{part: clash[part]}))
        assert _everything(store) == before

    def test_an_empty_batch_writes_nothing(self, store: Store) -> None:
        write(store, Batch())
        assert _everything(store) == ([], [], [])

    def test_a_stale_version_is_a_conflict_and_changes_nothing(self, store: Store) -> None:
        _set(store, state())
        _set(store, state(version=1, held_s=1))
        with pytest.raises(StateConflict):
            _set(store, state(version=1, held_s=2))
        assert _states(store) == [state(version=2, held_s=1)]

    def test_one_stale_version_among_good_ones_is_a_conflict(self, store: Store) -> None:
        write(store, Batch(states=(state(), state("stock"))))
        stale = Batch(states=(state(version=1, held_s=9), state("stock", version=5)))
        with pytest.raises(StateConflict):
            write(store, stale)
        assert sorted(each.held_s for each in _states(store)) == [0, 0]

    def test_a_state_that_another_writer_made_first_is_a_conflict(self, store: Store) -> None:
        _set(store, state())
        with pytest.raises(StateConflict):
            _set(store, state(held_s=2))
        assert _states(store) == [state(version=1)]

    def test_a_state_that_is_gone_is_a_conflict(self, store: Store) -> None:
        with pytest.raises(StateConflict):
            _set(store, state(version=1))

    def test_after_a_lost_race_the_decision_is_made_again_on_what_is_there_now(
        self, store: Store
    ) -> None:
        _set(store, state())
        seen: list[Sequence[State]] = []

        def decide(snapshot: Snapshot) -> Decision[int]:
            seen.append(snapshot.states)
            held = snapshot.states[0].held_s
            version = 99 if len(seen) == 1 else snapshot.states[0].version
            batch = Batch(states=(state(version=version, held_s=held + 1),))
            return Decision(batch, len(seen))

        assert store.commit(["model.shop.revenue"], decide) == 2, "the result of the last try"
        assert seen == [(state(version=1),), (state(version=1),)]
        assert _states(store) == [state(version=2, held_s=1)]

    def test_after_five_lost_races_the_conflict_is_told(self, store: Store) -> None:
        calls = []

        def decide(snapshot: Snapshot) -> Decision[None]:
            calls.append(snapshot)
            rows = (history_row(str(len(calls))),)
            return Decision(Batch(states=(state(version=99),), history=rows), None)

        with pytest.raises(StateConflict):
            store.commit(["model.shop.revenue"], decide)
        assert len(calls) == 5
        assert _everything(store) == ([], [], [])

    @pytest.mark.parametrize("existing", [True, False])
    def test_writers_at_the_same_time_lose_nothing(
        self, make_store: MakeStore, existing: bool
    ) -> None:
        if existing:
            _set(make_store(), state(held_s=0))
        barrier = threading.Barrier(2)
        failures: list[BaseException] = []

        def decide(snapshot: Snapshot) -> Decision[None]:
            with suppress(threading.BrokenBarrierError):
                barrier.wait(timeout=1)  # both have read before either writes
            kept = snapshot.states[0] if snapshot.states else state()
            return Decision(Batch(states=(replace(kept, held_s=kept.held_s + 1),)), None)

        def work() -> None:
            try:
                make_store().commit(["model.shop.revenue"], decide)
            except Exception as error:  # noqa: BLE001 - it is told by the assertion
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert [each.held_s for each in _states(make_store())] == [2]

    def test_a_large_batch_is_one_commit(self, store: Store) -> None:
        names = [f"alert_{n:04}" for n in range(1_000)]
        ids = [f"model.shop.{name}" for name in names]
        batch = Batch(
            states=tuple(state(name, message=ODD) for name in names),
            history=tuple(history_row(name, context={"n": name}) for name in names),
        )
        store.commit(ids, lambda _: Decision(batch, None))

        def again(snapshot: Snapshot) -> Decision[None]:
            states = tuple(replace(each, held_s=7) for each in snapshot.states)
            return Decision(Batch(states=states), None)

        store.commit(ids, again)
        assert [each.held_s for each in _states(store)] == [7] * 1_000
        assert len(store.history(HistoryQuery(limit=5_000))) == 1_000

    # -- snapshot ------------------------------------------------------------------------------

    def test_a_snapshot_holds_the_alerts_asked_for(self, store: Store) -> None:
        write(store, Batch(states=(state("a"), state("b"), state("b", "x"), state("c"))))

        def found(ids: list[str] | None) -> list[tuple[str, str]]:
            return sorted((each.alert, each.instance) for each in store.snapshot(ids).states)

        assert found(["model.shop.b", "model.shop.nowhere"]) == [("b", ""), ("b", "x")]
        assert found([]) == []
        assert found(None) == [("a", ""), ("b", ""), ("b", "x"), ("c", "")]

    def test_the_ledger_holds_open_episodes_of_instances_and_of_health(self, store: Store) -> None:
        rows = [
            notification("open", at=MOMENT + MINUTE, event=Event.SEVERITY, status=Status.SENT),
            notification("open", at=MOMENT, status=Status.SUPERSEDED),
            notification("health", at=MOMENT + 2 * MINUTE, status=Status.DEAD),
            notification("over", status=Status.PENDING),
            notification("another"),
        ]
        states = (
            state("a", episode_id="open"),
            state("b", health_episode_id="health"),
            state("c"),
            state("d", episode_id="another"),
        )
        write(store, Batch(states=states, notifications=tuple(rows)))
        snapshot = store.snapshot(["model.shop.a", "model.shop.b", "model.shop.c"])
        assert [(row.episode_id, row.event) for row in snapshot.ledger] == [
            ("open", Event.FIRING),
            ("open", Event.SEVERITY),
            ("health", Event.FIRING),
        ]

    def test_a_snapshot_tells_the_store_s_time(self, store: Store) -> None:
        before = store.now()
        assert before <= store.snapshot().now <= store.now()

    # -- projects ------------------------------------------------------------------------------

    def test_projects_in_one_store_don_t_see_each_other(self, make_store: MakeStore) -> None:
        shop, bank = make_store("shop"), make_store("bank")
        for store, name in ((shop, "shop"), (bank, "bank")):
            write(
                store,
                Batch(
                    states=(state(state_key=name, project=name, episode_id="same"),),
                    history=(history_row(name, project=name),),
                    notifications=(
                        notification("same", project=name, notification_id=name, message_id=name),
                    ),
                ),
            )
        for store, name in ((shop, "shop"), (bank, "bank")):
            snapshot = store.snapshot()
            assert [each.project for each in snapshot.states] == [name]
            assert [each.project for each in snapshot.ledger] == [name]
            assert [each.project for each in store.history(HistoryQuery())] == [name]
            assert [each.project for each in store.notifications(Status)] == [name]
        assert [row.project for row in shop.claim("me", MINUTE, 10)] == ["shop"]
        assert [row.status for row in bank.notifications(Status)] == [Status.PENDING]
        assert bank.claim("me", MINUTE, 10, ["shop"]) == []

    # -- history -------------------------------------------------------------------------------

    def test_history_comes_newest_first_and_at_most_so_much(self, store: Store) -> None:
        rows = tuple(history_row(f"{n}", recorded_at=MOMENT + n * MINUTE) for n in (2, 0, 3, 1))
        write(store, Batch(history=rows))
        assert _found(store, HistoryQuery()) == ["3", "2", "1", "0"]
        assert _found(store, HistoryQuery(limit=2)) == ["3", "2"]

    def test_history_of_chosen_alerts(self, store: Store) -> None:
        rows = (history_row("r"), history_row("s", alert_id="model.shop.stock", alert="stock"))
        write(store, Batch(history=rows))
        assert _found(store, HistoryQuery(alert_ids=frozenset({"model.shop.stock"}))) == ["s"]
        assert _found(store, HistoryQuery(alert_ids=frozenset())) == []

    def test_history_since_a_moment_includes_that_moment(self, store: Store) -> None:
        rows = tuple(history_row(f"{n}", recorded_at=MOMENT + n * MINUTE) for n in range(3))
        write(store, Batch(history=rows))
        assert _found(store, HistoryQuery(since=MOMENT + MINUTE)) == ["2", "1"]

    def test_history_of_chosen_outcomes(self, store: Store) -> None:
        rows = tuple(history_row(str(outcome), outcome=outcome) for outcome in Outcome)
        write(store, Batch(history=rows))
        found = _found(store, HistoryQuery(outcomes=frozenset({"alert", "error"})))
        assert sorted(found) == ["alert", "error"]

    def test_history_of_changes_only(self, store: Store) -> None:
        rows = (
            history_row("nothing"),
            history_row("head of an alert with dimensions", phase_before=None, phase_after=None),
            history_row("event", events=["severity"]),
            history_row("moved", phase_before="ok", phase_after="pending"),
            history_row("first", phase_before=None, phase_after="ok"),
        )
        write(store, Batch(history=rows))
        found = _found(store, HistoryQuery(changes_only=True))
        assert sorted(found) == ["event", "first", "moved"]

    def test_filters_of_history_hold_together(self, store: Store) -> None:
        valid: dict[str, Any] = {"outcome": Outcome.ALERT, "events": ["firing"]}
        rows = (
            history_row("this", **valid),
            history_row("late", **valid | {"recorded_at": MOMENT - MINUTE}),
            history_row("other", **valid | {"alert_id": "model.shop.stock"}),
            history_row("error", **valid | {"outcome": Outcome.ERROR}),
            history_row("quiet", **valid | {"events": []}),
        )
        write(store, Batch(history=rows))
        query = HistoryQuery(
            frozenset({"model.shop.revenue"}), MOMENT, frozenset({"alert"}), changes_only=True
        )
        assert _found(store, query) == ["this"]

    # -- outbox: reading -----------------------------------------------------------------------

    def test_notifications_are_told_by_status_oldest_first(self, store: Store) -> None:
        rows = tuple(
            notification(str(status), at=MOMENT - n * MINUTE, status=status)
            for n, status in enumerate(Status)
        )
        write(store, Batch(notifications=rows))

        def found(*statuses: Status, limit: int = 100) -> list[str]:
            return [row.episode_id for row in store.notifications(statuses, limit)]

        assert found(Status.PENDING, Status.SENT, Status.DEAD) == ["dead", "sent", "pending"]
        assert found(Status.PENDING, Status.SENT, limit=1) == ["sent"]
        assert found() == []

    # -- outbox: claiming ----------------------------------------------------------------------

    def test_a_claim_takes_what_is_due_and_says_who_until_when(self, store: Store) -> None:
        write(store, Batch(notifications=(_due(store),)))
        before = store.now()
        [row] = store.claim("me:1", MINUTE, 10)
        assert (row.status, row.claimed_by, row.claim_token, row.attempts) == (
            Status.CLAIMED,
            "me:1",
            1,
            1,
        )
        assert row.claim_until is not None
        assert before + MINUTE <= row.claim_until <= store.now() + MINUTE
        assert list(store.notifications([Status.CLAIMED])) == [row]

    def test_what_is_claimed_is_not_claimed_again_while_the_lease_lasts(self, store: Store) -> None:
        write(store, Batch(notifications=(_due(store),)))
        assert len(store.claim("me", MINUTE, 10)) == 1
        assert store.claim("another", MINUTE, 10) == []

    def test_what_is_not_due_yet_is_left(self, store: Store) -> None:
        write(store, Batch(notifications=(_due(store, not_before=store.now() + MINUTE),)))
        assert store.claim("me", MINUTE, 10) == []

    @pytest.mark.parametrize(
        "status", [Status.SENT, Status.DEAD, Status.SUPERSEDED, Status.CANCELLED]
    )
    def test_what_is_finished_is_left(self, store: Store, status: Status) -> None:
        write(store, Batch(notifications=(_due(store, status=status),)))
        assert store.claim("me", MINUTE, 10) == []

    def test_after_the_lease_another_may_claim_with_a_higher_token(
        self, store: Store, wait: Callable[[timedelta], None]
    ) -> None:
        write(store, Batch(notifications=(_due(store),)))
        [first] = store.claim("me", timedelta(milliseconds=20), 10)
        wait(timedelta(milliseconds=50))
        [second] = store.claim("another", MINUTE, 10)
        assert (first.claim_token, second.claim_token) == (1, 2)
        assert (second.claimed_by, second.attempts) == ("another", 2)
        assert not mark(store, [first], Attempt(Status.SENT))
        assert mark(store, [second], Attempt(Status.DEAD, error="refused"))
        assert [row.status for row in store.notifications(Status)] == [Status.DEAD]

    def test_a_lease_that_ran_out_unnoticed_may_still_be_marked(
        self, store: Store, wait: Callable[[timedelta], None]
    ) -> None:
        write(store, Batch(notifications=(_due(store),)))
        [row] = store.claim("me", timedelta(milliseconds=20), 10)
        wait(timedelta(milliseconds=50))
        assert mark(store, [row], Attempt(Status.SENT))

    def test_attempts_are_counted_even_when_the_sender_never_came_back(
        self, store: Store, wait: Callable[[timedelta], None]
    ) -> None:
        write(store, Batch(notifications=(_due(store),)))
        for tries in (1, 2, 3):
            [row] = store.claim("me", timedelta(milliseconds=5), 10)
            assert row.attempts == tries
            wait(timedelta(milliseconds=20))

    def test_within_an_episode_and_channel_the_earlier_goes_first(self, store: Store) -> None:
        write(
            store,
            Batch(
                notifications=(
                    _due(store, "e", "log", Event.FIRING, age=3),
                    _due(store, "e", "log", Event.SEVERITY, age=2),
                    _due(store, "e", "log", Event.RESOLVED, age=1),
                    _due(store, "e", "mail", Event.SEVERITY, age=2),
                    _due(store, "f", "log", Event.RESOLVED, age=1),
                )
            ),
        )
        first = store.claim("me", MINUTE, 10)
        assert {(row.episode_id, row.channel, row.event) for row in first} == {
            ("e", "log", Event.FIRING),
            ("e", "mail", Event.SEVERITY),
            ("f", "log", Event.RESOLVED),
        }
        assert store.claim("me", MINUTE, 10) == []
        firing = [row for row in first if row.event is Event.FIRING]
        mark(store, firing, Attempt(Status.DEAD))
        [second] = store.claim("me", MINUTE, 10)
        assert (second.channel, second.event) == ("log", Event.SEVERITY)

    def test_what_waits_to_be_tried_again_holds_up_what_comes_after_it(self, store: Store) -> None:
        write(
            store,
            Batch(
                notifications=(
                    _due(store, event=Event.FIRING, age=2, not_before=store.now() + MINUTE),
                    _due(store, event=Event.RESOLVED, age=1),
                )
            ),
        )
        assert store.claim("me", MINUTE, 10) == []

    def test_only_the_messages_named_are_claimed(self, store: Store) -> None:
        rows = (_due(store, "a"), _due(store, "b"))
        write(store, Batch(notifications=rows))
        assert store.claim("me", MINUTE, 10, []) == []
        [row] = store.claim("me", MINUTE, 10, [rows[1].message_id])
        assert row.episode_id == "b"

    def test_a_message_is_claimed_and_marked_whole(self, store: Store) -> None:
        rows = tuple(_due(store, episode, message_id="together") for episode in ("a", "b", "c"))
        write(store, Batch(notifications=(*rows, _due(store, "d"))))
        claimed = store.claim("me", MINUTE, 10, ["together"])
        assert sorted(row.episode_id for row in claimed) == ["a", "b", "c"]
        assert mark(store, claimed, Attempt(Status.SENT, remote_ref="r"))
        assert {(row.episode_id, row.remote_ref) for row in store.notifications([Status.SENT])} == {
            ("a", "r"),
            ("b", "r"),
            ("c", "r"),
        }

    def test_a_message_waits_while_anything_before_any_part_of_it_is_unfinished(
        self, store: Store
    ) -> None:
        rows = (
            _due(store, "a", age=2, not_before=store.now() + MINUTE),
            _due(store, "a", event=Event.RESOLVED, age=1, message_id="together"),
            _due(store, "b", event=Event.RESOLVED, age=1, message_id="together"),
        )
        write(store, Batch(notifications=rows))
        assert store.claim("me", MINUTE, 10) == []

    def test_a_message_does_not_wait_for_a_part_of_itself(self, store: Store) -> None:
        rows = (
            _due(store, event=Event.FIRING, age=2, message_id="together"),
            _due(store, event=Event.SEVERITY, age=1, message_id="together"),
        )
        write(store, Batch(notifications=rows))
        assert len(store.claim("me", MINUTE, 10)) == 2

    def test_a_message_whose_parts_were_tried_apart_is_marked_whole(self, store: Store) -> None:
        rows = tuple(_due(store, episode, message_id="together") for episode in ("a", "b"))
        write(store, Batch(notifications=rows))
        dead = Attempt(Status.DEAD, error="refused")
        assert mark(store, store.claim("me", MINUTE, 10), dead)
        write(store, Batch(revived=(rows[0].notification_id,)))
        [alone] = store.claim("me", MINUTE, 10)
        assert mark(store, [alone], dead)
        write(store, Batch(revived=tuple(row.notification_id for row in rows)))
        claimed = store.claim("me", MINUTE, 10)
        assert len({row.claim_token for row in claimed}) == 1
        assert (alone.claim_token, claimed[0].claim_token) == (2, 3)
        assert mark(store, claimed, Attempt(Status.SENT))
        assert {row.status for row in store.notifications(Status)} == {Status.SENT}

    def test_a_part_that_is_tried_again_takes_no_other_part_from_its_holder(
        self, store: Store
    ) -> None:
        held, dead = (
            _due(store, "a", message_id="together"),
            _due(store, "b", message_id="together", status=Status.DEAD, claim_token=1),
        )
        write(store, Batch(notifications=(held, dead)))
        [mine] = store.claim("me", MINUTE, 10)
        write(store, Batch(revived=(dead.notification_id,)))
        [theirs] = store.claim("another", MINUTE, 10)
        assert (mine.episode_id, theirs.episode_id) == ("a", "b")
        assert mark(store, [mine], Attempt(Status.SENT))
        found = {row.episode_id: row.status for row in store.notifications(Status)}
        assert found == {"a": Status.SENT, "b": Status.CLAIMED}

    def test_a_limited_claim_takes_the_least_tried_and_then_the_oldest(self, store: Store) -> None:
        rows = (
            _due(store, "tried", age=9, attempts=1),
            _due(store, "old", age=5),
            _due(store, "older", age=6),
            _due(store, "new", age=1),
        )
        write(store, Batch(notifications=rows))
        claimed = [[row.episode_id for row in store.claim("me", MINUTE, 1)] for _ in range(5)]
        assert claimed == [["older"], ["old"], ["new"], ["tried"], []]

    # -- outbox: marking -----------------------------------------------------------------------

    def test_a_sent_message_has_its_time_and_reference(self, store: Store) -> None:
        write(store, Batch(notifications=(_due(store, last_error="before"),)))
        before = store.now()
        assert mark(store, store.claim("me", MINUTE, 10), Attempt(Status.SENT, remote_ref="r:1"))
        [row] = store.notifications([Status.SENT])
        assert row.sent_at is not None
        assert before <= row.sent_at <= store.now()
        assert (row.remote_ref, row.last_error, row.claim_until) == ("r:1", None, None)

    def test_a_failed_message_waits_until_it_is_tried_again(self, store: Store) -> None:
        write(store, Batch(notifications=(_due(store),)))
        again = store.now() + MINUTE
        attempt = Attempt(Status.PENDING, ODD, again, recipients_done=("a@example.com",))
        assert mark(store, store.claim("me", MINUTE, 10), attempt)
        [row] = store.notifications([Status.PENDING])
        assert (row.not_before, row.sent_at) == (again, None)
        assert row.last_error == ODD.replace("\0", self.nul)
        assert list(row.recipients_done) == ["a@example.com"]
        assert store.claim("me", MINUTE, 10) == []

    def test_a_failed_message_whose_time_has_come_is_tried_again(self, store: Store) -> None:
        write(store, Batch(notifications=(_due(store),)))
        mark(store, store.claim("me", MINUTE, 10), Attempt(Status.PENDING, "no", store.now()))
        [row] = store.claim("me", MINUTE, 10)
        assert (row.attempts, row.claim_token, row.last_error) == (2, 2, "no")

    def test_a_dead_message_is_claimed_no_more(self, store: Store) -> None:
        write(store, Batch(notifications=(_due(store),)))
        mark(store, store.claim("me", MINUTE, 10), Attempt(Status.DEAD, error="gone"))
        assert store.claim("me", MINUTE, 10) == []
        assert [row.last_error for row in store.notifications([Status.DEAD])] == ["gone"]

    def test_a_message_is_marked_once(self, store: Store) -> None:
        write(store, Batch(notifications=(_due(store),)))
        claimed = store.claim("me", MINUTE, 10)
        assert mark(store, claimed, Attempt(Status.SENT))
        assert not mark(store, claimed, Attempt(Status.DEAD))
        assert [row.status for row in store.notifications(Status)] == [Status.SENT]

    def test_messages_are_marked_together_and_each_with_what_became_of_it(
        self, store: Store
    ) -> None:
        rows = [_due(store, episode) for episode in ("sent", "dead", "again")]
        write(store, Batch(notifications=tuple(rows)))
        store.claim("me", MINUTE, 10)
        again = store.now() + MINUTE
        attempts = (
            Attempt(Status.SENT, remote_ref="r"),
            Attempt(Status.DEAD, error="refused"),
            Attempt(Status.PENDING, "busy", again, recipients_done=("a@example.com",)),
        )
        marked = store.mark(
            {row.message_id: (1, each) for row, each in zip(rows, attempts, strict=True)}
        )
        assert marked == {row.message_id for row in rows}
        found = {row.episode_id: row for row in store.notifications(Status)}
        assert {name: (row.status, row.last_error) for name, row in found.items()} == {
            "sent": (Status.SENT, None),
            "dead": (Status.DEAD, "refused"),
            "again": (Status.PENDING, "busy"),
        }
        assert [name for name, row in found.items() if row.sent_at] == ["sent"]
        assert [name for name, row in found.items() if row.remote_ref] == ["sent"]
        assert [name for name, row in found.items() if row.recipients_done] == ["again"]
        assert found["again"].not_before == again

    def test_of_messages_marked_together_those_whose_claim_was_lost_are_left(
        self, store: Store, wait: Callable[[timedelta], None]
    ) -> None:
        lost, kept, gone = (
            _due(store, "lost"),
            _due(store, "kept"),
            "no such message",
        )
        write(store, Batch(notifications=(lost, kept)))
        store.claim("me", timedelta(milliseconds=20), 10)
        wait(timedelta(milliseconds=50))
        [taken] = store.claim("another", MINUTE, 10, [lost.message_id])
        sent = (1, Attempt(Status.SENT))
        marked = store.mark({lost.message_id: sent, kept.message_id: sent, gone: sent})
        assert marked == {kept.message_id}
        assert store.notifications([Status.SENT])[0].episode_id == "kept"
        assert list(store.notifications([Status.CLAIMED])) == [taken]

    def test_marking_nothing_marks_nothing(self, store: Store) -> None:
        assert store.mark({}) == frozenset()

    # -- superseding ---------------------------------------------------------------------------

    @pytest.mark.parametrize("status", [Status.PENDING, Status.DEAD])
    def test_what_was_never_sent_can_be_superseded(self, store: Store, status: Status) -> None:
        row = _due(store, status=status)
        write(store, Batch(notifications=(row,)))
        write(store, Batch(superseded=(row.notification_id,)))
        assert [each.status for each in store.notifications(Status)] == [Status.SUPERSEDED]
        assert store.claim("me", MINUTE, 10) == []

    @pytest.mark.parametrize("status", [Status.SENT, Status.SUPERSEDED, Status.CANCELLED])
    def test_what_is_finished_can_t_be_superseded(self, store: Store, status: Status) -> None:
        row = _due(store, status=status)
        write(store, Batch(notifications=(row,)))
        with pytest.raises(StateConflict):
            write(store, Batch(superseded=(row.notification_id,)))

    def test_superseding_what_is_being_sent_decides_again_and_then_gives_up(
        self, store: Store
    ) -> None:
        row = _due(store)
        write(store, Batch(states=(state(episode_id="episode"),), notifications=(row,)))
        [claimed] = store.claim("me", MINUTE, 10)
        seen: list[Status] = []

        def decide(snapshot: Snapshot) -> Decision[None]:
            seen.append(snapshot.ledger[0].status)
            batch = Batch(history=(history_row("x"),), superseded=(row.notification_id,))
            return Decision(batch, None)

        with pytest.raises(StateConflict, match="being sent"):
            store.commit(["model.shop.revenue"], decide)
        assert seen == [Status.CLAIMED] * 5
        assert list(store.history(HistoryQuery())) == []
        assert mark(store, [claimed], Attempt(Status.SENT))

    # -- rows that go, and rows that are tried again ---------------------------------------------

    def test_dropped_rows_are_gone(self, store: Store) -> None:
        _set(store, state("revenue"), state("stock"))
        revenue = next(each for each in _states(store) if each.alert == "revenue")
        write(store, Batch(dropped=(revenue,)))
        assert [each.alert for each in _states(store)] == ["stock"]

    def test_a_row_that_has_changed_since_is_not_dropped(self, store: Store) -> None:
        _set(store, state("revenue"))
        [old] = _states(store)
        write(store, Batch(states=(replace(old, message="new"),)))
        with pytest.raises(StateConflict):
            write(store, Batch(dropped=(old,), history=(history_row("h"),)))
        assert len(_states(store)) == 1
        assert _found(store, HistoryQuery()) == []

    def test_rows_are_dropped_and_made_anew_in_one_batch(self, store: Store) -> None:
        """An alert gains an id."""
        _set(store, state("revenue", message="kept"))
        [old] = _states(store)
        moved = replace(old, state_key="new", alert_id="finance.revenue", version=0)
        write(store, Batch(states=(moved,), dropped=(old,)))
        assert [(each.state_key, each.message) for each in _states(store)] == [("new", "kept")]

    def test_dead_notifications_are_tried_again_at_once(self, store: Store) -> None:
        dead = _due(store, status=Status.DEAD, not_before=store.now() + HOUR)
        write(store, Batch(notifications=(dead,)))
        write(store, Batch(revived=(dead.notification_id,)))
        assert [row.notification_id for row in store.claim("me", MINUTE, 9)] == [
            dead.notification_id
        ]

    @pytest.mark.parametrize("status", [Status.SENT, Status.PENDING, Status.SUPERSEDED])
    def test_only_what_is_dead_is_tried_again(self, store: Store, status: Status) -> None:
        row = _due(store, status=status)
        write(store, Batch(notifications=(row,)))
        with pytest.raises(StateConflict):
            write(store, Batch(revived=(row.notification_id,)))

    def test_alerts_that_are_not_known_are_strangers(self, store: Store) -> None:
        noted = state("noted", removed_since=MOMENT)
        _set(store, state("revenue"), state("stock"), state("stock", "a=1"), noted)
        known = ["model.shop.revenue", "model.shop.noted", "model.shop.new"]
        assert store.orphaned_alert_ids(known) == {"model.shop.stock", "model.shop.noted"}
        assert store.orphaned_alert_ids([]) == {
            f"model.shop.{n}" for n in ("revenue", "stock", "noted")
        }

    def test_a_snapshot_holds_the_silences_in_force(self, store: Store) -> None:
        now = store.now()
        store.add_silence(silence("now", starts_at=now - HOUR, ends_at=now + HOUR))
        store.add_silence(silence("over", starts_at=now - DAY, ends_at=now - HOUR))
        assert [each.silence_id for each in store.snapshot([]).silences] == ["now"]

    def test_the_ledger_holds_further_episodes_that_are_asked_for(self, store: Store) -> None:
        rows = (_due(store, "one"), _due(store, "two"))
        write(store, Batch(notifications=rows))
        assert [row.episode_id for row in store.snapshot([], ["two"]).ledger] == ["two"]

    # -- claims that are given up ------------------------------------------------------------------

    def test_channels_that_are_skipped_are_not_claimed(self, store: Store) -> None:
        write(store, Batch(notifications=(_due(store, "a", "mail"), _due(store, "b", "log"))))
        assert [row.channel for row in store.claim("me", MINUTE, 9, skip=["mail"])] == ["log"]

    def test_what_is_claimed_can_be_cancelled_by_its_holder(self, store: Store) -> None:
        write(store, Batch(notifications=(_due(store, "a"), _due(store, "b"))))
        first, second = store.claim("me", MINUTE, 9)
        reasons = {first.notification_id: "silenced"}
        assert store.cancel(reasons, "another") == frozenset()
        assert store.cancel(reasons, "me") == {first.notification_id}
        [cancelled] = store.notifications([Status.CANCELLED])
        assert (cancelled.notification_id, cancelled.last_error) == (
            first.notification_id,
            "silenced",
        )
        assert mark(store, [second], Attempt(Status.SENT))

    def test_cancelling_nothing_cancels_nothing(self, store: Store) -> None:
        assert store.cancel({}, "me") == frozenset()

    def test_what_is_given_back_untried_counts_as_no_attempt(self, store: Store) -> None:
        write(store, Batch(notifications=(_due(store),)))
        claimed = store.claim("me", MINUTE, 9)
        assert mark(store, claimed, Attempt(Status.PENDING, error="closed", tried=False))
        [row] = store.notifications([Status.PENDING])
        assert (row.attempts, row.last_error) == (0, "closed")

    def test_what_is_handed_on_is_there_with_the_mark_and_once(self, store: Store) -> None:
        dead = _due(store)
        write(store, Batch(notifications=(dead,)))
        sent = _due(store, "e", "mail", event=Event.FIRING)
        gone = Attempt(Status.DEAD, error="no such hook", handed_on=(sent,))
        assert mark(store, store.claim("me", MINUTE, 9), gone)
        assert [row.notification_id for row in store.notifications([Status.PENDING])] == [
            sent.notification_id
        ]
        write(store, Batch(revived=(dead.notification_id,)))
        again = store.claim("me", MINUTE, 9, [dead.message_id])
        assert mark(store, again, gone)
        assert len(store.notifications([Status.PENDING, Status.CLAIMED])) == 1

    # -- silences ------------------------------------------------------------------------------

    def test_every_field_of_a_silence_comes_back(self, store: Store) -> None:
        store.add_silence(FULL_SILENCE)
        assert list(store.silences()) == [self.kept(FULL_SILENCE)]

    def test_a_silence_with_nothing_but_what_it_needs_comes_back(self, store: Store) -> None:
        store.add_silence(silence("bare"))
        assert list(store.silences()) == [silence("bare")]

    def test_silences_are_told_the_oldest_first(self, store: Store) -> None:
        for n, key in enumerate(("c", "a", "b")):
            store.add_silence(silence(key, created_at=MOMENT + n * MINUTE))
        store.add_silence(silence("0", created_at=MOMENT + 2 * MINUTE))
        assert _silenced(store) == ["c", "a", "0", "b"]

    def test_a_second_silence_of_the_same_id_is_a_conflict(self, store: Store) -> None:
        store.add_silence(silence("a"))
        with pytest.raises(StateConflict):
            store.add_silence(silence("a", comment="another"))
        assert list(store.silences()) == [silence("a")]

    def test_a_silence_is_in_force_from_its_start_up_to_its_end(self, store: Store) -> None:
        store.add_silence(silence("a"))
        store.add_silence(silence("ended", ended_at=MOMENT + MINUTE, ended_by="someone"))
        moments = (MOMENT - MINUTE, MOMENT, MOMENT + MINUTE, MOMENT + DAY)
        assert [_silenced(store, at) for at in moments] == [[], ["a", "ended"], ["a"], []]

    def test_silences_of_another_project_are_neither_told_nor_ended(
        self, make_store: MakeStore
    ) -> None:
        shop, bank = make_store("shop"), make_store("bank")
        now = shop.now()
        shop.add_silence(silence("a", starts_at=now, ends_at=now + DAY))
        assert (_silenced(bank), _silenced(bank, now)) == ([], [])
        assert bank.end_silences(["a"], "someone") == frozenset()
        assert _silenced(shop, now) == ["a"]

    def test_a_silence_is_ended_now_by_somebody(
        self, store: Store, wait: Callable[[timedelta], None]
    ) -> None:
        before = store.now()
        for key in ("a", "b"):
            store.add_silence(silence(key, starts_at=before, ends_at=before + DAY))
        wait(timedelta(milliseconds=5))
        assert store.end_silences(["a", "no such silence"], "me") == {"a"}
        ended, other = store.silences()
        assert ended.ended_by == "me"
        assert ended.ended_at is not None
        assert before < ended.ended_at <= store.now()
        assert (other.ended_at, other.ended_by) == (None, None)
        assert _silenced(store, store.now()) == ["b"]

    def test_a_silence_that_has_not_begun_can_be_ended(self, store: Store) -> None:
        start = store.now() + DAY
        store.add_silence(silence("later", starts_at=start, ends_at=start + DAY))
        assert store.end_silences(["later"], "me") == {"later"}
        assert _silenced(store, start) == []

    def test_a_silence_that_is_over_is_not_ended_again(self, store: Store) -> None:
        now = store.now()
        store.add_silence(silence("over", starts_at=now - DAY, ends_at=now - MINUTE))
        store.add_silence(silence("ended", starts_at=now, ends_at=now + DAY))
        assert store.end_silences(["over", "ended"], "me") == {"ended"}
        kept = list(store.silences())
        assert store.end_silences(["over", "ended"], "another") == frozenset()
        assert list(store.silences()) == kept

    def test_ending_nothing_ends_nothing(self, store: Store) -> None:
        store.add_silence(silence("a", ends_at=store.now() + DAY))
        assert store.end_silences([], "me") == frozenset()
        assert store.silences()[0].ended_at is None

    def test_of_two_who_end_a_silence_at_the_same_time_one_has_ended_it(
        self, make_store: MakeStore
    ) -> None:
        keys = ["a", "b", "c"]
        for key in keys:
            make_store().add_silence(silence(key, ends_at=make_store().now() + DAY))
        stores = [make_store(), make_store()]
        barrier = threading.Barrier(2)

        def end(store: Store, by: str) -> list[tuple[str, str]]:
            barrier.wait(timeout=10)
            return [(key, by) for key in store.end_silences(keys, by)]

        with ThreadPoolExecutor(2) as pool:
            ended = [each for found in pool.map(end, stores, ("me", "you")) for each in found]
        assert sorted(key for key, _ in ended) == keys
        kept = {each.silence_id: each.ended_by for each in make_store().silences()}
        assert kept == dict(ended)

    # -- leases --------------------------------------------------------------------------------

    def test_nobody_has_held_a_lease_yet(self, store: Store) -> None:
        assert store.lease("daemon") is None

    def test_a_free_lease_is_taken_and_kept_by_its_holder(
        self, store: Store, wait: Callable[[timedelta], None]
    ) -> None:
        first = store.acquire_lease("daemon", "me", HOUR)
        assert first is not None and (first.holder, first.token) == ("me", 1)
        assert first.expires_at is not None and first.expires_at > store.now() + HOUR / 2
        wait(timedelta(milliseconds=10))
        again = store.acquire_lease("daemon", "me", HOUR)
        assert again is not None and again.expires_at is not None
        assert (again.token, again.acquired_at) == (1, first.acquired_at)
        assert again.expires_at > first.expires_at
        assert store.lease("daemon") == again

    def test_a_lease_of_another_one_is_left_to_it_until_it_has_run_out(
        self, store: Store, wait: Callable[[timedelta], None]
    ) -> None:
        assert store.acquire_lease("daemon", "me", HOUR)
        assert store.acquire_lease("other", "you", HOUR), "another lease is another matter"
        assert store.acquire_lease("daemon", "you", HOUR) is None
        assert store.acquire_lease("daemon", "me", timedelta(milliseconds=1))
        wait(timedelta(milliseconds=20))
        taken = store.acquire_lease("daemon", "you", HOUR)
        assert taken is not None and (taken.holder, taken.token) == ("you", 2)
        assert store.acquire_lease("daemon", "me", HOUR) is None

    def test_a_lease_that_is_given_up_is_free_at_once_and_gets_a_new_token(
        self, store: Store
    ) -> None:
        mine = store.acquire_lease("daemon", "me", HOUR)
        assert mine is not None
        store.release_lease(mine)
        yours = store.acquire_lease("daemon", "you", HOUR)
        assert yours is not None and yours.token == 2
        store.release_lease(mine)
        assert store.acquire_lease("daemon", "me", HOUR) is None, (
            "what is no longer held is not given up"
        )

    def test_of_two_who_want_a_lease_at_the_same_time_one_gets_it(
        self, make_store: MakeStore
    ) -> None:
        stores = [make_store(), make_store()]
        barrier = threading.Barrier(2)

        def acquire_lease(store: Store, holder: str) -> bool:
            barrier.wait(timeout=10)
            return store.acquire_lease("daemon", holder, HOUR) is not None

        with ThreadPoolExecutor(2) as pool:
            got = list(pool.map(acquire_lease, stores, ("me", "you")))
        assert sorted(got) == [False, True]

    def test_a_batch_is_written_under_a_lease_that_holds_and_keeps_it(self, store: Store) -> None:
        lease = store.acquire_lease("daemon", "me", MINUTE)
        assert lease is not None and lease.expires_at is not None
        longer = replace(lease, expires_at=lease.expires_at + HOUR)
        write(store, Batch(states=(state("revenue"),), lease=longer))
        assert store.lease("daemon") == longer
        assert [each.alert for each in _states(store)] == ["revenue"]

    def test_under_a_lease_that_was_lost_nothing_is_written(self, store: Store) -> None:
        mine = store.acquire_lease("daemon", "me", HOUR)
        assert mine is not None
        store.release_lease(mine)
        yours = store.acquire_lease("daemon", "you", HOUR)
        with pytest.raises(LeaseLost):
            write(store, Batch(states=(state("revenue"),), lease=mine))
        assert _everything(store) == ([], [], [])
        assert store.lease("daemon") == yours

    # -- slots ---------------------------------------------------------------------------------

    def test_a_snapshot_says_what_history_has_of_slots_that_are_not_new(
        self, make_store: MakeStore
    ) -> None:
        store, other = make_store(), make_store("bank")
        rows = [
            history_row("ok", slot=MOMENT, outcome=Outcome.OK),
            history_row("next", slot=MOMENT + MINUTE, outcome=Outcome.ALERT),
            history_row("skip", slot=MOMENT + 2 * MINUTE, outcome=Outcome.SKIPPED),
            history_row("one", slot=MOMENT, outcome=Outcome.ERROR, alert_id="model.shop.stock"),
            history_row(
                "two", slot=MOMENT, outcome=Outcome.ERROR, attempt=2, alert_id="model.shop.stock"
            ),
            history_row("part", slot=MOMENT, instance="region=x", alert_id="model.shop.parts"),
        ]
        states = [
            state(name, last_slot=MOMENT + 2 * MINUTE) for name in ("revenue", "stock", "parts")
        ]
        write(store, Batch(states=tuple(states), history=tuple(rows)))
        write(other, Batch(history=(history_row("theirs", project="bank", slot=MOMENT),)))

        def asked(**slots: datetime) -> dict[str, tuple[int, Outcome]]:
            ids = {f"model.shop.{name}": slot for name, slot in slots.items()}
            found = store.commit(ids, lambda read: Decision(Batch(), read.recorded), ids)
            return {key[11:]: (each.attempt, each.outcome) for key, each in found.items()}

        assert asked(revenue=MOMENT) == {"revenue": (1, Outcome.OK)}
        assert asked(revenue=MOMENT, stock=MOMENT, parts=MOMENT) == {
            "revenue": (1, Outcome.OK),
            "stock": (2, Outcome.ERROR),
        }
        assert asked(revenue=MOMENT + 2 * MINUTE) == {}, "what was skipped is still to be evaluated"
        assert asked(stock=MOMENT + MINUTE) == {}
        assert asked(revenue=MOMENT + HOUR, stock=MOMENT) == {"stock": (2, Outcome.ERROR)}

    # -- what isn't calm -----------------------------------------------------------------------

    def test_alerts_that_are_not_calm_are_unsettled(self, make_store: MakeStore) -> None:
        store = make_store()
        _set(
            store,
            state("calm", phase=Phase.OK, health=Health.HEALTHY),
            state("pending", phase=Phase.PENDING),
            state("parts"),
            state("parts", "region=x", phase=Phase.FIRING, episode_id="e"),
            state("recovering", phase=Phase.RECOVERING),
            state("failing", health=Health.FAILING),
        )
        _set(make_store("bank"), state("theirs", project="bank", phase=Phase.FIRING))
        names = {each[11:] for each in store.active_alert_ids()}
        assert names == {"pending", "parts", "recovering", "failing"}

    def test_the_outbox_says_how_much_waits_and_since_when(self, make_store: MakeStore) -> None:
        store = make_store()
        assert store.outbox() == Outbox()
        rows = [
            notification("a", at=MOMENT + MINUTE),
            notification("b", at=MOMENT, status=Status.CLAIMED),
            notification("c", at=MOMENT - HOUR, status=Status.DEAD),
            notification("d", at=MOMENT - HOUR, status=Status.SENT),
        ]
        write(store, Batch(notifications=tuple(rows)))
        theirs = notification("e", at=MOMENT - HOUR, project="bank")
        write(make_store("bank"), Batch(notifications=(theirs,)))
        assert store.outbox() == Outbox(waiting=2, oldest=MOMENT, dead=1)

    # -- retention -----------------------------------------------------------------------------

    def test_pruning_deletes_what_is_older_and_counts_it(self, store: Store) -> None:
        rows = tuple(history_row(f"{n}", recorded_at=MOMENT + n * MINUTE) for n in range(4))
        sent = tuple(
            notification(f"{n}", at=MOMENT + n * MINUTE, status=Status.SENT) for n in range(4)
        )
        write(store, Batch(history=rows, notifications=sent))
        for n in range(4):
            store.add_silence(silence(f"{n}", ends_at=MOMENT + n * MINUTE))
        assert store.prune(MOMENT + MINUTE) == PrunedRows(1, 1, 1)
        assert sorted(_found(store, HistoryQuery())) == ["1", "2", "3"]
        assert [row.episode_id for row in store.notifications(Status)] == ["1", "2", "3"]
        assert _silenced(store) == ["1", "2", "3"]
        assert store.prune(MOMENT + DAY) == PrunedRows(3, 3, 3)
        assert (_everything(store), _silenced(store)) == (([], [], []), [])
        assert store.prune(MOMENT + DAY) == PrunedRows(0, 0, 0)

    def test_pruning_leaves_state_alone(self, store: Store) -> None:
        _set(store, state(updated_at=MOMENT))
        assert store.prune(MOMENT + DAY) == PrunedRows(0, 0, 0)
        assert len(_states(store)) == 1

    def test_pruning_keeps_what_is_not_sent_yet(self, store: Store) -> None:
        rows = tuple(notification(str(each), at=MOMENT, status=each) for each in Status)
        write(store, Batch(notifications=rows))
        finished = len([each for each in Status if each.finished])
        assert store.prune(MOMENT + DAY) == PrunedRows(0, finished, 0)
        assert {row.status for row in store.notifications(Status)} == {
            Status.PENDING,
            Status.CLAIMED,
        }

    def test_pruning_keeps_a_silence_that_is_not_over_however_old(self, store: Store) -> None:
        store.add_silence(silence("lasting", ends_at=MOMENT + 2 * DAY))
        store.add_silence(silence("ended", ends_at=MOMENT + 2 * DAY, ended_at=MOMENT))
        assert store.prune(MOMENT + DAY) == PrunedRows(0, 0, 1)
        assert _silenced(store) == ["lasting"]

    def test_pruning_keeps_history_and_ledger_of_open_episodes(self, store: Store) -> None:
        states = (
            state("a", episode_id="open"),
            state("b", "x", episode_id="of an instance"),
            state("c", health_episode_id="health", health_since=MOMENT),
            state("d"),
        )
        episodes = ("open", "of an instance", "health", "over", None)
        rows = tuple(
            history_row(str(each), episode_id=each, alert_id="model.shop.d") for each in episodes
        )
        sent = tuple(notification(each, at=MOMENT, status=Status.SENT) for each in episodes if each)
        write(store, Batch(states=states, history=rows, notifications=sent))
        assert store.prune(MOMENT + DAY) == PrunedRows(2, 1, 0)
        assert sorted(_found(store, HistoryQuery())) == ["health", "of an instance", "open"]
        left = {row.episode_id for row in store.notifications(Status)}
        assert left == {"health", "of an instance", "open"}

    def test_pruning_keeps_the_history_of_an_alert_since_it_fails(self, store: Store) -> None:
        failing = state(health_episode_id="health", health_since=MOMENT)
        rows = tuple(
            history_row(key, recorded_at=MOMENT + n * MINUTE, alert_id=f"model.shop.{alert}")
            for key, n, alert in (
                ("before", -1, "revenue"),
                ("first error", 0, "revenue"),
                ("next error", 1, "revenue"),
                ("of another alert", 1, "stock"),
            )
        )
        write(store, Batch(states=(failing, state("stock")), history=rows))
        assert store.prune(MOMENT + DAY) == PrunedRows(2, 0, 0)
        assert sorted(_found(store, HistoryQuery())) == ["first error", "next error"]

    def test_pruning_leaves_other_projects_alone(self, make_store: MakeStore) -> None:
        shop, bank = make_store("shop"), make_store("bank")
        for store, name in ((shop, "shop"), (bank, "bank")):
            # The episode is open in one project only.
            episode = "same" if name == "bank" else None
            write(
                store,
                Batch(
                    states=(state(state_key=name, project=name, episode_id=episode),),
                    history=(history_row(name, project=name, episode_id="same"),),
                    notifications=(
                        notification(
                            "same",
                            project=name,
                            notification_id=name,
                            at=MOMENT,
                            status=Status.SENT,
                        ),
                    ),
                ),
            )
            store.add_silence(silence(name, project=name))
        assert shop.prune(MOMENT + 2 * DAY) == PrunedRows(1, 1, 1)
        assert [len(part) for part in _everything(bank)] == [1, 1, 1]
        assert _silenced(bank) == ["bank"]
        assert bank.prune(MOMENT + 2 * DAY) == PrunedRows(0, 0, 1)


def _due(
    store: Store,
    episode: str = "episode",
    channel: str = "log",
    event: Event = Event.FIRING,
    *,
    age: int = 1,
    **others: Any,
) -> Notification:
    """A notification that was planned `age` seconds ago."""
    return notification(episode, channel, event, at=store.now() - timedelta(seconds=age), **others)


def _set(store: Store, *states: State) -> None:
    write(store, Batch(states=states))


def _states(store: Store) -> list[State]:
    return sorted(store.snapshot().states, key=lambda each: each.alert)


def _found(store: Store, query: HistoryQuery) -> list[str]:
    return [row.evaluation_id for row in store.history(query)]


def _silenced(store: Store, at: datetime | None = None) -> list[str]:
    return [each.silence_id for each in store.silences(at)]


def _everything(store: Store) -> tuple[list[State], list[HistoryRow], list[Notification]]:
    history = store.history(HistoryQuery(limit=10_000))
    return _states(store), list(history), list(store.notifications(Status))
