"""Runs dbt on a project, one process at a time, with its artifacts in Sentinel's own folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sentinel import files
from sentinel.core.duration import format_duration
from sentinel.core.errors import ProjectError
from sentinel.core.project import Compiled, Selection
from sentinel.dbt.engine import Engine, Invocation, Node
from sentinel.dbt.engine_choice import make_engine
from sentinel.dbt.files import close_to_others, private_dir, write_private, writing
from sentinel.dbt.manifest import external_files, load_manifest
from sentinel.dbt.profile import Profile
from sentinel.dbt.project_files import ProjectFiles
from sentinel.dbt.stamp import Stamp

# How long another process may have dbt read the project, which takes minutes for a large one.
_LOCK_TIMEOUT = timedelta(minutes=5)
# Opens a connection that can only read, for what dbt asks while it reads a project: of a profile's
# target, with the project's folder, the files beside the warehouse that it declares, and what opens
# dbt's own connection.
Introspection = Callable[
    [Profile, Path, Callable[[], Sequence[str]], Callable[[], Any]], AbstractContextManager[Any]
]


class DbtRunner:
    """Runs dbt, which parses the project first where its stamp is not that of the last parse.

    The engine is made by the first call. Not for several threads at once. Every method raises
    ProjectError if dbt fails, without the profile's secrets, or if another process has the artifacts
    for too long, and ConfigError for a file that is wrong. `notify` gets a phrase for each step that
    takes time.
    """

    def __init__(
        self,
        project_files: ProjectFiles,
        notify: Callable[[str], None] = lambda _: None,
        make_engine: Callable[[Invocation], Engine] = make_engine,
        introspection: Introspection | None = None,
        *,
        offline: bool = False,
    ) -> None:
        """Without `introspection`, or when it is `offline`, dbt never reaches the warehouse."""
        self._files = project_files
        self._notify = notify
        self._make_engine = make_engine
        self._introspection = introspection
        self._offline = offline
        self._engine: Engine | None = None
        self._parsed: str | None = None  # the stamp at which the engine last parsed the project

    def parse(self, stamp: Stamp) -> dict[str, Any]:
        """The manifest of the project as it is now."""
        with self._running("", stamp, parse=True):
            return load_manifest(self._folder() / "manifest.json")

    def select(self, selection: Selection, stamp: Stamp) -> frozenset[str]:
        """The unique ids of the models that a selection names."""
        with self._running("selecting models", stamp) as engine:
            self._copy_sources()
            return engine.select(selection)

    def compile(self, nodes: Sequence[Node], stamp: Stamp) -> Mapping[str, Compiled]:
        """The compiled SQL of each node, or its error."""
        with self._running("compiling alerts", stamp) as engine:
            compiled = engine.compile(nodes)
        return {unique_id: self._scrubbed(each) for unique_id, each in compiled.items()}

    def run(self, selection: Selection, stamp: Stamp) -> None:
        """Build models on the warehouse."""
        with self._running("making Sentinel's tables", stamp) as engine:
            engine.run(selection)

    @contextmanager
    def _running(self, phrase: str, stamp: Stamp, *, parse: bool = False) -> Iterator[Engine]:
        """The engine, having parsed the project at this stamp, with its artifacts to itself."""
        project = self._files.project()
        folder = private_dir(self._files.artifacts_dir(project))
        engine = self._started(folder)
        try:
            with self._locked(folder / "lock"):
                # dbt opens what it finds there by name, and follows links.
                with writing(folder / "dbt"):
                    files.take_links_out(private_dir(folder / "dbt"))
                try:
                    if parse or self._parsed != stamp.value:
                        self._notify("parsing the dbt project")
                        engine.parse()
                        _publish_manifest(folder)
                        self._parsed = stamp.value
                    if phrase:
                        self._notify(phrase)
                    yield engine
                finally:
                    with writing(folder / "dbt"):
                        close_to_others(folder / "dbt")
        except ProjectError as error:
            scrubbed = self._files.profile_of(project).scrub(error.message)
            # `from None`: the cause may hold the secret.
            raise ProjectError(scrubbed, hint=error.hint) from None

    def _started(self, folder: Path) -> Engine:
        if self._engine is None:
            self._notify("starting dbt")
            self._engine = self._make_engine(
                Invocation(
                    self._files.options,
                    self._files.profiles_dir,
                    folder,
                    None if self._introspection is None else self._introspect,
                    self._offline,
                )
            )
        return self._engine

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """One process at a time: dbt rewrites its partial parse and manifest in place."""
        with writing(path):
            lock = files.lock(
                path,
                patience=_LOCK_TIMEOUT,
                waiting=lambda: self._notify("waiting for another process that reads the project"),
            )
        if lock is None:
            raise ProjectError(
                f"another process has locked {path} for {format_duration(_LOCK_TIMEOUT)}",
                hint="wait for it or end it, then try again",
            )
        try:
            yield
        finally:
            os.close(lock)

    def _introspect(self, by_dbt: Callable[[], Any], parsed: bool) -> AbstractContextManager[Any]:
        """The connection for what dbt asks; before a parse nobody knows the project's files."""
        assert self._introspection is not None
        profile, root = self._files.profile(), self._files.project().root

        def declared_files() -> Sequence[str]:
            if not parsed:
                return ()
            manifest = load_manifest(self._folder() / "manifest.json")
            return external_files(manifest, external_root(profile))

        return self._introspection(profile, root, declared_files, by_dbt)

    def _copy_sources(self) -> None:
        """`source_status:` compares with the sources.json of the user's target folder."""
        folder = self._folder()
        ours = folder / "dbt" / "sources.json"
        try:
            content = files.read(folder.parent / "sources.json")
        except OSError:
            with writing(ours):
                files.remove(ours)
        else:
            write_private(ours, content)

    def _scrubbed(self, compiled: Compiled) -> Compiled:
        if compiled.error is None:
            return compiled
        return Compiled(compiled.unique_id, None, self._files.profile().scrub(compiled.error))

    def _folder(self) -> Path:
        return self._files.artifacts_dir(self._files.project())


def external_root(profile: Profile) -> str:
    """The folder that relative external locations of dbt-duckdb start from."""
    return str(profile.credentials.get("external_root") or ".")


def _publish_manifest(folder: Path) -> None:
    """Copy dbt's manifest to where other processes read it, whole at any time."""
    written = folder / "dbt" / "manifest.json"
    try:
        manifest = files.read(written)
    except OSError as error:
        raise ProjectError(f"dbt left no manifest at {written}") from error
    write_private(folder / "manifest.json", manifest)
