"""What planning decides about: one row of the state, and what an evaluation did to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sentinel.core.alert import Alert, BrokenAlert, Definition
from sentinel.core.evaluation import Observation
from sentinel.core.lifecycle import BROKEN_RULES, AlertUpdate
from sentinel.core.state import Event, State, Transition


@dataclass(frozen=True)
class Case:
    """One row of the state, and what an evaluation did to it, if there was one just now."""

    update: AlertUpdate
    before: State
    after: State
    changes: Mapping[Event, Transition]
    seen: Observation | None = None

    @property
    def alert(self) -> Alert | BrokenAlert:
        return self.update.alert

    @property
    def rules(self) -> Definition:
        return self.alert.rules if isinstance(self.alert, Alert) else BROKEN_RULES

    def wants(self, event: str) -> bool:
        return event in self.rules.notify_on


def cases_of(update: AlertUpdate) -> Iterator[Case]:
    """The rows to plan for, without those that are recorded in history only."""
    taken = [step for step in update.steps if not step.recorded_only]
    for step in taken:
        changes = {change.event: change for change in step.transitions}
        yield Case(update, step.before, step.after, changes, step.observation)
    if taken:
        for state in update.unseen:
            yield Case(update, state, state, {})
