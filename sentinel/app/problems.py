"""The daemon's current problems, each logged once until it is solved."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sentinel.core.errors import SentinelError


class Log(Protocol):
    """structlog's loggers."""

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None: ...
    def error(self, event: str, **fields: Any) -> None: ...


@dataclass
class Throttle:
    """Lets the first few log entries of a kind through each minute, and counts the others."""

    most: int = 5
    period_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _since: dict[str, tuple[float, int]] = field(default_factory=dict)
    _left_out: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self, kind: str) -> int | None:
        """How many entries of this kind were left out before this one; None to leave it out too."""
        now = self.clock()
        with self._lock:
            since, number = self._since.get(kind, (now, 0))
            if now - since >= self.period_s:
                since, number = now, 0
            self._since[kind] = (since, number + 1)
            if number >= self.most:
                self._left_out[kind] = self._left_out.get(kind, 0) + 1
                return None
            return self._left_out.pop(kind, 0)


class Problems:
    """Current problems by concern: `store`, `project`, ... Safe to use from any thread."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}

    def found(self, what: str, error: SentinelError | str) -> None:
        """Something is wrong; logged if that is news."""
        words = error if isinstance(error, str) else error.message
        hint = None if isinstance(error, str) else error.hint
        with self._lock:
            known = self._known.get(what)
            self._known[what] = words
        if known != words:
            self._log.error("problem", concerns=what, error=words, hint=hint)

    def solved(self, what: str) -> None:
        """Nothing is wrong any more with what it concerns."""
        with self._lock:
            known = self._known.pop(what, None)
        if known is not None:
            self._log.info("solved", concerns=what)

    def current(self) -> dict[str, str]:
        """A copy."""
        with self._lock:
            return dict(self._known)

    def __contains__(self, what: str) -> bool:
        return what in self._known

    def get(self, what: str) -> str | None:
        return self._known.get(what)
