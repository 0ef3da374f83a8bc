"""APScheduler's two jobs: batches at the next start of an alert, time-based planning at intervals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor as JobPool
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

_PULSE = timedelta(seconds=1)


class NextStart(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """The next start of all alerts: the union of their slots."""

    def __init__(self, next_start: Callable[[], datetime | None]) -> None:
        self._next = next_start

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        start = self._next() or now + timedelta(minutes=1)
        # What is due stays so until the job has taken it: a trigger has to move on all the same.
        return start if previous is None else max(start, previous + _PULSE)


class Jobs:
    """Runs `start_due` at `next_start`, and `plan` every `plan_interval`, until `stop`."""

    def __init__(
        self,
        start_due: Callable[[], None],
        next_start: Callable[[], datetime | None],
        plan: Callable[[], None],
        plan_interval: timedelta,
        stop: threading.Event,
    ) -> None:
        self._start_due = start_due
        self._next_start = next_start
        self._plan = plan
        self._plan_interval = plan_interval
        self._stop = stop
        self._scheduler: BlockingScheduler | None = None

    def keep_scheduling(self) -> None:
        """APScheduler's loop, which `shutdown` ends."""
        scheduler = BlockingScheduler(
            timezone=UTC,
            executors={"default": JobPool(4)},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        scheduler.add_job(self._start_due, NextStart(self._next_start), id="slots")
        scheduler.add_job(self._plan, self._plan_times(), id="plan")
        self._scheduler = scheduler
        try:
            if not self._stop.is_set():
                scheduler.start()
        finally:
            self._scheduler = None
            with suppress(Exception):
                scheduler.shutdown(wait=False)

    def reschedule(self) -> None:
        """Look again when to run: the timetable has changed, or the clock."""
        scheduler = self._scheduler
        if self._stop.is_set() or scheduler is None or not scheduler.running:
            return
        scheduler.reschedule_job("slots", trigger=NextStart(self._next_start))
        scheduler.reschedule_job("plan", trigger=self._plan_times())

    def shutdown(self) -> None:
        scheduler = self._scheduler
        if scheduler is not None:
            with suppress(Exception):
                scheduler.shutdown(wait=False)

    def _plan_times(self) -> IntervalTrigger:
        return IntervalTrigger(seconds=self._plan_interval.total_seconds())
