"""History: one row for every evaluation of every instance, and why who was told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sentinel.core.evaluation import EvaluationResult, Outcome
from sentinel.core.history import Execution, HistoryRow, history_rows
from sentinel.core.planning import NotificationDecision
from sentinel.core.state import EvaluationTime
from tests.core.builders import Seen, Story, alerting, at, failed, make_alert, ok, read


def recorded(
    seen: Seen, minute: float, *, slot: bool = True, **known: Any
) -> dict[str, HistoryRow]:
    """The rows of one evaluation by instance."""
    time = EvaluationTime(at(minute), at(minute + 1), at(minute) if slot else None, missed_slots=2)
    execution = Execution("run-1", "daemon", time, "hash", 120, 4096, **known)
    rows = history_rows(seen.update, execution, seen.plan.decisions)
    assert len({row.evaluation_id for row in rows}) == len(rows)
    return {row.instance: row for row in rows}


def regional() -> Story:
    return Story(make_alert(dimensions="region", channels=["ops", "mail"]))


def test_every_instance_and_the_whole_have_a_row() -> None:
    seen = regional().see(read(alerting(region="north"), ok(region="south")), 0)
    rows = recorded(seen, 0)

    assert {
        name: (row.outcome, row.phase_before, row.phase_after) for name, row in rows.items()
    } == {
        "": ("alert", None, None),
        "region=north": ("alert", "ok", "firing"),
        "region=south": ("ok", "ok", "ok"),
    }


def test_cost_is_written_once_so_that_it_can_be_summed() -> None:
    rows = recorded(regional().see(read(alerting(region="north"), ok(region="south")), 0), 0)

    assert [(row.duration_ms, row.bytes_billed) for row in rows.values()] == [
        (120, 4096),
        (None, None),
        (None, None),
    ]
    assert {row.sql_hash for row in rows.values()} == {"hash"}


def test_a_row_says_when_why_and_for_what() -> None:
    row = recorded(Story(make_alert()).see(alerting(), 5), 5)[""]

    assert (row.kind, row.run_id, row.triggered_by) == ("evaluation", "run-1", "daemon")
    assert (row.slot, row.as_of, row.recorded_at) == (at(5), at(5), at(6))
    assert (row.attempt, row.missed_slots) == (1, 2)
    assert (row.project, row.alert_id, row.alert) == ("shop", "model.shop.revenue", "revenue")


def test_a_row_holds_what_was_seen() -> None:
    evaluations = replace(
        alerting(severity="warning", actual_value=7),
        threshold=5,
        failures=7,
        message="too many",
        context={"day": "2026-01-05"},
    )
    row = recorded(Story(make_alert()).see(evaluations, 0), 0)[""]

    assert (row.severity, row.actual_value, row.threshold, row.failures) == ("warning", 7, 5, 7)
    assert (row.message, row.context) == ("too many", {"day": "2026-01-05"})
    assert row.error is None


def test_severity_belongs_to_alerts_only() -> None:
    row = recorded(Story(make_alert()).see(ok(severity="warning"), 0), 0)[""]

    assert row.severity is None


def test_an_error_is_in_the_row_of_the_whole() -> None:
    story = regional()
    story.see(read(alerting(region="north")), 0)
    rows = recorded(story.see(failed("no such table"), 5), 5)

    assert {name: row.error for name, row in rows.items()} == {"": "no such table"}
    assert (rows[""].outcome, rows[""].message, rows[""].actual_value) == ("error", None, None)


def test_events_and_reasons_stand_with_their_instance() -> None:
    story = regional()
    story.see(read(alerting(region="north"), ok(region="south")), 0)
    rows = recorded(story.see(read(alerting(region="north"), alerting(region="south")), 5), 5)

    assert {name: row.events for name, row in rows.items()} == {
        "": [],
        "region=north": [],
        "region=south": ["firing"],
    }
    assert rows["region=north"].reasons == [
        {"channel": channel, "event": "firing", "notified": False, "reason": "already_notified"}
        for channel in ("ops", "mail")
    ]
    assert rows["region=south"].reasons == [
        {"channel": channel, "event": "firing", "notified": True, "reason": "first_firing"}
        for channel in ("ops", "mail")
    ]


def test_the_reasons_of_another_alert_are_not_taken() -> None:
    seen = Story(make_alert()).see(alerting(), 0)
    time = EvaluationTime(at(0), at(0), at(0))
    decision = replace(seen.plan.decisions[0], alert_id="model.shop.other")
    foreign: list[NotificationDecision] = [decision]
    (row,) = history_rows(seen.update, Execution("run-1", "manual", time), foreign)

    assert row.reasons == []


@pytest.mark.parametrize("outcome", ["firing", "resolved"])
def test_beginning_and_end_name_the_same_episode(outcome: str) -> None:
    story = Story(make_alert())
    first = story.see(alerting(), 0)
    episode = story.state.episode_id
    row = recorded(first if outcome == "firing" else story.see(ok(), 5), 5)[""]

    assert row.events == [outcome]
    assert (row.episode_id, row.incident_id) == (episode, episode)


def test_what_is_only_recorded_has_a_row_too() -> None:
    story = Story(make_alert())
    story.see(alerting(), 5)
    late = recorded(story.see(ok(), 0, now=10), 0)[""]
    skipped = recorded(story.see(EvaluationResult(Outcome.SKIPPED, error="ended"), 15), 15)[""]

    assert (late.outcome, late.phase_before, late.phase_after) == ("ok", "firing", "firing")
    assert (skipped.outcome, skipped.error, skipped.events) == ("skipped", "ended", [])


def test_a_slot_has_one_key_whichever_run_evaluates_it() -> None:
    seen = Story(make_alert()).see(alerting(), 0)
    time = EvaluationTime(at(0), at(1), at(0))

    def key(run: str, time: EvaluationTime, attempt: int = 1) -> str:
        (row,) = history_rows(seen.update, Execution(run, "daemon", time, attempt=attempt), ())
        return row.evaluation_id

    by_hand = replace(time, slot=None)
    assert key("run-1", time) == key("run-2", time)
    assert key("run-1", time) != key("run-1", time, attempt=2)
    assert key("run-1", time) != key("run-1", replace(time, slot=at(5)))
    assert key("run-1", by_hand) != key("run-2", by_hand)
