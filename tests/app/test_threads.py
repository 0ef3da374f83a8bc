"""The daemon's threads: supervised, and started again when they end too early."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from sentinel.app.threads import Threads


@dataclass
class Log:
    """Keeps the errors."""

    errors: list[str] = field(default_factory=list)

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None: ...

    def error(self, event: str, **fields: Any) -> None:
        self.errors.append(fields["error"])


@dataclass
class Bench:
    """Threads on a clock that only a test moves."""

    now: float = 0.0
    log: Log = field(default_factory=Log)
    threads: Threads = field(init=False)

    def __post_init__(self) -> None:
        self.threads = Threads(self.log, clock=lambda: self.now)

    def look(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.threads.look()


@pytest.fixture
def it() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.threads.stopping.set()
    for name in bench.threads.names:
        bench.threads.join(name, 10)


class Work:
    """Work that ends when a test says so; each start is counted."""

    def __init__(self, threads: Threads, error: BaseException | None = None) -> None:
        self.started = threading.Semaphore(0)
        self.starts = 0
        self._threads, self._error = threads, error

    def __call__(self) -> None:
        self.starts += 1
        self.started.release()
        if self._error:
            raise self._error

    def waits(self) -> Callable[[], None]:
        """The same work, which goes on until the threads are stopping."""

        def work() -> None:
            self()
            self._threads.stopping.wait(10)

        return work


def start(it: Bench, work: Work) -> None:
    it.threads.start("work", work)
    assert work.started.acquire(timeout=10)
    it.threads.join("work", 10)


def test_a_thread_that_works_is_not_failing(it: Bench) -> None:
    work = Work(it.threads)
    it.threads.start("work", work.waits())
    assert work.started.acquire(timeout=10)
    it.look(100)
    assert it.threads.failing() == {}
    assert it.threads.alive
    assert work.starts == 1


@pytest.mark.parametrize(
    ("error", "words"), [(None, "its work ended"), (KeyError("x"), "unexpected KeyError")]
)
def test_work_that_ends_early_is_logged_and_starts_again_after_a_pause(
    it: Bench, error: BaseException | None, words: str
) -> None:
    work = Work(it.threads, error)
    start(it, work)
    assert words in it.log.errors[0]
    assert "'work'" in it.log.errors[0]
    it.look(4)
    assert work.starts == 1, "not before the pause is over"
    it.look(1)
    assert work.started.acquire(timeout=10)
    assert work.starts == 2


def test_a_thread_that_keeps_ending_is_lost_after_a_minute(it: Bench) -> None:
    start(it, Work(it.threads))
    it.look()
    for _ in range(11):
        it.look(5)
        it.threads.join("work", 10)
    assert it.threads.failing() == {"work": 55.0}
    assert it.threads.alive
    it.look(5)
    assert not it.threads.alive


def test_a_thread_that_works_for_half_a_minute_has_recovered(it: Bench) -> None:
    start(it, Work(it.threads))
    it.look()
    work = Work(it.threads)
    it.threads.start("work", work.waits())
    assert work.started.acquire(timeout=10)
    it.look(30)
    assert it.threads.failing() == {}


def test_nothing_starts_again_while_the_threads_are_stopping(it: Bench) -> None:
    work = Work(it.threads)
    it.threads.stopping.set()
    start(it, work)
    it.look(100)
    assert work.starts == 1
    assert it.log.errors == []


def test_a_thread_that_is_ended_is_waited_for_and_not_started_again(it: Bench) -> None:
    ended = threading.Event()
    started = threading.Event()

    def work() -> None:
        started.set()
        ended.wait(10)

    it.threads.start("work", work)
    assert started.wait(10)
    threading.Timer(0.05, ended.set).start()
    it.threads.end("work")
    assert ended.is_set()
    assert it.threads.names == []
    it.look(100)
    assert it.log.errors == []
