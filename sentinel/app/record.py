"""What one transaction records: plan, notifications, history and state, composed in one place.

Whatever changes alerts or notifies of them passes through here: evaluations, time-based
notifications, acknowledgements and the project's own health.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sentinel.app.delivery.claims import preclaim
from sentinel.core.history import Execution, HistoryRow, history_rows
from sentinel.core.lifecycle import AlertUpdate
from sentinel.core.notification import Notification, ledger_of
from sentinel.core.planning import NotificationDecision, NotificationPlan, current_update, plan
from sentinel.core.routing import Routing
from sentinel.core.state import State
from sentinel.ports import Batch, Lease, Snapshot


@dataclass(frozen=True)
class Entry:
    """One alert in a transaction: what happened to its rows, and what history says of the cause.

    Of an `unchanged` alert only the plan matters: its rows are not written.
    """

    update: AlertUpdate
    execution: Execution
    unchanged: bool = False

    def states(self) -> Iterator[State]:
        """The rows to write; those that are dropped are not written."""
        if self.unchanged:
            return
        dropped = {row.state_key for row in self.update.dropped}
        steps = (step.after for step in self.update.steps if not step.recorded_only)
        yield from (row for row in (*steps, *self.update.noted) if row.state_key not in dropped)

    def history(self, decisions: Sequence[NotificationDecision]) -> Iterator[HistoryRow]:
        """A row for each instance that changed, and for each other one with a notification.

        `decisions` are those on this alert.
        """
        if self.unchanged:
            others: Iterable[State] = (step.after for step in self.update.steps)
        else:
            yield from history_rows(self.update, self.execution, decisions)
            others = self.update.unseen
        notified = {(each.alert_id, each.instance) for each in decisions if each.notified}
        rows = [row for row in others if (row.alert_id, row.instance) in notified]
        cause = self.execution
        execution = Execution(cause.run_id, cause.triggered_by, cause.time)
        yield from history_rows(current_update(self.update.alert, rows), execution, decisions)


@dataclass(frozen=True)
class Record:
    """What was planned, and the batch that records it."""

    plan: NotificationPlan
    batch: Batch

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write but the lease."""
        return replace(self.batch, lease=None) == Batch()


@dataclass(frozen=True)
class Recorder:
    """Composes what is recorded for a project.

    `holder` claims the new notifications that it will send at once. With a `lease`, nothing is
    recorded unless it holds; recording renews it for `lease_ttl`. Without `routing` all channels
    are taken to exist, and none groups.
    """

    project: str
    routing: Routing | None = None
    holder: str | None = None
    lease: Lease | None = None
    lease_ttl: timedelta = timedelta()

    def compose(self, entries: Sequence[Entry], snapshot: Snapshot) -> Record:
        """Plan for alerts by what the store holds, and compose the batch; it is pure."""
        planned = self._plan(entries, snapshot)
        batch = Batch(
            tuple(row for each in entries for row in each.states()),
            tuple(_history(entries, planned)),
            planned.notifications,
            planned.superseded,
            planned.revived,
            tuple(row for each in entries for row in each.update.dropped),
            self._renewed_lease(snapshot.now),
        )
        return Record(planned, batch)

    def _plan(self, entries: Sequence[Entry], snapshot: Snapshot) -> NotificationPlan:
        planned = plan(
            [each.update for each in entries],
            ledger_of(snapshot.ledger),
            self.project,
            snapshot.now,
            silences=snapshot.silences,
            routing=self.routing,
        )
        return replace(planned, notifications=self._preclaimed(planned, snapshot))

    def _preclaimed(
        self, planned: NotificationPlan, snapshot: Snapshot
    ) -> tuple[Notification, ...]:
        if self.holder is None:
            return planned.notifications
        superseded = frozenset(planned.superseded)
        remaining = (row for row in snapshot.ledger if row.notification_id not in superseded)
        return preclaim(planned.notifications, remaining, self.holder, snapshot.now)

    def _renewed_lease(self, now: datetime) -> Lease | None:
        return self.lease and replace(self.lease, expires_at=now + self.lease_ttl)


def _history(entries: Iterable[Entry], planned: NotificationPlan) -> Iterator[HistoryRow]:
    decisions: dict[str, list[NotificationDecision]] = {}
    for each in planned.decisions:
        decisions.setdefault(each.alert_id, []).append(each)
    for entry in entries:
        yield from entry.history(decisions.get(entry.update.alert.id, ()))
