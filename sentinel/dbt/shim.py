"""dbt 1.9 to 1.12 inside this process. The only module that imports dbt.

It imports dbt when it is itself imported, which costs seconds: import it late. A model compiles in
some 10 ms here, against seconds for `dbt compile`.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from dbt.adapters.factory import get_adapter, register_adapter, reset_adapters
from dbt.cli.flags import Flags, args_to_context
from dbt.cli.main import dbtRunner
from dbt.compilation import Compiler
from dbt.config.runtime import RuntimeConfig
from dbt.context.providers import generate_runtime_macro_context
from dbt.context.query_header import generate_query_header_context
from dbt.contracts.graph.manifest import Manifest
from dbt.contracts.state import PreviousState
from dbt.events.logging import setup_event_logger
from dbt.flags import set_flags
from dbt.mp_context import get_mp_context
from dbt.tracking import initialize_from_flags
from dbt_common.context import set_invocation_context
from dbt_common.events.contextvars import task_contextvars
from dbt_common.events.event_manager_client import cleanup_event_logger
from dbt_common.exceptions import DbtBaseException, DbtRuntimeError
from dbt_common.invocation import reset_invocation_id

from sentinel.core.errors import ConfigError, ProjectError, WarehouseError
from sentinel.core.project import Compiled, Selection
from sentinel.dbt.engine import (
    LESSENING,
    Invocation,
    Node,
    chosen,
    clean,
    dbt_failed,
    selection_words,
)
from sentinel.dbt.reading import hold_adapter, reading

# dbt keeps flags, adapters and loggers in globals: one call at a time in this process, whatever
# the number of projects.
_DBT_IS_NOT_REENTRANT = threading.RLock()

_FAILED = ("error", "fail", "runtime error")


class PythonEngine:
    """dbt's own parser, selector and compiler."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._manifest: Manifest | None = None

    def parse(self) -> None:
        with self._reading():
            result = self._invoke(["parse"], None, [])
        if not isinstance(result, Manifest):
            raise dbt_failed("dbt parse returned no manifest")
        self._manifest = result

    def select(self, selection: Selection) -> frozenset[str]:
        manifest = self._parsed()
        with self._reading():
            result = self._invoke(["ls"], manifest, selection_words(selection))
        return frozenset(json.loads(line)["unique_id"] for line in result or ())

    def compile(self, nodes: Iterable[Node]) -> Mapping[str, Compiled]:
        manifest = self._parsed()
        with self._reading(parsed=True), _alone():
            try:
                config = self._begin("compile", manifest)
                hold_adapter(get_adapter(config))
                manifest = _deferred(manifest, config)
                with task_contextvars(project_root=config.project_root):
                    return {n.unique_id: _compile(n.unique_id, config, manifest) for n in nodes}
            except DbtBaseException as error:
                raise dbt_failed(error) from error

    def run(self, selection: Selection) -> None:
        try:
            self._invoke(["run"], self._parsed(), ["--no-empty", *chosen(selection)])
        finally:
            self._manifest = None  # dbt run compiles the manifest's own nodes: not to be reused

    @contextmanager
    def _reading(self, *, parsed: bool = False) -> Iterator[None]:
        """dbt, held to reading; with nobody else in it, since dbt's classes are changed for that."""
        invocation = self._invocation
        opener = None if invocation.offline else invocation.opener
        opening = None if opener is None else lambda by_dbt: opener(by_dbt, parsed)
        with _DBT_IS_NOT_REENTRANT, reading(invocation.folder, opening, invocation.offline):
            yield

    def _parsed(self) -> Manifest:
        if self._manifest is None:
            self.parse()
        if self._manifest is None:
            raise ProjectError("dbt has not parsed the project")
        return self._manifest

    def _invoke(self, command: list[str], manifest: Manifest | None, more: list[str]) -> Any:
        args = [*self._invocation.words(command[0]), *more]
        with _alone():
            outcome = dbtRunner(manifest=manifest).invoke(args)
        if isinstance(outcome.exception, KeyboardInterrupt | SystemExit):
            raise outcome.exception
        if outcome.exception is not None:
            raise dbt_failed(outcome.exception) from outcome.exception
        if not outcome.success:
            results = getattr(outcome.result, "results", ())
            failed = [str(result.message) for result in results if result.status in _FAILED]
            words = "\n".join(failed) or f"dbt {command[0]} failed"
            raise dbt_failed(words, command[0])
        return outcome.result

    def _begin(self, command: str, manifest: Manifest) -> RuntimeConfig:
        """What dbt does before a command: flags, invocation context, configuration, adapter."""
        config = _configured(self._invocation, command)
        adapter = get_adapter(config)
        adapter.set_macro_context_generator(generate_runtime_macro_context)
        adapter.set_macro_resolver(manifest)
        header = generate_query_header_context(adapter.config, manifest)
        adapter.connections.set_query_header(header)
        return config


class AdapterConnections:
    """Connections of a target as dbt's own adapter opens them."""

    def __init__(self, invocation: Invocation) -> None:
        """Raises ConfigError in dbt's words if the project, its profile or the adapter is wrong."""
        with _alone():
            try:
                config = _configured(invocation, "compile")
                self._manager: Any = get_adapter(config).connections
            except (DbtBaseException, ImportError) as error:
                raise ConfigError(
                    _words(error), hint="`dbt debug` shows the same; correct the profile"
                ) from None

    def open(self) -> Any:
        """A new connection's handle, which is the caller's to close.

        One at a time, since drivers may print meanwhile. Raises WarehouseError in dbt's words.
        """
        manager = self._manager
        with _alone():
            try:
                # Created by the manager, since adapters have their own connection classes.
                connection = manager.set_connection_name("sentinel")
                with manager.exception_handler("-- opening a connection"):
                    manager.open(connection)
                return connection.handle
            except DbtBaseException as error:
                raise WarehouseError(_words(error), hint="`dbt debug` tries the same") from None
            finally:
                # Its registry keeps one connection for each thread, and this one isn't dbt's.
                manager.clear_thread_connection()


def _words(error: Exception) -> str:
    """dbt's message without its heading of a line, such as "Database Error"."""
    return clean(getattr(error, "msg", error)) or type(error).__name__


def _configured(invocation: Invocation, command: str) -> RuntimeConfig:
    """Flags, invocation context, configuration, adapter: all that needs no manifest."""
    flags = Flags(args_to_context([*invocation.words(command), "--no-empty"]))
    set_flags(flags)  # type: ignore[no-untyped-call] # dbt is untyped here
    set_invocation_context(dict(os.environ))
    reset_invocation_id()
    setup_event_logger(flags)
    initialize_from_flags(  # type: ignore[no-untyped-call] # dbt is untyped here
        flags.SEND_ANONYMOUS_USAGE_STATS, flags.PROFILES_DIR
    )
    config = RuntimeConfig.from_args(flags)
    register_adapter(config, get_mp_context())
    return config


def _compile(unique_id: str, config: RuntimeConfig, manifest: Manifest) -> Compiled:
    """One model. dbt marks what it compiles, and a marked ephemeral model gives no CTE the second
    time: the model and its ephemeral parents are compiled as copies."""
    nodes = manifest.nodes
    node = nodes.get(unique_id)
    if node is None:
        return Compiled(unique_id, None, f"dbt knows no model {unique_id}")
    if str(getattr(node, "language", "sql")) != "sql":
        return Compiled(unique_id, None, "a Python model has no SQL")
    copies: dict[str, Any] = {
        i: copy.deepcopy(nodes[i]) for i in _with_ephemeral_parents(unique_id, nodes)
    }
    adapter = get_adapter(config)
    manifest.nodes = {**nodes, **copies}
    try:
        with adapter.connection_named(unique_id, copies[unique_id]):
            compiled = Compiler(config).compile_node(copies[unique_id], manifest, {}, write=False)
        return Compiled(unique_id, compiled.compiled_code)
    except Exception as error:  # noqa: BLE001 - the error of this model, whatever its Jinja raises
        if isinstance(error, DbtRuntimeError) and error.node is None:
            error.add_node(copies[unique_id])  # so that the message names model and file
        return Compiled(unique_id, None, clean(error) or type(error).__name__)
    finally:
        manifest.nodes = nodes


def _with_ephemeral_parents(unique_id: str, nodes: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    waiting = [unique_id]
    while waiting:
        current = waiting.pop()
        if current in found or current not in nodes:
            continue
        if current == unique_id or getattr(nodes[current], "is_ephemeral_model", False):
            found.add(current)
            waiting += nodes[current].depends_on_nodes
    return found


def _deferred(manifest: Manifest, config: RuntimeConfig) -> Manifest:
    """The manifest with the relations of another state, when --defer asks for them."""
    flags = config.args
    state = flags.defer_state or flags.state
    if not flags.defer:
        return manifest
    if not state:
        raise ProjectError("--defer needs --state", hint="give the folder of a manifest.json")
    previous = PreviousState(
        state_path=state,
        target_path=Path(config.target_path),
        project_root=Path(config.project_root),
    )
    if previous.manifest is None:
        raise ProjectError(f"no manifest.json in {state}", hint="correct --state")
    deferred = copy.copy(manifest)
    deferred.nodes = dict(manifest.nodes)
    deferred.merge_from_artifact(other=previous.manifest)
    return deferred


@contextmanager
def _alone() -> Iterator[None]:
    """dbt, with nobody else in it; after it no connection, logger or output is left behind."""
    with _DBT_IS_NOT_REENTRANT, redirect_stdout(sys.stderr):
        hidden = {name: os.environ.pop(name) for name in LESSENING & os.environ.keys()}
        try:
            yield
        finally:
            os.environ |= hidden
            _disconnect()
            cleanup_event_logger()


def _disconnect() -> None:
    """Close every connection, including the DuckDB file that dbt-duckdb keeps open."""
    reset_adapters()  # type: ignore[no-untyped-call] # dbt is untyped here
    duckdb = sys.modules.get("dbt.adapters.duckdb.connections")
    if duckdb is not None:
        manager: Any = duckdb.DuckDBConnectionManager
        environment = getattr(manager, "_ENV", None)
        if environment is not None:
            environment.close()
        manager.close_all_connections()
