"""Sentinel in one dbt project: the parts that commands use."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from sentinel.app.delivery.delivery import Delivery
from sentinel.app.evaluate import Evaluation
from sentinel.app.run import Run
from sentinel.app.timed_planning import TimedPlanning
from sentinel.bootstrap.channels import ConfiguredChannels
from sentinel.bootstrap.configuration import Configuration
from sentinel.bootstrap.databases import Databases, introspect
from sentinel.bootstrap.redaction import Redaction
from sentinel.channels.secret_scan import ChannelSecretScan
from sentinel.config.settings import Settings
from sentinel.core.alert import DefinitionContext
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.profile import Profile
from sentinel.dbt.project import DbtProject
from sentinel.ports import Store
from sentinel.warehouses.contract import Database


@dataclass(frozen=True)
class ProgressReporter:
    """What parts report while they work.

    `working` is a passing phrase, `waiting` a delay that a person wants to see, `say` the console
    channel's messages, `progress` (done, total, name) of a batch. `warn` gets likely mistakes in
    sentinel.yml and files that can't be written, `fault` an unexpected error in the evaluation of one
    alert, by its name.
    """

    working: Callable[[str], None]
    waiting: Callable[[str], None]
    say: Callable[[str], None]
    progress: Callable[[int, int, str], None]
    warn: Callable[[str], None] = lambda _phrase: None
    fault: Callable[[str, Exception], None] = lambda _alert, _error: None


class Installation:
    """Sentinel in one dbt project: its parts, each made when first asked for.

    With `offline`, dbt never connects and sentinel.yml's variables and files aren't looked up; parts
    that connect are not to be asked for then.
    """

    def __init__(
        self,
        options: DbtOptions,
        reporter: ProgressReporter,
        make_project: Callable[[DbtOptions], DbtProject] | None = None,
        *,
        offline: bool = False,
    ) -> None:
        def make_dbt_project(chosen: DbtOptions) -> DbtProject:
            return DbtProject(
                chosen,
                notify=reporter.working,
                warn=reporter.warn,
                introspection=introspect,
                secret_scan=ChannelSecretScan(),
                offline=offline,
            )

        self._reporter = reporter
        self.options = options
        self.configuration = Configuration(
            options, make_project or make_dbt_project, offline=offline
        )
        self.project = self.configuration.project
        self.databases = Databases(self.configuration, reporter.waiting)
        self.channels = ConfiguredChannels(self.configuration, reporter.say)
        self.redaction = Redaction(self.configuration, self.channels)

    @property
    def settings(self) -> Settings:
        """sentinel.yml. Raises ConfigError."""
        return self.configuration.settings

    @property
    def profile(self) -> Profile:
        """The dbt profile's target. Raises ConfigError."""
        return self.configuration.profile

    @property
    def threads(self) -> int:
        """The number of concurrent queries. Raises ConfigError."""
        return self.configuration.threads

    @property
    def definition_context(self) -> DefinitionContext:
        """What definitions are parsed with. Raises ConfigError."""
        return self.configuration.definition_context

    @property
    def warehouse(self) -> Database:
        """The watched warehouse. Raises ConfigError."""
        return self.databases.warehouse

    @property
    def store(self) -> Store:
        """The tables. Raises ConfigError, and ProjectError if dbt can't parse the project."""
        return self.databases.store

    def evaluation(self) -> Evaluation:
        return Evaluation(
            self.project,
            self.warehouse,
            self.store,
            self.redaction.scrub,
            self._reporter.progress,
            self.configuration.routing,
            self.profile.target,
            self._reporter.fault,
        )

    def run(self, elapsed: Callable[[], float]) -> Run:
        """A run; a channel that can't be built is noticed before anything is evaluated."""
        evaluation, delivery = self.evaluation(), self.delivery()
        return Run(self.store, evaluation, delivery, self.timed_planning(), elapsed)

    def timed_planning(self) -> TimedPlanning:
        return TimedPlanning(
            self.store, self.project.name, self.configuration.routing, self.profile.target
        )

    def delivery(self) -> Delivery:
        channels = self.channels.by_name
        self.show_warnings()
        return Delivery(
            self.store,
            channels,
            self.holder,
            self.redaction.scrub_received,
            self._reporter.waiting,
            fallback=self.settings.fallback_channel,
        )

    @property
    def lease_ttl(self) -> timedelta:
        """How long a daemon leads after its last renewal of the lease. Raises ConfigError."""
        return self.settings.store.lease_ttl or self.store.lease_ttl

    @cached_property
    def holder(self) -> str:
        """The name under which this process claims messages and leads; no other process has it."""
        return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    def show_warnings(self) -> None:
        """Report likely mistakes in sentinel.yml, of the channels that were built."""
        for location, words in self.channels.warnings:
            self._reporter.warn(f"{location}: {words}")
