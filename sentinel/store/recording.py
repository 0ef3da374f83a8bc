"""Recording: read, decide and write in one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, text

from sentinel.core.evaluation import Outcome
from sentinel.core.state import State
from sentinel.ports import (
    Batch,
    Decision,
    RecordedSlot,
    Snapshot,
)
from sentinel.store.database import StoreDatabase
from sentinel.store.leases import Leases
from sentinel.store.reading import TableReader
from sentinel.store.statements import Statements
from sentinel.store.tables import (
    HISTORY,
    NOTIFICATIONS,
    STATE,
    to_text,
)

T = TypeVar("T")


class Recording:
    """Writes batches, each in one transaction with the reading that it was decided by."""

    def __init__(
        self,
        database: StoreDatabase,
        statements: Statements,
        reading: TableReader,
        leases: Leases,
    ) -> None:
        self._database = database
        self._statements = statements
        self._reading = reading
        self._leases = leases

    def commit(
        self,
        alert_ids: Iterable[str],
        decide: Callable[[Snapshot], Decision[T]],
        slots: Mapping[str, datetime] | None = None,
    ) -> T:
        wanted = tuple(alert_ids)

        def work(connection: Connection) -> T:
            snapshot = self._reading.snapshot_in(connection, wanted)
            if slots:
                recorded = self._recorded(connection, snapshot.states, slots)
                snapshot = replace(snapshot, recorded=recorded)
            decision = decide(snapshot)
            self._write(connection, decision.batch)
            return decision.result

        return self._database.until_first(work)

    def _recorded(
        self, connection: Connection, states: Iterable[State], slots: Mapping[str, datetime]
    ) -> dict[str, RecordedSlot]:
        """What history has of slots that are no later than the last one of their alert."""
        last = {state.alert_id: state.last_slot for state in states if state.is_head}
        old = {
            alert_id: slot
            for alert_id, slot in slots.items()
            if (known := last.get(alert_id)) is not None and slot <= known
        }
        if not old:
            return {}
        rows = [{"alert_id": key, "slot": to_text(slot)} for key, slot in old.items()]
        asked = self._database.dialect.expand("asked", {"alert_id": "text", "slot": "time"})
        sql = (
            f"select kept.alert_id, kept.attempt, kept.outcome from {self._database.relation(HISTORY)} "
            f"as kept join ({asked}) as asked "
            "on kept.alert_id = asked.alert_id and kept.slot = asked.slot "
            "where kept.project = :project and kept.kind = 'evaluation' "
            "and kept.instance = '' and kept.outcome <> 'skipped' order by kept.attempt"
        )
        values = {"project": self._database.project, "asked": json.dumps(rows)}
        found = connection.execute(text(sql), values).mappings().all()
        # The last attempt of each is what stays.
        return {
            row["alert_id"]: RecordedSlot(row["attempt"], Outcome(row["outcome"])) for row in found
        }

    def _write(self, connection: Connection, batch: Batch) -> None:
        ordered = sorted(batch.states, key=lambda state: state.state_key)
        changes = [
            *self._leases.renewals(connection, batch.lease),
            *self._statements.updates([state for state in ordered if state.version > 0]),
            *self._statements.inserts(
                STATE, [replace(each, version=1) for each in ordered if not each.version]
            ),
            *self._statements.inserts(HISTORY, batch.history),
            *self._statements.inserts(NOTIFICATIONS, batch.notifications),
            self._statements.supersede(batch.superseded),
            self._statements.revive(batch.revived),
            self._statements.drop(batch.dropped),
        ]
        self._statements.apply(connection, [change for change in changes if change.expected])
