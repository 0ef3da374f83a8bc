"""Leadership: of several daemons on one store one works, and the others stand by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from sentinel.app.problems import Log, Problems
from sentinel.core.errors import SentinelError
from sentinel.ports import Leadership, Lease

_STAND_BY_PAUSE_S = 5.0


class LeaderElection:
    """Whether this daemon leads, and since when the lease was last held.

    `take_over` prepares the work of a leader and raises SentinelError if it can't; then this daemon
    doesn't lead. `on_change` is called with True after a successful take-over, and with False when
    this daemon stops leading.

    Locks are taken in one order: a batch's turn on an exclusive warehouse, then the election's, then
    the timetable's. A thread that holds the timetable's lock must not call `elect`.
    """

    def __init__(
        self,
        leadership: Leadership,
        problems: Problems,
        log: Log,
        ttl: timedelta,
        take_over: Callable[[], None],
        on_change: Callable[[bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leadership = leadership
        self._problems = problems
        self._log = log
        self._ttl_s = ttl.total_seconds()
        self._take_over = take_over
        self._on_change = on_change
        self._clock = clock
        self._lock = threading.Lock()
        self._leading = False
        self._token: int | None = None
        self._held_at = 0.0

    @property
    def leading(self) -> bool:
        return self._leading

    @property
    def lease(self) -> Lease | None:
        """The lease that fences off this daemon's batches."""
        return self._leadership.lease

    @property
    def pause_s(self) -> float:
        """How long to wait before the next election, in seconds."""
        return self._ttl_s / 3 if self._leading else min(self._ttl_s / 3, _STAND_BY_PAUSE_S)

    def elect(self) -> None:
        """Become or stay the leader, or notice that another daemon is."""
        with self._lock:
            self._elect()

    def elect_if_overdue(self) -> None:
        """Elect again if this daemon stood still for longer than its lease: another one may lead."""
        if self._leading and self._clock() - self._held_at > self._ttl_s:
            self.elect()

    def stand_by(self, reason: str) -> None:
        """Stop leading."""
        self._leading = False
        self._log.warning("standing by", reason=reason)
        self._on_change(False)

    def let_go(self) -> None:
        """Release leadership immediately. Raises SentinelError."""
        self._leadership.let_go()

    def _elect(self) -> None:
        # The lease counts from before the call, which may take long.
        asked = self._clock()
        try:
            held = self._leadership.hold()
        except SentinelError as error:
            self._problems.found("lease", error)
            if self._leading and self._clock() - self._held_at > self._ttl_s:
                self.stand_by("its lease could not be renewed")
            return
        self._problems.solved("lease")
        if held:
            self._held_at = asked
            lease = self._leadership.lease
            token = None if lease is None else lease.token
            # A new token: another daemon has led meanwhile, and what is known here is old.
            if not self._leading or token != self._token:
                self._lead(token)
        elif self._leading:
            self.stand_by("another daemon leads")

    def _lead(self, token: int | None) -> None:
        self._leading, self._token = True, token
        try:
            self._take_over()
        except SentinelError as error:
            self._leading = False
            self._problems.found("store", error)
            return
        self._problems.solved("store")
        self._log.info("leading", token=token)
        self._on_change(True)
