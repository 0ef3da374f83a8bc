"""The store in SQL: one transaction a batch, rows as one JSON parameter, compare-and-swap on version.

What differs between warehouses is a `Dialect`; the statements are the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from sentinel.core.errors import StateConflict, StoreError, TablesMissing, TablesOutdated
from sentinel.core.history import HistoryRow
from sentinel.core.planning import Notification, Status
from sentinel.core.project import StoreTables
from sentinel.ports import Attempt, Batch, HistoryQuery, Snapshot
from sentinel.store.tables import HISTORY, NOTIFICATIONS, STATE, TABLES, Kind, Row, Table

Done = TypeVar("Done")

_TRIES = 5
_MAKE_TABLES = "`dbt run -s package:sentinel` makes them (`sentinel init` too)"


class Dialect(Protocol):
    """What the statements need to know of one warehouse."""

    clock: str

    def lost_race(self, error: BaseException) -> bool:
        """Whether a driver's error says that another transaction was first."""

    def expand(self, parameter: str, columns: dict[str, Kind]) -> str:
        """A subquery with these columns from a bound parameter: a JSON array of objects."""

    def texts(self, parameter: str) -> str:
        """A subquery with one column `item` from a bound parameter: a JSON array of strings."""


Open = Callable[[bool], AbstractContextManager[Engine]]


class SqlStore:
    """The tables of one project. `open_engine(read_only)` gives an engine for one transaction."""

    def __init__(
        self, project: str, tables: StoreTables, open_engine: Open, dialect: Dialect
    ) -> None:
        self._project = project
        self._tables = tables
        self._open = open_engine
        self._dialect = dialect

    # -- reading -------------------------------------------------------------------------------

    def check(self) -> None:
        with self._transaction(read_only=True) as connection:
            for table in TABLES:
                self._check_table(connection, table)

    def _check_table(self, connection: Connection, table: Table[Any]) -> None:
        relation = self._tables.relations.get(table.model)
        if relation is None:
            raise TablesMissing(
                f"the dbt project has no model {table.model}: the dbt package `sentinel` isn't "
                "installed in it, or its models are disabled",
                hint="`sentinel init` installs it",
            )
        try:
            empty = text(f"select * from {self._relation(table)} where 1 = 0")
            found = set(connection.execute(empty).keys())
        except SQLAlchemyError:
            connection.rollback()
            raise TablesMissing(
                f"the table {relation} doesn't exist yet", hint=_MAKE_TABLES
            ) from None
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

    def now(self) -> datetime:
        with self._transaction(read_only=True) as connection:
            return self._now(connection)

    def snapshot(self, alert_ids: Iterable[str] | None = None) -> Snapshot:
        with self._transaction(read_only=True) as connection:
            return self._snapshot(connection, alert_ids)

    def history(self, query: HistoryQuery) -> Sequence[HistoryRow]:
        conditions, values = ["project = :project"], {"project": self._project}
        if query.alert_ids is not None:
            conditions.append(f"alert_id in ({self._items('alert_ids')})")
            values["alert_ids"] = json.dumps(sorted(query.alert_ids))
        if query.outcomes:
            conditions.append(f"outcome in ({self._items('outcomes')})")
            values["outcomes"] = json.dumps(sorted(query.outcomes))
        if query.changes_only:
            conditions.append(
                "(events <> '[]' or coalesce(phase_before, '') <> coalesce(phase_after, ''))"
            )
        if query.since:
            conditions.append("recorded_at >= :since")
        sql = (
            f"select * from {self._relation(HISTORY)} where {' and '.join(conditions)} "
            f"order by recorded_at desc, as_of desc, alert, instance limit {int(query.limit)}"
        )
        bound = values | ({"since": _naive(query.since)} if query.since else {})
        with self._transaction(read_only=True) as connection:
            return self._rows(connection, HISTORY, sql, bound)

    def notifications(
        self, statuses: Iterable[Status], limit: int = 1_000
    ) -> Sequence[Notification]:
        sql = (
            f"select * from {self._relation(NOTIFICATIONS)} where project = :project "
            f"and status in ({self._items('statuses')}) "
            f"order by created_at, notification_id limit {int(limit)}"
        )
        values = {"project": self._project, "statuses": json.dumps([str(s) for s in statuses])}
        with self._transaction(read_only=True) as connection:
            return self._rows(connection, NOTIFICATIONS, sql, values)

    def _snapshot(self, connection: Connection, alert_ids: Iterable[str] | None) -> Snapshot:
        values: dict[str, Any] = {"project": self._project}
        chosen = ""
        if alert_ids is not None:
            chosen = f" and alert_id in ({self._items('alert_ids')})"
            values["alert_ids"] = json.dumps(sorted(alert_ids))
        sql = f"select * from {self._relation(STATE)} where project = :project{chosen}"
        states = self._rows(connection, STATE, sql, values)
        open_episodes = [
            episode
            for state in states
            for episode in (state.episode_id, state.health_episode_id)
            if episode
        ]
        ledger: Sequence[Notification] = ()
        if open_episodes:
            ledger = self._rows(
                connection,
                NOTIFICATIONS,
                f"select * from {self._relation(NOTIFICATIONS)} where project = :project "
                f"and episode_id in ({self._items('episodes')}) order by created_at, n",
                {"project": self._project, "episodes": json.dumps(open_episodes)},
            )
        return Snapshot(tuple(states), tuple(ledger), self._now(connection))

    # -- writing -------------------------------------------------------------------------------

    def commit(
        self, alert_ids: Iterable[str], decide: Callable[[Snapshot], Batch]
    ) -> tuple[Snapshot, Batch]:
        wanted = tuple(alert_ids)

        def work(connection: Connection) -> tuple[Snapshot, Batch]:
            snapshot = self._snapshot(connection, wanted)
            batch = decide(snapshot)
            self._write(connection, batch)
            return snapshot, batch

        return self._until_first(work)

    def _write(self, connection: Connection, batch: Batch) -> None:
        ordered = sorted(batch.states, key=lambda state: state.state_key)
        fresh = [replace(state, version=1) for state in ordered if state.version == 0]
        self._update(connection, [state for state in ordered if state.version > 0])
        self._insert(connection, STATE, fresh)
        self._insert(connection, HISTORY, batch.history)
        self._insert(connection, NOTIFICATIONS, batch.notifications)
        if batch.superseded:
            self._supersede(connection, batch.superseded)

    def _update(self, connection: Connection, states: Sequence[Any]) -> None:
        if not states:
            return
        key, relation = STATE.key, self._relation(STATE)
        settings = ", ".join(
            f"{name} = written.{name}" for name in STATE.columns if name not in (key, "version")
        )
        sql = (
            f"update {relation} as kept set {settings}, version = kept.version + 1 "
            f"from ({self._dialect.expand('rows', dict(STATE.columns))}) as written "
            f"where kept.{key} = written.{key} and kept.version = written.version "
            f"returning kept.{key}"
        )
        changed = connection.execute(text(sql), {"rows": STATE.dump(states)}).fetchall()
        if len(changed) != len(states):
            raise StateConflict("another writer has changed the state of these alerts")

    def _insert(self, connection: Connection, table: Table[Any], rows: Sequence[Any]) -> None:
        if not rows:
            return
        names = ", ".join(table.columns)
        sql = (
            f"insert into {self._relation(table)} ({names}) "
            f"select {names} from ({self._dialect.expand('rows', dict(table.columns))}) as written"
        )
        connection.execute(text(sql), {"rows": table.dump(rows)})

    def _supersede(self, connection: Connection, ids: Sequence[str]) -> None:
        sql = (
            f"update {self._relation(NOTIFICATIONS)} set status = 'superseded' "
            f"where notification_id in ({self._items('ids')}) "
            "and status in ('pending', 'dead') returning notification_id"
        )
        changed = connection.execute(text(sql), {"ids": json.dumps(sorted(ids))}).fetchall()
        if len(changed) != len(ids):
            raise StateConflict("a notification to be replaced is just being sent")

    # -- outbox --------------------------------------------------------------------------------

    def claim(
        self, holder: str, lease: timedelta, limit: int, only: Iterable[str] | None = None
    ) -> Sequence[Notification]:
        relation = self._relation(NOTIFICATIONS)
        values: dict[str, Any] = {"project": self._project, "holder": holder}
        narrowed = ""
        if only is not None:
            narrowed = f" and mine.message_id in ({self._items('only')})"
            values["only"] = json.dumps(sorted(only))
        blocked = (
            f"select 1 from {relation} as part join {relation} as earlier "
            "on earlier.project = part.project and earlier.episode_id = part.episode_id "
            "and earlier.channel = part.channel and earlier.created_at < part.created_at "
            "and earlier.message_id <> part.message_id "
            "where part.message_id = mine.message_id and part.status in ('pending', 'claimed') "
            "and earlier.status in ('pending', 'claimed')"
        )
        # The least tried first: what is tried in vain doesn't hold up what is new.
        due = (
            f"select mine.message_id from {relation} as mine "
            f"where mine.project = :project{narrowed} "
            "and ((mine.status = 'pending' and mine.not_before <= :now) "
            "or (mine.status = 'claimed' and mine.claim_until <= :now)) "
            f"and not exists ({blocked}) group by mine.message_id "
            f"order by min(mine.attempts), min(mine.created_at), mine.message_id limit {int(limit)}"
        )
        sql = (
            f"update {relation} set status = 'claimed', claimed_by = :holder, "
            "claim_token = coalesce(claim_token, 0) + 1, claim_until = :until, "
            "attempts = attempts + 1 "
            f"where message_id in ({due}) and status in ('pending', 'claimed') returning *"
        )

        def work(connection: Connection) -> list[Notification]:
            now = self._now(connection)
            moments = {"now": _naive(now), "until": _naive(now + lease)}
            return self._rows(connection, NOTIFICATIONS, sql, values | moments)

        rows = self._until_first(work)
        return sorted(rows, key=lambda row: (row.created_at, row.notification_id))

    def mark(self, claimed: Sequence[Notification], attempt: Attempt) -> bool:
        first = claimed[0]
        sql = (
            f"update {self._relation(NOTIFICATIONS)} set status = :status, last_error = :error, "
            "not_before = coalesce(:not_before, not_before), remote_ref = :remote_ref, "
            "recipients_done = :recipients, claim_until = null, "
            "sent_at = case when :status = 'sent' then :now else sent_at end "
            "where message_id = :message_id and status = 'claimed' and claim_token = :token "
            "returning notification_id"
        )
        values = {
            "status": str(attempt.status),
            "error": attempt.error,
            "not_before": _naive(attempt.not_before) if attempt.not_before else None,
            "remote_ref": attempt.remote_ref,
            "recipients": json.dumps(attempt.recipients_done),
            "message_id": first.message_id,
            "token": first.claim_token,
        }

        def work(connection: Connection) -> bool:
            now = _naive(self._now(connection))
            return bool(connection.execute(text(sql), values | {"now": now}).fetchall())

        return self._until_first(work)

    # -- shared --------------------------------------------------------------------------------

    def _until_first(self, work: Callable[[Connection], Done]) -> Done:
        """Do work in a transaction, and again in a new one while another writer is first."""
        for _ in range(_TRIES - 1):
            with suppress(StateConflict), self._transaction() as connection:
                return work(connection)
        with self._transaction() as connection:
            return work(connection)

    @contextmanager
    def _transaction(self, *, read_only: bool = False) -> Iterator[Connection]:
        with self._open(read_only) as engine:
            try:
                with engine.begin() as connection:
                    yield connection
            except SQLAlchemyError as error:
                cause = getattr(error, "orig", None) or error
                words = str(cause).strip()
                if isinstance(error, IntegrityError) or self._dialect.lost_race(cause):
                    raise StateConflict(f"another writer was first: {words}") from None
                raise StoreError(f"Sentinel's tables can't be used: {words}") from None

    def _now(self, connection: Connection) -> datetime:
        moment: datetime = connection.execute(text(f"select {self._dialect.clock}")).scalar_one()
        return moment.replace(tzinfo=UTC)

    def _relation(self, table: Table[Any]) -> str:
        try:
            # A colon would begin a bound parameter.
            return self._tables.relations[table.model].replace(":", "\\:")
        except KeyError:
            raise TablesMissing(
                f"the dbt project has no model {table.model}", hint="`sentinel init` installs it"
            ) from None

    def _items(self, parameter: str) -> str:
        return f"select item from ({self._dialect.texts(parameter)}) as items"

    @staticmethod
    def _rows(
        connection: Connection, table: Table[Row], sql: str, values: dict[str, Any]
    ) -> list[Row]:
        found = connection.execute(text(sql), values).mappings().all()
        return [table.load(dict(row)) for row in found]


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
