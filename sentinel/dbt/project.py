"""A dbt project, asked as little as possible: what is still current is answered without dbt."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sentinel import files
from sentinel.core.duration import format_duration
from sentinel.core.errors import ConfigError, ProjectError
from sentinel.core.project import AlertSource, Compiled, Location, Selection, StoreTables, Watched
from sentinel.dbt import manifest as reading
from sentinel.dbt.answers import Answers, Kept, TableAnswer, looks_outside, selection_key
from sentinel.dbt.engine import Engine, Invocation, Node
from sentinel.dbt.engine_choice import make_engine
from sentinel.dbt.files import (
    ProjectFile,
    close_to_others,
    private_dir,
    read_project,
    write_private,
    writing,
)
from sentinel.dbt.locate import hidden_block, locate
from sentinel.dbt.options import PROFILES_FILE, PROJECT_FILE, DbtOptions, find_profiles_dir
from sentinel.dbt.profile import Profile, read_profile
from sentinel.dbt.rendering import Renderer, has_jinja, parse_vars
from sentinel.dbt.stability import Stability
from sentinel.dbt.stamp import CONFIG_FILES, DefinitionContext, Scope, Stamp, stamp_key, take_stamp
from sentinel.ports import Relation

# How long another process may have dbt read the project, which takes minutes for a large one.
_PATIENCE = timedelta(minutes=5)
# Opens a connection that can only read, for what dbt asks while it reads a project: of a profile's
# target, with the project's folder, the files beside the warehouse that it declares, and what opens
# dbt's own connection.
Introspection = Callable[
    [Profile, Path, Callable[[], Sequence[str]], Callable[[], Any]], AbstractContextManager[Any]
]


class DbtProject:
    """The `Project` port over dbt. Files are looked at anew in each call; safe to share by threads.

    `notify` is told, in a few words, what takes time; `warn` gets what makes the next command slow.
    Without `introspection`, or when it is
    `offline`, nothing in the project reaches the warehouse.
    """

    def __init__(
        self,
        options: DbtOptions,
        *,
        notify: Callable[[str], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
        env: Mapping[str, str] = os.environ,
        cwd: Path | None = None,
        engine: Callable[[Invocation], Engine] = make_engine,
        introspection: Introspection | None = None,
        offline: bool = False,
    ) -> None:
        self._cwd = cwd or Path.cwd()
        self._options = replace(options, project_dir=self._cwd / options.project_dir)
        self._notify = notify
        self._warn = warn
        self._env = env
        self._make_engine = engine
        self._introspection = introspection
        self._offline = offline
        self._engine: Engine | None = None
        self._kept: Kept | None = None
        self._own_key = secrets.token_bytes(32)
        self._warned = False
        self._parsed: str | None = None  # the stamp at which the engine last read the project
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        return self.file().name

    def file(self) -> ProjectFile:
        """dbt_project.yml. Raises ConfigError."""
        return read_project(self._options.project_dir, self._renderer)

    def profile(self) -> Profile:
        """The chosen target of profiles.yml. Raises ConfigError."""
        return self._read_profile(self.file().profile)

    @property
    def folder(self) -> Path:
        """`<target-path>/sentinel`, where all artifacts of Sentinel go."""
        return self._folder(self.file())

    def alerts(self) -> Sequence[AlertSource]:
        with self._lock:
            return tuple(self._current().alerts)

    def select(self, selection: Selection) -> frozenset[str]:
        with self._lock:
            answers = self._current()
            selectors = self._selectors_yml()
            if not selection and not selectors:
                return frozenset(answers.models)
            key = selection_key(selection)
            if key in answers.selections:
                return frozenset(answers.selections[key])
            with self._dbt("selecting models", answers.stamp) as engine:
                self._lend_sources()
                found = engine.select(selection)
            if not self._compares_states() and not looks_outside(selection, selectors):
                answers.selections[key] = sorted(found)
                self._save()
            return found

    def compile(self, unique_ids: Iterable[str]) -> Mapping[str, Compiled]:
        with self._lock:
            answers = self._current()
            wanted = sorted(set(unique_ids))
            found = {i: Compiled(i, answers.compiled[i]) for i in wanted if i in answers.compiled}
            missing = [i for i in wanted if i not in found]
            nodes = [Node(i, answers.models[i]) for i in missing if i in answers.models]
            if nodes:
                with self._dbt("compiling alerts", answers.stamp) as engine:
                    fresh = engine.compile(nodes)
                found |= {i: self._scrubbed(c) for i, c in fresh.items()}
                self._keep(answers, fresh)
            for i in missing:
                found.setdefault(i, Compiled(i, None, f"dbt has no model {i}"))
            return found

    def compile_stable(self, unique_ids: Iterable[str]) -> Mapping[str, str]:
        """The SQL of those models whose SQL stays the same while the project does."""
        with self._lock:
            wanted = tuple(unique_ids)
            self.compile(wanted)
            compiled = self._current().compiled
            return {i: compiled[i] for i in wanted if i in compiled}

    def tables(self) -> StoreTables:
        with self._lock:
            kept = self._load()
            file = self.file()
            last = kept.tables
            if last is not None and self._stamp("base", file, last.stamp) == last.stamp:
                return last.tables
            self._current()
            if kept.tables is None:
                raise ProjectError("the project changes while dbt reads it", hint="try again")
            return kept.tables.tables

    def make_tables(self) -> None:
        """Have dbt make Sentinel's own models on the warehouse. Raises ProjectError."""
        with self._lock:
            answers = self._current()
            with self._dbt("making Sentinel's tables", answers.stamp) as engine:
                engine.run(Selection((f"package:{reading.PACKAGE}",)))

    def external_files(self) -> Sequence[str]:
        """The files outside of the warehouse that sources and external models declare.

        As they are written: relative ones start from the project's folder. Raises ProjectError as
        `alerts` does.
        """
        with self._lock:
            manifest = self._manifest(self._current())
            root = self.profile().credentials.get("external_root") or "."
            return tuple(reading.external_files(manifest, str(root)))

    def relations(self) -> tuple[Sequence[Relation], Sequence[Relation]]:
        """The relations that alerts read, and Sentinel's own. Raises ProjectError as `alerts` does."""
        with self._lock:
            manifest = self._manifest(self._current())
            return reading.watched(manifest), reading.own_relations(manifest)

    def watched(self) -> Watched:
        """The files that a change of the project would touch, as far as folders tell.

        Raises ConfigError.
        """
        file = self.file()
        packages = self._packages(file)
        deep = {path for each in (file, *packages) for path in each.declared()}
        declared = {path.name for path in deep}
        here = frozenset({*CONFIG_FILES, "sentinel.yml", *declared})
        flat = {(each.root, here) for each in (file, *packages)}
        flat.add((file.root / file.packages_install_path, frozenset({"*"})))
        flat.add((self._profiles_dir(), frozenset({PROFILES_FILE})))
        return Watched(frozenset(deep), frozenset(flat))

    def locate(self, source: AlertSource, *keys: str) -> Location:
        root, shown = self._home(source)
        found = locate(root, source, keys)
        return Location(shown + found.path, found.line)

    def hidden_block(self, source: AlertSource) -> Location | None:
        root, shown = self._home(source)
        found = hidden_block(root, source)
        return None if found is None else Location(shown + found.path, found.line)

    def _home(self, source: AlertSource) -> tuple[Path, str]:
        """The folder that a model's paths start from, and what leads there from the project."""
        file = self.file()
        if not source.package or source.package == file.name:
            return file.root, ""
        folder = f"{file.packages_install_path}/{source.package}"
        return file.root / folder, f"{folder}/"

    # What is current

    def _current(self) -> Answers:
        """The answers for the project as it is now, after a parse if it has changed."""
        kept = self._load()
        file = self.file()
        last = kept.answers
        stamp = self._stamp("project", file, last.stamp if last else None)
        if last is not None and stamp == last.stamp:
            return last
        base = self._stamp("base", file, kept.tables.stamp if kept.tables else None)
        with self._dbt("", stamp, parse=True):
            manifest = reading.load_manifest(self.folder / "manifest.json")
        kept.answers = Answers(
            stamp=stamp,
            alerts=reading.alerts(manifest),
            models={n["unique_id"]: tuple(n["fqn"]) for n in reading.models(manifest)},
        )
        relations = reading.tables(manifest)
        kept.tables = TableAnswer(base, StoreTables(relations, self._package_version(file)))
        self._save()
        return kept.answers

    def _manifest(self, answers: Answers) -> dict[str, Any]:
        """The manifest that these answers are from; where it is torn or gone, dbt makes it anew."""
        path = self.folder / "manifest.json"
        try:
            return reading.load_manifest(path)
        except ProjectError:
            with self._dbt("", answers.stamp, parse=True):
                return reading.load_manifest(path)

    def _keep(self, answers: Answers, fresh: Mapping[str, Compiled]) -> None:
        if self._compares_states():
            return  # --defer looks at the warehouse for every ref
        manifest = self._manifest(answers)
        stability = Stability(manifest, plain_vars=self._plain_vars())
        for unique_id, compiled in fresh.items():
            if compiled.sql is not None and stability.why_volatile(unique_id) is None:
                answers.compiled[unique_id] = compiled.sql
        self._save()

    def _compares_states(self) -> bool:
        return self._options.state is not None or self._options.defer

    def _plain_vars(self) -> bool:
        file = self.file()
        given = [parse_vars(self._options.vars), file.vars, *(p.vars for p in self._packages(file))]
        return not any(has_jinja(v) for v in given)

    def _load(self) -> Kept:
        if self._kept is None:
            self._kept = Kept(private_dir(self.folder) / "answers.json").load()
        return self._kept

    def _save(self) -> None:
        if self._kept is not None:
            try:
                self._kept.save()
            except ConfigError as error:
                self._nothing_kept(error)

    def _key(self, folder: Path) -> bytes:
        try:
            return stamp_key(folder)
        except ConfigError as error:
            self._nothing_kept(error)
            return self._own_key

    def _nothing_kept(self, error: ConfigError) -> None:
        """dbt's answers serve this process alone, which works all the same."""
        if not self._warned:
            self._warned = True
            self._warn(f"{error.message}; dbt parses the project again for the next command")

    def _stamp(self, scope: Scope, file: ProjectFile, last: Stamp | None) -> Stamp:
        folder = private_dir(self._folder(file))
        around = DefinitionContext(
            options=self._options,
            profiles_dir=self._profiles_dir(),
            target_dir=folder.parent,
            adapter=self._read_profile(file.profile).type,
            engine=self._options.engine,
            env=self._env,
            key=self._key(folder),
        )
        return take_stamp(scope, file, self._packages(file), around, last)

    # dbt

    @contextmanager
    def _dbt(self, phrase: str, stamp: Stamp, *, parse: bool = False) -> Iterator[Engine]:
        """The engine, having read the project at this stamp, with its artifacts to itself."""
        file = self.file()
        folder = private_dir(self._folder(file))
        if self._engine is None:
            self._notify("starting dbt")
            self._engine = self._make_engine(
                Invocation(
                    self._options,
                    self._profiles_dir(),
                    folder,
                    None if self._introspection is None else self._open,
                    self._offline,
                )
            )
        try:
            with self._locked(folder / "lock"):
                # dbt opens what it finds there by name, and follows links.
                with writing(folder / "dbt"):
                    files.take_links_out(private_dir(folder / "dbt"))
                try:
                    if parse or self._parsed != stamp.value:
                        self._notify("parsing the dbt project")
                        self._engine.parse()
                        self._publish(folder)
                        self._parsed = stamp.value
                    if phrase:
                        self._notify(phrase)
                    yield self._engine
                finally:
                    with writing(folder / "dbt"):
                        close_to_others(folder / "dbt")
        except ProjectError as error:
            scrubbed = self._read_profile(file.profile).scrub(error.message)
            # `from None`: the cause may hold the secret.
            raise ProjectError(scrubbed, hint=error.hint) from None

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """One process at a time: dbt rewrites its partial parse and manifest in place."""
        with writing(path):
            lock = files.lock(
                path,
                patience=_PATIENCE,
                waiting=lambda: self._notify("waiting for another process that reads the project"),
            )
        if lock is None:
            raise ProjectError(
                f"another process has locked {path} for {format_duration(_PATIENCE)}",
                hint="wait for it or end it, then try again",
            )
        try:
            yield
        finally:
            os.close(lock)

    def _open(self, by_dbt: Callable[[], Any], parsed: bool) -> AbstractContextManager[Any]:
        """The connection for what dbt asks; before a parse nobody knows the project's files."""
        assert self._introspection is not None
        profile, root = self.profile(), self.file().root

        def files() -> Sequence[str]:
            external = str(profile.credentials.get("external_root") or ".")
            manifest = reading.load_manifest(self.folder / "manifest.json") if parsed else None
            return reading.external_files(manifest, external) if manifest else ()

        return self._introspection(profile, root, files, by_dbt)

    def _lend_sources(self) -> None:
        """`source_status:` compares with the sources.json of the user's target folder."""
        theirs = self.folder.parent / "sources.json"
        ours = self.folder / "dbt" / "sources.json"
        try:
            content = files.read(theirs)
        except OSError:
            with writing(ours):
                files.remove(ours)
        else:
            write_private(ours, content)

    def _publish(self, folder: Path) -> None:
        made = folder / "dbt" / "manifest.json"
        try:
            manifest = files.read(made)
        except OSError as error:
            raise ProjectError(f"dbt left no manifest at {made}") from error
        write_private(folder / "manifest.json", manifest)

    def _scrubbed(self, compiled: Compiled) -> Compiled:
        if compiled.error is None:
            return compiled
        return Compiled(compiled.unique_id, None, self.profile().scrub(compiled.error))

    # The project's files

    def _folder(self, file: ProjectFile) -> Path:
        target = self._options.target_path or Path(file.target_path)
        return file.root / target / "sentinel"

    def _profiles_dir(self) -> Path:
        return find_profiles_dir(self._options, self._cwd, Path.home())

    def _read_profile(self, name: str | None) -> Profile:
        return read_profile(self._options, name, env=self._env, cwd=self._cwd)

    def _renderer(self, profile: str | None) -> Renderer:
        target = None if profile is None else _LazyTarget(lambda: self._read_profile(profile))
        return Renderer(self._env, parse_vars(self._options.vars), target=target)

    def _packages(self, file: ProjectFile) -> list[ProjectFile]:
        return [
            read_project(path, self._renderer)
            for path in file.packages()
            if (path / PROJECT_FILE).is_file()
        ]

    def _package_version(self, file: ProjectFile) -> str | None:
        root = file.root / file.packages_install_path / reading.PACKAGE
        if not (root / PROJECT_FILE).is_file():
            return None
        return read_project(root, self._renderer).version

    def _selectors_yml(self) -> str:
        try:
            return files.read(self._options.project_dir / "selectors.yml").decode("utf-8")
        except (OSError, UnicodeDecodeError):
            return ""


class _LazyTarget:
    """Jinja's `target` in dbt_project.yml; the profile is read only if a value asks for it."""

    def __init__(self, read: Callable[[], Profile]) -> None:
        self._read = read

    def __getitem__(self, key: str) -> Any:
        return self._read().as_target()[key]

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self[key]
        except KeyError as error:
            raise AttributeError(key) from error
