"""Leases: which daemon leads, by the store's clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection

from sentinel.core.errors import LeaseLost
from sentinel.ports import (
    Lease,
)
from sentinel.store.database import StoreDatabase
from sentinel.store.dialect import Change
from sentinel.store.statements import Statements
from sentinel.store.tables import (
    LEASES,
)


class Leases:
    """Rows of sentinel_leases."""

    def __init__(self, database: StoreDatabase, statements: Statements) -> None:
        self._database = database
        self._statements = statements

    def acquire_lease(self, name: str, holder: str, ttl: timedelta) -> Lease | None:
        def work(connection: Connection) -> Lease | None:
            now, found = self._database.now(connection), self.read_in(connection, name)
            if found is None:
                taken = Lease(name, holder, 1, now, now + ttl)
                self._statements.apply(connection, [self._statements.insert(LEASES, [taken])])
                return taken
            if found.holder == holder:
                taken = replace(found, expires_at=now + ttl)
            elif found.expires_at is not None and found.expires_at > now:
                return None
            else:
                taken = Lease(name, holder, found.token + 1, now, now + ttl)
            self._statements.apply(connection, [self._statements.hold(found, taken)])
            return taken

        return self._database.until_first(work)

    def release_lease(self, lease: Lease) -> None:
        def work(connection: Connection) -> None:
            found = self.read_in(connection, lease.lease)
            if found is not None and _same(found, lease):
                now = self._database.now(connection)
                self._statements.apply(
                    connection, [self._statements.hold(found, replace(found, expires_at=now))]
                )

        self._database.until_first(work)

    def read(self, name: str) -> Lease | None:
        with self._database.transaction(read_only=True) as connection:
            return self.read_in(connection, name)

    def read_in(self, connection: Connection, name: str) -> Lease | None:
        sql = f"select * from {self._database.relation(LEASES)} where lease = :lease"
        return next(iter(self._database.rows(connection, LEASES, sql, {"lease": name})), None)

    def renewals(self, connection: Connection, lease: Lease | None) -> list[Change]:
        """What a batch writes to keep its lease: of two writers one is refused. Raises LeaseLost."""
        if lease is None:
            return []
        found = self.read_in(connection, lease.lease)
        if found is None or not _same(found, lease):
            raise LeaseLost(f"the lease {lease.lease} is held by {found and found.holder} now")
        return [self._statements.hold(found, lease)]


def _same(one: Lease, other: Lease) -> bool:
    return (one.holder, one.token) == (other.holder, other.token)
