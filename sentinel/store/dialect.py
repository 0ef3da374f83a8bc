"""What differs between warehouses: a `Dialect` of SQL, and the statements that it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Connection, RowMapping, text

from sentinel.core.errors import StateConflict
from sentinel.store.catalog import Names, Relation
from sentinel.store.tables import (
    Kind,
)


@dataclass(frozen=True)
class Change:
    """A statement that writes, with all that tells whether it did what it should.

    `found` counts the rows that are as the statement needs them, and `expected` says how many that
    has to be; `conflict` is what it means otherwise. `changed` is the column that names each row it
    has written: where it is None, the table's own key refuses what must not be.
    """

    sql: str
    values: Mapping[str, Any]
    found: str
    expected: int
    conflict: str
    changed: str | None = None


@dataclass(frozen=True)
class ClaimStatement:
    """A statement that writes whatever rows it finds; `taken` reads them again afterwards."""

    sql: str
    values: Mapping[str, Any]
    columns: str
    taken: str


class Dialect(Protocol):
    """What the statements need to know of one warehouse.

    `gate` is the relation of leases: where nothing else puts writers in a row, each transaction
    first writes there.
    """

    clock: str
    mark_delay: timedelta
    lease_ttl: timedelta

    def words(self, error: BaseException) -> str:
        """What a driver's error says, without what only its driver needs."""

    def lost_race(self, error: BaseException) -> bool:
        """Whether a driver's error says that another transaction was first."""

    def missing_table(self, error: BaseException) -> bool:
        """Whether a driver's error says that there is no such table."""

    def survey(
        self, connection: Connection, names: Mapping[str, Names], *, writing: bool
    ) -> Mapping[str, Relation]:
        """What is at the place of each of these tables, by key; what isn't there is left out.

        `writing` says that it matters whether rows can be written; nothing is written.
        """

    def expand(self, parameter: str, columns: Mapping[str, Kind]) -> str:
        """A subquery with these columns from a bound parameter: a JSON array of objects."""

    def texts(self, parameter: str) -> str:
        """A subquery with one column `item` from a bound parameter: a JSON array of strings."""

    def moment(self, moment: datetime) -> Any:
        """A moment as the driver binds it to a column of times."""

    def apply(self, connection: Connection, changes: Sequence[Change], gate: str) -> None:
        """Write all of it, or raise StateConflict or an error of the driver."""

    def take(
        self, connection: Connection, taking: ClaimStatement, gate: str
    ) -> Sequence[RowMapping]:
        """Write, and give the rows that were written."""


class Returning:
    """What dialects share whose statements can return the rows they have written."""

    mark_delay = timedelta(0)
    lease_ttl = timedelta(seconds=30)

    def words(self, error: BaseException) -> str:
        return str(error).strip()

    def moment(self, moment: datetime) -> Any:
        return moment.astimezone(UTC).replace(tzinfo=None)

    def apply(self, connection: Connection, changes: Sequence[Change], gate: str) -> None:
        for change in changes:
            if change.changed is None:
                connection.execute(text(change.sql), change.values)
                continue
            returning = text(f"{change.sql} returning {change.changed}")
            if len(connection.execute(returning, change.values).fetchall()) != change.expected:
                raise StateConflict(change.conflict)

    def take(
        self, connection: Connection, taking: ClaimStatement, gate: str
    ) -> Sequence[RowMapping]:
        returning = text(f"{taking.sql} returning {taking.columns}")
        return connection.execute(returning, taking.values).mappings().all()
