"""Sentinel's dbt package: where it ships, and the copy of it that a project keeps.

A copy holds `sentinel-package.json`, which lists its files. An upgrade removes what it listed and
no longer ships, and leaves alone what somebody added.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentinel
from sentinel.core.errors import ConfigError
from sentinel.dbt.files import load_yaml
from sentinel.dbt.options import PROJECT_FILE
from sentinel.files import read

PACKAGE = "sentinel"
RECORD = "sentinel-package.json"
_FOLDERS = ("dbt_package", "macros")
_NOTE = "Sentinel's dbt package, kept by `sentinel init --upgrade`. Edits here are overwritten."


@dataclass(frozen=True)
class Copy:
    """The package's files, by their path in it. `version` is None where none is recorded."""

    version: str | None
    files: Mapping[str, bytes]


def shipped() -> Copy:
    """The package as this Sentinel ships it: in the wheel, or at the root of its repository."""
    home = Path(sentinel.__file__).parent
    for folder in (home / "_package", home.parent):
        if package_name(folder) == PACKAGE:
            files = {name: (folder / name).read_bytes() for name in _names(folder)}
            version = str(load_yaml(folder / PROJECT_FILE)["version"])
            return Copy(version, {**files, RECORD: _record(version, files)})
    raise ConfigError(
        "this installation of Sentinel lacks its dbt package", hint="install dbt-sentinel again"
    )


def kept(folder: Path) -> Copy | None:
    """The copy in a project's folder; None if the folder doesn't hold one."""
    record = _read_record(folder)
    if record is None and not is_ours(folder):
        return None
    if record is None:
        version = load_yaml(folder / PROJECT_FILE).get("version")
        names = list(_names(folder))
    else:
        version = record.get("version")
        names = [name for name in (*record["files"], RECORD) if _inside(name)]
    files = {name: read(folder / name) for name in names if (folder / name).is_file()}
    return Copy(None if version is None else str(version), files)


def is_ours(folder: Path) -> bool:
    """Whether a folder holds Sentinel's dbt package, and not another one of that name."""
    return package_name(folder) == PACKAGE and (folder / "macros" / "as_of.sql").is_file()


def package_name(folder: Path) -> str | None:
    """The name of the dbt project in a folder; None where there is none to read."""
    if not (folder / PROJECT_FILE).is_file():
        return None
    try:
        project = load_yaml(folder / PROJECT_FILE)
    except ConfigError:
        return None
    name = project.get("name") if isinstance(project, dict) else None
    return name if isinstance(name, str) else None


def newer(version: str | None, than: str | None) -> bool:
    return _numbers(version) > _numbers(than)


def _numbers(version: str | None) -> tuple[int, ...]:
    parts = (version or "").split(".")
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in parts)


def _names(folder: Path) -> Iterator[str]:
    yield PROJECT_FILE
    for part in _FOLDERS:
        for path in sorted((folder / part).rglob("*")):
            name = path.relative_to(folder)
            hidden = any(p.startswith((".", "__")) for p in name.parts)
            if path.is_file() and not hidden:
                yield name.as_posix()


def _record(version: str, files: Mapping[str, bytes]) -> bytes:
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    record = {"package": PACKAGE, "version": version, "note": _NOTE, "files": sums}
    return (json.dumps(record, indent=2) + "\n").encode()


def _read_record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(read(folder / RECORD, most=1_000_000))
    except (OSError, ValueError):
        return None
    ours = isinstance(record, dict) and record.get("package") == PACKAGE
    return record if ours and isinstance(record.get("files"), dict) else None


def _inside(name: str) -> bool:
    """A record is read from the project, so its paths are not taken on trust."""
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts
