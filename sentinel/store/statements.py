"""Statements that write: inserts, compare-and-swap updates, deletes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from sentinel.core.state import State
from sentinel.ports import (
    Lease,
)
from sentinel.store.database import StoreDatabase
from sentinel.store.dialect import Change
from sentinel.store.tables import (
    LEASES,
    NOTIFICATIONS,
    STATE,
    Row,
    Table,
)

# How many rows go into one parameter: a database in this process needs many times its length.
_ROWS_AT_ONCE = 1_000


class Statements:
    """Statements that write rows of the tables, each with a check of its effect."""

    def __init__(self, database: StoreDatabase) -> None:
        self._database = database

    def apply(self, connection: Connection, changes: Sequence[Change]) -> None:
        if changes:
            self._database.dialect.apply(connection, changes, self._database.relation(LEASES))

    def updates(self, states: Sequence[State]) -> Iterator[Change]:
        for n, part in enumerate(_parts(states)):
            yield self._update(part, f"changed_states_{n}")

    def _update(self, states: Sequence[State], parameter: str) -> Change:
        key, relation = STATE.key, self._database.relation(STATE)
        rows = self._database.dialect.expand(parameter, STATE.columns)
        settings = ", ".join(
            f"{name} = written.{name}" for name in STATE.columns if name not in (key, "version")
        )
        same = f"kept.{key} = written.{key} and kept.version = written.version"
        return Change(
            f"update {relation} as kept set {settings}, version = kept.version + 1 "
            f"from ({rows}) as written where {same}",
            {parameter: STATE.dump(states)},
            f"select count(*) from {relation} as kept join ({rows}) as written on {same}",
            len(states),
            "another writer has changed the state of these alerts",
            f"kept.{key}",
        )

    def inserts(self, table: Table[Row], rows: Sequence[Row]) -> Iterator[Change]:
        for n, part in enumerate(_parts(rows)):
            yield self.insert(table, part, f"new_{table.model}_{n}")

    def insert(self, table: Table[Row], rows: Sequence[Row], parameter: str = "new_row") -> Change:
        names = ", ".join(table.columns)
        relation, key = self._database.relation(table), table.key
        written = self._database.dialect.expand(parameter, table.columns)
        keys = self._database.dialect.expand(parameter, {key: "text"})
        return Change(
            f"insert into {relation} ({names}) select {names} from ({written}) as written",
            {parameter: table.dump(rows)},
            # Every row has its own key, and none exists yet.
            f"select count(distinct written.{key}) from ({keys}) as written "
            f"where written.{key} not in (select {key} from {relation})",
            len(rows),
            f"another writer has written these rows of {table.model} before",
        )

    def supersede(self, ids: Sequence[str]) -> Change:
        relation = self._database.relation(NOTIFICATIONS)
        those = f"notification_id in ({self._database.items('superseded')}) and status in ('pending', 'dead')"
        return Change(
            f"update {relation} set status = 'superseded' where {those}",
            {"superseded": json.dumps(sorted(ids))},
            f"select count(*) from {relation} where {those}",
            len(ids),
            "a notification to be replaced is just being sent",
            "notification_id",
        )

    def revive(self, ids: Sequence[str]) -> Change:
        relation = self._database.relation(NOTIFICATIONS)
        those = f"notification_id in ({self._database.items('revived')}) and status = 'dead'"
        return Change(
            f"update {relation} set status = 'pending', not_before = created_at where {those}",
            {"revived": json.dumps(sorted(ids))},
            f"select count(*) from {relation} where {those}",
            len(ids),
            "a notification to be retried is already pending",
            "notification_id",
        )

    def drop(self, states: Sequence[State]) -> Change:
        key, relation = STATE.key, self._database.relation(STATE)
        read = self._database.dialect.expand("dropped", {key: "text", "version": "integer"})
        rows = [{key: getattr(state, key), "version": state.version} for state in states]
        those = (
            f"{key} in (select kept.{key} from {relation} as kept join ({read}) as dropped "
            f"on kept.{key} = dropped.{key} and kept.version = dropped.version)"
        )
        return Change(
            f"delete from {relation} where {those}",
            {"dropped": json.dumps(rows)},
            f"select count(*) from {relation} where {those}",
            len(states),
            "another writer has changed the state of these alerts",
            key,
        )

    def hold(self, found: Lease, taken: Lease) -> Change:
        relation = self._database.relation(LEASES)
        those = "lease = :lease and token = :old_token"
        return Change(
            f"update {relation} set holder = :lease_holder, token = :lease_token, "
            f"acquired_at = :acquired_at, expires_at = :expires_at where {those}",
            {
                "lease": found.lease,
                "old_token": found.token,
                "lease_holder": taken.holder,
                "lease_token": taken.token,
                "acquired_at": taken.acquired_at
                and self._database.dialect.moment(taken.acquired_at),
                "expires_at": taken.expires_at and self._database.dialect.moment(taken.expires_at),
            },
            f"select count(*) from {relation} where {those}",
            1,
            f"another holder has taken the lease {found.lease}",
            "lease",
        )


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start : start + _ROWS_AT_ONCE]
