"""What an outcome's traits do, for every outcome."""

from __future__ import annotations

import pickle

import pytest

from sentinel.core.evaluation import EvaluationResult, Outcome
from sentinel.core.history import Execution, history_rows
from sentinel.core.lifecycle import AlertUpdate
from sentinel.core.state import EvaluationTime

from .builders import Story, alerting, at, make_alert

every_outcome = pytest.mark.parametrize("outcome", list(Outcome))


def after(outcome: Outcome) -> tuple[Story, AlertUpdate]:
    """An alert that fired, and its next evaluation."""
    story = Story(make_alert())
    story.see(alerting(), 0)
    return story, story.see(EvaluationResult(outcome, absent="unknown"), 1).update


@every_outcome
def test_it_moves_the_slot_if_it_uses_it(outcome: Outcome) -> None:
    story, _ = after(outcome)
    assert story.state.last_slot == at(1 if outcome.traits.uses_slot else 0)


@every_outcome
def test_it_is_recorded_once_for_its_slot_if_it_uses_it(outcome: Outcome) -> None:
    ids = set()
    for run in ("a", "b"):
        _, update = after(outcome)
        execution = Execution(run, "schedule", EvaluationTime(at(1), at(1), at(1)))
        [row, *_] = history_rows(update, execution, ())
        ids.add(row.evaluation_id)
    assert len(ids) == (1 if outcome.traits.uses_slot else 2)


@every_outcome
def test_it_counts_as_an_error_if_it_failed(outcome: Outcome) -> None:
    story, _ = after(outcome)
    assert story.state.error_count == int(outcome.traits.failed)


@every_outcome
def test_the_same_moment_is_evaluated_again_if_it_failed(outcome: Outcome) -> None:
    story, _ = after(outcome)
    again = story.see(alerting(), 1, now=2).update
    changes = not all(step.recorded_only for step in again.steps)
    assert changes is (outcome.traits.failed or not outcome.traits.uses_slot)


@every_outcome
def test_it_can_be_sent_to_another_process(outcome: Outcome) -> None:
    assert pickle.loads(pickle.dumps(outcome)) is outcome
    assert outcome.traits
