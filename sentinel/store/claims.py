"""Claims: rows of the outbox are taken for sending, cancelled and marked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from sentinel.core.notification import Notification
from sentinel.ports import (
    Attempt,
)
from sentinel.store.database import StoreDatabase
from sentinel.store.dialect import ClaimStatement
from sentinel.store.statements import Statements
from sentinel.store.tables import (
    LEASES,
    NOTIFICATIONS,
    Kind,
    to_text,
)

_ATTEMPT: Mapping[str, Kind] = {
    "message_id": "text",
    "claim_token": "integer",
    "status": "text",
    "last_error": "text",
    "not_before": "time",
    "remote_ref": "text",
    "recipients_done": "json",
    "untried": "integer",
}


class Claims:
    """Claims rows of sentinel_notifications, and records attempts to send them."""

    def __init__(self, database: StoreDatabase, statements: Statements) -> None:
        self._database = database
        self._statements = statements

    def claim(
        self,
        holder: str,
        lease: timedelta,
        limit: int,
        only: Iterable[str] | None = None,
        skip: Iterable[str] = (),
    ) -> Sequence[Notification]:
        relation = self._database.relation(NOTIFICATIONS)
        values: dict[str, Any] = {"project": self._database.project, "holder": holder}
        narrowed = ""
        if only is not None:
            narrowed = f" and mine.message_id in ({self._database.items('only')})"
            values["only"] = json.dumps(sorted(only))
        skipped = sorted(skip)
        if skipped:
            narrowed += f" and mine.channel not in ({self._database.items('skipped')})"
            values["skipped"] = json.dumps(skipped)
        # Joined, not looked up row by row: BigQuery can't relate a subquery by an inequality.
        blocked = (
            f"select part.message_id from {relation} as part join {relation} as earlier "
            "on earlier.project = part.project and earlier.episode_id = part.episode_id "
            "and earlier.channel = part.channel "
            "where earlier.created_at < part.created_at "
            "and earlier.message_id <> part.message_id "
            "and part.project = :project and part.status in ('pending', 'claimed') "
            "and earlier.status in ('pending', 'claimed')"
        )
        # Fewest attempts first: failing notifications don't delay new ones.
        free = (
            "((status = 'pending' and not_before <= :now) "
            "or (status = 'claimed' and claim_until <= :now))"
        )
        due = (
            f"select mine.message_id from {relation} as mine "
            f"where mine.project = :project{narrowed} and {free} "
            f"and mine.message_id not in ({blocked}) group by mine.message_id "
            f"order by min(mine.attempts), min(mine.created_at), mine.message_id limit {int(limit)}"
        )
        # One token for all that is taken: rows of a message may have been claimed without the others.
        token = (
            f"select coalesce(max(known.claim_token), 0) + 1 from {relation} as known "
            f"where known.message_id in ({due})"
        )
        sql = (
            f"update {relation} set status = 'claimed', claimed_by = :holder, "
            f"claim_token = ({token}), claim_until = :until, attempts = attempts + 1 "
            f"where message_id in ({due}) and {free}"
        )
        taken = f"from {relation} where claimed_by = :holder and claim_until = :until"

        def work(connection: Connection) -> list[Notification]:
            now = self._database.now(connection)
            moments = {
                "now": self._database.dialect.moment(now),
                "until": self._database.dialect.moment(now + lease),
            }
            taking = ClaimStatement(sql, values | moments, "*", f"select * {taken}")
            rows = self._database.dialect.take(connection, taking, self._database.relation(LEASES))
            return [NOTIFICATIONS.load(dict(row)) for row in rows]

        rows = self._database.until_first(work)
        return sorted(rows, key=lambda row: (row.created_at, row.notification_id))

    def cancel(self, reasons: Mapping[str, str], holder: str) -> frozenset[str]:
        relation = self._database.relation(NOTIFICATIONS)
        given = self._database.dialect.expand(
            "reasons", {"notification_id": "text", "reason": "text"}
        )
        same = "kept.notification_id = given.notification_id"
        sql = (
            f"update {relation} as kept set status = 'cancelled', last_error = given.reason, "
            f"claim_until = null from ({given}) as given where {same} "
            "and kept.status = 'claimed' and kept.claimed_by = :holder"
        )
        rows = [{"notification_id": key, "reason": reason} for key, reason in reasons.items()]
        taken = (
            f"select kept.notification_id from {relation} as kept join ({given}) as given "
            f"on {same} where kept.status = 'cancelled' and kept.claimed_by = :holder"
        )
        values = {"reasons": json.dumps(rows), "holder": holder}

        def work(connection: Connection) -> frozenset[str]:
            taking = ClaimStatement(sql, values, "kept.notification_id", taken)
            found = self._database.dialect.take(connection, taking, self._database.relation(LEASES))
            return frozenset(row["notification_id"] for row in found)

        return self._database.until_first(work) if reasons else frozenset()

    def mark(self, attempts: Mapping[str, tuple[int, Attempt]]) -> frozenset[str]:
        relation = self._database.relation(NOTIFICATIONS)
        done = self._database.dialect.expand("done", _ATTEMPT)
        ours = "kept.message_id = done.message_id and kept.claim_token = done.claim_token"
        sql = (
            f"update {relation} as kept set status = done.status, last_error = done.last_error, "
            "not_before = coalesce(done.not_before, kept.not_before), "
            "remote_ref = done.remote_ref, recipients_done = done.recipients_done, "
            "attempts = kept.attempts - done.untried, claim_until = null, "
            "sent_at = case when done.status = 'sent' then :now else kept.sent_at end "
            f"from ({done}) as done where {ours} and kept.status = 'claimed'"
        )
        rows = [_attempt_row(key, token, each) for key, (token, each) in attempts.items()]
        taken = (
            f"from {relation} as kept join ({done}) as done on {ours} and kept.status = done.status"
        )
        handed_on = [row for _, each in attempts.values() for row in each.handed_on]

        def work(connection: Connection) -> frozenset[str]:
            # First the fallback rows of a dead message: they may be sent twice, but are never lost.
            self._hand_on(connection, handed_on)
            now = self._database.dialect.moment(self._database.now(connection))
            taking = ClaimStatement(
                sql,
                {"done": json.dumps(rows, ensure_ascii=False), "now": now},
                "kept.message_id",
                f"select kept.message_id {taken}",
            )
            found = self._database.dialect.take(connection, taking, self._database.relation(LEASES))
            return frozenset(row["message_id"] for row in found)

        return self._database.until_first(work) if attempts else frozenset()

    def _hand_on(self, connection: Connection, rows: Sequence[Notification]) -> None:
        if not rows:
            return
        ids = json.dumps([row.notification_id for row in rows])
        sql = (
            f"select notification_id from {self._database.relation(NOTIFICATIONS)} "
            f"where notification_id in ({self._database.items('ids')})"
        )
        known: set[str] = set(connection.execute(text(sql), {"ids": ids}).scalars())
        new = [row for row in rows if row.notification_id not in known]
        if new:
            self._statements.apply(connection, [self._statements.insert(NOTIFICATIONS, new)])


def _attempt_row(message_id: str, token: int, attempt: Attempt) -> dict[str, Any]:
    """One attempt as the columns of `_ATTEMPT`."""
    return {
        "message_id": message_id,
        "claim_token": token,
        "status": str(attempt.status),
        "last_error": attempt.error,
        "not_before": attempt.not_before and to_text(attempt.not_before),
        "remote_ref": attempt.remote_ref,
        "recipients_done": json.dumps(attempt.recipients_done),
        "untried": int(not attempt.tried),
    }
