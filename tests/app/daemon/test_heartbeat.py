"""The heartbeat is sent while the daemon is ready."""

from __future__ import annotations

from dataclasses import replace

from sentinel.app.daemon.heartbeat import Heartbeat
from sentinel.app.daemon.parts import LoadedProject
from sentinel.app.problems import Problems
from sentinel.core.errors import DeliveryError
from tests.app.test_daemon import Lines, Rig


def loaded_with(beats: list[bool], error: DeliveryError | None = None) -> LoadedProject:
    def beat() -> None:
        if error:
            raise error
        beats.append(True)

    return replace(Rig().load(), heartbeat=beat)


def test_it_is_sent_only_while_the_daemon_is_ready() -> None:
    beats: list[bool] = []
    loaded, problems = loaded_with(beats), Problems(Lines())
    Heartbeat(lambda: loaded, lambda: False, problems).beat()
    Heartbeat(lambda: None, lambda: True, problems).beat()
    assert beats == []
    Heartbeat(lambda: loaded, lambda: True, problems).beat()
    assert beats == [True]


def test_a_monitor_that_cannot_be_reached_is_a_problem_until_it_can() -> None:
    problems = Problems(Lines())
    failing = loaded_with([], DeliveryError("no answer", permanent=False))
    Heartbeat(lambda: failing, lambda: True, problems).beat()
    assert problems.current() == {"heartbeat": "no answer"}
    working = loaded_with([])
    Heartbeat(lambda: working, lambda: True, problems).beat()
    assert problems.current() == {}


def test_without_a_heartbeat_nothing_is_sent() -> None:
    problems = Problems(Lines())
    loaded = Rig().load()
    Heartbeat(lambda: loaded, lambda: True, problems).beat()
    assert problems.current() == {}
