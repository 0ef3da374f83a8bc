"""packages.yml, dependencies.yml and package-lock.yml: what dbt packages a project declares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sentinel import files
from sentinel.core.errors import ConfigError
from sentinel.dbt.files import ProjectFile, load_yaml
from sentinel.dbt.rendering import Renderer, Unrenderable
from sentinel.dbt.setup import vendored, yaml_edit

PACKAGES_FILE = "packages.yml"
DEPENDENCIES_FILE = "dependencies.yml"
LOCK_FILE = "package-lock.yml"

_KINDS = ("package", "git", "local", "tarball", "private")
# What dbt's own record of an entry holds besides what was written, by kind of entry.
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "local": {"local": None},
    "package": {"package": None, "version": None, "install_prerelease": False},
    "git": {"git": None, "revision": None, "warn-unpinned": None, "subdirectory": None},
    "private": {
        "private": None,
        "provider": None,
        "revision": None,
        "warn-unpinned": None,
        "subdirectory": None,
    },
    "tarball": {"tarball": None, "name": None},
}


@dataclass(frozen=True)
class Entry:
    """One declared package. `kind` is `local`, `package` (of the hub), `git`, ..."""

    kind: str
    source: str
    line: int
    raw: Mapping[str, Any]
    rendered: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The package's name, if its address contains it."""
        if "name" in self.raw:
            return str(self.raw["name"])
        last = self.source.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        return last.removesuffix(".git").replace("-", "_").lower()


@dataclass(frozen=True)
class Packages:
    """The file that declares packages, or the packages.yml that will. `text` is what it holds."""

    path: Path
    text: str
    entries: tuple[Entry, ...]
    lock_path: Path


@dataclass(frozen=True)
class Lock:
    """A package-lock.yml with the package in it; no text if it is to stay as it is."""

    text: str | None
    detail: str = ""


def read(root: Path, renderer: Renderer) -> Packages:
    """The packages of a project. Raises ConfigError where dbt would refuse them."""
    found = [
        name
        for name in (PACKAGES_FILE, DEPENDENCIES_FILE)
        if (root / name).exists() and "packages" in _mapping(root / name)
    ]
    if len(found) > 1:
        raise ConfigError(
            f"both {PACKAGES_FILE} and {DEPENDENCIES_FILE} have `packages`, which dbt refuses",
            hint="keep them in one of the two",
        )
    path = root / (found[0] if found else PACKAGES_FILE)
    text = files.read(path).decode("utf-8") if path.exists() else ""
    items = _mapping(path).get("packages") if path.exists() else None
    if not isinstance(items or [], list):
        raise ConfigError(f"{path}: `packages` is not a list", hint="as in `- local: folder`")
    lines = _lines(text)
    entries = tuple(
        _entry(path, item, line, renderer) for item, line in zip(items or [], lines, strict=True)
    )
    return Packages(path, text, entries, root / LOCK_FILE)


def lock(packages: Packages, folder: str) -> Lock | None:
    """The lock file with one more local package, still current; None if there is no lock file.

    dbt keeps the locked versions as long as the file's hash is that of the declared packages. A
    lock that isn't current is kept: dbt would resolve the packages again anyway.
    """
    if not packages.lock_path.exists():
        return None
    data = _mapping(packages.lock_path)
    before = [(entry.rendered, entry.raw) for entry in packages.entries]
    added = {"local": folder}
    for with_names in (False, True):
        if data.get("sha1_hash") == _hash(before, with_names):
            after = _hash([*before, (added, added)], with_names)
            break
    else:
        return Lock(None, "was not current: the next `dbt deps` resolves the packages again")
    text = files.read(packages.lock_path).decode("utf-8")
    try:
        text = yaml_edit.append(text, "packages", {**added, "name": vendored.PACKAGE})
        text = yaml_edit.put(text, ["sha1_hash"], after)
    except yaml_edit.CannotEditError:
        return Lock(None, "can't be edited: the next `dbt deps` resolves the packages again")
    return Lock(text)


def uninstalled(project: ProjectFile, packages: Packages, folder: str | None) -> tuple[str, ...]:
    """The declared packages, if fewer are installed than declared, which is dbt's own measure."""
    declared = [entry for entry in packages.entries if entry.source != folder]
    installed = [path for path in project.packages() if path.name != vendored.PACKAGE]
    if folder is None:
        installed = list(project.packages())
    return tuple(e.source for e in declared) if len(installed) < len(declared) else ()


def _hash(entries: list[tuple[Mapping[str, Any], Mapping[str, Any]]], with_names: bool) -> str:
    """dbt's hash of the declared packages. Some releases keep a name with every entry."""
    records = []
    for rendered, raw in entries:
        kind = next((kind for kind in _KINDS if kind in rendered), "local")
        record: dict[str, Any] = {**_FIELDS[kind], **rendered, "unrendered": dict(raw)}
        if with_names:
            record.setdefault("name", None)
        records.append(json.dumps(record, sort_keys=True))
    # SHA-1 is dbt's choice; nothing is kept secret by it.
    return hashlib.sha1("\n".join(sorted(records)).encode(), usedforsecurity=False).hexdigest()


def _mapping(path: Path) -> dict[str, Any]:
    data = load_yaml(path)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} is not a mapping", hint="as in `packages: [...]`")
    return data


def _lines(text: str) -> list[int]:
    """The line of each item under `packages`."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        for key, value in reversed(root.value):
            if key.value == "packages" and isinstance(value, yaml.SequenceNode):
                return [item.start_mark.line + 1 for item in value.value]
    return []


def _entry(path: Path, item: Any, line: int, renderer: Renderer) -> Entry:
    where = f"{path.name}:{line}"
    kinds = [kind for kind in _KINDS if isinstance(item, dict) and kind in item]
    if not kinds:
        raise ConfigError(f"{where}: not a package", hint="as in `- package: dbt-labs/dbt_utils`")
    try:
        rendered = {key: _rendered(value, renderer) for key, value in item.items()}
    except Unrenderable:
        rendered = item  # a secret of `dbt deps`, say: the entry is known by its text
    return Entry(kinds[0], str(rendered[kinds[0]]), line, item, rendered)


def _rendered(value: Any, renderer: Renderer) -> Any:
    if isinstance(value, list):
        return [_rendered(inner, renderer) for inner in value]
    return renderer.value(value)
