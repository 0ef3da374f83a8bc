"""The one place where parts are wired together."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any
from urllib.request import getproxies_environment

from sentinel.app.deliver import Delivery
from sentinel.app.evaluate import Evaluation
from sentinel.app.timed_planning import TimedPlanning
from sentinel.channels.contract import ChannelContext, SettingFault, secrets_in
from sentinel.channels.registry import Addressed, build_channel, check_channel, traits_of
from sentinel.config.settings import ChannelBlock, Settings, load_settings
from sentinel.core.alert import DefinitionContext
from sentinel.core.errors import ConfigError
from sentinel.core.origin import Origins
from sentinel.core.project import Location
from sentinel.core.routing import Routing
from sentinel.core.secret import Scrubber
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.profile import Profile
from sentinel.dbt.project import DbtProject
from sentinel.ports import Channel, Store
from sentinel.warehouses.contract import Database, WarehouseContext, WarehouseType

WAREHOUSES = "sentinel.warehouses"
STORES = "sentinel.stores"


@dataclass(frozen=True)
class ProgressReporter:
    """How parts speak up while they work.

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

    `offline` keeps dbt from every connection; parts that connect are not to be asked for then.
    """

    def __init__(
        self,
        options: DbtOptions,
        voice: ProgressReporter,
        make_project: Callable[[DbtOptions], DbtProject] | None = None,
        *,
        offline: bool = False,
    ) -> None:
        """`offline` looks up nothing that sentinel.yml takes from variables and files."""
        self.options = options
        self.offline = offline
        self.voice = voice
        self._make_project = make_project or (
            lambda chosen: DbtProject(
                chosen,
                notify=voice.working,
                warn=voice.warn,
                introspection=introspect,
                offline=offline,
            )
        )
        self.project = self._make_project(options)
        # What is likely not meant in sentinel.yml, found while its parts are built.
        self.warnings: list[tuple[Location, str]] = []

    @cached_property
    def settings(self) -> Settings:
        """sentinel.yml. Raises ConfigError."""
        self.project.file()  # without a dbt project, that is what has to be said first
        return load_settings(self.options.project_dir, offline=self.offline)

    @cached_property
    def profile(self) -> Profile:
        """The dbt profile's target. Raises ConfigError."""
        return self.project.profile()

    @property
    def threads(self) -> int:
        """How many queries run at once: `--threads`, else the profile's."""
        return self.options.threads or self.profile.threads

    @property
    def surroundings(self) -> DefinitionContext:
        """What definitions are judged against."""
        settings = self.settings
        document = settings.document
        origins = document.origins.under("defaults") if document else Origins()
        return DefinitionContext(settings.timezone, settings.defaults, self.routing, origins)

    @cached_property
    def routing(self) -> Routing:
        """How channels are found for alerts that name none."""
        settings = self.settings
        traits = {
            name: traits_of(block.type, block.keys) for name, block in settings.channels.items()
        }
        return Routing(traits, settings.routes, settings.fallback_channel)

    @cached_property
    def warehouse(self) -> Database:
        """The watched warehouse. Raises ConfigError if there is no way to open its kind."""
        return self._open_kind(self.profile)

    @cached_property
    def store_project(self) -> DbtProject:
        """The project at the target that keeps the tables. Raises ConfigError."""
        target = self.settings.store.target
        if not target or target == self.profile.target:
            return self.project
        # A folder of its own: dbt parses the project otherwise for each of the two targets.
        folder = self.project.folder / "store"
        return self._make_project(replace(self.options, target=target, target_path=folder))

    @cached_property
    def store_profile(self) -> Profile:
        """The target that keeps the tables. Raises ConfigError."""
        return self.profile if self.store_project is self.project else self.store_project.profile()

    def make_tables(self) -> None:
        """Have dbt make the tables.

        Raises ConfigError where they can't be kept, and ProjectError if dbt fails.
        """
        _store_dialect(self.store_profile)
        self.store_project.make_tables()

    @cached_property
    def store(self) -> Store:
        """The tables. Raises ConfigError, and ProjectError if dbt can't parse the project."""
        # SQLAlchemy costs half a second that help and `list` need not pay.
        from sentinel.store.sql import SqlStore

        dialect = _loaded(_store_dialect(self.store_profile))()
        database = self.store_database
        return SqlStore(
            self.store_project.name,
            self.store_project.tables(),
            lambda read_only: database.engine(read_only=read_only),
            dialect,
        )

    @cached_property
    def store_database(self) -> Database:
        """The database that keeps the tables. Raises ConfigError."""
        if self.store_project is self.project:
            return self.warehouse
        return self._open_kind(self.store_profile)

    @cached_property
    def channels(self) -> Mapping[str, Channel]:
        """All channels of sentinel.yml, and those of owners by address. Raises ConfigError."""
        return Addressed({name: self._built[name][0] for name in self.settings.channels})

    def build_channel(self, name: str) -> tuple[Channel, list[str]]:
        """One channel, and its secrets. Raises ConfigError."""
        block, context = self._block(name)
        values = block.render()
        return build_channel(name, block.type, values, block.locate, context, block.origins)

    def check_channel(self, name: str) -> None:
        """What is wrong with a channel, as far as its values are known. Raises ConfigError."""
        block, context = self._block(name)
        values = block.render()
        check_channel(name, block.type, values, block.locate, context, block.origins)

    def _block(self, name: str) -> tuple[ChannelBlock, ChannelContext]:
        block = self.settings.channels[name]

        def warn(key: str, words: str) -> None:
            self._warn(block.locate(key), f"the channel `{name}`: `{key}`: {words}")

        return block, ChannelContext(self.options.project_dir, self.voice.say, warn)

    @cached_property
    def _built(self) -> dict[str, tuple[Channel, list[str]]]:
        return {name: self.build_channel(name) for name in self.settings.channels}

    def heartbeat(self) -> Callable[[], None] | None:
        """What posts to the URL of `heartbeat`, which raises DeliveryError. Raises ConfigError."""
        from sentinel.channels.address import check_url
        from sentinel.channels.http import Transport, warn_of_plain_http

        settings = self.settings.heartbeat
        if settings is None:
            return None
        document = self.settings.document
        assert document is not None

        def warn(key: str, words: str) -> None:
            self._warn(document.location("heartbeat", key), f"`heartbeat.{key}`: {words}")

        context = ChannelContext(self.options.project_dir, self.voice.say, warn)
        url = settings.url.get_secret_value()
        try:
            transport = Transport.load(settings, context, allow_private=settings.allow_private)
            check_url(url)
        except (SettingFault, ValueError) as error:
            key, words = getattr(error, "key", "url"), getattr(error, "message", str(error))
            origin = document.origins.at("heartbeat", key)
            if origin and not origin.known:
                return None
            where = document.location("heartbeat", key)
            raise ConfigError.at([(where, f"`heartbeat.{key}`: {words}")]) from None
        warn_of_plain_http(url, "its secret URL", "url", warn)

        def beat() -> None:
            with transport.delivery() as requests:
                requests.post(url, b"", {})

        return beat

    @cached_property
    def _daemons_secrets(self) -> list[str]:
        """Those of the blocks that only the daemon needs; of one that can't be read there is none."""
        found: list[str] = []
        for block in ("web", "heartbeat"):
            with suppress(ConfigError):
                found += secrets_in(getattr(self.settings, block))
        return found

    def scrub(self, text: str) -> str:
        """Text without the secrets of channels, settings and profile, and without what sentinel.yml
        takes from variables and files."""
        clean = self._scrubber(text)
        return self.settings.withheld(self.profile.scrub(self.store_profile.scrub(clean)))

    def scrub_received(self, text: str) -> str:
        """The same of what a receiver answered, who knows a secret and may show any part of it."""
        return self.scrub(self._scrubber.thoroughly(text))

    def withheld(self, text: str) -> str:
        """A text without the values of variables and files of sentinel.yml that were used so far."""
        settings: Settings | None = self.__dict__.get("settings")
        return settings.withheld(text) if settings else text

    @cached_property
    def _scrubber(self) -> Scrubber:
        secrets = [secret for _, found in self._built.values() for secret in found]
        secrets += self._daemons_secrets
        # The passwords of proxies, which are none of sentinel.yml.
        proxies = (each for each in getproxies_environment().values() if "@" in each)
        secrets += [each if "://" in each else f"http://{each}" for each in proxies]
        return Scrubber([*secrets, *self.profile.secrets, *self.store_profile.secrets])

    def evaluation(self) -> Evaluation:
        return Evaluation(
            self.project,
            self.warehouse,
            self.store,
            self.scrub,
            self.voice.progress,
            self.routing,
            self.profile.target,
            self.voice.fault,
        )

    def tending(self) -> TimedPlanning:
        return TimedPlanning(self.store, self.project.name, self.routing, self.profile.target)

    @property
    def lease_ttl(self) -> timedelta:
        """How long a daemon leads after it was last heard of. Raises ConfigError."""
        return self.settings.store.lease_ttl or self.store.lease_ttl

    def _warn(self, location: Location, words: str) -> None:
        self.warnings.append((location, self.settings.withheld(words)))

    def show_warnings(self) -> None:
        """Show what is likely not meant in sentinel.yml, of the parts that were built."""
        for location, words in self.warnings:
            self.voice.warn(f"{location}: {words}")

    def delivery(self) -> Delivery:
        channels = self.channels
        self.show_warnings()
        return Delivery(
            self.store,
            channels,
            self.holder,
            self.scrub_received,
            self.voice.waiting,
            fallback=self.settings.fallback_channel,
        )

    @cached_property
    def holder(self) -> str:
        """Who claims messages and leads: this process, and none that had its number before."""
        return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    def _open_kind(self, profile: Profile) -> Database:
        point = _entry_points(WAREHOUSES).get(profile.type)
        if point is None:
            return self._open_by_dbt(profile)
        make: WarehouseType = _loaded(point)
        context = WarehouseContext(
            self.options.project_dir,
            self.threads,
            notify=self.voice.waiting,
            lock_timeout=self.settings.store.lock_timeout,
            declared_files=self.project.external_files,
        )
        return make(profile.credentials, context)

    def _open_by_dbt(self, profile: Profile) -> Database:
        """A warehouse without a module here, at the target of `self.options`."""
        from sentinel.dbt.connections import Connections
        from sentinel.warehouses.adapter import AdapterWarehouse

        connect = Connections(self.options, profile, self.project.folder)
        return AdapterWarehouse(profile.type, connect, self.threads)


def introspect(
    profile: Profile,
    project_dir: Path,
    files: Callable[[], Sequence[str]],
    by_dbt: Callable[[], Any],
) -> AbstractContextManager[Any]:
    """The connection for what dbt asks while it compiles alerts. Raises ConfigError."""
    point = _entry_points(WAREHOUSES).get(profile.type)
    if point is None:
        from sentinel.warehouses.adapter import AdapterWarehouse

        return AdapterWarehouse(profile.type, by_dbt).introspection(by_dbt)
    make: WarehouseType = _loaded(point)
    context = WarehouseContext(project_dir, threads=1, declared_files=files)
    return make(profile.credentials, context).introspection(by_dbt)


def _store_dialect(profile: Profile) -> EntryPoint:
    known = _entry_points(STORES)
    if profile.type not in known:
        raise ConfigError(
            f"Sentinel can't keep its tables in target {profile.target!r}: it is of the type "
            f"{profile.type!r}, and tables can be in {', '.join(sorted(known))}",
            hint="name a target of one of these types in sentinel.yml, as `store.target`",
        )
    return known[profile.type]


def _loaded(point: EntryPoint) -> Any:
    """What an entry point names. Raises ConfigError if the warehouse's packages aren't installed."""
    try:
        return point.load()
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a warehouse of the type {point.name!r} needs the module {error.name}, which isn't "
            "installed",
            hint=f"pip install 'dbt-sentinel[{point.name}]'",
        ) from None


def _entry_points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
