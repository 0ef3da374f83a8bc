"""Connections as dbt opens them, for a warehouse that has no module here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentinel.core.errors import ConfigError, SentinelError
from sentinel.dbt.engine import Invocation
from sentinel.dbt.engine_choice import python_engine_works
from sentinel.dbt.options import DbtOptions, find_profiles_dir
from sentinel.dbt.profile import Profile

if TYPE_CHECKING:
    from sentinel.dbt.shim import AdapterConnections


class Connections:
    """Called, it gives a new connection of the options' target: what dbt's adapter calls its handle.

    Any thread may call it. dbt is imported by the first call. `profile` knows the secrets that dbt
    may put in its messages; `folder` is `<target-path>/sentinel`.
    """

    def __init__(
        self,
        options: DbtOptions,
        profile: Profile,
        folder: Path,
        *,
        works: Callable[[], bool] = python_engine_works,
    ) -> None:
        """Raises ConfigError if there is no dbt whose Python is known: dbt v2 has none."""
        if not works():
            raise ConfigError(
                f"a warehouse of the type {profile.type!r} is opened by dbt's own adapter, which "
                "needs dbt-core 1.9 or newer, below 2, in Sentinel's environment",
                hint=f"pip install 'dbt-core<2' dbt-{profile.type}",
            )
        self._options = options
        self._profile = profile
        self._folder = folder
        self._lock = threading.Lock()

    def __call__(self) -> Any:
        """Raises ConfigError if dbt can't use the profile, WarehouseError if it can't connect."""
        try:
            with self._lock:
                adapter = self._adapter
            return adapter.open()
        except SentinelError as error:
            where = f"{self._profile.name}.outputs.{self._profile.target}"
            words = f"dbt can't open {where}: {self._profile.scrub(error.message)}"
            raise type(error)(words, hint=error.hint) from None

    @cached_property
    def _adapter(self) -> AdapterConnections:
        from sentinel.dbt.shim import AdapterConnections

        root = Path.cwd() / self._options.project_dir
        options = replace(self._options, project_dir=root)
        profiles_dir = find_profiles_dir(options, Path.cwd(), Path.home())
        return AdapterConnections(Invocation(options, profiles_dir, self._folder))
