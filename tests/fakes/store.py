"""A store in memory. It keeps the contract of every store: tests/store runs its suite over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from sentinel.core.errors import (
    LeaseLost,
    StateConflict,
    TablesMissing,
)
from sentinel.core.evaluation import Outcome
from sentinel.core.history import HistoryRow, current_reasons
from sentinel.core.notification import Notification, Status
from sentinel.core.silence import Silence
from sentinel.core.state import Health, Phase, State
from sentinel.core.values import to_json
from sentinel.ports import (
    Attempt,
    Batch,
    Decision,
    HistoryQuery,
    Lease,
    Outbox,
    PrunedRows,
    RecordedSlot,
    Snapshot,
    Store,
)
from tests.fakes.clock import Clock

T = TypeVar("T")

UNFINISHED = (Status.PENDING, Status.CLAIMED)


@dataclass
class Tables:
    """What several stores may share: the rows by key, of all projects."""

    states: dict[str, State] = field(default_factory=dict)
    history: dict[str, HistoryRow] = field(default_factory=dict)
    notifications: dict[str, Notification] = field(default_factory=dict)
    silences: dict[str, Silence] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)


@dataclass
class MemoryStore:
    """A store in memory. `on_commit` is called before each write, to play another writer."""

    clock: Clock = field(default_factory=Clock)
    project: str = "shop"
    tables: Tables = field(default_factory=Tables)
    missing: bool = False
    commits: int = 0
    marks: list[tuple[str, Attempt]] = field(default_factory=list)
    mark_delay: timedelta = timedelta(0)
    lease_ttl: timedelta = timedelta(seconds=30)

    def check(self, *, writing: bool = False) -> None:
        if self.missing:
            raise TablesMissing("there are no tables", hint="`dbt run` makes them")

    def now(self) -> datetime:
        return self.clock.now()

    def snapshot(
        self, alert_ids: Iterable[str] | None = None, episodes: Iterable[str] = ()
    ) -> Snapshot:
        wanted = None if alert_ids is None else frozenset(alert_ids)
        states = tuple(
            each
            for each in self.tables.states.values()
            if each.project == self.project and (wanted is None or each.alert_id in wanted)
        )
        wanted_episodes = {each.episode_id for each in states} | {
            each.health_episode_id for each in states
        }
        wanted_episodes |= set(episodes)
        ledger = [row for row in self._outbox() if row.episode_id in wanted_episodes]
        ledger.sort(key=lambda row: (row.created_at, row.n))
        silences = tuple(self.silences(self.now()))
        return Snapshot(states, tuple(ledger), self.now(), silences)

    def active_alert_ids(self) -> frozenset[str]:
        return frozenset(
            each.alert_id
            for each in self.tables.states.values()
            if each.project == self.project
            and (each.phase not in (None, Phase.OK) or each.health is Health.FAILING)
        )

    def orphaned_alert_ids(self, known: Iterable[str]) -> frozenset[str]:
        wanted = set(known)
        return frozenset(
            each.alert_id
            for each in self.tables.states.values()
            if each.project == self.project
            and (each.alert_id not in wanted or each.removed_since is not None)
        )

    def commit(
        self,
        alert_ids: Iterable[str],
        decide: Callable[[Snapshot], Decision[T]],
        slots: Mapping[str, datetime] | None = None,
    ) -> T:
        wanted = tuple(alert_ids)
        for attempt in range(5):
            snapshot = replace(self.snapshot(wanted), recorded=self._recorded(slots or {}))
            decision = decide(snapshot)
            try:
                self._write(decision.batch)
            except StateConflict:
                if attempt == 4:
                    raise
            else:
                break
        self.commits += 1
        return decision.result

    def _recorded(self, slots: Mapping[str, datetime]) -> dict[str, RecordedSlot]:
        rows = sorted(self.tables.history.values(), key=lambda row: row.attempt)
        return {
            row.alert_id: RecordedSlot(row.attempt, row.outcome)
            for row in rows
            if row.project == self.project
            and (row.kind, row.instance) == ("evaluation", "")
            and row.outcome is not None
            and row.outcome is not Outcome.SKIPPED
            and slots.get(row.alert_id) == row.slot is not None
        }

    def _write(self, batch: Batch) -> None:
        if batch.lease is not None:
            held = self.tables.leases.get(batch.lease.lease)
            if held is None or (held.holder, held.token) != (batch.lease.holder, batch.lease.token):
                raise LeaseLost("another daemon leads")
        states = dict(self.tables.states)
        history, outbox = dict(self.tables.history), dict(self.tables.notifications)
        for new in batch.states:
            kept = states.get(new.state_key)
            if (kept.version if kept else 0) != new.version:
                raise StateConflict("another writer was first")
            states[new.state_key] = replace(new, version=new.version + 1)
        for row in batch.history:
            if row.evaluation_id in history:
                raise StateConflict("another writer was first")
            to_json([row.context, row.events, row.reasons])
            history[row.evaluation_id] = row
        for sent in batch.notifications:
            if sent.notification_id in outbox:
                raise StateConflict("another writer was first")
            outbox[sent.notification_id] = sent
        for key in batch.superseded:
            if key not in outbox or outbox[key].status not in (Status.PENDING, Status.DEAD):
                raise StateConflict("it is just being sent")
            outbox[key] = replace(outbox[key], status=Status.SUPERSEDED)
        for key in batch.revived:
            if key not in outbox or outbox[key].status is not Status.DEAD:
                raise StateConflict("it is tried again already")
            row_ = outbox[key]
            outbox[key] = replace(row_, status=Status.PENDING, not_before=row_.created_at)
        for old in batch.dropped:
            found = states.pop(old.state_key, None)
            if found is None or found.version != old.version:
                raise StateConflict("another writer was first")
        self.tables.states, self.tables.history = states, history
        self.tables.notifications = outbox
        if batch.lease is not None:
            self.tables.leases[batch.lease.lease] = batch.lease

    def history(self, query: HistoryQuery) -> Sequence[HistoryRow]:
        found = [
            row
            for row in self.tables.history.values()
            if row.project == self.project
            and (query.alert_ids is None or row.alert_id in query.alert_ids)
            and (query.since is None or row.recorded_at >= query.since)
            and (not query.outcomes or row.outcome in query.outcomes)
            and (
                not query.changes_only
                or row.events
                or (row.phase_before or "") != (row.phase_after or "")
            )
        ]
        found.sort(key=lambda row: (row.alert, row.instance))
        found.sort(key=lambda row: (row.recorded_at, row.as_of), reverse=True)
        return [current_reasons(row) for row in found[: query.limit]]

    def notifications(
        self, statuses: Iterable[Status], limit: int = 1_000
    ) -> Sequence[Notification]:
        wanted = set(statuses)
        found = [row for row in self._outbox() if row.status in wanted]
        return sorted(found, key=lambda row: (row.created_at, row.notification_id))[:limit]

    def outbox(self) -> Outbox:
        waiting = [row.created_at for row in self.notifications(UNFINISHED)]
        dead = self.notifications([Status.DEAD])
        return Outbox(len(waiting), min(waiting, default=None), len(dead))

    def claim(
        self,
        holder: str,
        lease: timedelta,
        limit: int,
        only: Iterable[str] | None = None,
        skip: Iterable[str] = (),
    ) -> Sequence[Notification]:
        wanted = None if only is None else frozenset(only)
        skipped = frozenset(skip)
        due: dict[str, tuple[int, datetime]] = {}
        for row in self.notifications(UNFINISHED):
            if row.channel in skipped:
                continue
            if (wanted is None or row.message_id in wanted) and self._due(row):
                place = due.get(row.message_id, (row.attempts, row.created_at))
                due[row.message_id] = min(place, (row.attempts, row.created_at))
        free = sorted((place, key) for key, place in due.items() if not self._blocked(key))
        taken = {key for _, key in free[:limit]}
        known = [row for row in self._outbox() if row.message_id in taken]
        token = max((row.claim_token or 0 for row in known), default=0) + 1
        mine = {row.notification_id for row in known if row.status in UNFINISHED and self._due(row)}
        for row in known:
            if row.notification_id in mine:
                self.tables.notifications[row.notification_id] = replace(
                    row,
                    status=Status.CLAIMED,
                    claimed_by=holder,
                    claim_token=token,
                    claim_until=self.now() + lease,
                    attempts=row.attempts + 1,
                )
        return [r for r in self.notifications([Status.CLAIMED]) if r.notification_id in mine]

    def _due(self, row: Notification) -> bool:
        if row.status is Status.PENDING:
            return row.not_before <= self.now()
        return row.claim_until is not None and row.claim_until <= self.now()

    def _blocked(self, message_id: str) -> bool:
        rows = self.notifications(UNFINISHED)
        return any(
            (one.episode_id, one.channel) == (other.episode_id, other.channel)
            and other.message_id != message_id
            and other.created_at < one.created_at
            for one in rows
            if one.message_id == message_id
            for other in rows
        )

    def cancel(self, reasons: Mapping[str, str], holder: str) -> frozenset[str]:
        mine = [
            row
            for row in self.notifications([Status.CLAIMED])
            if row.notification_id in reasons and row.claimed_by == holder
        ]
        for row in mine:
            self.tables.notifications[row.notification_id] = replace(
                row,
                status=Status.CANCELLED,
                last_error=reasons[row.notification_id],
                claim_until=None,
            )
        return frozenset(row.notification_id for row in mine)

    def mark(self, attempts: Mapping[str, tuple[int, Attempt]]) -> frozenset[str]:
        marked = set()
        for message_id, (token, attempt) in attempts.items():
            self.marks.append((message_id, attempt))
            for new in attempt.handed_on:
                self.tables.notifications.setdefault(new.notification_id, new)
            for row in self.notifications([Status.CLAIMED]):
                if (row.message_id, row.claim_token) != (message_id, token):
                    continue
                marked.add(message_id)
                self.tables.notifications[row.notification_id] = replace(
                    row,
                    status=attempt.status,
                    last_error=attempt.error,
                    not_before=attempt.not_before or row.not_before,
                    remote_ref=attempt.remote_ref,
                    recipients_done=list(attempt.recipients_done),
                    attempts=row.attempts - (not attempt.tried),
                    claim_until=None,
                    sent_at=self.now() if attempt.status is Status.SENT else row.sent_at,
                )
        return frozenset(marked)

    def silences(self, at: datetime | None = None) -> Sequence[Silence]:
        found = [
            each
            for each in self.tables.silences.values()
            if each.project == self.project and (at is None or each.in_force(at))
        ]
        return sorted(found, key=lambda each: (each.created_at, each.silence_id))

    def add_silence(self, silence: Silence) -> None:
        if silence.silence_id in self.tables.silences:
            raise StateConflict("another writer was first")
        self.tables.silences[silence.silence_id] = silence

    def end_silences(self, silence_ids: Iterable[str], by: str) -> frozenset[str]:
        now, wanted = self.now(), set(silence_ids)
        mine = [
            each
            for each in self.silences()
            if each.silence_id in wanted and each.ended_at is None and each.ends_at > now
        ]
        for each in mine:
            self.tables.silences[each.silence_id] = replace(each, ended_at=now, ended_by=by)
        return frozenset(each.silence_id for each in mine)

    def acquire_lease(self, name: str, holder: str, ttl: timedelta) -> Lease | None:
        now, found = self.now(), self.tables.leases.get(name)
        if found is None:
            taken = Lease(name, holder, 1, now, now + ttl)
        elif found.holder == holder:
            taken = replace(found, expires_at=now + ttl)
        elif found.expires_at is not None and found.expires_at > now:
            return None
        else:
            taken = Lease(name, holder, found.token + 1, now, now + ttl)
        self.tables.leases[name] = taken
        return taken

    def release_lease(self, lease: Lease) -> None:
        found = self.tables.leases.get(lease.lease)
        if found and (found.holder, found.token) == (lease.holder, lease.token):
            self.tables.leases[lease.lease] = replace(found, expires_at=self.now())

    def lease(self, name: str) -> Lease | None:
        return self.tables.leases.get(name)

    def prune(self, before: datetime) -> PrunedRows:
        states = self.snapshot().states
        going = {each.episode_id for each in states} | {each.health_episode_id for each in states}
        going -= {None}
        failing = {each.alert_id: each.health_since for each in states if each.health_episode_id}
        tables = self.tables
        history = [
            key
            for key, row in tables.history.items()
            if row.recorded_at < before
            and row.episode_id not in going
            and row.recorded_at < (failing.get(row.alert_id) or before)
        ]
        sent = [
            key
            for key, row in tables.notifications.items()
            if row.created_at < before and row.status.finished and row.episode_id not in going
        ]
        silences = [
            key
            for key, row in tables.silences.items()
            if min(row.ends_at, row.ended_at or row.ends_at) < before
        ]
        counts = []
        for rows, keys in (
            (tables.history, history),
            (tables.notifications, sent),
            (tables.silences, silences),
        ):
            mine = [key for key in keys if rows[key].project == self.project]
            for key in mine:
                del rows[key]
            counts.append(len(mine))
        return PrunedRows(*counts)

    def _outbox(self) -> list[Notification]:
        return [row for row in self.tables.notifications.values() if row.project == self.project]


def write(store: Store, batch: Batch) -> None:
    """Write a batch whatever the store holds."""
    store.commit([], lambda _: Decision(batch, None))


def mark(store: Store, claimed: Sequence[Notification], attempt: Attempt) -> bool:
    """Record one attempt for the rows of one message; whether the claim still held."""
    first = claimed[0]
    marked = store.mark({first.message_id: (first.claim_token or 0, attempt)})
    return first.message_id in marked
