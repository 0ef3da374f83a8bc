"""Assembles the daemon, in a separate module since other commands don't need it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from sentinel.app.alerts import select_alerts
from sentinel.app.daemon.parts import Instruments, Intervals, LoadedProject
from sentinel.app.daemon.supervisor import Daemon
from sentinel.app.delivery.delivery import Delivery
from sentinel.app.problems import Log
from sentinel.app.threads import Threads
from sentinel.bootstrap import Installation, ProgressReporter, introspect
from sentinel.bootstrap.daemon_parts import assemble_daemon
from sentinel.channels.secret_scan import ChannelSecretScan
from sentinel.core.errors import ConfigError, SentinelError
from sentinel.core.project import Selection
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.picture import DbtProcess, ProjectSnapshot
from sentinel.dbt.watch import Watch
from sentinel.ports import Leadership
from sentinel.store.leadership import FileLeadership, TableLeadership

_UNUSED = timedelta(minutes=1)


class DaemonSetup:
    """What a daemon works with: a project and its configuration, which are read again and again."""

    def __init__(
        self, options: DbtOptions, reporter: ProgressReporter, selection: Selection
    ) -> None:
        self._options = options
        self._reporter = reporter
        self._selection = selection
        self._processes: dict[DbtOptions, DbtProcess] = {}
        self._watch: Watch | None = None
        self.installation = self._installed()

    def _installed(self) -> Installation:
        return Installation(self._options, self._reporter, self._project)

    def _project(self, options: DbtOptions) -> ProjectSnapshot:
        scan = ChannelSecretScan()
        process = self._processes.setdefault(options, DbtProcess(options, introspect, scan))
        return ProjectSnapshot(options, process, self._selection, scan)

    def load(self) -> LoadedProject:
        """Reload the project and the configuration, completely or not at all.

        Raises SentinelError; then the installation stays what it was.
        """
        installation = self._installed()
        try:
            return self._load(installation)
        except SentinelError as error:
            # The logger knows only the last loaded project.
            error.message = installation.redaction.withheld(error.message)
            raise

    def _load(self, installation: Installation) -> LoadedProject:
        settings = installation.settings
        alerts = select_alerts(
            installation.project, installation.definition_context, self._selection, may_be_none=True
        )
        installation.project.external_files()
        default = settings.defaults.get("channels") or ()
        fallback = settings.fallback_channel
        told = [default] if isinstance(default, str) else list(default)
        loaded = LoadedProject(
            alerts,
            installation.evaluation(),
            installation.timed_planning(),
            installation.store,
            installation.project.name,
            installation.configuration.routing,
            installation.channels.by_name,
            fallback,
            installation.threads,
            (fallback,) if fallback else tuple(told),
            installation.channels.heartbeat(),
            settings.heartbeat.interval if settings.heartbeat else _UNUSED,
        )
        installation.show_warnings()
        self.installation = installation
        return loaded

    def watch(self, changed: Callable[[], None], threads: Threads) -> None:
        """Watch the files of the project, of its configuration and of the secrets it names."""
        if self._watch is None:
            self._watch = Watch(changed, threads)
        installation = self._installed()
        watched = installation.project.watched()
        settings = installation.settings
        assert settings.document is not None
        secret_files = {(path.parent, frozenset({"*"})) for path in settings.document.value_files()}
        self._watch.look_at(replace(watched, flat=watched.flat | secret_files))

    def daemon(
        self, instruments: Instruments, log: Log, changed: Callable[[], None], threads: Threads
    ) -> Daemon:
        """A daemon that reads the project by `load`, and watches what it has read.

        Raises ConfigError.
        """
        first = self.installation
        settings, project, holder = first.settings, first.project.name, first.holder
        ttl = first.lease_ttl

        def load() -> LoadedProject:
            # Before it is read: what changes while it is read is noticed.
            with suppress(ConfigError):
                self.watch(changed, threads)
            return self.load()

        def deliver(loaded: LoadedProject) -> Delivery:
            return Delivery(
                loaded.store,
                loaded.channels,
                holder,
                lambda text: self.installation.redaction.scrub_received(text),
                self._reporter.waiting,
                fallback=loaded.fallback,
            )

        leadership: Leadership
        lock = first.databases.store_database.lock_file
        if lock is not None:
            leadership = FileLeadership(lock.with_name(f"{lock.name}.{project}"))
        else:
            leadership = TableLeadership(lambda: self.installation.store, project, holder, ttl)
        intervals = Intervals(
            settings.scheduler.plan_interval, settings.scheduler.drain_timeout, ttl
        )
        return assemble_daemon(
            load, leadership, deliver, instruments, log, holder, intervals, threads=threads
        )

    def scrub(self, text: str) -> str:
        """Text without the secrets of the last good reading."""
        return self.installation.redaction.scrub(text)

    def withheld(self, text: str) -> str:
        """Text without the values of variables and files of sentinel.yml."""
        return self.installation.redaction.withheld(text)

    def close(self) -> None:
        """End the processes that this process started."""
        if self._watch is not None:
            self._watch.close()
        for process in self._processes.values():
            process.close()
