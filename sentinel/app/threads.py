"""The daemon's threads: each is supervised, and restarted if it ends early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sentinel.app.problems import Log

_PAUSE_S = 5.0
# A thread that ends again within this time has not recovered.
_RECOVERED_S = 30.0
_LOST_S = 60.0


@dataclass
class _Worker:
    """One thread's work. Times are of the monotonic clock, in seconds."""

    name: str
    work: Callable[[], None]
    thread: threading.Thread | None = None
    began: float = 0.0
    failing_since: float | None = None

    @property
    def running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


@dataclass
class Threads:
    """Threads that work until `stopping` is set.

    One whose work ends earlier, by whatever it raises or without, is logged, and started anew after
    a pause. `alive` is over once one has been failing for a minute.
    """

    log: Log
    stopping: threading.Event = field(default_factory=threading.Event)
    pause_s: float = _PAUSE_S
    lost_s: float = _LOST_S
    clock: Callable[[], float] = time.monotonic
    _workers: dict[str, _Worker] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Begin work, in a thread of this name."""
        with self._lock:
            self._workers[name] = worker = _Worker(name, work)
            self._start(worker)

    def end(self, name: str) -> None:
        """Do without a thread from now on, and wait until it has ended: its work returns soon."""
        with self._lock:
            worker = self._workers.pop(name, None)
        if worker and worker.thread and worker.thread is not threading.current_thread():
            worker.thread.join()

    def look(self) -> None:
        """Restart threads that have ended; called about every second."""
        now = self.clock()
        with self._lock:
            for worker in self._workers.values():
                if self.stopping.is_set():
                    return
                if worker.running:
                    if now - worker.began >= _RECOVERED_S:
                        worker.failing_since = None
                    continue
                if worker.failing_since is None:
                    worker.failing_since = now
                if now - worker.began >= self.pause_s:
                    self._start(worker)

    def failing(self) -> Mapping[str, float]:
        """The names of threads that don't run, or don't keep running, and for how many seconds."""
        now = self.clock()
        with self._lock:
            return {
                worker.name: now - (now if worker.failing_since is None else worker.failing_since)
                for worker in self._workers.values()
                if worker.failing_since is not None or not worker.running
            }

    @property
    def names(self) -> list[str]:
        with self._lock:
            return list(self._workers)

    @property
    def alive(self) -> bool:
        """Whether every thread works, or has not been failing for long."""
        return all(seconds < self.lost_s for seconds in self.failing().values())

    def join(self, name: str, seconds: float) -> None:
        """Wait until the thread of this name has ended, for so long at the most."""
        worker = self._workers[name]
        if worker.thread is not None and worker.thread.is_alive():
            worker.thread.join(seconds)

    def _start(self, worker: _Worker) -> None:
        worker.began = self.clock()
        thread = threading.Thread(target=self._run, args=(worker,), name=worker.name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had now
            self.log.error("fault", error=f"the thread {worker.name!r} can't be started")
        else:
            worker.thread = thread

    def _run(self, worker: _Worker) -> None:
        error: BaseException | None = None
        try:
            worker.work()
        except BaseException as raised:  # noqa: BLE001 - whatever ended it, it is needed
            error = raised
        with self._lock:
            needed = not self.stopping.is_set() and self._workers.get(worker.name) is worker
        if needed:
            words = "its work ended" if error is None else f"unexpected {type(error).__name__}"
            self.log.error(
                "fault",
                error=f"{words} in the thread {worker.name!r}, which is restarted: this is a "
                "bug in Sentinel",
                exc_info=error,
            )
