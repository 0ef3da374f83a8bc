"""Who is told: what was told is made to match what is wanted, for each episode and channel.

Pure. Every decision has a named reason, kept in history; a decision to tell becomes a row of the
outbox, whose payload is frozen here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sentinel.core.alert import Alert, BrokenAlert
from sentinel.core.lifecycle import (
    BROKEN_RULES,
    Event,
    Judgement,
    State,
    Step,
    Transition,
)
from sentinel.core.values import hash_id, isoformat


class Status(StrEnum):
    """What became of a notification."""

    PENDING = "pending"
    CLAIMED = "claimed"
    SENT = "sent"
    DEAD = "dead"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self not in (Status.PENDING, Status.CLAIMED)


@dataclass(frozen=True)
class Notification:
    """One row of sentinel_notifications: the columns, in their order."""

    notification_id: str
    message_id: str
    project: str
    channel: str
    event: Event
    n: int
    episode_id: str
    alert_id: str
    instance: str
    incident_id: str | None
    reason: str
    payload: Mapping[str, Any]
    status: Status
    created_at: datetime
    not_before: datetime
    attempts: int = 0
    claimed_by: str | None = None
    claim_token: int | None = None
    claim_until: datetime | None = None
    recipients_done: Sequence[str] = ()
    remote_ref: str | None = None
    last_error: str | None = None
    sent_at: datetime | None = None


@dataclass(frozen=True)
class Decision:
    """Why a channel is or isn't told of an event of one instance."""

    alert_id: str
    instance: str
    channel: str
    event: Event
    told: bool
    reason: str


@dataclass(frozen=True)
class Plan:
    """New rows for the outbox, rows that they replace, and the reason of every decision."""

    notifications: tuple[Notification, ...] = ()
    superseded: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()


Ledger = Mapping[tuple[str, str], Sequence[Notification]]


def ledger_of(rows: Iterable[Notification]) -> Ledger:
    """The rows of the outbox by episode and channel."""
    ledger: dict[tuple[str, str], list[Notification]] = {}
    for row in rows:
        ledger.setdefault((row.episode_id, row.channel), []).append(row)
    return ledger


@dataclass
class _Planner:
    """The plan of one batch while it is being made."""

    ledger: Ledger
    now: datetime
    project: str
    notifications: list[Notification] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def told(self, episode_id: str, channel: str, *events: Event) -> list[Notification]:
        """The rows of the ledger for these events that still count."""
        return [
            row
            for row in self.ledger.get((episode_id, channel), ())
            if row.event in events and row.status not in (Status.SUPERSEDED, Status.CANCELLED)
        ]

    def decide(
        self, step: Step, channel: str, event: Event, reason: str, *, told: bool = False
    ) -> None:
        after = step.after
        self.decisions.append(
            Decision(after.alert_id, after.instance, channel, event, told, reason)
        )

    def repeat(self, step: Step, channel: str, event: Event, told: Sequence[Notification]) -> None:
        """Nothing new to tell; a failed send never counts as told."""
        statuses = {row.status for row in told}
        if statuses <= {Status.DEAD}:
            reason = "undeliverable"
        elif statuses <= {Status.DEAD, Status.PENDING, Status.CLAIMED}:
            reason = "not_delivered_yet"
        else:
            reason = "already_told"
        self.decide(step, channel, event, reason)

    def tell(
        self,
        judged: Judgement,
        step: Step,
        channel: str,
        change: Transition,
        reason: str,
        n: int = 0,
    ) -> None:
        taken = {
            row.n
            for row in self.ledger.get((change.episode_id, channel), ())
            if row.event is change.event
        }
        # What was cancelled and is told after all is a new notification, with an id of its own.
        while n in taken:
            n += 1
        identity = hash_id(change.episode_id, channel, change.event, str(n))
        self.notifications.append(
            Notification(
                notification_id=identity,
                message_id=identity,
                project=self.project,
                channel=channel,
                event=change.event,
                n=n,
                episode_id=change.episode_id,
                alert_id=step.after.alert_id,
                instance=step.after.instance,
                incident_id=step.after.incident_id or step.before.incident_id,
                reason=reason,
                payload=payload(judged, step, change, self.now, reason),
                status=Status.PENDING,
                created_at=self.now,
                not_before=self.now,
            )
        )
        self.decide(step, channel, change.event, reason, told=True)


def plan(judgements: Iterable[Judgement], ledger: Ledger, project: str, now: datetime) -> Plan:
    """What to tell after these evaluations, given what was told before."""
    planner = _Planner(ledger, now, project)
    for judged in judgements:
        for step in judged.steps:
            if not step.recorded_only:
                _plan_phase(planner, judged, step)
                _plan_health(planner, judged, step)
    return Plan(tuple(planner.notifications), tuple(planner.superseded), tuple(planner.decisions))


def _wanted(alert: Alert | BrokenAlert, event: str) -> bool:
    return not isinstance(alert, Alert) or event in alert.rules.notify_on


def _plan_phase(planner: _Planner, judged: Judgement, step: Step) -> None:
    changes = {change.event: change for change in step.transitions}
    if Event.RESOLVED in changes:
        _plan_resolved(planner, judged, step, changes[Event.RESOLVED])
        return
    after = step.after
    if after.phase is None or not after.phase.open or after.episode_id is None:
        return
    for channel in judged.alert.channels:
        if not _wanted(judged.alert, Event.FIRING):
            planner.decide(step, channel, Event.FIRING, "not_wanted")
            continue
        told = planner.told(after.episode_id, channel, Event.FIRING)
        if told:
            risen = changes.get(Event.SEVERITY)
            if risen:
                planner.tell(judged, step, channel, risen, risen.reason, n=risen.severity.rank)
            else:
                planner.repeat(step, channel, Event.FIRING, told)
            continue
        fired = changes.get(Event.FIRING) or _fired(after)
        planner.tell(judged, step, channel, fired, fired.reason)


def _fired(state: State) -> Transition:
    """The firing of an episode that is already under way."""
    assert state.episode_id and state.episode_started and state.severity
    return Transition(
        Event.FIRING, "not_told_yet", state.episode_id, state.episode_started, state.severity
    )


def _plan_resolved(planner: _Planner, judged: Judgement, step: Step, change: Transition) -> None:
    """Whoever was told of firing is told of resolved; who wasn't yet gets both in one message."""
    channels = [channel for episode, channel in planner.ledger if episode == change.episode_id]
    for channel in dict.fromkeys((*judged.alert.channels, *channels)):
        told = planner.told(change.episode_id, channel, Event.FIRING, Event.SEVERITY)
        if not told:
            planner.decide(step, channel, Event.RESOLVED, "firing_never_told")
        elif not _wanted(judged.alert, Event.RESOLVED):
            planner.decide(step, channel, Event.RESOLVED, "not_wanted")
        else:
            unsent = [row for row in told if row.status in (Status.PENDING, Status.DEAD)]
            planner.superseded.extend(row.notification_id for row in unsent)
            never_told = len(unsent) == len(told)
            reason = "fired_and_resolved" if never_told else change.reason
            planner.tell(judged, step, channel, change, reason)


def _plan_health(planner: _Planner, judged: Judgement, step: Step) -> None:
    changes = {change.event: change for change in step.transitions}
    if Event.ERROR_RESOLVED in changes:
        _plan_error_resolved(planner, judged, step, changes[Event.ERROR_RESOLVED])
        return
    episode = step.after.health_episode_id
    if episode is None:
        return
    for channel in judged.alert.channels:
        if not _wanted(judged.alert, Event.ERROR):
            planner.decide(step, channel, Event.ERROR, "not_wanted")
        elif told := planner.told(episode, channel, Event.ERROR):
            planner.repeat(step, channel, Event.ERROR, told)
        else:
            failed = changes.get(Event.ERROR) or _failed(judged.alert, step.after)
            planner.tell(judged, step, channel, failed, failed.reason)


def _failed(alert: Alert | BrokenAlert, head: State) -> Transition:
    """The error of a health episode that is already under way."""
    assert head.health_episode_id and head.health_since
    rules = alert.rules if isinstance(alert, Alert) else BROKEN_RULES
    return Transition(
        Event.ERROR, "not_told_yet", head.health_episode_id, head.health_since, rules.severity
    )


def _plan_error_resolved(
    planner: _Planner, judged: Judgement, step: Step, change: Transition
) -> None:
    channels = [channel for episode, channel in planner.ledger if episode == change.episode_id]
    for channel in dict.fromkeys(channels):
        told = planner.told(change.episode_id, channel, Event.ERROR)
        unsent = [row for row in told if row.status in (Status.PENDING, Status.DEAD)]
        planner.superseded.extend(row.notification_id for row in unsent)
        if len(unsent) < len(told):
            planner.tell(judged, step, channel, change, change.reason)
        else:
            planner.decide(step, channel, change.event, "error_never_told")


def payload(
    judged: Judgement, step: Step, change: Transition, now: datetime, reason: str
) -> dict[str, Any]:
    """The message of an event as data: what every channel renders, frozen when planned.

    Times are ISO 8601 in UTC, values are numbers or null.
    """
    alert, after, seen = judged.alert, step.after, step.observation
    good = alert if isinstance(alert, Alert) else None
    return {
        "event": str(change.event),
        "reason": reason,
        "alert": alert.name,
        "alert_id": alert.id,
        "unique_id": alert.source.unique_id,
        "instance": after.instance,
        "dimensions": dict(after.dimensions),
        "severity": str(change.severity),
        "phase": after.phase and str(after.phase),
        "since": isoformat(change.started),
        "as_of": isoformat(after.last_as_of or now),
        "actual_value": after.actual_value,
        "threshold": after.threshold,
        "failures": seen.failures if seen else None,
        "message": judged.reading.error if change.event is Event.ERROR else after.message,
        "context": dict(seen.context) if seen else {},
        "description": good.description if good else alert.source.description,
        "owner": good.owner if good else None,
        "runbook": good.rules.runbook if good else None,
        "tags": list(alert.source.tags),
        "path": alert.source.path,
        "depends_on": list(alert.source.depends_on),
        "exposures": list(alert.source.exposures),
        "episode_id": change.episode_id,
        "project": after.project,
    }


def retry_at(now: datetime, attempt: int, spread: float) -> datetime:
    """When to try again: exponential backoff with full jitter, at most ten minutes.

    `attempt` counts from 1, `spread` is a random number in [0, 1). The formula is "full jitter" of
    Marc Brooker, Exponential Backoff And Jitter (AWS Architecture Blog, 2015).
    """
    ceiling = min(2.0 ** min(attempt, 10), 600.0)
    return now + timedelta(seconds=max(0.5, spread * ceiling))
