"""The files of a dbt project that Sentinel reads itself, without dbt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentinel import files
from sentinel.core.project import AlertSource, Watched
from sentinel.dbt.files import ProjectFile, read_project
from sentinel.dbt.manifest import PACKAGE
from sentinel.dbt.options import PROFILES_FILE, PROJECT_FILE, DbtOptions, find_profiles_dir
from sentinel.dbt.profile import Profile, read_profile
from sentinel.dbt.rendering import Renderer, has_jinja, parse_vars
from sentinel.dbt.stamp import CONFIG_FILES


class ProjectFiles:
    """dbt_project.yml, profiles.yml and the installed packages, read in each call.

    `options.project_dir` is relative to `cwd`. Every method raises ConfigError for a file that is
    missing or wrong.
    """

    def __init__(self, options: DbtOptions, env: Mapping[str, str], cwd: Path) -> None:
        self.options = replace(options, project_dir=cwd / options.project_dir)
        self.env = env
        self._cwd = cwd

    def project(self) -> ProjectFile:
        """dbt_project.yml."""
        return read_project(self.options.project_dir, self._renderer)

    def profile(self) -> Profile:
        """The chosen target of profiles.yml."""
        return self.profile_of(self.project())

    def profile_of(self, project: ProjectFile) -> Profile:
        """The chosen target of the profile that this dbt_project.yml names."""
        return self._read_profile(project.profile)

    @property
    def profiles_dir(self) -> Path:
        return find_profiles_dir(self.options, self._cwd, Path.home())

    def artifacts_dir(self, project: ProjectFile) -> Path:
        """`<target-path>/sentinel`, where all artifacts of Sentinel go."""
        target = self.options.target_path or Path(project.target_path)
        return project.root / target / "sentinel"

    def packages(self, project: ProjectFile) -> list[ProjectFile]:
        """The dbt_project.yml of each installed package."""
        return [
            read_project(path, self._renderer)
            for path in project.packages()
            if (path / PROJECT_FILE).is_file()
        ]

    def package_version(self, project: ProjectFile) -> str | None:
        """The version of Sentinel's dbt package in this project, or None without the package."""
        root = project.root / project.packages_install_path / PACKAGE
        if not (root / PROJECT_FILE).is_file():
            return None
        return read_project(root, self._renderer).version

    def selectors(self) -> str:
        """The text of selectors.yml; empty if there is none that can be read."""
        try:
            return files.read(self.options.project_dir / "selectors.yml").decode("utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def vars_are_plain(self) -> bool:
        """Whether no var of the project, its packages or the command line holds Jinja."""
        project = self.project()
        packages = self.packages(project)
        given = [parse_vars(self.options.vars), project.vars, *(each.vars for each in packages)]
        return not any(has_jinja(each) for each in given)

    def watched(self) -> Watched:
        """The files and directories whose changes affect the project."""
        project = self.project()
        packages = self.packages(project)
        deep = {path for each in (project, *packages) for path in each.declared()}
        declared = {path.name for path in deep}
        here = frozenset({*CONFIG_FILES, "sentinel.yml", *declared})
        flat = {(each.root, here) for each in (project, *packages)}
        flat.add((project.root / project.packages_install_path, frozenset({"*"})))
        flat.add((self.profiles_dir, frozenset({PROFILES_FILE})))
        return Watched(frozenset(deep), frozenset(flat))

    def home_of(self, source: AlertSource) -> tuple[Path, str]:
        """The folder that a model's path starts from, and its prefix within the project."""
        project = self.project()
        if not source.package or source.package == project.name:
            return project.root, ""
        folder = f"{project.packages_install_path}/{source.package}"
        return project.root / folder, f"{folder}/"

    def _read_profile(self, name: str | None) -> Profile:
        return read_profile(self.options, name, env=self.env, cwd=self._cwd)

    def _renderer(self, profile: str | None) -> Renderer:
        target = None if profile is None else _LazyTarget(lambda: self._read_profile(profile))
        return Renderer(self.env, parse_vars(self.options.vars), target=target)


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
