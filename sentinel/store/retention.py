"""Retention: old rows are deleted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from sentinel.ports import (
    PrunedRows,
)
from sentinel.store.database import StoreDatabase
from sentinel.store.dialect import Change
from sentinel.store.statements import Statements
from sentinel.store.tables import (
    HISTORY,
    NOTIFICATIONS,
    SILENCES,
    STATE,
    Table,
)

_DELETED = "another writer has deleted these rows before"


class Retention:
    """Deletes history, finished notifications and ended silences."""

    def __init__(self, database: StoreDatabase, statements: Statements) -> None:
        self._database = database
        self._statements = statements

    def prune(self, before: datetime) -> PrunedRows:
        values = {
            "project": self._database.project,
            "before": self._database.dialect.moment(before),
        }
        open_episodes = " union all ".join(
            f"select {episode} from {self._database.relation(STATE)} "
            f"where project = :project and {episode} is not null"
            for episode in ("episode_id", "health_episode_id")
        )
        # Errors carry no episode: of an alert that still fails, all since it began to stays.
        failing = (
            f"select evaluation_id from {self._database.relation(HISTORY)} as row_ join "
            f"{self._database.relation(STATE)} as head on head.project = row_.project "
            "and head.alert_id = row_.alert_id where head.project = :project "
            "and head.health_episode_id is not null and row_.recorded_at >= head.health_since"
        )
        old: Sequence[tuple[Table[Any], str]] = (
            (
                HISTORY,
                f"recorded_at < :before and coalesce(episode_id, '') not in ({open_episodes}) "
                f"and evaluation_id not in ({failing})",
            ),
            (
                NOTIFICATIONS,
                "created_at < :before and status not in ('pending', 'claimed') "
                f"and episode_id not in ({open_episodes})",
            ),
            (SILENCES, "(ends_at < :before or ended_at < :before)"),
        )

        def work(connection: Connection) -> PrunedRows:
            changes = []
            for table, condition in old:
                rows = f"from {self._database.relation(table)} where project = :project and {condition}"
                count = f"select count(*) {rows}"
                number: int = connection.execute(text(count), values).scalar_one()
                changes.append(Change(f"delete {rows}", values, count, number, _DELETED, table.key))
            self._statements.apply(connection, [change for change in changes if change.expected])
            return PrunedRows(*(change.expected for change in changes))

        return self._database.until_first(work)
