"""What the parts of a daemon hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sentinel.app.alerts import Alerts
from sentinel.app.batch import EvaluatedBatch
from sentinel.app.delivery.result import DeliveryResult
from sentinel.app.evaluate import Evaluation
from sentinel.app.timed_planning import TimedPlan, TimedPlanning
from sentinel.core.due import Slot
from sentinel.core.routing import Routing
from sentinel.ports import Channel, Outbox, Store


class Instruments(Protocol):
    """What is counted. Each method is called after the fact, from any thread."""

    def evaluated(self, part: EvaluatedBatch, slots: Mapping[str, Slot]) -> None: ...
    def planned(self, plan: TimedPlan) -> None: ...
    def delivered(self, delivered: DeliveryResult) -> None: ...
    def outbox(self, outbox: Outbox, now: datetime) -> None: ...
    def loaded(self, alerts: Alerts | None) -> None: ...
    def leads(self, leading: bool) -> None: ...


@dataclass(frozen=True)
class LoadedProject:
    """Project and configuration as they were read once: parts that belong together.

    `health_channels` are notified when the project can't be read. `heartbeat` posts to the URL of the
    configuration, every `heartbeat_interval`.
    """

    alerts: Alerts
    evaluation: Evaluation
    timed_planning: TimedPlanning
    store: Store
    project: str
    routing: Routing
    channels: Mapping[str, Channel]
    fallback: str | None = None
    threads: int = 1
    health_channels: tuple[str, ...] = ()
    heartbeat: Callable[[], None] | None = None
    heartbeat_interval: timedelta = timedelta(minutes=1)


@dataclass(frozen=True)
class Intervals:
    """How often and how long, as the configuration has it."""

    plan_interval: timedelta = timedelta(seconds=30)
    drain_timeout: timedelta = timedelta(seconds=25)
    lease_ttl: timedelta = timedelta(seconds=30)
    delivery_interval: timedelta = timedelta(seconds=2)


@dataclass(frozen=True)
class DaemonStatus:
    """The daemon's health. `problems` are its current ones, by what they concern."""

    alive: bool
    ready: bool
    leading: bool
    alerts: int
    loaded_at: datetime | None
    next_start: datetime | None
    problems: Mapping[str, str]
