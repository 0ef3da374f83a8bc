"""A dbt project as it was read once: what a daemon works on until the next good reading.

dbt runs in a separate process that ends when it isn't needed, so that this process stays small.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from sentinel.core.errors import ProjectError, SentinelError
from sentinel.core.project import AlertSource, Compiled, Selection, StoreTables
from sentinel.core.secret_scan import SecretScan
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project import DbtProject
from sentinel.dbt.runner import Introspection

_IDLE = timedelta(minutes=5)
_END_S = 5.0


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
    """dbt in a separate process that starts on demand and ends when idle.

    Every call raises ProjectError and ConfigError as `DbtProject` does.
    """

    def __init__(
        self,
        options: DbtOptions,
        introspection: Introspection | None = None,
        secret_scan: SecretScan | None = None,
        *,
        idle: timedelta = _IDLE,
    ) -> None:
        """`introspection` and `secret_scan` are those of `DbtProject`; both are sent to the process."""
        self._options = options
        self._introspection = introspection
        self._secret_scan = secret_scan
        self._idle = idle.total_seconds()
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._timer: threading.Timer | None = None
        self._used = 0.0

    def picture(self, selection: Selection) -> Picture:
        found: Picture = self._call("picture", selection)
        return found

    def compile(self, unique_ids: Sequence[str]) -> Mapping[str, Compiled]:
        found: Mapping[str, Compiled] = self._call("compile", tuple(unique_ids))
        return found

    def tables(self) -> StoreTables:
        found: StoreTables = self._call("tables")
        return found

    def external_files(self) -> Sequence[str]:
        found: Sequence[str] = self._call("external_files")
        return found

    def close(self) -> None:
        """End the process, whatever it does."""
        child = self._child
        if child is not None and self._lock.locked():
            child.process.kill()  # a call that is under way ends by that, and lets go of the lock
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._end()

    def _call(self, method: str, *args: Any) -> Any:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._child is None:
                self._child = _start(self._options, self._introspection, self._secret_scan)
            try:
                answer = self._child.ask(method, args)
            except (EOFError, OSError):
                self._end()
                raise ProjectError(
                    "the process that runs dbt has ended unexpectedly",
                    hint="it may have run out of memory; it is restarted",
                ) from None
            finally:
                self._used = time.monotonic()
                self._timer = threading.Timer(self._idle, self._rest)
                self._timer.daemon = True
                self._timer.start()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _rest(self) -> None:
        with self._lock:
            if time.monotonic() - self._used >= self._idle:
                self._end()

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
        self._child = None


@dataclass(frozen=True)
class _Child:
    """The process, and the way to it."""

    process: SpawnProcess
    way: Connection

    def ask(self, method: str, args: tuple[Any, ...]) -> Any:
        """Its answer, or its exception. Raises EOFError or OSError if it has ended."""
        self.way.send((method, args))
        return self.way.recv()

    def end(self) -> None:
        self.way.close()  # it ends when it finds nobody at the other end
        self.process.join(_END_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


def _start(
    options: DbtOptions, introspection: Introspection | None, secret_scan: SecretScan | None
) -> _Child:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_serve, args=(options, introspection, secret_scan, theirs), name="dbt", daemon=True
    )
    process.start()
    theirs.close()
    return _Child(process, ours)


class ProjectSnapshot(DbtProject):
    """A project whose answers are those of one moment, and which never runs dbt in this process."""

    def __init__(
        self,
        options: DbtOptions,
        process: DbtProcess,
        selection: Selection,
        secret_scan: SecretScan | None = None,
    ) -> None:
        super().__init__(options, secret_scan=secret_scan)
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
    def _declared_files(self) -> Sequence[str]:
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
        return self._declared_files


# -- in the process ----------------------------------------------------------------------------


def _serve(
    options: DbtOptions,
    introspection: Introspection | None,
    secret_scan: SecretScan | None,
    way: Connection,
) -> None:
    """Answer calls until nobody is left to ask, however that came."""
    # Ctrl-C reaches all processes of a terminal: the parent process decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A full disk, or a reader that doesn't read, must not break off or stop what dbt does here.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    project = DbtProject(options, introspection=introspection, secret_scan=secret_scan)
    methods: Mapping[str, Callable[..., Any]] = {
        "picture": lambda selection: take_picture(project, selection),
        "compile": lambda unique_ids: dict(project.compile(unique_ids)),
        "tables": project.tables,
        "external_files": lambda: tuple(project.external_files()),
    }
    while True:
        try:
            method, args = way.recv()
        except EOFError:
            return
        try:
            answer: Any = methods[method](*args)
        except SentinelError as error:
            answer = error
        except Exception as error:  # noqa: BLE001 - it is for the one that asks
            # Not the exception itself: it may be one that can't be taken across.
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        with suppress(OSError):
            way.send(answer)
