"""Silences: read, added and ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sentinel.core.silence import Silence
from sentinel.store.database import StoreDatabase
from sentinel.store.dialect import ClaimStatement
from sentinel.store.statements import Statements
from sentinel.store.tables import (
    LEASES,
    SILENCES,
)


class Silences:
    """Rows of sentinel_silences."""

    def __init__(self, database: StoreDatabase, statements: Statements) -> None:
        self._database = database
        self._statements = statements

    def read(self, at: datetime | None = None) -> Sequence[Silence]:
        with self._database.transaction(read_only=True) as connection:
            return self.read_in(connection, at)

    def read_in(self, connection: Connection, at: datetime | None) -> Sequence[Silence]:
        sql = f"select * from {self._database.relation(SILENCES)} where project = :project "
        values: dict[str, Any] = {"project": self._database.project}
        if at is not None:
            sql += "and starts_at <= :at and ends_at > :at and coalesce(ended_at, ends_at) > :at "
            values["at"] = self._database.dialect.moment(at)
        return self._database.rows(
            connection, SILENCES, f"{sql}order by created_at, silence_id", values
        )

    def add(self, silence: Silence) -> None:
        with self._database.transaction() as connection:
            self._statements.apply(connection, [self._statements.insert(SILENCES, [silence])])

    def end(self, silence_ids: Iterable[str], by: str) -> frozenset[str]:
        relation = self._database.relation(SILENCES)
        those = f"project = :project and silence_id in ({self._database.items('ids')})"
        sql = (
            f"update {relation} set ended_at = :now, ended_by = :by "
            f"where {those} and ended_at is null and ends_at > :now"
        )
        values = {
            "project": self._database.project,
            "ids": json.dumps(sorted(silence_ids)),
            "by": by,
        }

        def work(connection: Connection) -> frozenset[str]:
            moment = {"now": self._database.dialect.moment(self._database.now(connection))}
            taken = f"select silence_id from {relation} where {those} and ended_at = :now"
            taking = ClaimStatement(sql, values | moment, "silence_id", taken)
            found = self._database.dialect.take(connection, taking, self._database.relation(LEASES))
            return frozenset(row["silence_id"] for row in found)

        return self._database.until_first(work)
