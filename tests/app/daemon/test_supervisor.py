"""The supervisor's jobs take the locks of the daemon in one order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.app.test_daemon import Rig
from tests.fakes import source


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(sources=[source("revenue", {"schedule": "* * * * *"})])
    yield rig
    for each in rig.daemons:
        each.parts.batches.shutdown()


def test_an_election_is_never_waited_for_inside_the_timetables_lock(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may hold the election's lock, and wait for the timetable's."""
    daemon = rig.daemon()
    election, batches = daemon.parts.election, daemon.parts.batches
    free: list[bool] = []

    def look() -> None:
        acquired = batches._lock.acquire(timeout=0.5)
        if acquired:
            batches._lock.release()
        free.append(acquired)

    def elect() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(20)

    monkeypatch.setattr(election, "elect", elect)
    monkeypatch.setattr(election, "_held_at", -1e9)  # as after a standstill
    daemon.start_due()
    daemon.elect()
    assert free == [True, True]


def test_after_the_stop_nothing_is_started_or_planned(rig: Rig) -> None:
    daemon = rig.daemon()
    daemon.stop()
    daemon.start_due()
    daemon.plan_timed()
    assert daemon.parts.batches.count == 0
    assert rig.store.tables.history == {}
