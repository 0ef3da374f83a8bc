"""A dbt project, asked as little as possible: what is still current is answered without dbt."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sentinel.core.errors import ProjectError
from sentinel.core.project import AlertSource, Compiled, Location, Selection, StoreTables, Watched
from sentinel.core.secret_scan import PatternScan, SecretScan, scan_source
from sentinel.dbt import manifest as reading
from sentinel.dbt.answer_cache import AnswerCache
from sentinel.dbt.answers import Answers, TableAnswer, looks_outside, selection_key
from sentinel.dbt.engine import Engine, Invocation, Node
from sentinel.dbt.engine_choice import make_engine
from sentinel.dbt.files import ProjectFile
from sentinel.dbt.locate import hidden_block, locate
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.profile import Profile
from sentinel.dbt.project_files import ProjectFiles
from sentinel.dbt.runner import DbtRunner, Introspection, external_root
from sentinel.dbt.stability import Stability
from sentinel.dbt.stamp import Stamp
from sentinel.ports import Relation


class DbtProject:
    """The `Project` port over dbt. Each call checks the files; safe to use from several threads.

    `notify` gets a phrase for each step that takes time; `warn` gets what makes the next command
    slow, and secrets that `secret_scan` can't find. Without `introspection`, or when it is
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
        secret_scan: SecretScan | None = None,
        offline: bool = False,
    ) -> None:
        self._files = ProjectFiles(options, env, cwd or Path.cwd())
        self._dbt = DbtRunner(self._files, notify, engine, introspection, offline=offline)
        self._warn = warn
        self._secret_scan = secret_scan or PatternScan()
        self._cache = AnswerCache(self._files, warn, self._secret_scan)
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        return self.file().name

    def file(self) -> ProjectFile:
        """dbt_project.yml. Raises ConfigError."""
        return self._files.project()

    def profile(self) -> Profile:
        """The chosen target of profiles.yml. Raises ConfigError."""
        return self._files.profile()

    @property
    def folder(self) -> Path:
        """`<target-path>/sentinel`, where all artifacts of Sentinel go."""
        return self._files.artifacts_dir(self.file())

    def alerts(self) -> Sequence[AlertSource]:
        with self._lock:
            return tuple(self._current().alerts)

    def select(self, selection: Selection) -> frozenset[str]:
        with self._lock:
            answers = self._current()
            selectors = self._files.selectors()
            if not selection and not selectors:
                return frozenset(answers.models)
            key = selection_key(selection)
            if key in answers.selections:
                return frozenset(answers.selections[key])
            selected = self._dbt.select(selection, answers.stamp)
            compares = self._files.options.compares_states
            if not compares and not looks_outside(selection, selectors):
                answers.selections[key] = sorted(selected)
                self._cache.save()
            return selected

    def compile(self, unique_ids: Iterable[str]) -> Mapping[str, Compiled]:
        with self._lock:
            answers = self._current()
            wanted = sorted(set(unique_ids))
            kept = answers.compiled
            compiled = {i: Compiled(i, kept[i]) for i in wanted if i in kept}
            missing = [i for i in wanted if i not in compiled]
            nodes = [Node(i, answers.models[i]) for i in missing if i in answers.models]
            if nodes:
                fresh = self._dbt.compile(nodes, answers.stamp)
                compiled |= fresh
                self._keep(answers, fresh)
            for i in missing:
                compiled.setdefault(i, Compiled(i, None, f"dbt has no model {i}"))
            return compiled

    def compile_stable(self, unique_ids: Iterable[str]) -> Mapping[str, str]:
        """The SQL of those models whose SQL stays the same while the project does."""
        with self._lock:
            wanted = tuple(unique_ids)
            self.compile(wanted)
            compiled = self._current().compiled
            return {i: compiled[i] for i in wanted if i in compiled}

    def tables(self) -> StoreTables:
        with self._lock:
            kept = self._cache.load()
            last = kept.tables
            if last and self._cache.stamp("base", self.file(), last.stamp) == last.stamp:
                return last.tables
            self._current()
            if kept.tables is None:
                raise ProjectError("the project changes while dbt reads it", hint="try again")
            return kept.tables.tables

    def make_tables(self) -> None:
        """Have dbt make Sentinel's own models on the warehouse. Raises ProjectError."""
        with self._lock:
            stamp = self._current().stamp
            self._dbt.run(Selection((f"package:{reading.PACKAGE}",)), stamp)

    def external_files(self) -> Sequence[str]:
        """The files outside of the warehouse that sources and external models declare.

        As they are written: relative ones start from the project's folder. Raises ProjectError as
        `alerts` does.
        """
        with self._lock:
            manifest = self._manifest(self._current().stamp)
            return tuple(reading.external_files(manifest, external_root(self.profile())))

    def relations(self) -> tuple[Sequence[Relation], Sequence[Relation]]:
        """The relations that alerts read, and Sentinel's own. Raises ProjectError as `alerts` does."""
        with self._lock:
            manifest = self._manifest(self._current().stamp)
            return reading.watched(manifest), reading.own_relations(manifest)

    def watched(self) -> Watched:
        """The files that a change of the project would touch. Raises ConfigError."""
        return self._files.watched()

    def locate(self, source: AlertSource, *keys: str) -> Location:
        root, prefix = self._files.home_of(source)
        location = locate(root, source, keys)
        return Location(prefix + location.path, location.line)

    def hidden_block(self, source: AlertSource) -> Location | None:
        root, prefix = self._files.home_of(source)
        location = hidden_block(root, source)
        return None if location is None else Location(prefix + location.path, location.line)

    def _current(self) -> Answers:
        """The answers for the project as it is now, after a parse if it has changed."""
        kept = self._cache.load()
        file = self.file()
        last = kept.answers
        stamp = self._cache.stamp("project", file, last.stamp if last else None)
        if last is not None and stamp == last.stamp:
            return last
        base = self._cache.stamp("base", file, kept.tables.stamp if kept.tables else None)
        manifest = self._dbt.parse(stamp)
        kept.answers = Answers(
            stamp=stamp,
            alerts=[scan_source(each, self._secret_scan) for each in reading.alerts(manifest)],
            models={n["unique_id"]: tuple(n["fqn"]) for n in reading.models(manifest)},
        )
        for problem in self._secret_scan.problems:
            self._warn(problem)
        version = self._files.package_version(file)
        kept.tables = TableAnswer(base, StoreTables(reading.tables(manifest), version))
        self._cache.save()
        return kept.answers

    def _manifest(self, stamp: Stamp) -> dict[str, Any]:
        """The manifest at this stamp; if it is damaged or missing, dbt creates it again."""
        try:
            return reading.load_manifest(self.folder / "manifest.json")
        except ProjectError:
            return self._dbt.parse(stamp)

    def _keep(self, answers: Answers, fresh: Mapping[str, Compiled]) -> None:
        """Keep the SQL of models whose SQL stays the same while the project does."""
        if self._files.options.compares_states:
            return  # --defer looks at the warehouse for every ref
        manifest = self._manifest(answers.stamp)
        stability = Stability(manifest, plain_vars=self._files.vars_are_plain())
        for unique_id, compiled in fresh.items():
            if compiled.sql is not None and stability.why_volatile(unique_id) is None:
                answers.compiled[unique_id] = compiled.sql
        self._cache.save()
