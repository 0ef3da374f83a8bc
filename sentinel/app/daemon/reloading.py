"""Reading project and configuration: the daemon works on the last good reading."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

from sentinel.app.daemon.parts import Instruments, LoadedProject
from sentinel.app.problems import Log, Problems
from sentinel.core.errors import ConfigError, SentinelError

_RETRY_S = 30.0


class ProjectLoader:
    """Reads the project when it is asked to, and again and again while it can't be read.

    `load` raises SentinelError. `on_loaded` gets each good reading, `on_health` the error of each
    reading but the first, or None.
    """

    def __init__(
        self,
        load: Callable[[], LoadedProject],
        clock: Callable[[], datetime],
        problems: Problems,
        instruments: Instruments,
        log: Log,
        on_loaded: Callable[[LoadedProject], None],
        on_health: Callable[[str | None], None],
    ) -> None:
        self._load = load
        self._clock = clock
        self._problems = problems
        self._instruments = instruments
        self._log = log
        self._on_loaded = on_loaded
        self._on_health = on_health
        self._wanted = threading.Event()
        self._current: tuple[LoadedProject, datetime] | None = None

    @property
    def loaded(self) -> LoadedProject | None:
        """The last good reading."""
        return self._current and self._current[0]

    @property
    def loaded_at(self) -> datetime | None:
        return self._current and self._current[1]

    def request(self) -> None:
        """Have the project read again. Safe in a signal handler."""
        self._wanted.set()

    def load_first(self) -> None:
        """Read project and configuration for the first time.

        Raises ConfigError, which only a person can fix. Other errors are retried later.
        """
        try:
            self._use(self._load())
        except ConfigError:
            raise
        except SentinelError as error:
            self._problems.found("project", error)

    def keep_loaded(self, stop: threading.Event) -> None:
        """Read the project whenever that is requested, until `stop`."""
        while not stop.is_set():
            self._wanted.wait(_RETRY_S if "project" in self._problems else None)
            self._wanted.clear()
            if not stop.is_set():
                self.load_again()

    def load_again(self) -> None:
        """Read the project; where that fails, the last good reading stays in use."""
        try:
            loaded = self._load()
        except SentinelError as error:
            self._problems.found("project", error)
            self._instruments.loaded(None)
            self._on_health(error.message)
            return
        self._use(loaded)
        self._on_health(None)

    def _use(self, loaded: LoadedProject) -> None:
        """Work on a new reading from now on; what is under way ends on the one before."""
        self._current = loaded, self._clock()
        self._problems.solved("project")
        self._instruments.loaded(loaded.alerts)
        self._log.info(
            "project loaded",
            alerts=len(loaded.alerts.all),
            scheduled=sum(alert.cron is not None for alert in loaded.alerts.valid),
            broken=len(loaded.alerts.broken),
        )
        self._on_loaded(loaded)
