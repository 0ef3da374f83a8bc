"""The parts of dbt_project.yml that Sentinel needs, and private files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sentinel import files
from sentinel.core.errors import ConfigError
from sentinel.core.yaml import LARGEST_FILE, TooMuchYaml
from sentinel.dbt.options import PROJECT_FILE
from sentinel.dbt.rendering import Computed, Renderer, has_jinja, read_yaml

_PATH_DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "model-paths": ("models",),
    "seed-paths": ("seeds",),
    "snapshot-paths": ("snapshots",),
    "analysis-paths": ("analyses",),
    "macro-paths": ("macros",),
    "test-paths": ("tests",),
    "function-paths": ("functions",),
}
_OLD_NAMES = {"model-paths": "source-paths", "seed-paths": "data-paths"}


@dataclass(frozen=True)
class ProjectFile:
    """A dbt_project.yml with dbt's defaults; paths are as written, relative to `root`."""

    root: Path
    name: str
    profile: str | None
    version: str | None
    paths: Mapping[str, tuple[str, ...]]
    docs_paths: tuple[str, ...]
    packages_install_path: str
    target_path: str
    clean_targets: tuple[str, ...]
    vars: Mapping[str, Any] = field(default_factory=dict)

    def declared(self, *kinds: str) -> Iterator[Path]:
        """The folders of the given kinds (`model-paths`, ...), or of every kind."""
        for kind in kinds or self.paths:
            for path in self.paths[kind]:
                yield self.root / path
        if not kinds:
            for path in self.docs_paths:
                yield self.root / path

    def packages(self) -> Iterator[Path]:
        """The folders of the installed packages, by name."""
        folder = self.root / self.packages_install_path
        if not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith("__"):
                yield path


def read_project(root: Path, renderer: Callable[[str | None], Renderer]) -> ProjectFile:
    """Read `root`/dbt_project.yml.

    `renderer` is called with the rendered profile name, after it is known, because the other
    values may use `target`. Raises ConfigError if the file is missing, broken, or has no name.
    """
    path = root / PROJECT_FILE
    if not path.is_file():
        raise ConfigError(
            f"no {PROJECT_FILE} in {root}",
            hint="go to a dbt project, or name it by --project-dir",
        )
    raw = load_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is not a mapping")
    if not isinstance(raw.get("name"), str):
        raise ConfigError(f"{path} has no name", hint="add `name: my_project`")
    profile = renderer(None).tree(raw.get("profile"), f"{path}: profile")
    later = renderer(None if profile is None else str(profile))

    def rendered(key: str) -> Any:
        return later.tree(raw.get(key), f"{path}: {key}")

    def folders(key: str) -> tuple[str, ...] | None:
        value = rendered(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise ConfigError(f"{path}: {key} is not a list", hint=f"as in `{key}: [folder]`")
        return tuple(str(item) for item in value)

    paths: dict[str, tuple[str, ...]] = {}
    for key, default in _PATH_DEFAULTS.items():
        found = folders(key)
        if found is None and key in _OLD_NAMES:
            found = folders(_OLD_NAMES[key])
        paths[key] = default if found is None else found
    target_path = str(rendered("target-path") or "target")
    variables = raw.get("vars")
    version = raw.get("version")
    return ProjectFile(
        root=root,
        name=raw["name"],
        profile=None if profile is None else _name(profile, raw.get("profile")),
        version=None if version is None else str(version),
        paths=paths,
        docs_paths=folders("docs-paths") or (),
        packages_install_path=str(rendered("packages-install-path") or "dbt_packages"),
        target_path=target_path,
        clean_targets=folders("clean-targets") or (target_path,),
        vars=variables if isinstance(variables, dict) else {},
    )


def _name(rendered: Any, written: Any) -> str:
    return Computed(rendered) if has_jinja(written) else str(rendered)


def load_yaml(path: Path, *, secret: bool = False) -> Any:
    """A YAML file's value. Raises ConfigError with file and line.

    With `secret`, nothing the parser quotes from the file gets into the message.
    """
    try:
        text = files.read(path, most=LARGEST_FILE).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"can't read {path}: {reason}") from error
    try:
        return read_yaml(text)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = str(error.problem or "broken YAML")
        if secret:
            problem = re.sub(r"(['\"]).*\1", "...", problem)
        # `from None`: the parser's own message quotes the line.
        raise ConfigError(f"{path}{line}: {problem}", hint="correct the YAML") from None
    except TooMuchYaml as error:
        raise ConfigError(f"{path}:{error.line}: {error}", hint="correct the YAML") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"{path} is not YAML", hint="correct the YAML") from None


def private_dir(path: Path) -> Path:
    """Make a folder only its owner can enter. Raises ConfigError if that is impossible."""
    try:
        files.make_private_folder(path)
    except OSError as error:
        raise ConfigError(
            f"can't use {path}: {error.strerror}", hint="choose another by --target-path"
        ) from error
    return path


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step, mode 0600. Raises ConfigError."""
    with writing(path):
        files.replace(path, content)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError in this block into a ConfigError that names the path."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror or error}") from error


def close_to_others(folder: Path) -> None:
    """Take other users' permissions from everything dbt wrote below a folder."""
    for root, _, names in os.walk(folder):
        Path(root).chmod(0o700)
        for name in names:
            file = Path(root, name)
            if not file.is_symlink():
                file.chmod(0o600)
