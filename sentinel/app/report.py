"""The report of a run: one result per instance, notifications and the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sentinel.app.batch import AlertEvaluation, EvaluatedBatch
from sentinel.app.delivery.result import DeliveryResult
from sentinel.core.documents.fields import COUNTED
from sentinel.core.evaluation import Outcome
from sentinel.core.lifecycle import AlertUpdate
from sentinel.core.notification import Notification, Status
from sentinel.core.planning import NotificationDecision
from sentinel.core.severity import Severity
from sentinel.core.state import Event, Phase, State, Step

EXIT_OK = 0
EXIT_FIRING = 1
EXIT_FAILED = 3
EXIT_UNDELIVERABLE = 4


@dataclass(frozen=True)
class InstanceResult:
    """One instance after a run. `suppressed` has, by channel, the reason why it wasn't notified."""

    alert: str
    unique_id: str
    instance: str
    outcome: Outcome
    phase: Phase | None
    previous_phase: Phase | None
    since: datetime | None
    severity: Severity | None
    actual_value: float | None
    threshold: float | None
    failures: int | None
    message: str | None
    context: Mapping[str, Any]
    events: tuple[Event, ...]
    notified: tuple[str, ...]
    suppressed: Mapping[str, str]
    duration_ms: int | None
    bytes_billed: int | None

    @property
    def firing(self) -> bool:
        return self.phase is not None and self.phase.open

    @property
    def urgency(self) -> tuple[int, int, str, str]:
        """A sort key: what fires first, the worst of it first."""
        order = {Phase.FIRING: 0, Phase.RECOVERING: 1, Phase.PENDING: 3}
        place = order.get(self.phase, 4) if self.phase else 4
        if self.outcome.traits.failed or Event.RESOLVED in self.events:
            place = min(place, 2)
        rank = self.severity.rank if self.severity and place < 4 else 0
        return (place, -rank, self.alert, self.instance)


@dataclass(frozen=True)
class Report:
    """A run's results. `undelivered` has the error of each undelivered notification; `given_up` is the
    number of those that are not retried automatically."""

    run_id: str
    started_at: datetime
    elapsed_s: float
    results: tuple[InstanceResult, ...]
    undelivered: Mapping[str, str]
    dry_run: bool = False
    sent: tuple[Notification, ...] = ()
    given_up: int = 0

    @property
    def sent_of_others(self) -> tuple[Notification, ...]:
        """Notifications of instances that were not evaluated: time-based and pending ones."""
        shown = {(each.alert, each.instance) for each in self.results}
        return tuple(row for row in self.sent if (row.payload["alert"], row.instance) not in shown)

    @property
    def counts(self) -> dict[str, int]:
        """The number of instances with each outcome and phase, and of undelivered notifications."""
        counts = Counter(str(each.outcome) for each in self.results)
        # The phase `ok` would be added to the outcome of that name.
        counts.update(str(each.phase) for each in self.results if each.phase is not Phase.OK)
        counts.update(total=len(self.results), undelivered=len(self.undelivered))
        return {str(name): counts[name] for name in COUNTED}

    def exit_code(self, fail_on: Severity | None) -> int:
        """The exit code of `run`; `fail_on` None means that firing is no failure."""
        if any(each.outcome.traits.failed for each in self.results):
            return EXIT_FAILED
        if self.undelivered:
            return EXIT_UNDELIVERABLE
        if fail_on and any(
            each.firing and each.severity and each.severity.rank >= fail_on.rank
            for each in self.results
        ):
            return EXIT_FIRING
        return EXIT_OK


def report(
    evaluated: EvaluatedBatch, delivered: DeliveryResult, elapsed_s: float, *, dry_run: bool
) -> Report:
    """The report of a batch after its delivery."""
    notifications = _Notifications(evaluated, delivered, dry_run=dry_run)
    results = [
        _result(seen, update, step, *notifications(step.after))
        for seen, update in zip(evaluated.evaluations, evaluated.updates, strict=True)
        for step in (*_shown(update), *_still_open(update))
    ]
    dead = [
        row
        for row in evaluated.unfinished
        # Retried notifications are among the delivered or the undelivered ones.
        if row.status is Status.DEAD and row.notification_id not in evaluated.plan.revived
    ]
    undelivered = {
        f"{title(row)} to {row.channel}": delivered.errors.get(row.message_id)
        or row.last_error
        or ""
        for row in (*dead, *delivered.waiting, *delivered.dead)
    }
    return Report(
        evaluated.run_id,
        evaluated.started_at,
        elapsed_s,
        tuple(sorted(results, key=lambda result: result.urgency)),
        undelivered,
        dry_run,
        tuple(sorted(delivered.sent, key=_sent_order)),
        len({f"{title(row)} to {row.channel}" for row in (*dead, *delivered.dead)}),
    )


def _sent_order(row: Notification) -> tuple[datetime, str, str, str]:
    """A sort key that doesn't depend on which channel answered first."""
    return (row.created_at, row.payload["alert"], row.instance, row.channel)


def title(row: Notification) -> str:
    """Event, alert and instance of a notification: unique among a run's notifications."""
    instance = f" [{row.instance}]" if row.instance else ""
    return f"{row.payload['alert']}{instance} ({row.event})"


def _shown(update: AlertUpdate) -> list[Step]:
    """The instances of an alert; its head only where it is the instance, or all there is to say."""
    instances = [step for step in update.steps if step.observation is not None]
    return instances or list(update.steps[:1])


def _still_open(update: AlertUpdate) -> list[Step]:
    """The instances that fire on, though this evaluation says nothing of them."""
    return [Step(state, state, Outcome.SKIPPED, recorded_only=True) for state in update.unseen]


def _result(
    seen: AlertEvaluation,
    update: AlertUpdate,
    step: Step,
    notified: tuple[str, ...],
    suppressed: Mapping[str, str],
) -> InstanceResult:
    after, observation = step.after, step.observation
    error = update.result.error
    return InstanceResult(
        alert=after.alert,
        unique_id=after.unique_id,
        instance=after.instance,
        outcome=step.outcome,
        phase=after.phase,
        previous_phase=step.before.phase,
        since=after.phase_since,
        severity=after.severity or (observation.severity if observation else None),
        actual_value=observation.actual_value if observation else None,
        threshold=observation.threshold if observation else None,
        failures=observation.failures if observation else None,
        message=observation.message if observation else error or after.message,
        context=observation.context if observation else {},
        events=tuple(change.event for change in step.transitions),
        notified=notified,
        suppressed=suppressed,
        duration_ms=seen.duration_ms,
        bytes_billed=seen.bytes_billed,
    )


class _Notifications:
    """Which channels were notified of an instance, and why the others were not."""

    def __init__(
        self, evaluated: EvaluatedBatch, delivered: DeliveryResult, *, dry_run: bool
    ) -> None:
        self._decisions: dict[tuple[str, str], list[NotificationDecision]] = {}
        for each in evaluated.plan.decisions:
            self._decisions.setdefault((each.alert_id, each.instance), []).append(each)
        self._sent = {(row.alert_id, row.instance, row.channel) for row in delivered.sent}
        self._dead = {(row.alert_id, row.instance, row.channel) for row in delivered.dead}
        self._dry_run = dry_run

    def __call__(self, state: State) -> tuple[tuple[str, ...], dict[str, str]]:
        """The notified channels, and the reason for each of the others."""
        notified: dict[str, None] = {}
        suppressed: dict[str, str] = {}
        for each in self._decisions.get((state.alert_id, state.instance), ()):
            key = (each.alert_id, each.instance, each.channel)
            if key in self._sent:  # in this run, even if it was planned before
                notified[each.channel] = None
            elif not each.notified:
                suppressed.setdefault(each.channel, each.reason)
            elif self._dry_run:
                suppressed[each.channel] = "dry_run"
            else:
                dead = key in self._dead
                suppressed[each.channel] = "undeliverable" if dead else "not_delivered_yet"
        return tuple(notified), {
            channel: reason for channel, reason in suppressed.items() if channel not in notified
        }
