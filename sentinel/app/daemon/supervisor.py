"""The daemon as a whole: starts its parts, watches them, and stops them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sentinel.app.daemon.batches import Batches
from sentinel.app.daemon.deliveries import DeliveryLoop
from sentinel.app.daemon.election import LeaderElection
from sentinel.app.daemon.faults import FaultLog
from sentinel.app.daemon.heartbeat import Heartbeat
from sentinel.app.daemon.jobs import Jobs
from sentinel.app.daemon.parts import DaemonStatus, Intervals, LoadedProject
from sentinel.app.daemon.reloading import ProjectLoader
from sentinel.app.daemon.timed import TimedNotifications
from sentinel.app.problems import Log, Problems
from sentinel.app.threads import Threads
from sentinel.core.errors import SentinelError

_PULSE_S = 1.0
# By how much the clock may run differently before it counts as set.
_CLOCK_STEP_S = 2.0
_ALIVE_S = 60.0


@dataclass(frozen=True)
class Parts:
    """The parts of one daemon, which share its problems and its log."""

    project: ProjectLoader
    election: LeaderElection
    batches: Batches
    timed: TimedNotifications
    deliveries: DeliveryLoop
    heartbeat: Heartbeat
    jobs: Jobs
    problems: Problems
    faults: FaultLog
    log: Log


class Daemon:
    """Runs the parts in separate threads. `clock` is this machine's, in UTC."""

    def __init__(
        self,
        parts: Parts,
        intervals: Intervals,
        clock: Callable[[], datetime],
        threads: Threads,
    ) -> None:
        self.parts = parts
        self._intervals = intervals
        self._clock = clock
        self._threads = threads
        self._stop = threads.stopping
        self._pulse = math.inf  # reading the project for the first time may take long

    @property
    def loaded(self) -> LoadedProject | None:
        """What it works on: the last good reading."""
        return self.parts.project.loaded

    def load_first(self) -> None:
        """Read project and configuration for the first time. Raises ConfigError."""
        self.parts.project.load_first()

    def reload(self) -> None:
        """Have project and configuration read again. Safe in a signal handler."""
        self.parts.project.request()

    def stop(self) -> None:
        """Ask it to stop. Safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Work until `stop`; then finish what is under way."""
        for name, work in self._works().items():
            self._threads.start(name, work)
        before, wall = time.monotonic(), self._clock()
        self._pulse = before
        while not self._stop.wait(_PULSE_S):
            try:
                before, wall = self._watch(before, wall)
            except Exception as error:  # noqa: BLE001 - the supervisor has to go on
                self.parts.faults(error)
        self._drain()

    def elect(self) -> None:
        """Become or stay the leader; without a project there is no work for one."""
        if self.loaded is not None:
            self.parts.election.elect()

    def start_due(self) -> None:
        """Evaluate alerts that are due now in a separate batch."""
        parts = self.parts
        try:
            parts.election.elect_if_overdue()
            parts.batches.start_due(self._work, lambda: parts.election.lease)
        except Exception as error:  # noqa: BLE001 - the next time may go well
            parts.faults(error)

    def plan_timed(self) -> None:
        """Plan time-based notifications."""
        loaded = self._work()
        if loaded is not None:
            self.parts.timed.plan(loaded, lambda: self.parts.election.lease)

    def status(self) -> DaemonStatus:
        parts = self.parts
        loaded, problems = parts.project.loaded, parts.problems.current()
        leading = parts.election.leading
        alive = time.monotonic() - self._pulse < _ALIVE_S and self._threads.alive
        works = loaded is not None and (leading or "lease" not in problems)
        return DaemonStatus(
            alive,
            alive and works and not problems.keys() & {"store", "warehouse", "lease"},
            leading,
            len(loaded.alerts.all) if loaded else 0,
            parts.project.loaded_at,
            parts.batches.next_start() if leading else None,
            problems,
        )

    def _work(self) -> LoadedProject | None:
        """What to work on now: nothing while another daemon leads, or in the end."""
        working = self.parts.election.leading and not self._stop.is_set()
        return self.loaded if working else None

    def _works(self) -> dict[str, Callable[[], None]]:
        parts, stop = self.parts, self._stop
        return {
            "keep_scheduling": parts.jobs.keep_scheduling,
            "keep_leading": self._keep_leading,
            "keep_loaded": lambda: parts.project.keep_loaded(stop),
            "keep_delivering": lambda: parts.deliveries.keep_delivering(
                stop, lambda: parts.election.leading
            ),
            "beat": lambda: parts.heartbeat.keep_beating(stop),
        }

    def _keep_leading(self) -> None:
        while not self._stop.is_set():
            self.elect()
            self._stop.wait(self.parts.election.pause_s)

    def _watch(self, before: float, wall: datetime) -> tuple[float, datetime]:
        """Every second: start threads again that have ended, and look at the clocks."""
        self._threads.look()
        now, moment = time.monotonic(), self._clock()
        drift = (moment - wall).total_seconds() - (now - before)
        if abs(drift) > _CLOCK_STEP_S:
            self.parts.log.warning("clock jumped", seconds=round(drift, 1))
            self.parts.jobs.reschedule()
        self._pulse = now
        return now, moment

    def _drain(self) -> None:
        """Finish running evaluations and deliveries within the drain timeout; nothing is lost otherwise."""
        parts = self.parts
        self._stop.set()
        parts.project.request()
        parts.deliveries.wake()
        deadline = time.monotonic() + self._intervals.drain_timeout.total_seconds()
        parts.log.info("stopping", batches=parts.batches.count)
        parts.jobs.shutdown()
        parts.batches.shutdown()
        parts.batches.settle(max(0.0, deadline - time.monotonic()))
        for name in ("keep_delivering", "keep_loaded", "keep_leading", "beat"):
            self._threads.join(name, max(0.1, deadline - time.monotonic()))
        try:
            parts.election.let_go()
        except SentinelError as error:
            parts.log.warning("lease not released", reason=error.message)
        parts.log.info("stopped", unfinished=parts.batches.running)
