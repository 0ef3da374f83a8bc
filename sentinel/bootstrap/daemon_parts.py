"""The parts of a daemon, wired together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sentinel.app.daemon.batches import Batches, BatchTools
from sentinel.app.daemon.deliveries import DeliveryLoop
from sentinel.app.daemon.duties import LeaderDuties
from sentinel.app.daemon.election import LeaderElection
from sentinel.app.daemon.faults import FaultLog, RecordingErrors
from sentinel.app.daemon.heartbeat import Heartbeat
from sentinel.app.daemon.jobs import Jobs
from sentinel.app.daemon.parts import Instruments, Intervals, LoadedProject
from sentinel.app.daemon.reloading import ProjectLoader
from sentinel.app.daemon.supervisor import Daemon, Parts
from sentinel.app.daemon.timed import TimedNotifications
from sentinel.app.delivery.delivery import Delivery
from sentinel.app.problems import Log, Problems
from sentinel.app.threads import Threads
from sentinel.ports import Leadership


def assemble_daemon(
    load: Callable[[], LoadedProject],
    leadership: Leadership,
    make_delivery: Callable[[LoadedProject], Delivery],
    instruments: Instruments,
    log: Log,
    holder: str,
    intervals: Intervals,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    threads: Threads | None = None,
) -> Daemon:
    """A daemon; `load` reads project and configuration and raises SentinelError.

    `clock` is this machine's, in UTC: it decides when to look. What is recorded goes by the store's.
    """
    threads = threads or Threads(log)
    problems, faults = Problems(log), FaultLog(log)
    deliveries = DeliveryLoop(
        make_delivery, problems, faults, instruments, log, intervals.delivery_interval
    )
    # Each of these is called only once all parts exist.
    errors = RecordingErrors(problems, faults, lambda reason: election.stand_by(reason))
    tools = BatchTools(
        holder, intervals.lease_ttl, deliveries, problems, faults, errors, instruments, log
    )
    batches = Batches(tools, clock, lambda: jobs.reschedule())
    duties = LeaderDuties(
        tools,
        batches,
        loaded=lambda: project.loaded,
        leading=lambda: election.leading,
        lease=lambda: election.lease,
        reschedule=lambda: jobs.reschedule(),
        stand_by=lambda reason: election.stand_by(reason),
    )
    project = ProjectLoader(
        load, clock, problems, instruments, log, duties.on_loaded, duties.report_health
    )
    election = LeaderElection(
        leadership, problems, log, intervals.lease_ttl, duties.take_over, duties.on_change
    )
    jobs = Jobs(
        lambda: daemon.start_due(),
        lambda: batches.next_start() if election.leading else None,
        lambda: daemon.plan_timed(),
        intervals.plan_interval,
        threads.stopping,
    )
    heartbeat = Heartbeat(
        lambda: project.loaded, lambda: election.leading and daemon.status().ready, problems
    )
    timed = TimedNotifications(tools, batches)
    parts = Parts(
        project, election, batches, timed, deliveries, heartbeat, jobs, problems, faults, log
    )
    daemon = Daemon(parts, intervals, clock, threads)
    return daemon
