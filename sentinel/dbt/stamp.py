"""Has the project changed? Judged without dbt, from what dbt would read.

A stamp covers the files dbt would read (path, size, times), the flags, the values of all
environment variables named in those files, and the versions of everything involved, channels
included. It is an HMAC with a random key kept beside it, so that values of variables can't be
guessed from it.
"""

from __future__ import annotations

import hmac
import json
import os
import platform
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from sentinel.core.errors import ConfigError
from sentinel.dbt.files import ProjectFile, write_private
from sentinel.dbt.options import PROFILES_FILE, PROJECT_FILE, DbtOptions
from sentinel.files import Refused, read

Scope = Literal["project", "base"]

CONFIG_FILES = (
    PROJECT_FILE,
    "packages.yml",
    "dependencies.yml",
    "package-lock.yml",
    "selectors.yml",
    "catalogs.yml",
    ".dbtignore",
)
# What these hold can't change where Sentinel's own tables are.
_NOT_IN_BASE = {"model-paths", "seed-paths", "snapshot-paths", "test-paths", "analysis-paths"}
_SKIPPED_FOLDERS = {".git", "__pycache__", ".venv", "node_modules"}
_WITHOUT_JINJA = {".csv", ".parquet", ".json", ".png", ".jpg", ".gif", ".svg"}
_ENV_CALL = re.compile(rb"env_var\s*\(\s*(?:(['\"])([A-Za-z_][A-Za-z0-9_]*)\1\s*[,)])?")
# File systems' times have a resolution of up to 10 ms.
_TICK_NS = 20_000_000


@dataclass(frozen=True)
class Stamp:
    """`value` is the stamp; `files` and `env_names` let the next one be taken without reading
    the files. `env_names` is None if some name is computed: then every variable counts."""

    value: str
    files: str
    env_names: tuple[str, ...] | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Stamp | None:
        try:
            names = data["env_names"]
            known = None if names is None else tuple(str(n) for n in names)
            return cls(str(data["value"]), str(data["files"]), known)
        except (KeyError, TypeError):
            return None


@dataclass(frozen=True)
class StampInputs:
    """All that decides what dbt makes of a project, besides its files.

    `secret_scan` is the version of the scan for secrets, whose verdicts are kept with the answers.
    """

    options: DbtOptions
    profiles_dir: Path
    target_dir: Path
    adapter: str
    engine: str
    env: Mapping[str, str]
    key: bytes
    secret_scan: str


def take_stamp(
    scope: Scope,
    project: ProjectFile,
    packages: Iterable[ProjectFile],
    around: StampInputs,
    last: Stamp | None,
) -> Stamp:
    """The stamp of the project as it is now.

    `last` saves reading the files for the names of variables, if none has changed since.
    """
    paths = sorted(set(_files(scope, project, packages, around)))
    facts = _facts(paths)
    files = _digest(around.key, facts)
    names = last.env_names if last and last.files == files else _env_names(paths)
    return Stamp(
        _digest(around.key, [files, _values(around.env, names), _flags(around)]), files, names
    )


def stamp_key(folder: Path) -> bytes:
    """The key of this project's stamps, made on first use."""
    path = folder / "stamp.key"
    try:
        key = read(path, most=64)
    except (FileNotFoundError, Refused):
        key = b""
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    if len(key) != 32:
        key = secrets.token_bytes(32)
        write_private(path, key)
    return key


def _files(
    scope: Scope, project: ProjectFile, packages: Iterable[ProjectFile], around: StampInputs
) -> Iterator[Path]:
    yield around.profiles_dir / PROFILES_FILE
    avoid = {around.target_dir.resolve(), (project.root / project.packages_install_path).resolve()}
    kinds = [k for k in project.paths if scope == "project" or k not in _NOT_IN_BASE]
    folders = list(project.declared(*kinds))
    if scope == "project":
        folders += [project.root / path for path in project.docs_paths]
    yield from (project.root / name for name in CONFIG_FILES)
    yield from _below(folders, avoid)
    for package in packages:
        yield from (package.root / name for name in CONFIG_FILES)
        nested = {*avoid, (package.root / package.packages_install_path).resolve()}
        yield from _below(package.declared(), nested)


def _below(folders: Iterable[Path], avoid: set[Path]) -> Iterator[Path]:
    """All files below the folders, through links as dbt goes, but never in circles."""
    for folder in folders:
        seen = set(avoid)
        for root, dirs, names in os.walk(folder, followlinks=True):
            real = Path(root).resolve()
            if real in seen:
                dirs.clear()
                continue
            seen.add(real)
            dirs[:] = [d for d in dirs if d not in _SKIPPED_FOLDERS]
            yield from (Path(root, name) for name in names)


def _facts(paths: Iterable[Path]) -> list[tuple[str, int, int, int]]:
    """Path, size and times of the files there are.

    A file just written may be written again within the same tick of its clock and keep its
    times: then the tick is waited out, so that a later change is sure to show.
    """
    wanted = list(paths)
    facts = _stat(wanted)
    newest = max((fact[3] for fact in facts), default=0)
    if 0 <= time.time_ns() - newest < _TICK_NS:
        time.sleep(_TICK_NS / 1e9)
        facts = _stat(wanted)
    return facts


def _stat(paths: Iterable[Path]) -> list[tuple[str, int, int, int]]:
    facts = []
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue
        facts.append((str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    return facts


def _env_names(paths: Iterable[Path]) -> tuple[str, ...] | None:
    names: set[str] = set()
    for path in paths:
        if path.suffix.lower() in _WITHOUT_JINJA:
            continue
        try:
            text = read(path)
        except OSError:
            continue
        for call in _ENV_CALL.finditer(text):
            if call.group(2) is None:
                return None
            names.add(call.group(2).decode())
    return tuple(sorted(names))


def _values(env: Mapping[str, str], names: tuple[str, ...] | None) -> dict[str, str | None]:
    if names is None:
        return dict(sorted(env.items()))
    wanted = {*names, *(name for name in env if name.startswith("DBT_"))}
    return {name: env.get(name) for name in sorted(wanted)}


def _flags(around: StampInputs) -> dict[str, Any]:
    options = around.options
    return {
        "project_dir": str(options.project_dir),
        "profiles_dir": str(around.profiles_dir),
        "target_dir": str(around.target_dir),
        "profile": options.profile,
        "target": options.target,
        "vars": options.vars,
        "state": None if options.state is None else str(options.state),
        "defer": options.defer,
        "favor_state": options.favor_state,
        "engine": around.engine,
        "secret_scan": around.secret_scan,
        # dbt-loom reads other projects' manifests from anywhere: never the same twice.
        "loom": secrets.token_hex() if _uses_loom(around) else None,
        "python": platform.python_version(),
        "versions": {
            name: _version(name)
            for name in (
                "dbt-core",
                "dbt-adapters",
                "dbt-common",
                f"dbt-{around.adapter}",
                "dbt-sentinel",
            )
        },
    }


def _uses_loom(around: StampInputs) -> bool:
    config = around.options.project_dir / "dbt_loom.config.yml"
    return config.is_file() or "DBT_LOOM_CONFIG" in around.env


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _digest(key: bytes, value: Any) -> str:
    return hmac.digest(key, json.dumps(value, sort_keys=True).encode(), "sha256").hex()
