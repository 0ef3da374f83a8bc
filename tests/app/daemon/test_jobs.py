"""APScheduler runs batches at the next start of an alert, and never stops moving on."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from sentinel.app.daemon.jobs import Jobs, NextStart
from tests.fakes import NOW

SECOND = timedelta(seconds=1)


def test_the_next_start_is_that_of_the_timetable() -> None:
    assert NextStart(lambda: NOW + SECOND).get_next_fire_time(None, NOW) == NOW + SECOND


def test_without_a_start_it_looks_again_in_a_minute() -> None:
    assert NextStart(lambda: None).get_next_fire_time(None, NOW) == NOW + 60 * SECOND


def test_what_stays_due_is_looked_at_again_a_second_later() -> None:
    assert NextStart(lambda: NOW).get_next_fire_time(NOW, NOW) == NOW + SECOND


def test_both_jobs_run_until_the_scheduler_is_shut_down() -> None:
    stop, due, planned = threading.Event(), threading.Event(), threading.Event()
    jobs = Jobs(due.set, lambda: datetime.now(UTC), planned.set, timedelta(seconds=0.05), stop)
    thread = threading.Thread(target=jobs.keep_scheduling)
    thread.start()
    assert due.wait(20)
    assert planned.wait(20)
    jobs.reschedule()
    stop.set()
    jobs.reschedule()  # after the stop it does nothing
    jobs.shutdown()
    thread.join(20)
    assert not thread.is_alive()


def test_after_a_stop_nothing_is_scheduled() -> None:
    stop = threading.Event()
    stop.set()
    ran: list[bool] = []
    jobs = Jobs(
        lambda: ran.append(True), lambda: datetime.now(UTC), lambda: None, timedelta(hours=1), stop
    )
    jobs.keep_scheduling()
    assert ran == []
