"""Plans notifications: which channels to notify of which event, for each episode and channel.

Every decision has a named reason, which history records. A decision to notify becomes a row of the
outbox; its payload is fixed here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sentinel.core.alert import Alert, BrokenAlert
from sentinel.core.case import Case, cases_of
from sentinel.core.evaluation import EvaluationResult, Outcome
from sentinel.core.lifecycle import AlertUpdate
from sentinel.core.notification import (
    FIRED_AND_RESOLVED,
    MOST_IN_ONE,
    OPENING,
    Ledger,
    Notification,
    Status,
)
from sentinel.core.payload import payload_of
from sentinel.core.routing import Routing, Traits
from sentinel.core.severity import Severity
from sentinel.core.silence import Silence
from sentinel.core.state import WAREHOUSE_UNREACHABLE, Event, State, Step, Transition
from sentinel.core.values import hash_id

# Numbers of an escalation differ by multiples of this, so that `n` identifies the escalation.
_STEP = 100
_EARLY = timedelta(seconds=30)
_NEXT = timedelta(microseconds=1)


@dataclass(frozen=True)
class NotificationDecision:
    """Why a channel is or isn't notified of an event of one instance."""

    alert_id: str
    instance: str
    channel: str
    event: Event
    notified: bool
    reason: str


@dataclass(frozen=True)
class NotificationPlan:
    """New rows for the outbox, rows that they replace, and every decision with its reason.

    `superseded` are ids of notifications, `revived` ids of dead notifications to retry.
    """

    notifications: tuple[Notification, ...] = ()
    superseded: tuple[str, ...] = ()
    decisions: tuple[NotificationDecision, ...] = ()
    revived: tuple[str, ...] = ()


@dataclass
class _Planner:
    """Collects the plan of one batch."""

    ledger: Ledger
    now: datetime
    project: str
    silences: Sequence[Silence] = ()
    routing: Routing | None = None
    notifications: list[Notification] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)
    decisions: list[NotificationDecision] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)
    _channels: dict[str, list[str]] = field(default_factory=dict)
    _planned: Counter[tuple[str, str]] = field(default_factory=Counter)
    _moment: datetime = field(init=False)

    def __post_init__(self) -> None:
        for episode, channel in self.ledger:
            self._channels.setdefault(episode, []).append(channel)
        # Notifications are sent in order of `created_at`, even if the clock was set back.
        known = [row.created_at + _NEXT for rows in self.ledger.values() for row in rows]
        self._moment = max([self.now, *known])

    def rows_for(self, episode_id: str, channel: str, *events: Event) -> list[Notification]:
        """The ledger's rows for these events, except superseded and cancelled ones, oldest first."""
        return [
            row
            for row in self.ledger.get((episode_id, channel), ())
            if row.event in events and row.status not in (Status.SUPERSEDED, Status.CANCELLED)
        ]

    def channels_of(self, episode_id: str) -> list[str]:
        """The channels with rows for an episode in the ledger."""
        return self._channels.get(episode_id, [])

    def traits(self, channel: str) -> Traits | None:
        """A channel's traits; None if it is no longer configured."""
        return self.routing.traits(channel) if self.routing else Traits(groups=False)

    def silenced(self, state: State) -> bool:
        return any(
            each.mutes((state.alert_id, state.unique_id), state.dimensions, self.now)
            for each in self.silences
        )

    def decide(
        self, case: Case, channel: str, event: Event, reason: str, *, notified: bool = False
    ) -> None:
        after = case.after
        self.decisions.append(
            NotificationDecision(after.alert_id, after.instance, channel, event, notified, reason)
        )

    def repeat(self, case: Case, channel: str, event: Event, rows: Sequence[Notification]) -> None:
        """Record why no new notification is planned; a failed delivery never counts as notified.

        Dead notifications are retried once an hour while their channel is configured.
        """
        statuses = {row.status for row in rows}
        dead = [row for row in rows if row.status is Status.DEAD]
        due = [row for row in dead if row.not_before <= self.now]
        if due and self.traits(channel) is not None:
            self.revived += [row.notification_id for row in due]
            reason = "retried"
        elif statuses <= {Status.DEAD}:
            reason = "undeliverable"
        elif statuses <= {Status.DEAD, Status.PENDING, Status.CLAIMED}:
            reason = "not_delivered_yet"
        else:
            reason = "already_notified"
        self.decide(case, channel, event, reason)

    def notify(self, case: Case, channel: str, change: Transition, reason: str, n: int = 0) -> None:
        taken = {
            row.n
            for row in self.ledger.get((change.episode_id, channel), ())
            if row.event is change.event
        }
        # A notification that was cancelled and is planned again is a new one, with its own id.
        while n in taken:
            n += _STEP if change.event is Event.ESCALATION else 1
        identity = hash_id(change.episode_id, channel, change.event, str(n))
        created_at = self._moment + self._planned[change.episode_id, channel] * _NEXT
        self._planned[change.episode_id, channel] += 1
        self.notifications.append(
            Notification(
                notification_id=identity,
                message_id=identity,
                project=self.project,
                channel=channel,
                event=change.event,
                n=n,
                episode_id=change.episode_id,
                alert_id=case.after.alert_id,
                instance=case.after.instance,
                incident_id=case.after.incident_id or case.before.incident_id,
                reason=reason,
                payload=payload_of(case, change, self.now, reason),
                status=Status.PENDING,
                created_at=created_at,
                not_before=self.now,
            )
        )
        self.decide(case, channel, change.event, reason, notified=True)

    def plan(self) -> NotificationPlan:
        return NotificationPlan(
            tuple(self._grouped()),
            tuple(self.superseded),
            tuple(self.decisions),
            tuple(dict.fromkeys(self.revived)),
        )

    def _grouped(self) -> Iterator[Notification]:
        """The notifications; those that form one message share a `message_id`.

        A notification that waits for an earlier row of its episode forms its own message, so that it
        delays no other. An unreachable warehouse is one message, also for channels that don't group.
        """
        groups: dict[tuple[str, bool], list[Notification]] = {}
        superseded = frozenset(self.superseded)
        for row in self.notifications:
            traits = self.traits(row.channel)
            unreachable = row.reason == WAREHOUSE_UNREACHABLE
            if self._waits(row, superseded) or not (unreachable or (traits and traits.groups)):
                yield row
            else:
                groups.setdefault(
                    (row.channel, unreachable and not (traits and traits.groups)), []
                ).append(row)
        for rows in groups.values():
            rows.sort(key=lambda row: row.urgency)
            for start in range(0, len(rows), MOST_IN_ONE):
                yield from _one_message(rows[start : start + MOST_IN_ONE])

    def _waits(self, row: Notification, superseded: frozenset[str]) -> bool:
        return any(
            not earlier.status.finished and earlier.notification_id not in superseded
            for earlier in self.ledger.get((row.episode_id, row.channel), ())
        )


def _one_message(rows: Sequence[Notification]) -> Iterator[Notification]:
    if len(rows) == 1:
        yield rows[0]
        return
    message_id = hash_id("message", *sorted(row.notification_id for row in rows))
    for row in rows:
        yield replace(row, message_id=message_id)


def plan(
    updates: Iterable[AlertUpdate],
    ledger: Ledger,
    project: str,
    now: datetime,
    *,
    silences: Sequence[Silence] = (),
    routing: Routing | None = None,
) -> NotificationPlan:
    """Plan notifications, given the ledger of earlier ones.

    `updates` come from evaluations, or from `current_update` for time-based notifications: reminders,
    escalations and ends of silences. Without `routing`, every channel exists and none groups.
    """
    planner = _Planner(ledger, now, project, silences, routing)
    for update in updates:
        for case in cases_of(update):
            _plan_phase(planner, case)
            _plan_health(planner, case)
    return planner.plan()


def current_update(alert: Alert | BrokenAlert, states: Iterable[State]) -> AlertUpdate:
    """An alert's current rows as an update, without an evaluation."""
    steps = tuple(Step(state, state, Outcome.SKIPPED) for state in states)
    return AlertUpdate(alert, EvaluationResult(Outcome.SKIPPED), steps, kind="plan")


# -- an episode of the phase -------------------------------------------------------------------


def _plan_phase(planner: _Planner, case: Case) -> None:
    if Event.RESOLVED in case.changes:
        _plan_resolved(planner, case, case.changes[Event.RESOLVED])
        return
    after = case.after
    if after.phase is None or not after.phase.open or after.episode_id is None:
        return
    silenced = planner.silenced(after)
    base = case.alert.recipients.at(after.peak_severity or case.rules.severity)
    for channel in base:
        if case.wants(Event.FIRING):
            _plan_channel(planner, case, channel, after.episode_id, silenced=silenced)
        else:
            planner.decide(case, channel, Event.FIRING, "not_in_notify_on")
    if not case.wants(Event.FIRING):
        return
    # A channel that was notified of the episode stays notified of it, even if routes have changed.
    for channel in planner.channels_of(after.episode_id):
        known = planner.traits(channel) is not None
        if channel not in base and known and planner.rows_for(after.episode_id, channel, *OPENING):
            _plan_channel(planner, case, channel, after.episode_id, silenced=silenced)
    _plan_escalations(planner, case, after.episode_id, silenced=silenced)


def _plan_channel(
    planner: _Planner, case: Case, channel: str, episode: str, *, silenced: bool
) -> None:
    """Plan a channel's notification of an open episode."""
    after = case.after
    rows = planner.rows_for(episode, channel, *OPENING)
    risen = rows and _risen(after, rows)
    due = rows and not risen and _reminder_due(case, rows, planner.now)
    event = Event.SEVERITY if risen else Event.REMINDER if due else Event.FIRING
    if silenced and (risen or due or _unsent(rows)):
        planner.decide(case, channel, event, "silenced")
    elif not rows:
        fired = case.changes.get(Event.FIRING) or _going_on(after, Event.FIRING, "not_notified_yet")
        planner.notify(case, channel, fired, fired.reason)
    elif risen:
        change = case.changes.get(Event.SEVERITY) or _going_on(after, event, "severity_rose")
        planner.notify(case, channel, change, change.reason, n=change.severity.rank)
    elif due and after.acked_at is not None:
        planner.decide(case, channel, event, "acknowledged")
    elif due:
        change = _going_on(after, event, "repeat_due")
        planner.notify(case, channel, change, change.reason, n=1)
    else:
        planner.repeat(case, channel, Event.FIRING, rows)
    _plan_acknowledged(planner, case, channel, episode, rows)


def _unsent(rows: Sequence[Notification]) -> bool:
    """Whether no row was sent or is being sent."""
    return all(row.status in (Status.PENDING, Status.DEAD) for row in rows)


def _risen(state: State, rows: Sequence[Notification]) -> bool:
    """Whether the episode's severity is above the highest in these rows."""
    known = max(Severity(row.payload["severity"]).rank for row in rows)
    return state.peak_severity is not None and state.peak_severity.rank > known


def _reminder_due(case: Case, rows: Sequence[Notification], now: datetime) -> bool:
    """Whether a reminder is due: the last notification was sent an interval ago.

    Slightly early counts as due, since the next chance may be a whole slot later.
    """
    interval, last = case.rules.repeat_interval, max(rows, key=lambda row: row.created_at)
    if interval is None or last.status is not Status.SENT:
        return False
    return now - last.created_at >= interval - min(_EARLY, interval / 10)


def _plan_acknowledged(
    planner: _Planner, case: Case, channel: str, episode: str, rows: Sequence[Notification]
) -> None:
    """Plan the acknowledgement for a channel that shows them, even during a silence."""
    traits, after = planner.traits(channel), case.after
    if after.acked_at is None or not rows or traits is None or not traits.acknowledges:
        return
    if not planner.rows_for(episode, channel, Event.ACKNOWLEDGED):
        change = _going_on(after, Event.ACKNOWLEDGED, "acknowledged")
        planner.notify(case, channel, change, change.reason)


def _plan_escalations(planner: _Planner, case: Case, episode: str, *, silenced: bool) -> None:
    after = case.after
    assert after.episode_started
    for place, escalation in enumerate(case.rules.escalations):
        if planner.now - after.episode_started < escalation.after:
            continue
        for channel in escalation.channels:
            escalations = planner.rows_for(episode, channel, Event.ESCALATION)
            rows = [row for row in escalations if row.n % _STEP == place]
            if rows:
                planner.repeat(case, channel, Event.ESCALATION, rows)
            elif after.acked_at is not None:
                planner.decide(case, channel, Event.ESCALATION, "acknowledged")
            elif silenced:
                planner.decide(case, channel, Event.ESCALATION, "silenced")
            else:
                change = _going_on(after, Event.ESCALATION, "escalation_due")
                planner.notify(case, channel, change, change.reason, n=place)


def _going_on(state: State, event: Event, reason: str) -> Transition:
    """A transition for an open episode."""
    severity = state.peak_severity or state.severity
    assert state.episode_id and state.episode_started and severity
    return Transition(event, reason, state.episode_id, state.episode_started, severity)


def _plan_resolved(planner: _Planner, case: Case, change: Transition) -> None:
    """Plan `resolved` for channels that were notified of the firing, or one message for both."""
    base = case.alert.recipients.at(change.severity)
    silenced = planner.silenced(case.before)
    for channel in dict.fromkeys((*base, *planner.channels_of(change.episode_id))):
        rows = planner.rows_for(change.episode_id, channel, *OPENING)
        if not rows:
            if case.wants(Event.FIRING) or not case.wants(Event.RESOLVED):
                reason = "silenced" if silenced else "firing_never_notified"
                planner.decide(case, channel, Event.RESOLVED, reason)
            elif silenced:
                planner.decide(case, channel, Event.RESOLVED, "silenced")
            else:
                planner.notify(case, channel, change, change.reason)
        elif not case.wants(Event.RESOLVED):
            planner.decide(case, channel, Event.RESOLVED, "not_in_notify_on")
        else:
            _plan_end(planner, case, channel, change, rows, silenced=silenced)


def _plan_end(
    planner: _Planner,
    case: Case,
    channel: str,
    change: Transition,
    rows: Sequence[Notification],
    *,
    silenced: bool,
) -> None:
    unsent = [row for row in rows if row.status in (Status.PENDING, Status.DEAD)]
    planner.superseded.extend(row.notification_id for row in unsent)
    acked = planner.rows_for(change.episode_id, channel, Event.ACKNOWLEDGED)
    late = [row for row in acked if row.status in (Status.PENDING, Status.DEAD)]
    planner.superseded.extend(row.notification_id for row in late)
    never_sent = len(unsent) == len(rows)
    if never_sent and silenced and not any(row.attempts for row in rows):
        planner.decide(case, channel, Event.RESOLVED, "silenced")
    elif planner.traits(channel) is None and _arrived(rows, unsent):
        planner.decide(case, channel, Event.RESOLVED, "channel_removed")
    else:
        # Also for a removed channel that was never notified: the notification becomes undeliverable
        # and goes to the fallback channel.
        planner.notify(case, channel, change, FIRED_AND_RESOLVED if never_sent else change.reason)


def _arrived(rows: Sequence[Notification], unsent: Sequence[Notification]) -> bool:
    """Whether all other rows were sent, and there is one."""
    rest = [row for row in rows if row not in unsent]
    return bool(rest) and all(row.status is Status.SENT for row in rest)


# -- an episode of the health ------------------------------------------------------------------


def _plan_health(planner: _Planner, case: Case) -> None:
    if Event.ERROR_RESOLVED in case.changes:
        _plan_error_resolved(planner, case, case.changes[Event.ERROR_RESOLVED])
        return
    episode = case.after.health_episode_id
    if episode is None:
        return
    silenced = planner.silenced(replace(case.after, dimensions={}))
    for channel in case.alert.recipients.at(case.rules.severity):
        rows = planner.rows_for(episode, channel, Event.ERROR)
        if not case.wants(Event.ERROR):
            planner.decide(case, channel, Event.ERROR, "not_in_notify_on")
        elif silenced and _unsent(rows):
            planner.decide(case, channel, Event.ERROR, "silenced")
        elif rows:
            planner.repeat(case, channel, Event.ERROR, rows)
        else:
            failed = case.changes.get(Event.ERROR) or _failing(case)
            planner.notify(case, channel, failed, failed.reason)


def _failing(case: Case) -> Transition:
    """The error of an open health episode."""
    head = case.after
    assert head.health_episode_id and head.health_since
    reason = WAREHOUSE_UNREACHABLE if case.update.result.unreachable else "not_notified_yet"
    return Transition(
        Event.ERROR, reason, head.health_episode_id, head.health_since, case.rules.severity
    )


def _plan_error_resolved(planner: _Planner, case: Case, change: Transition) -> None:
    """Plan `error_resolved` for channels whose error was, or may have been, delivered."""
    for channel in planner.channels_of(change.episode_id):
        rows = planner.rows_for(change.episode_id, channel, Event.ERROR)
        unsent = [row for row in rows if row.status in (Status.PENDING, Status.DEAD)]
        planner.superseded.extend(row.notification_id for row in unsent)
        maybe = [row for row in rows if row not in unsent or row.attempts]
        if planner.traits(channel) is None and (not maybe or _arrived(rows, unsent)):
            planner.decide(case, channel, change.event, "channel_removed")
        elif maybe:
            planner.notify(case, channel, change, change.reason)
        else:
            planner.decide(case, channel, change.event, "error_never_notified")
