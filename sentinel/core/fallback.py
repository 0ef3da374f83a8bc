"""Forwards undeliverable notifications to the fallback channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from sentinel.core.notification import (
    ENDS,
    Notification,
    Status,
)
from sentinel.core.values import hash_id


def rows_for_fallback(
    dead: Iterable[Notification],
    fallback: str,
    now: datetime,
    ledger: Iterable[Notification] = (),
) -> list[Notification]:
    """The rows that forward a dead message to the fallback channel, as one message.

    `ledger` has the rows of these episodes. A recovery is omitted if the fallback channel was notified
    of the firing for the same channel, since it is notified of the recovery anyway.
    """
    known = [
        row for row in ledger if row.channel == fallback and row.status is not Status.CANCELLED
    ]
    rows = [
        replace(
            row,
            notification_id=hash_id(row.notification_id, fallback),
            channel=fallback,
            n=row.n,
            reason="undeliverable",
            payload={
                **row.payload,
                "undeliverable": {"channel": row.channel, "error": row.last_error},
            },
            status=Status.PENDING,
            created_at=now,
            not_before=now,
            attempts=0,
            claimed_by=None,
            claim_token=None,
            claim_until=None,
            recipients_done=(),
            remote_ref=None,
            last_error=None,
            sent_at=None,
        )
        for row in dead
        if not _ends_anyway(row, known)
    ]
    message_id = hash_id("message", *sorted(row.notification_id for row in rows))
    return [replace(row, message_id=message_id) for row in rows]


def _ends_anyway(row: Notification, known: Sequence[Notification]) -> bool:
    mine = [each for each in known if each.episode_id == row.episode_id]
    return (
        row.event in ENDS
        and any((each.payload.get("undeliverable") or {}).get("channel") == row.channel
                for each in mine)
        and any(each.event is row.event and not each.payload.get("undeliverable") for each in mine)
    )  # fmt: skip
