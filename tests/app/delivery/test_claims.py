"""Claims take rows that are due, and cancel those that were muted meanwhile."""

from __future__ import annotations

from datetime import timedelta

from sentinel.app.delivery.claims import LEASE, Claims, messages_of, preclaim
from sentinel.core.notification import Notification, Status
from sentinel.core.state import Event, Phase
from sentinel.ports import Batch, Decision
from tests.fakes import NOW, MemoryStore, notification, payload, state


def store_of(*rows: Notification, **batch: object) -> MemoryStore:
    store = MemoryStore()
    written = Batch(notifications=rows, **batch)  # type: ignore[arg-type]  # states only
    store.commit([], lambda _: Decision(written, None))
    return store


def claims_on(store: MemoryStore, *follows: str) -> Claims:
    return Claims(store, "me", lambda name: name in follows)


def test_what_is_due_is_claimed_as_whole_messages() -> None:
    rows = [notification(str(n), message_id="one") for n in range(2)]
    claimed = claims_on(store_of(*rows)).take(16, None, ())
    assert (claimed.rows, claimed.cancelled) == (2, ())
    ((message),) = claimed.messages
    assert (message.message_id, len(message.notifications)) == ("one", 2)


def test_nothing_due_is_nothing_claimed() -> None:
    claimed = claims_on(store_of()).take(16, None, ())
    assert (claimed.rows, claimed.messages) == (0, ())


def test_rows_of_busy_channels_are_left_to_others() -> None:
    store = store_of(notification("a", channel="log"), notification("b", channel="ops"))
    claimed = claims_on(store).take(16, None, ("log",))
    assert [each.channel for each in claimed.messages] == ["ops"]


def test_what_was_acknowledged_while_it_waited_is_cancelled() -> None:
    row = notification("e", event=Event.REMINDER, n=1)
    acked = state(phase=Phase.FIRING, episode_id=row.episode_id, acked_at=NOW)
    claimed = claims_on(store_of(row, states=(acked,))).take(16, None, ())
    assert claimed.messages == ()
    assert [each.notification_id for each in claimed.cancelled] == [row.notification_id]
    assert claimed.rows == 1


def test_adopted_rows_keep_the_age_of_their_claim() -> None:
    store = store_of()
    (row,) = preclaim([notification("a")], (), "me", NOW)
    store.clock.pass_by(timedelta(seconds=7))
    messages, age = claims_on(store).adopt([row])
    assert [each.message_id for each in messages] == [row.message_id]
    assert age == 7.0


def test_a_channel_that_follows_its_episodes_gets_the_receivers_name_of_the_first_message() -> None:
    first = notification("e", status=Status.SENT, remote_ref="thread-1")
    later = notification("e", event=Event.RESOLVED, created_at=NOW + timedelta(minutes=1))
    store = store_of(first, later)
    ((followed),), _ = claims_on(store, "log").adopt([later])
    assert followed.earlier == {later.episode_id: "thread-1"}
    ((other),), _ = claims_on(store).adopt([later])
    assert other.earlier == {}


def test_new_rows_are_claimed_for_as_long_as_others() -> None:
    (row,) = preclaim([notification("a")], (), "me", NOW)
    assert (row.status, row.claimed_by, row.claim_token) == (Status.CLAIMED, "me", 1)
    assert row.claim_until == NOW + LEASE


def test_an_earlier_row_that_is_not_finished_holds_up_a_new_one() -> None:
    earlier = notification("e", created_at=NOW - timedelta(minutes=1))
    (row,) = preclaim([notification("e", event=Event.RESOLVED)], [earlier], "me", NOW)
    assert row.status is Status.PENDING
    sent = notification("e", status=Status.SENT)
    (row,) = preclaim([notification("e", event=Event.RESOLVED)], [sent], "me", NOW)
    assert row.status is Status.CLAIMED


def test_no_more_messages_are_claimed_than_are_sent_in_parallel() -> None:
    rows = [notification(str(n), episode_id=f"e{n}", message_id=f"m{n}") for n in range(20)]
    claimed = [row for row in preclaim(rows, (), "me", NOW) if row.status is Status.CLAIMED]
    assert len(claimed) == 16


def test_the_most_urgent_row_of_a_message_comes_first() -> None:
    calm = notification("a", message_id="m", payload=payload(severity="info"))
    loud = notification("b", message_id="m", payload=payload(severity="critical"))
    ((message),) = messages_of([calm, loud])
    assert message.notifications == (loud, calm)
