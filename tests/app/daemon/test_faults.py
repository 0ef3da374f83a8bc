"""Whatever goes wrong while something is recorded, the daemon goes on, and says so."""

from __future__ import annotations

import pytest

from sentinel.app.daemon.faults import FaultLog, RecordingErrors
from sentinel.app.problems import Problems
from sentinel.core.errors import (
    ConfigError,
    LeaseLost,
    ProjectError,
    StateConflict,
    StoreError,
    WarehouseError,
    WarehouseLocked,
)
from tests.app.test_daemon import Lines
from tests.fakes import MemoryStore


class Rig:
    def __init__(self) -> None:
        self.log = Lines()
        self.problems = Problems(self.log)
        self.lost: list[str] = []
        self.retries: list[str] = []
        self.store = MemoryStore()
        self.errors = RecordingErrors(self.problems, FaultLog(self.log), self.lost.append)

    def meet(self, error: Exception) -> None:
        with self.errors.handled(self.store, self.retries.append):
            raise error


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_lost_lease_ends_leadership(rig: Rig) -> None:
    rig.meet(LeaseLost("another daemon leads"))
    assert (rig.lost, rig.problems.current()) == (["another daemon leads"], {})


@pytest.mark.parametrize("error", [StateConflict("taken"), WarehouseLocked("locked")])
def test_what_the_next_try_settles_is_no_problem(rig: Rig, error: Exception) -> None:
    rig.meet(error)
    assert len(rig.retries) == 1
    assert rig.problems.current() == {}


@pytest.mark.parametrize("error", [ProjectError("no"), ConfigError("no")])
def test_a_project_that_cannot_be_read_is_a_problem_of_the_project(
    rig: Rig, error: Exception
) -> None:
    rig.meet(error)
    assert rig.problems.current() == {"project": "no"}


@pytest.mark.parametrize("error", [StoreError("gone"), WarehouseError("gone")])
def test_a_lost_store_is_a_problem_of_the_store(rig: Rig, error: Exception) -> None:
    rig.meet(error)
    assert rig.problems.current() == {"store": "gone"}


def test_missing_tables_are_named_as_the_cause(rig: Rig) -> None:
    rig.store.missing = True
    rig.meet(StoreError("relation does not exist"))
    assert rig.problems.current() == {"store": "there are no tables"}


def test_an_unexpected_error_is_a_fault_in_the_log_without_its_words(rig: Rig) -> None:
    rig.meet(ZeroDivisionError("t0ps3cret"))
    assert rig.log.of("error") == ["unexpected ZeroDivisionError: this is a bug in Sentinel"]


def test_many_faults_of_a_kind_are_counted_and_not_repeated() -> None:
    log = Lines()
    faults = FaultLog(log)
    for _ in range(9):
        faults(ZeroDivisionError())
    assert len(log.of("error")) == 5
