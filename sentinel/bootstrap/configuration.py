"""What an installation is configured with: dbt's options and project, and sentinel.yml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from sentinel.channels.registry import traits_of
from sentinel.config.settings import Settings, load_settings
from sentinel.core.alert import DefinitionContext
from sentinel.core.origin import Origins
from sentinel.core.routing import Routing
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.profile import Profile
from sentinel.dbt.project import DbtProject


class Configuration:
    """The project and its settings, each read when first asked for."""

    def __init__(
        self,
        options: DbtOptions,
        make_project: Callable[[DbtOptions], DbtProject],
        *,
        offline: bool = False,
    ) -> None:
        """`offline` looks up nothing that sentinel.yml takes from variables and files."""
        self.options = options
        self.project = make_project(options)
        self._make_project = make_project
        self._offline = offline

    @cached_property
    def settings(self) -> Settings:
        """sentinel.yml. Raises ConfigError."""
        self.project.file()  # without a dbt project, report that first
        return load_settings(self.options.project_dir, offline=self._offline)

    @property
    def loaded_settings(self) -> Settings | None:
        """sentinel.yml if it was read without an error, else None."""
        settings: Settings | None = self.__dict__.get("settings")
        return settings

    @cached_property
    def profile(self) -> Profile:
        """The dbt profile's target. Raises ConfigError."""
        return self.project.profile()

    @property
    def threads(self) -> int:
        """The number of concurrent queries: `--threads`, otherwise the profile's."""
        return self.options.threads or self.profile.threads

    @property
    def definition_context(self) -> DefinitionContext:
        """What definitions are parsed with: time zone, defaults and channels of sentinel.yml."""
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
    def store_project(self) -> DbtProject:
        """The project at the target that keeps the tables. Raises ConfigError."""
        target = self.settings.store.target
        if not target or target == self.profile.target:
            return self.project
        # A separate directory: otherwise dbt parses the project for each of the two targets.
        folder = self.project.folder / "store"
        return self._make_project(replace(self.options, target=target, target_path=folder))

    @cached_property
    def store_profile(self) -> Profile:
        """The target that keeps the tables. Raises ConfigError."""
        return self.profile if self.shares_target else self.store_project.profile()

    @property
    def shares_target(self) -> bool:
        """Whether the tables are kept in the target that alerts are evaluated in."""
        return self.store_project is self.project
