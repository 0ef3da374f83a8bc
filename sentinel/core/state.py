"""The state of an instance and of its alert, and what one evaluation changes in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sentinel.core.evaluation import Observation, Outcome
from sentinel.core.severity import Severity
from sentinel.core.values import hash_id

WAREHOUSE_UNREACHABLE = "warehouse_unreachable"


class Phase(StrEnum):
    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    RECOVERING = "recovering"

    @property
    def open(self) -> bool:
        """Whether an episode is under way."""
        return self in (Phase.FIRING, Phase.RECOVERING)


class Health(StrEnum):
    HEALTHY = "healthy"
    FAILING = "failing"


class Event(StrEnum):
    """A notification's event; TEST belongs to no alert and tests a channel."""

    FIRING = "firing"
    SEVERITY = "severity"
    REMINDER = "reminder"
    ESCALATION = "escalation"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    ERROR = "error"
    ERROR_RESOLVED = "error_resolved"
    TEST = "test"


@dataclass(frozen=True)
class State:
    """One row of sentinel_state: the columns, in their order.

    A row is an instance (`phase` set), the head of an alert (instance '', `health` set), or both:
    without `dimensions` the head is the instance, as soon as an evaluation has seen it.
    """

    state_key: str
    project: str
    alert_id: str
    unique_id: str
    alert: str
    instance: str = ""
    dimensions: Mapping[str, Any] = field(default_factory=dict)
    phase: Phase | None = None
    phase_since: datetime | None = None
    held_s: int = 0
    alert_count: int = 0
    severity: Severity | None = None
    peak_severity: Severity | None = None
    episode_id: str | None = None
    episode_started: datetime | None = None
    incident_id: str | None = None
    last_as_of: datetime | None = None
    last_slot: datetime | None = None
    last_outcome: Outcome | None = None
    actual_value: float | None = None
    threshold: float | None = None
    message: str | None = None
    health: Health | None = None
    health_since: datetime | None = None
    error_count: int = 0
    health_episode_id: str | None = None
    acked_at: datetime | None = None
    acked_by: str | None = None
    ack_comment: str | None = None
    missing_since: datetime | None = None
    removed_since: datetime | None = None
    version: int = 0
    updated_at: datetime | None = None
    target: str | None = None

    @property
    def is_head(self) -> bool:
        return self.instance == ""


def state_key(project: str, alert_id: str, instance: str) -> str:
    """The key of a row of sentinel_state."""
    return hash_id(project, alert_id, instance)


@dataclass(frozen=True)
class Transition:
    """A change that channels may be notified of: its episode and the named reason."""

    event: Event
    reason: str
    episode_id: str
    started: datetime
    severity: Severity


@dataclass(frozen=True)
class EvaluationTime:
    """When an evaluation speaks: the time it is for, the slot it was due, the store's clock.

    `missed_slots` were due since the last one and never evaluated: what held before them is not
    known to have held through them. `target` is the dbt target whose project evaluates.
    """

    as_of: datetime
    now: datetime
    slot: datetime | None = None
    missed_slots: int = 0
    target: str | None = None


@dataclass(frozen=True)
class Step:
    """What one evaluation did to one row: for history and for notifications.

    `observation` is None where nothing was seen of the instance itself.
    """

    before: State
    after: State
    outcome: Outcome
    transitions: tuple[Transition, ...] = ()
    observation: Observation | None = None
    recorded_only: bool = False


StateChange = tuple[State, tuple[Transition, ...]]
