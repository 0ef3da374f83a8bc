"""What the tests of the core are made of: an alert, what its query gave, and a story of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from hypothesis import settings

from sentinel.core.alert import Alert, BrokenAlert, Definition, DefinitionContext, parse_definitions
from sentinel.core.definition_errors import Fault
from sentinel.core.evaluation import EvaluationResult, Observation, Outcome, QueryResult
from sentinel.core.lifecycle import AlertUpdate, acknowledge, apply_result
from sentinel.core.notification import Notification, Status, ledger_of
from sentinel.core.planning import NotificationPlan, current_update, plan
from sentinel.core.project import AlertSource
from sentinel.core.routing import Recipients, Routing, Traits
from sentinel.core.severity import Severity
from sentinel.core.silence import Silence
from sentinel.core.state import EvaluationTime, State
from sentinel.core.values import instance_name

# The same examples in every run, and no clock that judges a slow machine.
examples = settings(deadline=None, derandomize=True, database=None, max_examples=100)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
CHANNELS = frozenset({"ops", "mail", "pager", "Data-Team"})
ROUTING = Routing(dict.fromkeys(sorted(CHANNELS), Traits(groups=False)))


def at(minute: float) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=minute)


def make_source(block: Any = None, *, name: str = "revenue", **known: Any) -> AlertSource:
    path = f"models/alerts/{name}.sql"
    return AlertSource(f"model.shop.{name}", name, path, {} if block is None else block, **known)


def make_rules(**keys: Any) -> Definition:
    """A definition by its keys; `for_` stands for `for`."""
    return Definition.model_validate({key.rstrip("_"): value for key, value in keys.items()})


def make_alert(**keys: Any) -> Alert:
    """A good alert by its keys; without `channels` it tells `ops`."""
    block = {"channels": ["ops"]} | {key.rstrip("_"): value for key, value in keys.items()}
    valid, broken = parse_definitions([make_source(block)], DefinitionContext(routing=ROUTING))
    assert not broken, broken
    return valid[0]


def make_broken(*channels: str) -> BrokenAlert:
    return BrokenAlert(
        make_source(),
        (Fault(("for",), "it is wrong"),),
        Recipients(dict.fromkeys(Severity, channels)),
    )


def make_result(*rows: Mapping[str, Any], truncated: bool = False) -> QueryResult:
    """What the warehouse gave: rows with the same columns."""
    columns = tuple(rows[0]) if rows else ()
    return QueryResult(columns, tuple(tuple(row.values()) for row in rows), truncated)


def seen(
    outcome: Literal[Outcome.OK, Outcome.ALERT],
    *,
    severity: str = "critical",
    actual_value: float | None = None,
    **where: Any,
) -> Observation:
    """One instance as an evaluation saw it; `where` are its dimensions."""
    return Observation(
        instance_name(where), outcome, Severity(severity), where, actual_value=actual_value
    )


def ok(**about: Any) -> Observation:
    return seen(Outcome.OK, **about)


def alerting(**about: Any) -> Observation:
    return seen(Outcome.ALERT, **about)


def read(*observations: Observation) -> EvaluationResult:
    """A complete result of the shape `status`."""
    alert = any(each.outcome is Outcome.ALERT for each in observations)
    return EvaluationResult(Outcome.ALERT if alert else Outcome.OK, observations)


def failed(error: str = "the query was refused") -> EvaluationResult:
    return EvaluationResult.failed(error)


@dataclass(frozen=True)
class Seen:
    """One evaluation: what it did, and who is told."""

    update: AlertUpdate
    plan: NotificationPlan

    @property
    def events(self) -> list[str]:
        return [str(change.event) for step in self.update.steps for change in step.transitions]

    @property
    def reasons(self) -> list[str]:
        return [change.reason for step in self.update.steps for change in step.transitions]

    @property
    def notified(self) -> list[tuple[str, str, str]]:
        """(channel, event, reason) of what goes into the outbox."""
        return [(row.channel, str(row.event), row.reason) for row in self.plan.notifications]

    @property
    def suppressed(self) -> list[tuple[str, str, str]]:
        """(channel, event, reason) of what doesn't."""
        return [
            (each.channel, str(each.event), each.reason)
            for each in self.plan.decisions
            if not each.notified
        ]


@dataclass
class Story:
    """An alert through its evaluations, with states and outbox kept as a store keeps them."""

    alert: Alert | BrokenAlert
    states: dict[str, State] = field(default_factory=dict)
    outbox: dict[str, Notification] = field(default_factory=dict)
    silences: list[Silence] = field(default_factory=list)
    routing: Routing | None = None

    @property
    def state(self) -> State:
        """The head, which is the instance of an alert without dimensions."""
        return self.states[""]

    def see(
        self,
        result: EvaluationResult | Observation,
        minute: float,
        *,
        now: float | None = None,
        missed_slots: int = 0,
        delivered: Status = Status.SENT,
        by_hand: bool = False,
    ) -> Seen:
        """One evaluation for a minute; what it tells comes to be `delivered`."""
        if isinstance(result, Observation):
            result = read(result)
        slot = None if by_hand else at(minute)
        time = EvaluationTime(at(minute), at(minute if now is None else now), slot, missed_slots)
        update = apply_result(self.alert, result, self.states.values(), time, "shop")
        return self._plan(update, time.now, delivered)

    def wait(self, minute: float, *, delivered: Status = Status.SENT) -> Seen:
        """Time alone: what comes by it is planned, without an evaluation."""
        return self._plan(current_update(self.alert, self.states.values()), at(minute), delivered)

    def silence(self, start: float, end: float, **dimensions: Any) -> None:
        self.silences.append(
            Silence(
                f"silence {len(self.silences)}", "shop", [self.alert.id], dimensions or None, None,
                "known", "ann", None, at(start), at(start), at(end),
            )
        )  # fmt: skip

    def acknowledge(self, minute: float) -> Seen:
        steps = acknowledge(self.states.values(), "ann", "on it", at(minute))
        update = AlertUpdate(
            self.alert, EvaluationResult(Outcome.SKIPPED), steps, kind="acknowledgement"
        )
        return self._plan(update, at(minute), Status.SENT)

    def _plan(self, update: AlertUpdate, now: datetime, delivered: Status) -> Seen:
        notified = plan(
            [update],
            ledger_of(self._open_episodes()),
            "shop",
            now,
            silences=self.silences,
            routing=self.routing,
        )
        self._keep(update)
        self._post(notified, delivered)
        return Seen(update, notified)

    def deliver(self, status: Status, *channels: str) -> None:
        """Something becomes of what was told, on these channels or on all."""
        for key, row in self.outbox.items():
            if not channels or row.channel in channels:
                self.outbox[key] = _become(row, status)

    def _open_episodes(self) -> Iterable[Notification]:
        known = self.states.values()
        episodes = {state.episode_id for state in known}
        episodes |= {state.health_episode_id for state in known}
        return [row for row in self.outbox.values() if row.episode_id in episodes]

    def _keep(self, update: AlertUpdate) -> None:
        changed: Sequence[State] = (
            *(step.after for step in update.steps if not step.recorded_only),
            *update.noted,
        )
        assert len({state.state_key for state in changed}) == len(changed), "written twice"
        for state in changed:
            known = self.states.get(state.instance)
            assert state.version == (known.version if known else 0), "compare-and-swap is lost"
            self.states[state.instance] = replace(state, version=state.version + 1)

    def _post(self, notified: NotificationPlan, delivered: Status) -> None:
        for row in notified.notifications:
            assert row.notification_id not in self.outbox, "the key of the outbox is there already"
            self.outbox[row.notification_id] = _become(row, delivered)
        for key in notified.superseded:
            self.outbox[key] = replace(self.outbox[key], status=Status.SUPERSEDED)
        for key in notified.revived:
            self.outbox[key] = replace(self.outbox[key], status=Status.PENDING)


def _become(row: Notification, status: Status) -> Notification:
    """A row as delivery leaves it: what is dead is tried again after an hour."""
    if status is Status.DEAD:
        return replace(row, status=status, not_before=row.created_at + timedelta(hours=1))
    return replace(row, status=status)
