"""The daemon works on the last good reading of its project."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from sentinel.app.daemon.reloading import ProjectLoader
from sentinel.app.problems import Problems
from sentinel.core.errors import ConfigError, ProjectError, SentinelError
from tests.app.test_daemon import Counted, Lines
from tests.app.test_daemon import Rig as DaemonRig
from tests.fakes import NOW, source


class Rig:
    def __init__(self) -> None:
        self.source = DaemonRig(sources=[source("revenue", {"schedule": "* * * * *"})])
        self.log, self.counted = Lines(), Counted()
        self.problems = Problems(self.log)
        self.used: list[Any] = []
        self.health: list[str | None] = []
        self.loader = ProjectLoader(
            self.source.load,
            lambda: NOW,
            self.problems,
            self.counted,
            self.log,
            self.used.append,
            self.health.append,
        )

    def fail(self, error: SentinelError | None) -> None:
        self.source.broken = error


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_good_reading_is_used_and_has_its_time(rig: Rig) -> None:
    rig.loader.load_first()
    assert rig.loader.loaded is not None
    assert (rig.loader.loaded_at, rig.used, rig.health) == (NOW, [rig.loader.loaded], [])
    assert rig.counted.readings == [True]


def test_at_first_a_wrong_configuration_is_for_a_person_and_anything_else_is_retried(
    rig: Rig,
) -> None:
    rig.fail(ConfigError("sentinel.yml:1: no"))
    with pytest.raises(ConfigError):
        rig.loader.load_first()
    rig.fail(ProjectError("it can't be parsed"))
    rig.loader.load_first()
    assert rig.loader.loaded is None
    assert rig.problems.get("project") == "it can't be parsed"


def test_a_bad_reading_leaves_the_last_good_one_in_use_and_is_reported(rig: Rig) -> None:
    rig.loader.load_first()
    valid = rig.loader.loaded
    rig.fail(ProjectError("it can't be parsed"))
    rig.loader.load_again()
    assert rig.loader.loaded is valid
    assert (rig.health, rig.counted.readings) == (["it can't be parsed"], [True, False])
    rig.fail(None)
    rig.loader.load_again()
    assert rig.loader.loaded is not valid
    assert (rig.health[-1], "project" in rig.problems) == (None, False)


def test_it_reads_when_that_is_requested_until_it_is_stopped(rig: Rig) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=rig.loader.keep_loaded, args=(stop,))
    rig.loader.request()
    thread.start()
    for _ in range(400):
        if rig.used:
            break
        thread.join(0.05)
    assert len(rig.used) == 1
    stop.set()
    rig.loader.request()
    thread.join(20)
    assert not thread.is_alive()
    assert len(rig.used) == 1, "in the end nothing is read"
