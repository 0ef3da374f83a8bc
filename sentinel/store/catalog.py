"""What a warehouse's catalog says about the tables, and whether Sentinel may use them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sentinel.core.errors import (
    StoreError,
    TablesForeign,
    TablesMissing,
    TablesOutdated,
    TablesReadOnly,
)
from sentinel.store.tables import Table

_MAKE_TABLES = "`dbt run -s package:sentinel` makes them (`sentinel init` too)"
_OWN_INSTEAD = "`dbt run -s package:sentinel` creates a separate table in its place"
_TAKE_OVER = (
    "after an upgrade of Sentinel, or if the original was moved or restored, `dbt run -s "
    "package:sentinel --vars 'sentinel_take_over: keep'` keeps its rows; if it is a copy, `empty` instead "
    "of `keep` deletes them"
)
_PART = re.compile(r'"((?:[^"]|"")*)"|`([^`]*)`|([^."`]+)')
_PRIVILEGES = ("select", "insert", "update", "delete")


@dataclass(frozen=True)
class Relation:
    """One relation as its warehouse describes it.

    `kind` is `table` for a base table, else the warehouse's word. `comment` holds the mark that the
    dbt package has left, and `place` is the one that the mark has to name. `refused` are privileges
    that are missing, or a reason why nothing can be written.
    """

    kind: str
    columns: frozenset[str]
    place: str
    comment: str
    refused: tuple[str, ...] = ()
    read_only: str | None = None

    @property
    def mark(self) -> str:
        """As macros/table_mark.sql writes it."""
        return f"Sentinel keeps this table as {self.place}."


@dataclass(frozen=True)
class Names:
    """The parts of a relation's name as dbt renders it; what it leaves out is None."""

    database: str | None
    schema: str | None
    name: str
    text: str = field(compare=False)


def names_of(relation: str) -> Names:
    parts: list[str | None] = [
        quoted.replace('""', '"') or ticked or plain
        for quoted, ticked, plain in _PART.findall(relation)
    ]
    database, schema, name = ([None, None, *parts])[-3:]
    return Names(database, schema, name or "", relation)


def missing_privileges(granted: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in _PRIVILEGES if not granted[name])


def check_relation(
    table: Table[Any], relation: str, found: Relation | None, *, writing: bool
) -> None:
    """Raises TablesMissing, TablesForeign, TablesOutdated or TablesReadOnly."""
    if found is None:
        raise TablesMissing(f"the table {relation} doesn't exist yet", hint=_MAKE_TABLES)
    if found.kind != "table":
        replaced = found.kind == "view"
        raise TablesForeign(
            f"{relation} is a {found.kind}, such as `dbt clone` makes of another environment's "
            "table: Sentinel writes only to its own tables"
            if replaced
            else f"{relation} is a {found.kind}: Sentinel writes only to its own base tables",
            hint=_OWN_INSTEAD if replaced else f"drop or rename it; then {_OWN_INSTEAD}",
        )
    if found.mark not in found.comment:
        raise TablesForeign(
            f"the table {relation} has no mark that it was made here: it is a copy of another "
            "environment's, it was moved or restored, or an older version of Sentinel made it",
            hint=_TAKE_OVER,
        )
    if "select" in found.refused:
        raise StoreError(
            f"the table {relation} can't be read: permission denied for table {table.model}",
            hint=f"grant select on {relation} to the store's role",
        )
    _judge_columns(table, relation, found.columns)
    if not writing:
        return
    if found.read_only:
        raise TablesReadOnly(f"the table {relation} can't be written: {found.read_only}")
    if found.refused:
        raise TablesReadOnly(
            f"the table {relation} can't be written: the role lacks {_listed(found.refused)} on it",
            hint=f"grant {_listed(found.refused)} on {relation} to the store's role, "
            "or name a target that may write as `store.target` in sentinel.yml",
        )


def _judge_columns(table: Table[Any], relation: str, found: frozenset[str]) -> None:
    lacking = [name for name in table.columns if name not in found]
    if lacking:
        raise TablesOutdated(
            f"the table {relation} is older than this Sentinel: it has no column "
            f"{', '.join(lacking)}",
            hint="`sentinel init --upgrade` refreshes the dbt package, "
            "then `dbt run -s package:sentinel` adds the columns",
        )
    unknown = sorted(found - set(table.columns))
    if unknown:
        raise TablesOutdated(
            f"the table {relation} is newer than this Sentinel: it has the column "
            f"{', '.join(unknown)}",
            hint="upgrade dbt-sentinel to the version that made the tables",
        )


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words)
