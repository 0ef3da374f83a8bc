"""The watched warehouse and the store, opened by the type of their dbt target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from sentinel.bootstrap.configuration import Configuration
from sentinel.core.errors import ConfigError
from sentinel.dbt.profile import Profile
from sentinel.ports import Store
from sentinel.warehouses.contract import Database, WarehouseContext, WarehouseType

WAREHOUSES = "sentinel.warehouses"
STORES = "sentinel.stores"


class Databases:
    """The databases of a configuration, each opened when first asked for.

    `notify` gets waits that a person should see.
    """

    def __init__(self, configuration: Configuration, notify: Callable[[str], None]) -> None:
        self._configuration = configuration
        self._notify = notify

    @cached_property
    def warehouse(self) -> Database:
        """The watched warehouse. Raises ConfigError if there is no way to open its type."""
        return self._open(self._configuration.profile)

    @cached_property
    def store_database(self) -> Database:
        """The database that keeps the tables. Raises ConfigError."""
        if self._configuration.shares_target:
            return self.warehouse
        return self._open(self._configuration.store_profile)

    @cached_property
    def store(self) -> Store:
        """The tables. Raises ConfigError, and ProjectError if dbt can't parse the project."""
        # SQLAlchemy costs half a second that help and `list` need not pay.
        from sentinel.store.sql import SqlStore

        dialect = load_entry_point(_store_dialect(self._configuration.store_profile))()
        database = self.store_database
        project = self._configuration.store_project
        return SqlStore(
            project.name,
            project.tables(),
            lambda read_only: database.engine(read_only=read_only),
            dialect,
        )

    def make_tables(self) -> None:
        """Have dbt make the tables.

        Raises ConfigError where they can't be kept, and ProjectError if dbt fails.
        """
        _store_dialect(self._configuration.store_profile)
        self._configuration.store_project.make_tables()

    def _open(self, profile: Profile) -> Database:
        configuration = self._configuration
        point = _entry_points(WAREHOUSES).get(profile.type)
        if point is None:
            return self._open_by_dbt(profile)
        make: WarehouseType = load_entry_point(point)
        context = WarehouseContext(
            configuration.options.project_dir,
            configuration.threads,
            notify=self._notify,
            lock_timeout=configuration.settings.store.lock_timeout,
            declared_files=configuration.project.external_files,
        )
        return make(profile.credentials, context)

    def _open_by_dbt(self, profile: Profile) -> Database:
        """A warehouse without a module here, at the target of the options."""
        from sentinel.dbt.connections import Connections
        from sentinel.warehouses.adapter import AdapterWarehouse

        configuration = self._configuration
        connect = Connections(configuration.options, profile, configuration.project.folder)
        return AdapterWarehouse(profile.type, connect, configuration.threads)


def introspect(
    profile: Profile,
    project_dir: Path,
    declared_files: Callable[[], Sequence[str]],
    by_dbt: Callable[[], Any],
) -> AbstractContextManager[Any]:
    """The connection for what dbt asks while it compiles alerts. Raises ConfigError."""
    point = _entry_points(WAREHOUSES).get(profile.type)
    if point is None:
        from sentinel.warehouses.adapter import AdapterWarehouse

        return AdapterWarehouse(profile.type, by_dbt).introspection(by_dbt)
    make: WarehouseType = load_entry_point(point)
    context = WarehouseContext(project_dir, threads=1, declared_files=declared_files)
    return make(profile.credentials, context).introspection(by_dbt)


def load_entry_point(point: EntryPoint) -> Any:
    """What an entry point names. Raises ConfigError if the warehouse's packages aren't installed."""
    try:
        return point.load()
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a warehouse of the type {point.name!r} needs the module {error.name}, which isn't "
            "installed",
            hint=f"pip install 'dbt-sentinel[{point.name}]'",
        ) from None


def _store_dialect(profile: Profile) -> EntryPoint:
    dialects = _entry_points(STORES)
    if profile.type not in dialects:
        raise ConfigError(
            f"Sentinel can't keep its tables in target {profile.target!r}: it is of the type "
            f"{profile.type!r}, and tables can be in {', '.join(sorted(dialects))}",
            hint="name a target of one of these types in sentinel.yml, as `store.target`",
        )
    return dialects[profile.type]


def _entry_points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
