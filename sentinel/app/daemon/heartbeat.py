"""The heartbeat: a monitor elsewhere notices when a leading daemon stops being ready."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

from sentinel.app.daemon.parts import LoadedProject
from sentinel.app.problems import Problems
from sentinel.core.errors import SentinelError

_WITHOUT_PROJECT = timedelta(seconds=5)


class Heartbeat:
    """Posts while `is_ready`, by the last good reading of the project."""

    def __init__(
        self,
        loaded: Callable[[], LoadedProject | None],
        is_ready: Callable[[], bool],
        problems: Problems,
    ) -> None:
        self._loaded = loaded
        self._is_ready = is_ready
        self._problems = problems

    def keep_beating(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.beat()
            loaded = self._loaded()
            pause = loaded.heartbeat_interval if loaded else _WITHOUT_PROJECT
            stop.wait(pause.total_seconds())

    def beat(self) -> None:
        loaded = self._loaded()
        if loaded and loaded.heartbeat and self._is_ready():
            try:
                loaded.heartbeat()
            except SentinelError as error:
                self._problems.found("heartbeat", error)
            else:
                self._problems.solved("heartbeat")
