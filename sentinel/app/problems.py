"""What keeps a daemon from its work: said once, until it is solved."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from sentinel.core.errors import SentinelError


class Log(Protocol):
    """structlog's loggers."""

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None: ...
    def error(self, event: str, **fields: Any) -> None: ...


class Problems:
    """What is wrong now, by what it concerns: `store`, `project`, ... Any thread may say so."""

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
