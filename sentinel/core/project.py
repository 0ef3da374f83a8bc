"""A dbt project's values that Sentinel uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Location:
    """A place in a file of the project; `path` is relative to the project, lines count from 1."""

    path: str
    line: int | None = None

    def __str__(self) -> str:
        return self.path if self.line is None else f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Owner:
    """The owner of a dbt group."""

    name: str | None = None
    email: str | None = None
    slack: str | None = None


@dataclass(frozen=True)
class AlertSource:
    """A dbt model with `config.meta.sentinel`, before its definition has been judged.

    `block` is `meta.sentinel` as written (any YAML value), `folder_defaults` is
    `meta.sentinel_defaults`. `depends_on` are the unique ids of the direct parents, `exposures`
    the names of the exposures downstream of those parents, `secrets` the keys of literal secrets in
    the definition (see core/secret_scan.py).
    """

    unique_id: str
    name: str
    path: str
    block: Any
    folder_defaults: Any = None
    package: str = ""
    patch_path: str | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    group_owner: Owner | None = None
    depends_on: tuple[str, ...] = ()
    exposures: tuple[str, ...] = ()
    secrets: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Selection:
    """dbt's node selection, as given on the command line; empty selects everything."""

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    selector: str | None = None

    def __bool__(self) -> bool:
        return bool(self.select or self.exclude or self.selector)

    def __str__(self) -> str:
        words = [f"--select {' '.join(self.select)}"] if self.select else []
        words += [f"--exclude {' '.join(self.exclude)}"] if self.exclude else []
        words += [f"--selector {self.selector}"] if self.selector else []
        return " ".join(words)


@dataclass(frozen=True)
class Compiled:
    """The SQL of one model after Jinja, ephemeral parents included; or why there is none."""

    unique_id: str
    sql: str | None
    error: str | None = None


@dataclass(frozen=True)
class StoreTables:
    """Where dbt has put Sentinel's tables: model name to fully qualified, quoted relation name.

    `version` is the version of the dbt package that the project has installed.
    """

    relations: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None


@dataclass(frozen=True)
class Watched:
    """What is watched: all below the `deep` folders, and these `names` directly in the `flat` ones
    ("*" for any)."""

    deep: frozenset[Path] = frozenset()
    flat: frozenset[tuple[Path, frozenset[str]]] = frozenset()
