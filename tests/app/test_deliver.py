"""The outbox is emptied, on a clock that passes only when somebody sleeps."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from sentinel.app.delivery.claims import LEASE
from sentinel.app.delivery.delivery import Delivery
from sentinel.app.delivery.result import DeliveryResult
from sentinel.core.errors import DeliveryError, StoreError
from sentinel.core.notification import Notification, Status
from sentinel.core.routing import Traits
from sentinel.core.state import Event, Phase
from sentinel.core.transport import SEND_DEADLINE
from sentinel.ports import Attempt, Batch, Message
from tests.fakes import NOW, Clock, FakeChannel, MemoryStore, notification, silence, state, write

MINUTE = timedelta(minutes=1)
DOWN = DeliveryError("down")
REFUSED = DeliveryError("no such hook", permanent=True)


@dataclass
class Post:
    """An outbox with channels and all that a delivery needs."""

    rows: Iterable[Notification] = ()
    channels: Mapping[str, FakeChannel] = field(default_factory=lambda: {"log": FakeChannel()})
    clock: Clock = field(default_factory=Clock)
    progress: list[str] = field(default_factory=list)
    store: MemoryStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        write(self.store, Batch(notifications=tuple(self.rows)))

    def deliver(
        self, *only: Notification, max_wait: timedelta = MINUTE, fallback: str | None = None
    ) -> DeliveryResult:
        wanted = [row.message_id for row in only] if only else None
        return self.start(wanted, max_wait, fallback=fallback)

    def start(
        self,
        only: Iterable[str] | None,
        max_wait: timedelta = MINUTE,
        claimed: Sequence[Notification] = (),
        fallback: str | None = None,
    ) -> DeliveryResult:
        delivery = Delivery(
            self.store,
            self.channels,
            "me:1",
            scrub=lambda text: text.replace("t0ps3cret", "***"),
            progress=self.progress.append,
            sleep=self.clock.sleep,
            clock=self.clock.monotonic,
            fallback=fallback,
        )
        return delivery(only, max_wait, claimed)

    @property
    def log(self) -> FakeChannel:
        return self.channels["log"]

    def row(self, of: Notification) -> Notification:
        return self.store.tables.notifications[of.notification_id]


def post(*rows: Notification, **channels: FakeChannel) -> Post:
    return Post(rows, channels or {"log": FakeChannel()})


FIRING = notification("e", event=Event.FIRING, at=NOW - 3 * MINUTE)
RISEN = notification("e", event=Event.SEVERITY, at=NOW - 2 * MINUTE)
RESOLVED = notification("e", event=Event.RESOLVED, at=NOW - MINUTE)


# -- sending -----------------------------------------------------------------------------------


def test_what_is_due_is_sent_and_marked() -> None:
    rows = [notification("a"), notification("b")]
    it = post(*rows)
    delivered = it.deliver()
    assert {row.episode_id for row in delivered.sent} == {"a", "b"}
    assert (delivered.waiting, delivered.dead, delivered.complete) == ((), (), True)
    for row in rows:
        kept = it.row(row)
        assert (kept.status, kept.attempts, kept.claimed_by) == (Status.SENT, 1, "me:1")
        assert kept.remote_ref in ("ref-1", "ref-2")
    assert it.clock.slept == []


def test_what_is_claimed_already_is_sent_without_another_claim() -> None:
    @dataclass
    class Counting(MemoryStore):
        claims: int = 0

        def claim(self, *args: Any) -> Sequence[Notification]:
            self.claims += 1
            return super().claim(*args)

    it = post(*(notification(name) for name in "abc"))
    it.store = Counting(it.clock, "shop", it.store.tables)
    claimed = it.store.claim("me:1", LEASE, 2)
    wanted = [row.message_id for row in it.store.notifications(Status)]
    assert len(it.start(wanted[:2], claimed=claimed).sent) == 2
    assert it.store.claims == 1
    assert len(it.start(wanted, claimed=[]).sent) == 1


def test_a_claim_that_may_run_out_during_the_send_is_renewed_before_it() -> None:
    """Another part of this process claimed the row, and something took long since."""
    row = notification("a")
    it = post(row)
    claimed = it.store.claim("me:1", LEASE, 2)
    it.clock.pass_by(LEASE - SEND_DEADLINE)
    assert len(it.start([row.message_id], claimed=claimed).sent) == 1
    assert (it.row(row).claim_token, len(it.log.accepted)) == (2, 1)


def test_attempts_are_recorded_together_where_the_store_is_slow_to_write() -> None:
    calls: list[int] = []

    @dataclass
    class Slow(MemoryStore):
        mark_delay: timedelta = timedelta(seconds=30)

        def mark(self, attempts: Mapping[str, tuple[int, Attempt]]) -> frozenset[str]:
            calls.append(len(attempts))
            return super().mark(attempts)

    it = post(*(notification(str(n)) for n in range(9)))
    it.store = Slow(it.clock, "shop", it.store.tables)
    assert len(it.deliver().sent) == 9
    assert calls == [9]


def test_an_empty_outbox_is_delivered_at_once() -> None:
    it = post()
    assert it.deliver() == DeliveryResult()
    assert it.clock.slept == []


def test_only_what_is_named_is_sent() -> None:
    mine, theirs = notification("mine"), notification("theirs")
    it = post(mine, theirs)
    assert [row.episode_id for row in it.deliver(mine).sent] == ["mine"]
    assert it.row(theirs).status is Status.PENDING


def test_when_nothing_is_named_nothing_is_sent() -> None:
    it = post(notification())
    assert it.start([]) == DeliveryResult()
    assert it.log.tried == []


def test_rows_that_share_a_message_are_sent_as_one() -> None:
    rows = [notification(name, message_id="together") for name in "abc"]
    it = post(*rows)
    assert len(it.deliver().sent) == 3
    [message] = it.log.accepted
    assert message.message_id == "together"
    assert {row.episode_id for row in message.notifications} == {"a", "b", "c"}


def test_more_than_fit_at_once_are_all_sent() -> None:
    at_once, most = 0, 0
    lock = threading.Lock()

    def watch(_: Message) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.002)
        with lock:
            at_once -= 1

    it = post(*(notification(str(n)) for n in range(40)), log=FakeChannel(before=watch))
    assert len(it.deliver().sent) == 40
    assert 1 < most <= 16


def test_events_of_an_episode_are_told_in_order() -> None:
    it = post(RESOLVED, FIRING, RISEN)
    assert len(it.deliver().sent) == 3
    assert it.log.sent == ["firing", "severity", "resolved"]


# -- trying again ------------------------------------------------------------------------------


def test_what_is_not_accepted_is_tried_again_after_a_pause() -> None:
    it = post(FIRING, log=FakeChannel(failures=[DOWN, DOWN]))
    delivered = it.deliver()
    assert (len(delivered.sent), len(it.log.tried)) == (1, 3)
    assert it.row(FIRING).attempts == 3
    assert it.row(FIRING).last_error is None
    assert len(it.clock.slept) == 2
    assert all(0 < pause <= 8 for pause in it.clock.slept)
    assert it.progress[0].startswith("messages not accepted yet: 1; trying again in ")


def test_patience_has_an_end_and_what_waits_is_said() -> None:
    it = post(FIRING, log=FakeChannel(always=DOWN))
    delivered = it.deliver()
    assert [row.episode_id for row in delivered.waiting] == ["e"]
    assert delivered.errors == {FIRING.message_id: "down"}
    assert not delivered.complete
    assert it.clock.monotonic() <= 60
    kept = it.row(FIRING)
    assert (kept.status, kept.last_error) == (Status.PENDING, "down")
    assert kept.attempts == len(it.log.tried) > 1
    assert kept.not_before > NOW


def test_a_channel_that_fails_again_and_again_is_left_alone() -> None:
    rows = [notification(str(n)) for n in range(20)]
    it = post(*rows, log=FakeChannel(always=DOWN))
    assert len(it.deliver(max_wait=timedelta()).waiting) == 20
    assert len(it.log.tried) == 4, "as many as were under way when the third failure came"
    assert it.clock.slept == []


def test_a_failed_try_never_counts_as_told() -> None:
    it = post(FIRING, log=FakeChannel(always=DOWN))
    assert it.deliver().sent == ()
    assert it.row(FIRING).sent_at is None


@pytest.mark.parametrize("asked", [20, 45])
def test_the_receiver_s_own_time_is_kept(asked: int) -> None:
    error = DeliveryError("slow down", retry_after=timedelta(seconds=asked))
    it = post(FIRING, log=FakeChannel(failures=[error]))
    assert len(it.deliver().sent) == 1
    assert it.clock.monotonic() >= asked


def test_a_time_too_long_to_wait_for_is_not_waited_for() -> None:
    error = DeliveryError("slow down", retry_after=timedelta(minutes=30))
    it = post(FIRING, log=FakeChannel(always=error))
    assert len(it.deliver().waiting) == 1
    assert it.clock.slept == []
    assert it.row(FIRING).not_before == NOW + timedelta(minutes=30)


@pytest.mark.parametrize("asked", [timedelta(days=3650), timedelta(hours=2)])
def test_no_receiver_can_put_us_off_for_more_than_an_hour(asked: timedelta) -> None:
    it = post(FIRING, log=FakeChannel(always=DeliveryError("later", retry_after=asked)))
    it.deliver()
    assert it.row(FIRING).not_before == NOW + timedelta(hours=1)


def test_a_receiver_that_says_at_once_is_not_hammered() -> None:
    error = DeliveryError("busy", retry_after=timedelta())
    it = post(FIRING, log=FakeChannel(always=error))
    it.deliver()
    assert len(it.log.tried) <= 6


def test_patience_ends_though_something_is_always_due() -> None:
    """A channel that takes ten seconds to fail: the first is due again when the last has failed."""
    clock, log = Clock(), FakeChannel(always=DOWN)
    log.before = lambda _: clock.pass_by(timedelta(seconds=10))
    it = Post([notification(str(n)) for n in range(60)], {"log": log}, clock)
    delivered = it.deliver()
    assert len(delivered.waiting) == 60
    assert len(log.tried) < 20, "after some failures it is left alone, and tried by one message"
    assert all(
        "down" in delivered.errors[row.message_id] for row in delivered.waiting if row.attempts
    )


def test_a_channel_that_is_back_gets_everything() -> None:
    rows = [notification(str(n)) for n in range(30)]
    it = post(*rows, log=FakeChannel(failures=[DOWN] * 5))
    assert len(it.deliver().sent) == 30
    assert {it.row(row).status for row in rows} == {Status.SENT}


def test_what_was_given_back_untried_counts_as_no_attempt() -> None:
    rows = [notification(str(n)) for n in range(16)]
    it = post(*rows, log=FakeChannel(always=DOWN))
    it.deliver(max_wait=timedelta())
    assert sorted(it.row(row).attempts for row in rows) == [0] * 12 + [1] * 4


def test_a_slow_channel_holds_up_no_other() -> None:
    rows = [notification(f"s{n}", "slow") for n in range(40)]
    rows += [notification(f"q{n}", "log") for n in range(5)]
    quick = threading.Event()
    log = FakeChannel()

    def wait_for_the_other(_: Message) -> None:
        assert quick.wait(30), "the quick channel had to wait for the slow one"

    slow = FakeChannel("slow", before=wait_for_the_other)
    log.before = lambda _: quick.set() if len(log.tried) == 5 else None
    it = post(*rows, slow=slow, log=log)
    assert len(it.deliver().sent) == 45


def test_a_channel_s_rate_is_kept() -> None:
    rows = [notification(str(n)) for n in range(5)]
    it = post(*rows, log=FakeChannel(traits=Traits(per_second=2)))
    assert len(it.deliver().sent) == 5
    assert it.clock.monotonic() >= 2.0


def test_what_is_silenced_while_it_waits_is_not_sent() -> None:
    firing, resolved = notification("a"), notification("b", event=Event.RESOLVED)
    it = post(firing, resolved)
    it.store.add_silence(silence("model.shop.revenue"))
    delivered = it.deliver()
    assert it.log.sent == ["resolved"]
    assert (it.row(firing).status, it.row(firing).last_error) == (Status.CANCELLED, "silenced")
    assert delivered.complete


def test_a_reminder_is_not_sent_once_the_episode_is_acknowledged() -> None:
    reminder = notification("e", event=Event.REMINDER)
    it = post(reminder)
    acked = state(phase=Phase.FIRING, episode_id="e", acked_at=NOW)
    write(it.store, Batch(states=(acked,)))
    it.deliver()
    assert it.log.tried == []
    assert it.row(reminder).last_error == "acknowledged"


def test_the_fallback_is_told_of_what_is_undeliverable() -> None:
    it = post(FIRING, log=FakeChannel(always=REFUSED), mail=FakeChannel("mail"))
    delivered = it.deliver(FIRING, fallback="mail")
    [sent] = it.channels["mail"].accepted
    assert sent.notifications[0].payload["undeliverable"] == {
        "channel": "log",
        "error": "no such hook",
    }
    assert [row.channel for row in delivered.sent] == ["mail"]
    assert it.row(FIRING).status is Status.DEAD


def test_the_fallback_is_told_once_however_often_it_is_tried() -> None:
    it = post(FIRING, log=FakeChannel(always=REFUSED), mail=FakeChannel("mail"))
    it.deliver(fallback="mail")
    write(it.store, Batch(revived=(FIRING.notification_id,)))
    it.deliver(fallback="mail")
    assert (len(it.log.tried), len(it.channels["mail"].accepted)) == (2, 1)


def test_a_fallback_that_fails_itself_is_told_of_nothing() -> None:
    it = post(FIRING, log=FakeChannel(always=REFUSED))
    it.deliver(fallback="log")
    assert len(it.log.tried) == 1


def test_recipients_that_have_it_are_remembered() -> None:
    partly = DeliveryError("one refused", recipients_done=["a@x.org"])
    log = FakeChannel(failures=[partly])
    it = post(FIRING, log=log)
    it.deliver()
    assert [sorted(message.recipients_done) for message in log.tried] == [[], ["a@x.org"]]
    assert it.row(FIRING).recipients_done == ["a@x.org"]


def test_a_channel_that_follows_knows_what_its_earlier_message_is_called() -> None:
    first = notification("e", status=Status.SENT, remote_ref="17:1", at=NOW - MINUTE)
    resolved = notification("e", event=Event.RESOLVED)
    it = post(first, resolved, log=FakeChannel(traits=Traits(follows=True)))
    it.deliver()
    assert it.log.accepted[0].earlier == {"e": "17:1"}


def test_who_was_taken_over_does_not_say_that_it_was_sent() -> None:
    it = post(FIRING)

    def overtake(_: Message) -> None:
        kept = it.row(FIRING)
        it.store.tables.notifications[kept.notification_id] = replace(kept, claim_token=99)

    it.log.before = overtake
    delivered = it.deliver(FIRING, max_wait=timedelta())
    assert (delivered.sent, len(delivered.waiting)) == ((), 1)


# -- giving up ---------------------------------------------------------------------------------


def test_a_permanent_failure_is_dead_at_once() -> None:
    it = post(FIRING, log=FakeChannel(always=REFUSED))
    delivered = it.deliver()
    assert ([row.episode_id for row in delivered.dead], len(it.log.tried)) == (["e"], 1)
    assert delivered.errors == {FIRING.message_id: "no such hook"}
    assert (it.row(FIRING).status, it.row(FIRING).last_error) == (Status.DEAD, "no such hook")
    assert not delivered.complete
    assert it.clock.slept == []


def test_a_channel_that_is_no_longer_configured_is_dead_at_once() -> None:
    it = post(notification(channel="gone"))
    [row] = it.deliver().dead
    assert it.row(row).last_error == "the channel 'gone' is no longer in sentinel.yml"


@pytest.mark.parametrize(
    ("age", "attempts", "status"),
    [
        (timedelta(hours=24), 4, Status.DEAD),
        (timedelta(hours=48), 9, Status.DEAD),
        (timedelta(hours=24), 3, Status.PENDING),
        (timedelta(hours=23, minutes=59), 50, Status.PENDING),
    ],
)
def test_a_message_is_dead_after_a_day_and_five_tries(
    age: timedelta, attempts: int, status: Status
) -> None:
    old = replace(notification(at=NOW - age), attempts=attempts)
    it = post(old, log=FakeChannel(always=DOWN))
    it.deliver(max_wait=timedelta())
    assert it.row(old).status is status


def test_what_comes_after_a_dead_message_is_sent() -> None:
    it = post(FIRING, RESOLVED, log=FakeChannel(failures=[REFUSED]))
    delivered = it.deliver()
    assert [row.event for row in delivered.dead] == ["firing"]
    assert it.log.sent == ["resolved"]


def test_what_comes_after_a_waiting_message_waits_too() -> None:
    it = post(FIRING, RESOLVED, log=FakeChannel(failures=[DOWN]))
    it.deliver()
    assert [message.notifications[0].event for message in it.log.tried] == [
        "firing",
        "firing",
        "resolved",
    ]


def test_secrets_are_taken_out_of_what_is_recorded() -> None:
    it = post(FIRING, log=FakeChannel(always=DeliveryError("t0ps3cret!", permanent=True)))
    delivered = it.deliver()
    assert delivered.errors == {FIRING.message_id: "***!"}
    assert it.row(FIRING).last_error == "***!"


# -- channels are independent ------------------------------------------------------------------


@pytest.mark.parametrize("failure", [DOWN, REFUSED])
def test_one_channel_s_failure_holds_up_no_other(failure: DeliveryError) -> None:
    rows = [notification(str(n), channel) for n in range(20) for channel in ("bad", "log")]
    it = post(*rows, bad=FakeChannel("bad", always=failure), log=FakeChannel())
    delivered = it.deliver()
    assert len(it.log.accepted) == len(delivered.sent) == 20
    assert len(delivered.waiting) + len(delivered.dead) == 20


def test_channels_are_told_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=10)

    def meet(_: Message) -> None:
        together.wait()

    it = post(
        notification(channel="a"),
        notification(channel="b"),
        a=FakeChannel("a", before=meet),
        b=FakeChannel("b", before=meet),
    )
    assert len(it.deliver().sent) == 2


def test_a_message_is_marked_while_another_is_still_being_sent() -> None:
    """Or a crash during a slow send would send the quick ones again."""
    marked: list[bool] = []

    def wait_for_the_mark(message: Message) -> None:
        for _ in range(500):
            if it.store.marks:
                break
            threading.Event().wait(0.01)
        marked.append(bool(it.store.marks))

    it = post(
        notification(channel="slow"),
        notification(channel="log"),
        slow=FakeChannel("slow", before=wait_for_the_mark),
        log=FakeChannel(),
    )
    assert len(it.deliver().sent) == 2
    assert marked == [True]


def test_the_store_is_used_by_one_thread_only() -> None:
    """DuckDB can't be open for reading and for writing in one process."""
    users: set[int] = set()

    @dataclass
    class Watching(MemoryStore):
        def __getattribute__(self, name: str) -> Any:
            users.add(threading.get_ident())
            return super().__getattribute__(name)

    it = post(*(notification(str(n)) for n in range(5)), log=FakeChannel(failures=[DOWN] * 2))
    it.store = Watching(it.clock, "shop", it.store.tables)
    assert len(it.deliver().sent) == 5
    assert users == {threading.get_ident()}


# -- others ------------------------------------------------------------------------------------


def test_what_waits_behind_an_earlier_message_is_said_to_wait() -> None:
    earlier = replace(FIRING, not_before=NOW + timedelta(hours=1), last_error="down")
    it = post(earlier, RISEN)
    delivered = it.deliver(RISEN)
    assert delivered.waiting == (RISEN,)
    assert "an earlier message" in delivered.errors[RISEN.message_id]
    assert it.log.tried == []


def test_what_another_process_is_sending_is_left_to_it() -> None:
    it = post(FIRING)
    it.store.claim("another", MINUTE, 10)
    assert it.deliver(FIRING) == DeliveryResult()
    assert it.log.tried == []


def test_what_another_process_left_is_taken_over_after_its_lease() -> None:
    it = post(FIRING)
    it.store.claim("another", MINUTE, 10)
    it.clock.pass_by(2 * MINUTE)
    assert len(it.deliver().sent) == 1
    assert (it.row(FIRING).claim_token, it.row(FIRING).claimed_by) == (2, "me:1")


def test_a_claim_lasts_longer_than_twice_the_longest_send() -> None:
    leases: list[timedelta] = []

    @dataclass
    class Watching(MemoryStore):
        def claim(
            self,
            holder: str,
            lease: timedelta,
            limit: int,
            only: Iterable[str] | None = None,
            skip: Iterable[str] = (),
        ) -> Sequence[Notification]:
            leases.append(lease)
            return super().claim(holder, lease, limit, only, skip)

    it = post(FIRING)
    it.store = Watching(it.clock, "shop", it.store.tables)
    it.deliver()
    assert min(leases) > 2 * SEND_DEADLINE


def test_a_fault_of_one_channel_is_told_and_holds_up_no_other_one() -> None:
    def fault(_: Message) -> None:
        raise RuntimeError("t0ps3cret")

    it = post(
        notification("a", "odd"),
        notification("b"),
        odd=FakeChannel(before=fault),
        log=FakeChannel(),
    )
    delivered = it.deliver(max_wait=timedelta())
    assert [row.episode_id for row in delivered.sent] == ["b"]
    assert list(delivered.errors.values()) == ["a fault of the channel: unexpected RuntimeError"]
    assert it.row(notification("a", "odd")).status is Status.PENDING


# -- all the time ------------------------------------------------------------------------------


@dataclass
class Serving:
    """A delivery that serves in a thread, by real time."""

    channels: dict[str, FakeChannel] = field(default_factory=lambda: {"log": FakeChannel()})
    store: MemoryStore = field(default_factory=MemoryStore)
    sent: list[DeliveryResult] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    leads: bool = True
    interval: timedelta = timedelta(milliseconds=50)
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Serving:
        self.delivery = Delivery(self.store, self.channels, "me")
        self.thread = threading.Thread(
            target=self.delivery.serve,
            args=(
                self.stop,
                lambda: self.leads,
                self.sent.append,
                lambda error: self.failed.append(error.message),
                lambda: None,
                self.interval,
            ),
        )
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.delivery.wake()
        self.thread.join(30)
        assert not self.thread.is_alive()

    def add(self, *rows: Notification) -> None:
        write(self.store, Batch(notifications=rows))

    def statuses(self) -> list[Status]:
        rows = sorted(self.store.tables.notifications.values(), key=lambda row: row.episode_id)
        return [row.status for row in rows]

    def until(self, *wanted: Status) -> None:
        for _ in range(1_000):
            if self.statuses() == list(wanted):
                return
            self.stop.wait(0.01)
        raise AssertionError(f"it did not come to {wanted}: {self.statuses()}")


def test_what_comes_into_the_outbox_is_sent_as_long_as_it_serves() -> None:
    with Serving() as it:
        it.add(notification("a"))
        it.until(Status.SENT)
        it.add(notification("b"))
        it.until(Status.SENT, Status.SENT)
    assert sorted(row.episode_id for each in it.sent for row in each.sent) == ["a", "b"]


def test_what_is_handed_in_is_sent_at_once_and_never_claimed_again() -> None:
    with Serving(interval=timedelta(hours=1)) as it:
        it.delivery.wake()
        it.add(notification("a", at=NOW - MINUTE))
        rows = it.store.claim("me", MINUTE, 1)
        it.delivery.hand_in(rows)
        it.until(Status.SENT)
    assert [row.attempts for row in it.store.tables.notifications.values()] == [1]


def test_who_does_not_lead_claims_nothing() -> None:
    with Serving(leads=False) as it:
        it.add(notification("a"))
        it.stop.wait(0.3)
        assert it.statuses() == [Status.PENDING]
        it.leads = True
        it.until(Status.SENT)


def test_a_slow_channel_holds_up_no_other_one() -> None:
    held = threading.Event()
    slow = FakeChannel("slow", before=lambda _: _wait(held))
    with Serving({"slow": slow, "log": FakeChannel()}) as it:
        it.add(notification("a", "slow"))
        it.until(Status.CLAIMED)
        it.add(notification("b", "log"))
        it.until(Status.CLAIMED, Status.SENT)
        held.set()
        it.until(Status.SENT, Status.SENT)


def test_what_was_sent_is_recorded_later_if_the_store_is_lost_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = threading.Event()
    mark = MemoryStore.mark

    def failing(self: MemoryStore, attempts: Any) -> Any:
        if lost.is_set():
            raise StoreError("no connection")
        return mark(self, attempts)

    monkeypatch.setattr(MemoryStore, "mark", failing)
    with Serving() as it:
        lost.set()
        it.add(notification("a"))
        while not it.failed:
            it.stop.wait(0.01)
        assert it.statuses() == [Status.CLAIMED]
        lost.clear()
        it.until(Status.SENT)
    assert len(it.channels["log"].tried) == 1, "it is sent once"
    assert set(it.failed) == {"no connection"}


def test_what_failed_while_the_store_was_lost_is_recorded_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = threading.Event()
    now = MemoryStore.now

    def failing(self: MemoryStore) -> Any:
        if lost.is_set():
            raise StoreError("no connection")
        return now(self)

    monkeypatch.setattr(MemoryStore, "now", failing)
    # It is lost while the message is on its way.
    with Serving({"log": FakeChannel(always=DOWN, before=lambda _: lost.set())}) as it:
        it.add(notification("a"))
        while not it.failed:
            it.stop.wait(0.01)
        assert it.statuses() == [Status.CLAIMED]
        lost.clear()
        it.until(Status.PENDING)
    (row,) = it.store.tables.notifications.values()
    assert (row.attempts, row.last_error) == (1, "down")
    assert len(it.channels["log"].tried) == 1


def test_in_the_end_what_is_being_sent_is_finished_and_the_rest_given_back() -> None:
    held = threading.Event()
    slow = FakeChannel("log", before=lambda _: _wait(held))
    with Serving({"log": slow}) as it:
        it.add(*(notification(f"{n}") for n in range(6)))
        while len(slow.tried) < 4:
            it.stop.wait(0.01)
        it.stop.set()
        held.set()
    assert sorted(it.statuses()) == [Status.PENDING] * 2 + [Status.SENT] * 4
    waiting = [r for r in it.store.tables.notifications.values() if r.status is Status.PENDING]
    assert {row.attempts for row in waiting} == {0}, "what was not tried counts as no attempt"


def test_it_goes_on_with_channels_that_were_configured_anew() -> None:
    with Serving({"log": FakeChannel(always=DOWN)}) as it:
        it.add(notification("a"))
        while not it.sent:
            it.stop.wait(0.01)
        new = FakeChannel()
        it.delivery.configure(it.store, {"log": new}, None)
        it.add(notification("b"))
        while not new.accepted:
            it.store.clock.pass_by(MINUTE)
            it.stop.wait(0.01)


def _wait(held: threading.Event) -> None:
    held.wait(20)
