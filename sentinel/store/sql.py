"""The store in SQL: one transaction a batch, rows as one JSON parameter, compare-and-swap on version.

What differs between warehouses is a `Dialect`; the statements are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from sentinel.core.history import HistoryRow
from sentinel.core.notification import Notification, Status
from sentinel.core.project import StoreTables
from sentinel.core.silence import Silence
from sentinel.ports import (
    Attempt,
    Decision,
    HistoryQuery,
    Lease,
    Outbox,
    PrunedRows,
    Snapshot,
)
from sentinel.store.claims import Claims
from sentinel.store.database import Open, StoreDatabase
from sentinel.store.dialect import Dialect
from sentinel.store.leases import Leases
from sentinel.store.reading import TableReader
from sentinel.store.recording import Recording
from sentinel.store.retention import Retention
from sentinel.store.silences import Silences
from sentinel.store.statements import Statements

T = TypeVar("T")


class SqlStore:
    """The `Store` port: each call goes to the part that does it.

    `open_engine(read_only)` gives an engine for one transaction.
    """

    def __init__(
        self, project: str, tables: StoreTables, open_engine: Open, dialect: Dialect
    ) -> None:
        self._database = StoreDatabase(project, tables, open_engine, dialect)
        statements = Statements(self._database)
        self._silences = Silences(self._database, statements)
        self._leases = Leases(self._database, statements)
        self._reading = TableReader(self._database, self._silences)
        self._recording = Recording(self._database, statements, self._reading, self._leases)
        self._claims = Claims(self._database, statements)
        self._retention = Retention(self._database, statements)
        self.mark_delay: timedelta = dialect.mark_delay
        self.lease_ttl: timedelta = dialect.lease_ttl

    def check(self, *, writing: bool = False) -> None:
        self._database.check(writing=writing)

    def now(self) -> datetime:
        return self._reading.now()

    def snapshot(
        self, alert_ids: Iterable[str] | None = None, episodes: Iterable[str] = ()
    ) -> Snapshot:
        return self._reading.snapshot(alert_ids, episodes)

    def active_alert_ids(self) -> frozenset[str]:
        return self._reading.active_alert_ids()

    def orphaned_alert_ids(self, known: Iterable[str]) -> frozenset[str]:
        return self._reading.orphaned_alert_ids(known)

    def commit(
        self,
        alert_ids: Iterable[str],
        decide: Callable[[Snapshot], Decision[T]],
        slots: Mapping[str, datetime] | None = None,
    ) -> T:
        return self._recording.commit(alert_ids, decide, slots)

    def history(self, query: HistoryQuery) -> Sequence[HistoryRow]:
        return self._reading.history(query)

    def notifications(
        self, statuses: Iterable[Status], limit: int = 1_000
    ) -> Sequence[Notification]:
        return self._reading.notifications(statuses, limit)

    def outbox(self) -> Outbox:
        return self._reading.outbox()

    def claim(
        self,
        holder: str,
        lease: timedelta,
        limit: int,
        only: Iterable[str] | None = None,
        skip: Iterable[str] = (),
    ) -> Sequence[Notification]:
        return self._claims.claim(holder, lease, limit, only, skip)

    def cancel(self, reasons: Mapping[str, str], holder: str) -> frozenset[str]:
        return self._claims.cancel(reasons, holder)

    def mark(self, attempts: Mapping[str, tuple[int, Attempt]]) -> frozenset[str]:
        return self._claims.mark(attempts)

    def silences(self, at: datetime | None = None) -> Sequence[Silence]:
        return self._silences.read(at)

    def add_silence(self, silence: Silence) -> None:
        self._silences.add(silence)

    def end_silences(self, silence_ids: Iterable[str], by: str) -> frozenset[str]:
        return self._silences.end(silence_ids, by)

    def acquire_lease(self, name: str, holder: str, ttl: timedelta) -> Lease | None:
        return self._leases.acquire_lease(name, holder, ttl)

    def release_lease(self, lease: Lease) -> None:
        self._leases.release_lease(lease)

    def lease(self, name: str) -> Lease | None:
        return self._leases.read(name)

    def prune(self, before: datetime) -> PrunedRows:
        return self._retention.prune(before)
