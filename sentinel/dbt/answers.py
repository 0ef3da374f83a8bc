"""What dbt answered, kept under the stamp of the project it was asked about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sentinel import files
from sentinel.core.project import AlertSource, Owner, Selection, StoreTables
from sentinel.dbt.files import write_private
from sentinel.dbt.stamp import Stamp

_FORMAT = 1
# Selection methods that ask about something outside the project.
_OUTSIDE = ("state:", "result:", "source_status:")


@dataclass
class Answers:
    """The answers under one project stamp. `models` maps unique ids to fqns; `selections` and
    `compiled` grow as questions are asked."""

    stamp: Stamp
    alerts: list[AlertSource]
    models: dict[str, tuple[str, ...]]
    selections: dict[str, list[str]] = field(default_factory=dict)
    compiled: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TableAnswer:
    """Where the tables are, under the narrower base stamp."""

    stamp: Stamp
    tables: StoreTables


@dataclass
class Kept:
    """The file of answers; anything unreadable in it counts as not there."""

    path: Path
    answers: Answers | None = None
    tables: TableAnswer | None = None

    def load(self) -> Kept:
        try:
            data = json.loads(files.read(self.path))
        except (OSError, ValueError):
            data = {}
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            data = {}
        try:
            self.answers = _answers(data.get("project"))
            self.tables = _tables(data.get("base"))
        except (KeyError, TypeError, ValueError, AttributeError):
            self.answers = self.tables = None
        return self

    def save(self) -> None:
        """Raises ConfigError if the file can't be written."""
        data: dict[str, Any] = {"format": _FORMAT, "project": None, "base": None}
        if self.answers is not None:
            data["project"] = {**asdict(self.answers), "stamp": self.answers.stamp.as_json()}
        if self.tables is not None:
            tables = self.tables.tables
            data["base"] = {
                "stamp": self.tables.stamp.as_json(),
                "relations": dict(tables.relations),
                "version": tables.version,
            }
        write_private(self.path, json.dumps(data).encode())


def selection_key(selection: Selection) -> str:
    return json.dumps([selection.select, selection.exclude, selection.selector])


def looks_outside(selection: Selection, selectors_yml: str) -> bool:
    """Whether the answer to a selection may change while the project doesn't."""
    words = " ".join((*selection.select, *selection.exclude))
    if any(method in words for method in _OUTSIDE):
        return True
    # A selector may stand behind any selection (`default: true`, `selector:`): judged as one.
    uses_selectors = selection.selector or not selection or "selector:" in words
    methods = [method.rstrip(":") for method in _OUTSIDE]
    return bool(uses_selectors) and any(method in selectors_yml for method in methods)


def _answers(data: Mapping[str, Any] | None) -> Answers | None:
    stamp = Stamp.from_json(data and data.get("stamp"))
    if data is None or stamp is None:
        return None
    return Answers(
        stamp=stamp,
        alerts=[_alert(a) for a in data["alerts"]],
        models={k: tuple(v) for k, v in data["models"].items()},
        selections={k: list(v) for k, v in data["selections"].items()},
        compiled={k: str(v) for k, v in data["compiled"].items()},
    )


def _alert(data: dict[str, Any]) -> AlertSource:
    owner = data.pop("group_owner")
    for key in ("tags", "depends_on", "exposures"):
        data[key] = tuple(data[key])
    data["secrets"] = tuple(map(tuple, data["secrets"]))
    return AlertSource(**data, group_owner=None if owner is None else Owner(**owner))


def _tables(data: Mapping[str, Any] | None) -> TableAnswer | None:
    stamp = Stamp.from_json(data and data.get("stamp"))
    if data is None or stamp is None:
        return None
    return TableAnswer(stamp, StoreTables(dict(data["relations"]), data["version"]))
