"""A dbt project as it was read once: what a daemon works on until the next good reading.

dbt itself runs in a process of its own, which ends when it isn't needed: this one stays small.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

from sentinel.core.errors import ProjectError
from sentinel.core.project import AlertSource, Compiled, Selection, StoreTables
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project import DbtProject

Given = TypeVar("Given")

_IDLE = timedelta(minutes=5)


@dataclass(frozen=True)
class Picture:
    """The alerts of a project at one moment, those of them that are `chosen`, and the SQL of those
    whose SQL stays the same while the project does: the others are compiled each time."""

    name: str
    sources: tuple[AlertSource, ...]
    chosen: frozenset[str]
    compiled: Mapping[str, str] = field(default_factory=dict, repr=False)


def take_picture(project: DbtProject, selection: Selection) -> Picture:
    """Read a project with dbt, where it has changed. Raises ProjectError and ConfigError."""
    sources = tuple(project.alerts())
    chosen = project.select(selection)
    alerts = [each.unique_id for each in sources if each.unique_id in chosen]
    compiled = project.compile_stable(alerts)
    return Picture(project.name, sources, frozenset(alerts), compiled)


class DbtProcess:
    """dbt in a process of its own, started when it is needed and ended when it is idle.

    Every call raises ProjectError and ConfigError as `DbtProject` does.
    """

    def __init__(self, options: DbtOptions, *, idle: timedelta = _IDLE) -> None:
        self._options = options
        self._idle = idle.total_seconds()
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._timer: threading.Timer | None = None
        self._used = 0.0

    def picture(self, selection: Selection) -> Picture:
        return self._call(_picture, selection)

    def compile(self, unique_ids: Sequence[str]) -> Mapping[str, Compiled]:
        return self._call(_compile, unique_ids)

    def tables(self) -> StoreTables:
        return self._call(_tables)

    def external_files(self) -> Sequence[str]:
        return self._call(_external_files)

    def close(self) -> None:
        """End the process, whatever it does."""
        pool = self._pool
        if pool is not None:
            # A call that is under way ends by that, and lets go of the lock.
            for process in list(pool._processes.values()):
                process.kill()
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._end()
        if pool is not None:
            pool.shutdown(wait=True)

    def _call(self, function: Callable[..., Given], *args: Any) -> Given:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    1,
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=_begin,
                    initargs=(self._options,),
                )
            try:
                return self._pool.submit(function, *args).result()
            except BrokenProcessPool:
                self._end()
                raise ProjectError(
                    "the process that runs dbt has ended unexpectedly",
                    hint="it may have run out of memory; it is started anew",
                ) from None
            finally:
                self._used = time.monotonic()
                self._timer = threading.Timer(self._idle, self._rest)
                self._timer.daemon = True
                self._timer.start()

    def _rest(self) -> None:
        with self._lock:
            if time.monotonic() - self._used >= self._idle:
                self._end()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None


class PicturedProject(DbtProject):
    """A project whose answers are those of one moment, and which never runs dbt in this process."""

    def __init__(self, options: DbtOptions, process: DbtProcess, selection: Selection) -> None:
        super().__init__(options)
        self._process = process
        self._selection = selection

    @cached_property
    def picture(self) -> Picture:
        """Taken when it is first asked for. Raises ProjectError and ConfigError."""
        return self._process.picture(self._selection)

    @cached_property
    def _own_tables(self) -> StoreTables:
        return self._process.tables()

    @cached_property
    def _files(self) -> Sequence[str]:
        return self._process.external_files()

    @cached_property
    def _name(self) -> str:
        return self.file().name

    @property
    def name(self) -> str:
        return self._name

    def alerts(self) -> Sequence[AlertSource]:
        return self.picture.sources

    def select(self, selection: Selection) -> frozenset[str]:
        """What was selected when the picture was taken, whatever is asked now."""
        return self.picture.chosen

    def compile(self, unique_ids: Iterable[str]) -> Mapping[str, Compiled]:
        kept = self.picture.compiled
        wanted = sorted(set(unique_ids))
        found = {i: Compiled(i, kept[i]) for i in wanted if i in kept}
        missing = [i for i in wanted if i not in kept]
        if missing:
            found |= self._process.compile(missing)
        return found

    def tables(self) -> StoreTables:
        return self._own_tables

    def external_files(self) -> Sequence[str]:
        return self._files


# -- in the process ----------------------------------------------------------------------------

_project: DbtProject | None = None


def _begin(options: DbtOptions) -> None:
    global _project
    _project = DbtProject(options)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed can't end its children."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _ours() -> DbtProject:
    assert _project is not None
    return _project


def _picture(selection: Selection) -> Picture:
    return take_picture(_ours(), selection)


def _compile(unique_ids: Sequence[str]) -> Mapping[str, Compiled]:
    return dict(_ours().compile(unique_ids))


def _tables() -> StoreTables:
    return _ours().tables()


def _external_files() -> Sequence[str]:
    return tuple(_ours().external_files())
