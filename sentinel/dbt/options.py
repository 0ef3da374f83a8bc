"""The dbt flags a command was given, completed from the environment as dbt does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, cast

from sentinel.core.errors import UsageError

EngineChoice = Literal["auto", "python", "command"]

PROJECT_FILE = "dbt_project.yml"
PROFILES_FILE = "profiles.yml"

# Option to the names dbt knows it by, the strongest first. dbt 1.11 gave each variable a second
# name, DBT_ENGINE_<name>, which wins; the trailing ones are dbt's deprecated names.
_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "project_dir": ("PROJECT_DIR",),
    "profiles_dir": ("PROFILES_DIR",),
    "profile": ("PROFILE",),
    "target": ("TARGET",),
    "target_path": ("TARGET_PATH",),
    "state": ("STATE", "ARTIFACT_STATE_PATH"),
    "defer": ("DEFER", "DEFER_TO_STATE"),
    "favor_state": ("FAVOR_STATE", "FAVOR_STATE_MODE"),
}
_PATHS = {"project_dir", "profiles_dir", "target_path", "state"}
_SWITCHES = {"defer", "favor_state"}
_TRUE = {"1", "true", "t", "yes", "y", "on"}
_FALSE = {"0", "false", "f", "no", "n", "off"}


class DbtOptionValues(TypedDict, total=False):
    """The options named on the command line; None means not given."""

    project_dir: Path | None
    profiles_dir: Path | None
    profile: str | None
    target: str | None
    target_path: Path | None
    vars: str | None
    threads: int | None
    state: Path | None
    defer: bool | None
    favor_state: bool | None
    engine: EngineChoice | None


@dataclass(frozen=True)
class DbtOptions:
    """dbt's flags. `vars` is the YAML text of `--vars`; a relative `profiles_dir`
    counts from the working directory, relative `target_path` and `state` from the project, as in
    dbt."""

    project_dir: Path
    profiles_dir: Path | None = None
    profile: str | None = None
    target: str | None = None
    target_path: Path | None = None
    vars: str | None = None
    threads: int | None = None
    state: Path | None = None
    defer: bool = False
    favor_state: bool = False
    engine: EngineChoice = "auto"

    @property
    def compares_states(self) -> bool:
        """Whether dbt's answers depend on artifacts of another state: `--state` or `--defer`."""
        return self.state is not None or self.defer

    @classmethod
    def from_environment(
        cls, env: Mapping[str, str], cwd: Path, **given: Unpack[DbtOptionValues]
    ) -> DbtOptions:
        """What was given, then DBT_* variables, then dbt's defaults.

        Raises UsageError if a DBT_* variable can't be read.
        """
        values: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        for option, names in _VARIABLES.items():
            if option not in values and (found := _lookup(env, names)) is not None:
                values[option] = _convert(option, *found)
        values.setdefault("project_dir", find_project_dir(cwd))
        values["project_dir"] = cwd / values["project_dir"]
        known = {f.name for f in fields(cls)}
        return cls(**cast(Any, {k: v for k, v in values.items() if k in known}))


def find_project_dir(cwd: Path) -> Path:
    """The working directory or its nearest parent with a dbt_project.yml, else `cwd` itself."""
    return next((d for d in (cwd, *cwd.parents) if (d / PROJECT_FILE).is_file()), cwd)


def find_profiles_dir(options: DbtOptions, cwd: Path, home: Path) -> Path:
    """The directory of profiles.yml: the given one, otherwise here, the project's, or ~/.dbt."""
    if options.profiles_dir is not None:
        return cwd / options.profiles_dir.expanduser()
    for directory in (cwd, options.project_dir):
        if (directory / PROFILES_FILE).is_file():
            return directory
    return home / ".dbt"


def _lookup(env: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str] | None:
    for name in names:
        for variable in (f"DBT_ENGINE_{name}", f"DBT_{name}"):
            if env.get(variable):
                return variable, env[variable]
    return None


def _convert(option: str, variable: str, text: str) -> str | Path | bool:
    if option in _PATHS:
        return Path(text)
    if option not in _SWITCHES:
        return text
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise UsageError(f"{variable} must be true or false", hint=f"unset {variable}, or correct it")
