"""Of several daemons one leads; the lease counts from before the call that renewed it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from sentinel.app.daemon.election import LeaderElection
from sentinel.app.problems import Problems
from sentinel.core.errors import StoreError
from sentinel.ports import Lease
from tests.app.test_daemon import Lines

TTL = timedelta(seconds=30)


@dataclass
class FakeLeadership:
    """A lease whose token and holder the test decides; a call takes `takes` seconds."""

    held: bool = True
    token: int = 1
    error: StoreError | None = None
    takes: float = 0.0
    now: float = 100.0
    calls: int = 0
    given_up: int = 0

    @property
    def lease(self) -> Lease | None:
        return Lease("daemon:shop", "me", self.token) if self.held else None

    def hold(self) -> bool:
        self.calls += 1
        self.now += self.takes
        if self.error:
            raise self.error
        return self.held

    def let_go(self) -> None:
        self.given_up += 1


@dataclass
class Rig:
    leadership: FakeLeadership = field(default_factory=FakeLeadership)
    log: Lines = field(default_factory=Lines)
    fills: int = 0
    changes: list[bool] = field(default_factory=list)
    failure: StoreError | None = None
    inside: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.problems = Problems(self.log)
        self.election = LeaderElection(
            self.leadership,
            self.problems,
            self.log,
            TTL,
            self.take_over,
            self.changes.append,
            clock=lambda: self.leadership.now,
        )

    def take_over(self) -> None:
        self.fills += 1
        self.inside()
        if self.failure:
            raise self.failure


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_first_to_hold_the_lease_leads_and_takes_over_once(rig: Rig) -> None:
    rig.election.elect()
    rig.election.elect()
    assert (rig.election.leading, rig.fills, rig.changes) == (True, 1, [True])


def test_a_new_token_means_a_new_take_over(rig: Rig) -> None:
    rig.election.elect()
    rig.leadership.token = 3  # another daemon has led meanwhile
    rig.election.elect()
    assert (rig.fills, rig.changes) == (2, [True, True])


def test_it_stands_by_while_another_daemon_leads(rig: Rig) -> None:
    rig.election.elect()
    rig.leadership.held = False
    rig.election.elect()
    assert (rig.election.leading, rig.changes) == (False, [True, False])
    assert rig.log.of("warning") == ["standing by"]


def test_a_store_that_cannot_be_written_keeps_it_from_leading(rig: Rig) -> None:
    rig.failure = StoreError("there are no tables")
    rig.election.elect()
    assert (rig.election.leading, rig.changes) == (False, [])
    assert rig.problems.get("store") == "there are no tables"


def test_it_leads_on_while_the_lease_it_could_not_renew_has_not_run_out(rig: Rig) -> None:
    rig.election.elect()
    rig.leadership.error = StoreError("no connection")
    rig.leadership.now += 29
    rig.election.elect()
    assert rig.election.leading
    assert rig.problems.get("lease") == "no connection"
    rig.leadership.now += 2
    rig.election.elect()
    assert not rig.election.leading


def test_the_lease_counts_from_before_the_call_that_renewed_it(rig: Rig) -> None:
    rig.leadership.takes = 20.0
    rig.election.elect()
    rig.leadership.takes = 0.0
    rig.leadership.error = StoreError("no connection")
    rig.leadership.now += 11  # 31 seconds after the call began, 11 after it returned
    rig.election.elect()
    assert not rig.election.leading


def test_after_a_standstill_it_is_elected_again_before_it_works(rig: Rig) -> None:
    rig.election.elect()
    rig.leadership.now += 30
    rig.election.elect_if_overdue()
    assert rig.leadership.calls == 1
    rig.leadership.now += 1
    rig.leadership.held = False
    rig.election.elect_if_overdue()
    assert (rig.leadership.calls, rig.election.leading) == (2, False)


def test_who_stands_by_is_not_elected_by_an_overdue_lease(rig: Rig) -> None:
    rig.leadership.now += 1_000
    rig.election.elect_if_overdue()
    assert rig.leadership.calls == 0


def test_two_threads_are_never_elected_at_once(rig: Rig) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def block() -> None:
        inside.set()
        assert go_on.wait(20)

    rig.inside = block
    first = threading.Thread(target=rig.election.elect)
    second = threading.Thread(target=rig.election.elect)
    first.start()
    assert inside.wait(20)
    second.start()
    second.join(0.05)
    assert rig.leadership.calls == 1, "the second waits for the first"
    go_on.set()
    first.join(20)
    second.join(20)
    assert (rig.leadership.calls, rig.fills) == (2, 1)


def test_it_waits_a_third_of_the_lease_and_less_while_it_stands_by(rig: Rig) -> None:
    assert rig.election.pause_s == 5.0
    rig.election.elect()
    assert rig.election.pause_s == 10.0
    rig.election.let_go()
    assert rig.leadership.given_up == 1
