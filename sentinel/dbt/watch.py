"""Notices that files of a dbt project change; whether that matters is for the next reading to say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from pathlib import Path

from watchfiles import Change, DefaultFilter, watch

from sentinel.core.project import Watched

_DEBOUNCE_MS = 400
_STEP_MS = 100


class Watch:
    """Calls `changed` after files have changed; it may be called for nothing."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._watched: Watched | None = None
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

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
        for folders, wanted, recursive in (
            (deep, DefaultFilter(), True),
            (list(flat), _Named(flat), False),
        ):
            if folders:
                thread = threading.Thread(
                    target=self._follow,
                    args=(folders, wanted, recursive, self._stop),
                    name="watch",
                    daemon=True,
                )
                thread.start()
                self._threads.append(thread)

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._threads = []

    def _follow(
        self,
        folders: Collection[Path],
        wanted: Callable[[Change, str], bool],
        recursive: bool,
        stop: threading.Event,
    ) -> None:
        for _ in watch(
            *folders,
            watch_filter=wanted,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=stop,
            recursive=recursive,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            self._changed()


class _Named:
    """Lets through the wanted names of each folder."""

    def __init__(self, folders: dict[Path, frozenset[str]]) -> None:
        # The system tells of a path as it was asked for, or as links lead there.
        self._folders = {str(path): names for path, names in folders.items()}
        self._folders |= {str(path.resolve()): names for path, names in folders.items()}

    def __call__(self, _change: Change, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        names = self._folders.get(folder, frozenset())
        return "*" in names or name in names
