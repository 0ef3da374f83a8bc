"""What dbt may do while it reads a project: query through a connection that only reads, and write
no file but dbt's artifacts.

dbt is in this process, and so is the project's Jinja: `run_query` reaches the warehouse, and a table
that it returns has `to_csv`. Sentinel replaces the connection; Python's audit events show the rest.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbt.adapters.contracts.connection import Connection, ConnectionState, LazyHandle
from dbt_common.exceptions import DbtRuntimeError

# Opens what an adapter calls the handle of a connection; its argument opens dbt's own.
Opening = Callable[[Callable[[], Any]], AbstractContextManager[Any]]

# Events of Python that change files: the positions of the paths among their arguments.
_CHANGES = {
    "os.chmod": (0,), "os.chown": (0,), "os.link": (0, 1), "os.mkdir": (0,), "os.remove": (0,),
    "os.rename": (0, 1), "os.rmdir": (0,), "os.symlink": (1,), "os.truncate": (0,),
}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")


# Methods of adapters that hand out a cursor, that run Python or a plugin, or that change the cache of
# relations, which all alerts share, before their query is refused.
_BEYOND_QUERIES = (
    "add_query", "submit_python_job", "store_relation", "run_sql_for_tests",
    "cache_added", "cache_dropped", "cache_renamed", "create_schema", "drop_schema",
    "drop_relation", "rename_relation", "truncate_relation", "expand_target_column_types",
)  # fmt: skip


@dataclass
class _Confinement:
    """What one thread is held to. `folder` is the only one it may write in."""

    thread: int
    folder: str
    offline: bool
    paused: bool = False


_current: _Confinement | None = None
_watching = False


@contextmanager
def reading(folder: Path, opening: Opening | None, offline: bool) -> Iterator[None]:
    """dbt with connections by `opening`, without one if that is None, and confined to `folder`.

    Not for two threads at once: dbt isn't either.
    """
    with _confined(folder, offline), ExitStack() as stack:
        connect = _Connect(opening, stack)
        original = LazyHandle.resolve

        def resolve(lazy: LazyHandle, connection: Connection) -> Connection:
            # The adapter's own `open` finds no lazy handle that it could resolve again.
            connection.handle = None
            connection.handle = connect(lambda: original(lazy, connection).handle)
            connection.state = ConnectionState.OPEN
            return connection

        LazyHandle.resolve = resolve  # type: ignore[method-assign, assignment]  # the one way to every handle
        try:
            yield
        finally:
            LazyHandle.resolve = original  # type: ignore[method-assign]


def hold_adapter(adapter: Any) -> None:
    """Take from Jinja those methods of an adapter that do more than query by its connection."""
    for name in _BEYOND_QUERIES:
        if hasattr(adapter, name):
            setattr(adapter, name, _refusal(name))
    # Nothing is committed, and there is nothing to begin: each query has its own transaction.
    for name in ("add_begin_query", "add_commit_query"):
        if hasattr(adapter.connections, name):
            setattr(adapter.connections, name, lambda: None)


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise DbtRuntimeError(f"adapter.{name} does more than read; compiling an alert only reads")

    return refuse


class _Connect:
    """One handle for everything that dbt asks meanwhile, or the same error again."""

    def __init__(self, opening: Opening | None, stack: ExitStack) -> None:
        self._opening = opening
        self._stack = stack
        self._handle: Any = None
        self._error: Exception | None = None

    def __call__(self, by_dbt: Callable[[], Any]) -> Any:
        if self._opening is None:
            raise DbtRuntimeError(
                "the project's Jinja asks the warehouse, which is not connected to now: put the "
                "query between {% if execute %} and {% endif %}"
            )
        if self._error is not None:
            raise self._error
        if self._handle is None:
            try:
                with unconfined():
                    self._handle = self._stack.enter_context(self._opening(by_dbt))
            except Exception as error:
                self._error = error  # waiting for a lock again, for each model, helps nobody
                raise
        return self._handle


# -- files and the network ---------------------------------------------------------------------


@contextmanager
def unconfined() -> Iterator[None]:
    """For code other than the project's Jinja: drivers open their own files and connections."""
    confinement = _current
    if confinement is None or confinement.paused:
        yield
        return
    confinement.paused = True
    try:
        yield
    finally:
        confinement.paused = False


@contextmanager
def _confined(folder: Path, offline: bool) -> Iterator[None]:
    global _current, _watching
    if not _watching:
        sys.addaudithook(_judge)  # there is no way to remove one
        _watching = True
    _current = _Confinement(threading.get_ident(), os.path.realpath(folder), offline)
    try:
        yield
    finally:
        _current = None


def _judge(event: str, arguments: tuple[Any, ...]) -> None:
    held = _current
    if held is None or held.paused or held.thread != threading.get_ident():
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITING:
            _refuse_outside(path, held)
    elif event in _CHANGES:
        for place in _CHANGES[event]:
            _refuse_outside(arguments[place], held)
    elif held.offline and event in _NETWORK:
        raise PermissionError("--offline opens no connection")


def _refuse_outside(path: Any, held: _Confinement) -> None:
    """PermissionError, which Python itself overlooks where it keeps bytecode."""
    if isinstance(path, int):  # a file that is open already
        return
    held.paused = True  # looking for links is an event as well
    try:
        real = os.path.realpath(os.fsdecode(path))
    finally:
        held.paused = False
    if real != os.devnull and not f"{real}/".startswith(f"{held.folder}/"):
        raise PermissionError(f"reading the dbt project writes no file: {os.fsdecode(path)}")
