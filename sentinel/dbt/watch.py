"""Notices that files of a dbt project change; whether that matters is for the next reading to say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from watchfiles import Change, DefaultFilter, watch

from sentinel.app.threads import Threads
from sentinel.core.project import Watched

_DEBOUNCE_MS = 400
_STEP_MS = 100
_POLL_MS = 2_000
_AGAIN_S = 30.0


class Watch:
    """Calls `changed` after files have changed; it may be called for nothing."""

    def __init__(self, changed: Callable[[], None], threads: Threads) -> None:
        self._changed = changed
        self._threads = threads
        self._watched: Watched | None = None
        self._stop = threading.Event()
        self._names: list[str] = []

    def look_at(self, watched: Watched) -> None:
        """Watch these from now on, instead of those before."""
        if watched == self._watched:
            return
        self.close()
        self._watched, self._stop = watched, threading.Event()
        flat: dict[Path, frozenset[str]] = {}
        for folder, names in watched.flat:
            if folder.is_dir():  # one may be named for several reasons
                flat[folder] = flat.get(folder, frozenset()) | names
        deep = [folder for folder in watched.deep if folder.is_dir()]
        for name, follow in (
            ("watch folders", _Follow(deep, DefaultFilter(), True, self._stop, self._changed)),
            ("watch files", _Follow(list(flat), _Named(flat), False, self._stop, self._changed)),
        ):
            if follow.folders:
                self._threads.start(name, follow)
                self._names.append(name)

    def close(self) -> None:
        self._stop.set()
        for name in self._names:
            self._threads.end(name)
        self._names = []


@dataclass
class _Follow:
    """The work of a thread: it watches until `stop`."""

    folders: Collection[Path]
    wanted: Callable[[Change, str], bool]
    recursive: bool
    stop: threading.Event
    changed: Callable[[], None]
    _polling: bool = False
    _before: bool = False

    def __call__(self) -> None:
        while not self.stop.is_set():
            if self._before:
                self.changed()  # something may have changed since it ended
            self._before = True
            try:
                self._follow()
            except (OSError, RuntimeError):  # too many watches on this machine; or a folder is gone
                if self._polling:
                    self.stop.wait(_AGAIN_S)
                self._polling = True

    def _follow(self) -> None:
        for _ in watch(
            *(folder for folder in self.folders if folder.is_dir()),
            watch_filter=self.wanted,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=self.stop,
            recursive=self.recursive,
            raise_interrupt=False,
            ignore_permission_denied=True,
            force_polling=self._polling or None,
            poll_delay_ms=_POLL_MS,
        ):
            self.changed()


class _Named:
    """Lets through the wanted names of each folder."""

    def __init__(self, folders: dict[Path, frozenset[str]]) -> None:
        # The system reports a path as requested, or with links resolved.
        self._folders = {str(path): names for path, names in folders.items()}
        self._folders |= {str(path.resolve()): names for path, names in folders.items()}

    def __call__(self, _change: Change, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        names = self._folders.get(folder, frozenset())
        return "*" in names or name in names
