"""What is read of the tables: state, ledger, history, outbox."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from sentinel.core.history import HistoryRow, current_reasons
from sentinel.core.notification import Notification, Status
from sentinel.ports import (
    HistoryQuery,
    Outbox,
    Snapshot,
)
from sentinel.store.database import StoreDatabase
from sentinel.store.silences import Silences
from sentinel.store.tables import (
    HISTORY,
    NOTIFICATIONS,
    STATE,
    from_database,
)


class TableReader:
    """Reads state, history and notifications of one project."""

    def __init__(self, database: StoreDatabase, silences: Silences) -> None:
        self._database = database
        self._silences = silences

    def now(self) -> datetime:
        with self._database.transaction(read_only=True) as connection:
            return self._database.now(connection)

    def snapshot(
        self, alert_ids: Iterable[str] | None = None, episodes: Iterable[str] = ()
    ) -> Snapshot:
        with self._database.transaction(read_only=True) as connection:
            return self.snapshot_in(connection, alert_ids, episodes)

    def active_alert_ids(self) -> frozenset[str]:
        sql = (
            f"select distinct alert_id from {self._database.relation(STATE)} where project = :project "
            "and (phase in ('pending', 'firing', 'recovering') or health = 'failing')"
        )
        with self._database.transaction(read_only=True) as connection:
            return frozenset(
                connection.execute(text(sql), {"project": self._database.project}).scalars()
            )

    def orphaned_alert_ids(self, known: Iterable[str]) -> frozenset[str]:
        sql = (
            f"select distinct alert_id from {self._database.relation(STATE)} where project = :project "
            f"and (alert_id not in ({self._database.items('known')}) or removed_since is not null)"
        )
        # A list that may be empty holds a word that is no id: `not in` an empty one is unsure.
        values = {"project": self._database.project, "known": json.dumps(["", *sorted(known)])}
        with self._database.transaction(read_only=True) as connection:
            return frozenset(connection.execute(text(sql), values).scalars())

    def history(self, query: HistoryQuery) -> Sequence[HistoryRow]:
        conditions = ["project = :project"]
        values: dict[str, Any] = {"project": self._database.project}
        if query.alert_ids is not None:
            conditions.append(f"alert_id in ({self._database.items('alert_ids')})")
            values["alert_ids"] = json.dumps(sorted(query.alert_ids))
        if query.outcomes:
            conditions.append(f"outcome in ({self._database.items('outcomes')})")
            values["outcomes"] = json.dumps(sorted(query.outcomes))
        if query.changes_only:
            conditions.append(
                "(events <> '[]' or coalesce(phase_before, '') <> coalesce(phase_after, ''))"
            )
        if query.since:
            conditions.append("recorded_at >= :since")
        sql = (
            f"select * from {self._database.relation(HISTORY)} where {' and '.join(conditions)} "
            f"order by recorded_at desc, as_of desc, alert, instance limit {int(query.limit)}"
        )
        if query.since:
            values["since"] = self._database.dialect.moment(query.since)
        with self._database.transaction(read_only=True) as connection:
            rows = self._database.rows(connection, HISTORY, sql, values)
        return [current_reasons(row) for row in rows]

    def notifications(
        self, statuses: Iterable[Status], limit: int = 1_000
    ) -> Sequence[Notification]:
        sql = (
            f"select * from {self._database.relation(NOTIFICATIONS)} where project = :project "
            f"and status in ({self._database.items('statuses')}) "
            f"order by created_at, notification_id limit {int(limit)}"
        )
        values = {
            "project": self._database.project,
            "statuses": json.dumps([str(s) for s in statuses]),
        }
        with self._database.transaction(read_only=True) as connection:
            return self._database.rows(connection, NOTIFICATIONS, sql, values)

    def outbox(self) -> Outbox:
        sql = (
            "select status, count(*) as number, min(created_at) as oldest "
            f"from {self._database.relation(NOTIFICATIONS)} where project = :project "
            "and status in ('pending', 'claimed', 'dead') group by status"
        )
        with self._database.transaction(read_only=True) as connection:
            rows = (
                connection.execute(text(sql), {"project": self._database.project}).mappings().all()
            )
        waiting = [row for row in rows if row["status"] != "dead"]
        return Outbox(
            sum(row["number"] for row in waiting),
            min((from_database(row["oldest"]) for row in waiting), default=None),
            sum(row["number"] for row in rows if row["status"] == "dead"),
        )

    def snapshot_in(
        self,
        connection: Connection,
        alert_ids: Iterable[str] | None,
        episodes: Iterable[str] = (),
    ) -> Snapshot:
        values: dict[str, Any] = {"project": self._database.project}
        chosen = ""
        if alert_ids is not None:
            chosen = f" and alert_id in ({self._database.items('alert_ids')})"
            values["alert_ids"] = json.dumps(sorted(alert_ids))
        sql = f"select * from {self._database.relation(STATE)} where project = :project{chosen}"
        states = self._database.rows(connection, STATE, sql, values)
        wanted = {
            episode
            for state in states
            for episode in (state.episode_id, state.health_episode_id)
            if episode
        }.union(episodes)
        ledger: Sequence[Notification] = ()
        if wanted:
            ledger = self._database.rows(
                connection,
                NOTIFICATIONS,
                f"select * from {self._database.relation(NOTIFICATIONS)} where project = :project "
                f"and episode_id in ({self._database.items('episodes')}) order by created_at, n",
                {"project": self._database.project, "episodes": json.dumps(sorted(wanted))},
            )
        now = self._database.now(connection)
        silences = self._silences.read_in(connection, now)
        return Snapshot(tuple(states), tuple(ledger), now, tuple(silences))
