"""The lifecycle: from state and observation to the next state, and what changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.alert import Alert
from sentinel.core.evaluation import EvaluationResult, Outcome, read_counts
from sentinel.core.lifecycle import apply_result
from sentinel.core.severity import Severity
from sentinel.core.state import EvaluationTime, Event, Health, Phase, State
from tests.core.builders import (
    Seen,
    Story,
    alerting,
    at,
    examples,
    failed,
    make_alert,
    make_broken,
    ok,
    read,
)

SKIPPED = EvaluationResult(Outcome.SKIPPED)
KEPT = EvaluationResult(Outcome.EMPTY, absent="unknown")
READINGS = {"alert": read(alerting()), "ok": read(ok()), "error": failed(), "empty": KEPT}


def story_of(outcomes: str, *, every: float = 5, **keys: Any) -> Story:
    """An alert after evaluations every five minutes: `a` alert, `o` ok, `e` error."""
    story = Story(make_alert(**keys))
    letters = {"a": "alert", "o": "ok", "e": "error"}
    for number, letter in enumerate(outcomes):
        story.see(READINGS[letters[letter]], number * every)
    return story


# -- the table ----------------------------------------------------------------------------------------

REACHED_BY = {"none": "", "ok": "o", "pending": "a", "firing": "aaa", "recovering": "aaao"}


@pytest.mark.parametrize(
    ("phase", "outcome", "minutes", "becomes", "events"),
    [
        ("none", "alert", 5, "pending", []),
        ("none", "ok", 5, "ok", []),
        ("none", "error", 5, None, []),
        ("none", "empty", 5, None, []),
        ("ok", "alert", 5, "pending", []),
        ("ok", "alert", 600, "pending", []),
        ("ok", "ok", 5, "ok", []),
        ("ok", "error", 5, "ok", []),
        ("ok", "empty", 5, "ok", []),
        ("pending", "alert", 9, "pending", []),
        ("pending", "alert", 10, "firing", ["firing"]),
        ("pending", "ok", 10, "ok", []),
        ("pending", "error", 600, "pending", []),
        ("pending", "empty", 600, "pending", []),
        ("firing", "alert", 5, "firing", []),
        ("firing", "ok", 600, "recovering", []),
        ("firing", "error", 600, "firing", []),
        ("firing", "empty", 600, "firing", []),
        ("recovering", "alert", 5, "firing", []),
        ("recovering", "ok", 9, "recovering", []),
        ("recovering", "ok", 10, "ok", ["resolved"]),
        ("recovering", "error", 600, "recovering", []),
        ("recovering", "empty", 600, "recovering", []),
    ],
)
def test_phase_and_outcome_give_the_next_phase(
    phase: str, outcome: str, minutes: float, becomes: str | None, events: list[str]
) -> None:
    path = REACHED_BY[phase]
    story = story_of(path, for_="10m", keep_firing_for="10m", error_after=99)
    assert not path or story.state.phase == phase

    seen = story.see(READINGS[outcome], (len(path) - 1) * 5 + minutes)

    assert story.state.phase == becomes
    assert seen.events == events


@pytest.mark.parametrize(
    ("outcomes", "phase", "events"),
    [
        ("a", "firing", ["firing"]),
        ("oa", "firing", ["firing"]),
        ("ao", "ok", ["resolved"]),
        ("aea", "firing", []),
        ("aeo", "ok", ["resolved"]),
    ],
)
def test_without_holds_every_outcome_counts_at_once(
    outcomes: str, phase: str, events: list[str]
) -> None:
    story = story_of(outcomes[:-1], error_after=99)
    last = READINGS["alert" if outcomes[-1] == "a" else "ok"]
    seen = story.see(last, (len(outcomes) - 1) * 5)

    assert story.state.phase == phase
    assert seen.events == events


def test_a_new_episode_has_its_own_id_and_start() -> None:
    story = story_of("a")
    first = story.state
    story.see(ok(), 5)
    calm = story.state
    story.see(alerting(), 10)
    second = story.state

    assert (first.episode_started, second.episode_started) == (at(0), at(10))
    assert first.episode_id not in (None, second.episode_id)
    assert first.incident_id == first.episode_id
    assert (calm.episode_id, calm.episode_started, calm.incident_id) == (None, None, None)
    assert (calm.severity, calm.peak_severity) == (None, None)


def test_an_episode_goes_on_through_recovering() -> None:
    story = story_of("aoa", keep_firing_for="10m")

    assert story.state.phase == "firing"
    assert story.state.episode_started == at(0)
    assert story.state.phase_since == at(10)


def test_an_instance_is_in_its_phase_since_it_was_first_seen() -> None:
    story = story_of("eo", error_after=9)
    assert (story.state.phase, story.state.phase_since) == ("ok", at(5))
    story.see(ok(), 10)
    assert story.state.phase_since == at(5)


@pytest.mark.parametrize("result", [failed(), KEPT, SKIPPED])
def test_an_alert_that_was_never_evaluated_is_not_taken_for_ok(result: EvaluationResult) -> None:
    story = Story(make_alert())
    (step,) = story.see(result, 0).update.steps

    assert (step.before.phase, step.after.phase) == (None, None)
    seen = story.see(alerting(), 5)
    assert seen.events[:1] == ["firing"]
    # Its life begins at ok.
    assert seen.update.steps[0].before.phase == "ok"


def test_an_acknowledgement_ends_with_its_episode() -> None:
    story = story_of("a", keep_firing_for="5m")
    acked = {"acked_at": at(1), "acked_by": "someone", "ack_comment": "on it"}
    story.states[""] = replace(story.state, acked_at=at(1), acked_by="someone", ack_comment="on it")

    story.see(ok(), 5)
    assert {name: getattr(story.state, name) for name in acked} == acked
    story.see(ok(), 10)
    assert {name: getattr(story.state, name) for name in acked} == dict.fromkeys(acked)


def test_a_transition_names_episode_start_severity_and_reason() -> None:
    story = Story(make_alert(severity="warning"))
    (fired,) = story.see(alerting(severity="warning"), 0).update.steps[0].transitions
    (risen,) = story.see(alerting(severity="critical"), 5).update.steps[0].transitions
    episode = story.state.episode_id
    (resolved,) = story.see(ok(severity="warning"), 10).update.steps[0].transitions

    assert {fired.episode_id, risen.episode_id, resolved.episode_id} == {episode}
    assert {fired.started, risen.started, resolved.started} == {at(0)}
    assert [fired.reason, risen.reason, resolved.reason] == [
        "first_firing",
        "severity_rose",
        "recovered",
    ]
    assert [fired.severity, risen.severity, resolved.severity] == [
        "warning",
        "critical",
        "critical",
    ]


def test_the_state_holds_what_was_seen_last() -> None:
    story = Story(make_alert())
    story.see(replace(alerting(actual_value=7), threshold=5, message="too many"), 0)
    first = story.state
    story.see(ok(actual_value=3), 5)

    assert (first.actual_value, first.threshold, first.message) == (7, 5, "too many")
    assert (first.last_as_of, first.last_slot, first.last_outcome) == (at(0), at(0), "alert")
    assert (story.state.actual_value, story.state.threshold, story.state.message) == (3, None, None)
    assert (story.state.last_outcome, story.state.updated_at) == ("ok", at(5))


# -- `for` and `keep_firing_for` ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "phase"),
    [
        ("aa", "pending"),
        ("aaa", "firing"),
        ("aeaa", "firing"),
        ("aoaa", "pending"),
        ("aaoaaa", "firing"),
        ("aaeo", "ok"),
    ],
)
def test_a_count_counts_alerting_slots_since_the_last_good_one(outcomes: str, phase: str) -> None:
    assert story_of(outcomes, for_=3).state.phase == phase


@pytest.mark.parametrize(
    ("outcomes", "phase"),
    [
        ("aa", "pending"),
        ("aaa", "firing"),
        # The failed slot takes the five minutes before it and after it.
        ("aea", "pending"),
        ("aeaa", "pending"),
        ("aeaaa", "firing"),
        ("aaeaa", "firing"),
        ("aoa", "pending"),
    ],
)
def test_a_length_accrues_between_consecutive_good_evaluations(outcomes: str, phase: str) -> None:
    assert story_of(outcomes, for_="10m").state.phase == phase


@pytest.mark.parametrize(
    ("outcomes", "phase"),
    [
        ("aoo", "recovering"),
        ("aooo", "ok"),
        ("aoeo", "recovering"),
        ("aoeooo", "ok"),
        ("aoaoo", "recovering"),
        ("aoaooo", "ok"),
        ("aoeeeeee", "recovering"),
    ],
)
def test_recovering_accrues_between_consecutive_good_evaluations(outcomes: str, phase: str) -> None:
    assert story_of(outcomes, keep_firing_for="10m").state.phase == phase


def test_missed_slots_do_not_accrue() -> None:
    story = story_of("a", for_="10m")
    story.see(alerting(), 60, missed_slots=11)
    assert story.state.phase == "pending"
    story.see(alerting(), 70)
    assert story.state.phase == "firing"


def test_what_was_held_before_a_failed_slot_is_kept() -> None:
    story = story_of("aae", for_="10m")

    assert story.state.held_s == 300
    story.see(alerting(), 15)
    assert (story.state.phase, story.state.held_s) == (Phase.PENDING, 300)
    story.see(alerting(), 20)
    assert story.state.phase == "firing"


def test_an_empty_result_that_keeps_is_no_observation_of_the_phase() -> None:
    story = story_of("a", for_="10m")
    story.see(KEPT, 5)
    assert (story.state.phase, story.state.last_outcome) == (Phase.PENDING, "empty")
    story.see(alerting(), 10)
    assert (story.state.phase, story.state.held_s) == (Phase.PENDING, 0)
    story.see(alerting(), 20)
    assert story.state.phase == "firing"


def test_short_intervals_add_up_to_their_length() -> None:
    story = Story(make_alert(for_="5m"))
    for second in range(0, 301, 3):
        story.see(alerting(), (second + 0.9 * (second % 2)) / 60)

    assert story.state.phase == "firing"


def test_the_clocks_of_a_phase_begin_with_it() -> None:
    story = story_of("aa", for_="10m")
    assert (story.state.phase_since, story.state.held_s, story.state.alert_count) == (at(0), 300, 2)
    story.see(alerting(), 10)
    assert (story.state.phase_since, story.state.held_s, story.state.alert_count) == (at(10), 0, 0)


# -- severity -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severities", "events"),
    [
        (["info", "warning", "critical"], ["firing", "severity", "severity"]),
        (["info", "critical", "warning", "critical"], ["firing", "severity"]),
        (["critical", "info", "warning", "critical"], ["firing"]),
        (["warning", "warning", "warning"], ["firing"]),
        (["info", "critical", "OK", "critical"], ["firing", "severity"]),
        (["info", "OK", "warning"], ["firing", "severity"]),
    ],
)
def test_severity_is_told_only_above_the_episodes_peak(
    severities: list[str], events: list[str]
) -> None:
    story = Story(make_alert(keep_firing_for="1h"))
    found = []
    for number, severity in enumerate(severities):
        seen = ok() if severity == "OK" else alerting(severity=severity)
        found += story.see(seen, number * 5).events

    assert found == events
    peak = max((Severity(each) for each in severities if each != "OK"), key=lambda each: each.rank)
    assert story.state.peak_severity is peak
    assert story.state.severity == severities[-1]


def test_pending_severity_is_no_peak() -> None:
    story = Story(make_alert(for_=2))
    story.see(alerting(severity="critical"), 0)
    assert (story.state.severity, story.state.peak_severity) == ("critical", None)
    story.see(alerting(severity="info"), 5)
    assert (story.state.severity, story.state.peak_severity) == ("info", "info")


# -- health -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "error_after", "events"),
    [
        ("e", 1, ["error"]),
        ("eee", 1, ["error"]),
        ("eo", 1, ["error", "error_resolved"]),
        ("eoe", 1, ["error", "error_resolved", "error"]),
        ("ee", 3, []),
        ("eee", 3, ["error"]),
        ("eeoee", 3, []),
        ("eeeeo", 3, ["error", "error_resolved"]),
        ("eeo", 3, []),
        ("eae", 2, ["firing"]),
    ],
)
def test_errors_in_a_row_make_an_alert_failing_and_one_good_evaluation_heals_it(
    outcomes: str, error_after: int, events: list[str]
) -> None:
    story = Story(make_alert(error_after=error_after))
    letters = {"e": failed(), "o": read(ok()), "a": read(alerting())}
    found = [
        event
        for number, letter in enumerate(outcomes)
        for event in story.see(letters[letter], number * 5).events
    ]

    assert found == events
    failing = events[-1:] == ["error"]
    assert story.state.health == ("failing" if failing else "healthy")
    assert (story.state.health_episode_id is not None) is failing


def test_health_remembers_since_when_and_how_often() -> None:
    assert story_of("e", error_after=2).state.health_since == at(0)
    story = story_of("oee", error_after=2)
    assert (story.state.health_since, story.state.error_count) == (at(10), 2)
    story.see(failed(), 15)
    assert (story.state.health_since, story.state.error_count) == (at(10), 3)
    story.see(ok(), 20)
    assert (story.state.health_since, story.state.error_count) == (at(20), 0)
    story.see(ok(), 25)
    assert story.state.health_since == at(20)


def test_each_health_episode_has_its_own_id() -> None:
    story = story_of("e")
    first = story.state.health_episode_id
    story.see(failed(), 5)
    assert story.state.health_episode_id == first
    story.see(ok(), 10)
    story.see(failed(), 15)

    assert first != story.state.health_episode_id is not None


def test_an_empty_result_that_keeps_is_good_for_health() -> None:
    story = story_of("ae")
    seen = story.see(KEPT, 10)

    assert seen.events == ["error_resolved"]
    assert (story.state.health, story.state.phase) == (Health.HEALTHY, Phase.FIRING)


def test_an_error_says_nothing_of_phase_and_value() -> None:
    story = Story(make_alert())
    story.see(alerting(actual_value=7), 0)
    before = story.state
    story.see(failed(), 5)
    after = story.state

    kept = ("phase", "phase_since", "episode_id", "severity", "actual_value", "held_s", "last_slot")
    assert {name: getattr(after, name) for name in kept} == {
        name: getattr(before, name) for name in kept
    } | {"last_slot": at(5)}
    assert after.last_outcome is Outcome.ERROR


def test_a_broken_definition_fails_at_once_and_heals_when_it_is_mended() -> None:
    story = Story(make_broken("ops"))
    assert story.see(failed("`for`: it is wrong"), 0).events == ["error"]
    assert story.state.phase is None
    story.alert = make_alert()

    assert story.see(alerting(), 5).events == ["firing", "error_resolved"]
    assert story.state.phase == "firing"


def test_a_definition_that_breaks_while_firing_keeps_its_episode() -> None:
    story = story_of("a")
    episode = story.state.episode_id
    story.alert = make_broken("ops")
    story.see(failed(), 5)

    assert (story.state.phase, story.state.episode_id) == (Phase.FIRING, episode)


# -- what is only recorded ----------------------------------------------------------------------------


@pytest.mark.parametrize("minute", [-5, 0])
@pytest.mark.parametrize("result", [read(alerting()), failed(), KEPT])
def test_a_late_evaluation_is_only_recorded(result: EvaluationResult, minute: float) -> None:
    story = story_of("o")
    before = story.state
    seen = story.see(result, minute, now=10)

    assert story.state == before
    assert seen.events == []
    assert [(step.recorded_only, step.outcome) for step in seen.update.steps] == [
        (True, result.outcome)
    ]


def test_an_evaluation_before_an_error_is_late_too() -> None:
    story = story_of("oe")
    before = story.state
    story.see(alerting(), 4, now=10)

    assert story.state == before


def test_a_late_evaluation_of_known_instances_is_recorded_for_each() -> None:
    story = Story(make_alert(dimensions="region"))
    story.see(read(ok(region="north"), ok(region="south")), 5)
    before = dict(story.states)
    seen = story.see(read(alerting(region="north"), ok(region="south")), 0, now=10)

    assert story.states == before
    assert [(step.after.instance, step.outcome) for step in seen.update.steps] == [
        ("", "alert"),
        ("region=north", "alert"),
        ("region=south", "ok"),
    ]
    assert all(step.recorded_only for step in seen.update.steps)


def test_a_skipped_evaluation_is_only_recorded() -> None:
    story = story_of("a", for_=2)
    before = story.state
    seen = story.see(SKIPPED, 5)

    assert story.state == before
    assert [step.outcome for step in seen.update.steps] == [Outcome.SKIPPED]


def test_a_slot_that_was_an_error_may_be_tried_again() -> None:
    story = story_of("oe")
    seen = story.see(alerting(), 5, now=6)

    assert seen.events == ["firing", "error_resolved"]
    assert story.see(ok(), 5, now=7).update.steps[0].recorded_only


def test_a_state_in_the_future_of_the_stores_clock_is_no_reason_to_wait() -> None:
    story = story_of("o")
    story.see(alerting(), 600)
    seen = story.see(ok(), 5)

    assert seen.events == ["resolved"]
    assert story.state.last_as_of == at(5)


def test_time_that_runs_backwards_does_not_accrue() -> None:
    story = story_of("a", for_="10m", every=1)
    story.see(alerting(), 605)
    story.states[""] = replace(story.state, phase=Phase.PENDING, held_s=300)
    story.see(alerting(), 5)
    assert (story.state.phase, story.state.held_s) == (Phase.PENDING, 300)
    story.see(alerting(), 10)
    assert story.state.phase == "firing"


# -- instances ----------------------------------------------------------------------------------------


def phases(story: Story) -> dict[str, str | None]:
    return {name: state.phase for name, state in story.states.items()}


def regional(**keys: Any) -> Story:
    """An alert by region of which the north fires and the south is ok."""
    story = Story(make_alert(dimensions="region", **keys))
    story.see(read(alerting(region="north"), ok(region="south")), 0)
    return story


def test_the_state_of_an_instance_holds_what_was_seen_last() -> None:
    story = regional()
    story.states["region=north"] = replace(story.states["region=north"], removed_since=at(2))
    story.see(read(ok(region="north", actual_value=3), ok(region="south")), 5)
    north = story.states["region=north"]

    assert (north.last_as_of, north.last_outcome, north.updated_at) == (at(5), "ok", at(5))
    assert (north.actual_value, north.removed_since) == (3, None)


def test_the_state_of_a_head_holds_when_it_was_evaluated_last() -> None:
    story = regional()
    story.states[""] = replace(story.state, removed_since=at(2))
    story.see(read(ok(region="north"), ok(region="south")), 5, now=6)
    head = story.state

    assert (head.last_as_of, head.last_slot, head.updated_at) == (at(5), at(5), at(6))
    assert (head.last_outcome, head.removed_since) == ("ok", None)


def test_every_instance_has_a_life_of_its_own() -> None:
    story = regional()
    assert phases(story) == {"": None, "region=north": "firing", "region=south": "ok"}
    seen = story.see(read(ok(region="north"), alerting(region="south")), 5)

    assert phases(story) == {"": None, "region=north": "ok", "region=south": "firing"}
    assert seen.events == ["resolved", "firing"]


def test_the_head_of_an_alert_with_dimensions_holds_health_and_slots_only() -> None:
    story = regional()
    head, north = story.state, story.states["region=north"]

    assert (head.phase, head.episode_id, head.dimensions) == (None, None, {})
    assert (head.health, head.last_slot, head.last_outcome) == ("healthy", at(0), "alert")
    assert (north.health, north.last_slot, north.dimensions) == (None, None, {"region": "north"})


def test_the_head_of_an_alert_without_dimensions_is_its_instance() -> None:
    story = story_of("a")

    assert list(story.states) == [""]
    assert (story.state.phase, story.state.health) == (Phase.FIRING, Health.HEALTHY)


def test_the_head_comes_first_and_every_row_is_there_once() -> None:
    story = regional()
    seen = story.see(read(ok(region="north"), ok(region="west")), 5)

    assert [step.after.instance for step in seen.update.steps] == [
        "",
        "region=north",
        "region=west",
    ]


def test_an_error_leaves_every_instance_as_it_was() -> None:
    story = regional()
    before = dict(story.states)
    seen = story.see(failed(), 5)

    assert {k: v for k, v in story.states.items() if k} == {k: v for k, v in before.items() if k}
    assert [step.after.instance for step in seen.update.steps] == [""]


def test_a_renamed_model_keeps_its_state_under_the_new_name() -> None:
    story = story_of("a", id="finance.revenue")
    renamed = replace(story.alert.source, name="income", unique_id="model.shop.income")
    assert isinstance(story.alert, Alert)
    story.alert = replace(story.alert, source=renamed)
    seen = story.see(alerting(), 5)

    assert seen.events == []
    assert (story.state.alert, story.state.unique_id) == ("income", "model.shop.income")


# -- missing instances --------------------------------------------------------------------------------

ONLY_SOUTH = read(ok(region="south"))


def test_a_missing_instance_resolves() -> None:
    story = regional(keep_firing_for="1h")
    seen = story.see(ONLY_SOUTH, 5)

    assert (seen.events, seen.reasons) == (["resolved"], ["instance_missing"])
    north = story.states["region=north"]
    assert (north.phase, north.missing_since) == (Phase.OK, at(5))
    assert north.message == "no longer in the result"


def test_a_missing_pending_instance_is_ok() -> None:
    story = regional(for_=2)
    seen = story.see(ONLY_SOUTH, 5)

    assert (seen.events, story.states["region=north"].phase) == ([], Phase.OK)


def test_a_missing_instance_may_be_kept() -> None:
    story = regional(on_missing="keep")
    before = story.states["region=north"]
    seen = story.see(ONLY_SOUTH, 5)
    kept = story.states["region=north"]

    assert seen.events == []
    assert kept == replace(before, missing_since=at(5), updated_at=at(5), version=kept.version)
    assert [state.instance for state in seen.update.noted] == ["region=north"]
    assert story.see(ONLY_SOUTH, 10).update.noted == ()


def test_a_kept_instance_that_was_not_seen_does_not_accrue() -> None:
    story = regional(on_missing="keep", for_="10m")
    story.see(ONLY_SOUTH, 5)
    story.see(read(alerting(region="north"), ok(region="south")), 10)
    north = story.states["region=north"]
    assert (north.phase, north.held_s, north.missing_since) == (Phase.PENDING, 0, None)
    story.see(read(alerting(region="north"), ok(region="south")), 20)

    assert story.states["region=north"].phase is Phase.FIRING


def test_a_missing_instance_may_be_an_alert() -> None:
    story = regional(on_missing="alert", severity="warning")
    seen = story.see(read(alerting(region="north")), 5)

    assert (seen.events, seen.reasons) == (["firing"], ["instance_missing"])
    south = story.states["region=south"]
    assert (south.phase, south.severity, south.missing_since) == (
        Phase.FIRING,
        Severity.WARNING,
        at(5),
    )
    story.see(read(alerting(region="north")), 10)
    assert story.states["region=south"].missing_since == at(5)
    back = story.see(read(alerting(region="north"), ok(region="south")), 15)
    assert (back.events, back.reasons) == (["resolved"], ["recovered"])
    assert story.states["region=south"].missing_since is None


def test_a_missing_instance_that_is_an_alert_waits_for_its_hold() -> None:
    story = regional(on_missing="alert", for_=2)
    story.see(read(alerting(region="north")), 5)
    assert story.states["region=south"].phase == "pending"
    story.see(read(alerting(region="north")), 10)
    assert story.states["region=south"].phase == "firing"


def test_an_instance_that_was_ok_is_only_noted_as_missing() -> None:
    story = regional()
    seen = story.see(read(alerting(region="north")), 5)

    assert seen.events == []
    assert [state.instance for state in seen.update.noted] == ["region=south"]
    assert story.states["region=south"].missing_since == at(5)
    assert story.states["region=south"].last_as_of == at(0)


@pytest.mark.parametrize("result", [failed(), KEPT])
@pytest.mark.parametrize("on_missing", ["resolve", "keep", "alert"])
def test_absence_is_judged_on_complete_results_only(
    on_missing: str, result: EvaluationResult
) -> None:
    story = regional(on_missing=on_missing)
    seen = story.see(result, 5)

    assert phases(story) == {"": None, "region=north": "firing", "region=south": "ok"}
    assert seen.update.noted == ()


def count(story: Story, minute: float, **rows: int) -> Seen:
    assert isinstance(story.alert, Alert)
    return story.see(read_counts(story.alert.rules, {(k,): n for k, n in rows.items()}), minute)


def test_an_instance_without_violating_rows_is_ok() -> None:
    story = Story(make_alert(shape="rows", dimensions="region", on_missing="keep"))
    count(story, 0, north=3)
    seen = count(story, 5)

    assert (seen.events, seen.reasons) == (["resolved"], ["recovered"])
    north = story.states["region=north"]
    assert (north.phase, north.actual_value, north.missing_since) == (Phase.OK, 0, None)
    assert north.message == "0 violating rows"


def test_an_instance_without_violating_rows_recovers_as_long_as_it_has_to() -> None:
    story = Story(make_alert(shape="rows", dimensions="region", keep_firing_for="10m"))
    count(story, 0, north=3)

    assert count(story, 5).events == []
    assert story.states["region=north"].phase is Phase.RECOVERING
    assert count(story, 14).events == []
    assert count(story, 15).events == ["resolved"]


def test_an_instance_that_was_ok_and_has_no_rows_is_not_recorded_for_ever() -> None:
    story = Story(make_alert(shape="rows", dimensions="region"))
    count(story, 0, north=3)
    count(story, 5)
    seen = count(story, 10)

    assert [step.after.instance for step in seen.update.steps] == [""]
    assert count(story, 15, north=1).events == ["firing"]


def test_no_rows_may_be_too_few() -> None:
    story = Story(make_alert(dimensions="region", error_if="<2"))
    count(story, 0, north=3)

    assert count(story, 5).events == ["firing"]


# -- changed dimensions -------------------------------------------------------------------------------


def change(story: Story, **keys: Any) -> None:
    story.alert = make_alert(**keys)


def test_an_alert_that_gains_dimensions_resolves_what_it_was() -> None:
    story = story_of("a", keep_firing_for="1h")
    change(story, dimensions="region")
    seen = story.see(read(alerting(region="north")), 5)

    assert (seen.events, seen.reasons) == (
        ["resolved", "firing"],
        ["dimensions_changed", "first_firing"],
    )
    assert story.state.phase == "ok"
    story.see(read(alerting(region="north")), 10)
    assert phases(story) == {"": None, "region=north": "firing"}
    assert (story.state.health, story.state.phase_since) == (Health.HEALTHY, None)


def test_an_alert_that_gains_dimensions_keeps_what_it_was_until_it_is_evaluated() -> None:
    story = story_of("a")
    change(story, dimensions="region")
    story.see(failed(), 5)
    assert story.state.phase == "firing"

    assert story.see(read(ok(region="north")), 10).reasons[:1] == ["dimensions_changed"]


def test_an_alert_that_loses_dimensions_resolves_what_it_was() -> None:
    story = regional()
    change(story)
    seen = story.see(alerting(), 5)

    assert sorted(seen.reasons) == ["dimensions_changed", "first_firing"]
    assert phases(story) == {"": "firing", "region=north": "ok", "region=south": "ok"}
    assert story.see(alerting(), 10).events == []


@pytest.mark.parametrize("on_missing", ["resolve", "keep", "alert"])
def test_changed_dimensions_resolve_whatever_on_missing_says(on_missing: str) -> None:
    story = regional(on_missing=on_missing)
    change(story, dimensions=["region", "store"], on_missing=on_missing)
    seen = story.see(read(alerting(region="north", store=1)), 5)

    assert sorted(seen.reasons) == ["dimensions_changed", "first_firing"]
    assert phases(story) == {
        "": None,
        "region=north": "ok",
        "region=south": "ok",
        "region=north, store=1": "firing",
    }


def test_changed_dimensions_resolve_counted_instances_too() -> None:
    story = Story(make_alert(shape="rows", dimensions="region"))
    count(story, 0, north=3)
    change(story, shape="rows")
    seen = story.see(read_counts(make_alert().rules, {(): 3}), 5)

    assert sorted(seen.reasons) == ["dimensions_changed", "first_firing"]


def test_dimensions_in_another_order_are_the_same() -> None:
    story = Story(make_alert(dimensions=["region", "store"]))
    story.see(read(alerting(region="north", store=1)), 0)
    change(story, dimensions=["store", "region"])

    assert story.see(read(alerting(store=1, region="north")), 5).events == []


def test_an_alert_that_fires_for_want_of_rows_resolves_when_they_come() -> None:
    story = Story(make_alert(dimensions="region", on_empty="alert"))
    story.see(alerting(), 0)
    assert phases(story) == {"": "firing"}
    seen = story.see(read(ok(region="north")), 5)
    assert seen.events == ["resolved"]
    story.see(read(ok(region="north")), 10)

    assert phases(story) == {"": None, "region=north": "ok"}


# -- what always holds --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """One evaluation of a story: what it saw, so many minutes after the one before."""

    result: EvaluationResult
    minutes: int
    missed_slots: int = 0


severities = st.sampled_from(["info", "warning", "critical"])
outcomes = st.one_of(st.builds(lambda: ok()), st.builds(lambda s: alerting(severity=s), severities))
readings = st.one_of(
    outcomes.map(read), outcomes.map(read), st.sampled_from([failed(), KEPT, SKIPPED])
)
turns = st.builds(
    Turn, readings, st.sampled_from([5, 5, 5, 1, 30, 0, -5]), st.sampled_from([0, 0, 0, 2])
)
held = st.sampled_from(["0s", "5m", "10m"])
policies = st.fixed_dictionaries(
    {
        "for": st.one_of(held, st.integers(0, 3)),
        "keep_firing_for": held,
        "error_after": st.integers(1, 3),
        "on_missing": st.sampled_from(["resolve", "keep", "alert"]),
    }
)


def play(story: Story, played: list[Turn]) -> list[Seen]:
    minute, latest, found = 0, 0, []
    for turn in played:
        minute += turn.minutes
        latest = max(latest, minute)
        found.append(story.see(turn.result, minute, now=latest, missed_slots=turn.missed_slots))
    return found


def is_open(state: State) -> bool:
    return state.phase in (Phase.FIRING, Phase.RECOVERING)


def rank(severity: Severity | None) -> int:
    return -1 if severity is None else severity.rank


@examples
@given(policies, st.lists(turns, max_size=25))
def test_events_are_changes_of_phase_or_rises_of_severity(
    keys: dict[str, Any], played: list[Turn]
) -> None:
    for seen in play(Story(make_alert(**keys)), played):
        for step in seen.update.steps:
            before, after = step.before, step.after
            events = {change.event for change in step.transitions}
            assert (Event.FIRING in events) is (is_open(after) and not is_open(before))
            assert (Event.RESOLVED in events) is (is_open(before) and not is_open(after))
            rose = rank(after.peak_severity) > rank(before.peak_severity)
            assert (Event.SEVERITY in events) is (is_open(before) and rose)
            failing = before.health is Health.FAILING, after.health is Health.FAILING
            assert (Event.ERROR in events) is (failing == (False, True))
            assert (Event.ERROR_RESOLVED in events) is (failing == (True, False))
            assert len(events) == len(step.transitions)


@examples
@given(policies, st.lists(turns, max_size=25))
def test_an_episode_keeps_its_id_as_long_as_it_is_open_and_no_other_has_it(
    keys: dict[str, Any], played: list[Turn]
) -> None:
    opened: list[str] = []
    for seen in play(Story(make_alert(**keys)), played):
        for step in seen.update.steps:
            before, after = step.before, step.after
            assert (after.episode_id is not None) is is_open(after)
            if is_open(before) and is_open(after):
                assert after.episode_id == before.episode_id
                assert after.episode_started == before.episode_started
            elif is_open(after):
                opened.append(str(after.episode_id))
            if before.health_episode_id and after.health_episode_id:
                assert before.health_episode_id == after.health_episode_id
            elif after.health_episode_id:
                opened.append(after.health_episode_id)
            assert all(
                each.episode_id in (before.episode_id, after.episode_id, before.health_episode_id)
                or each.episode_id == after.health_episode_id
                for each in step.transitions
            )

    assert len(set(opened)) == len(opened)


@examples
@given(policies, st.lists(turns, max_size=25), st.sampled_from([failed(), KEPT, SKIPPED]))
def test_what_sees_no_instance_changes_none(
    keys: dict[str, Any], played: list[Turn], blind: EvaluationResult
) -> None:
    story = Story(make_alert(**keys))
    play(story, played)
    before = dict(story.states)
    story.see(blind, 10_000)
    told_apart = {"health", "health_since", "error_count", "health_episode_id", "updated_at"}
    told_apart |= {"last_as_of", "last_slot", "last_outcome", "version"}

    for name, state in before.items():
        assert {k: v for k, v in vars(story.states[name]).items() if k not in told_apart} == {
            k: v for k, v in vars(state).items() if k not in told_apart
        }


@examples
@given(
    st.lists(st.tuples(st.sampled_from("aaaaoe"), st.integers(1, 10), st.booleans()), max_size=25),
    st.integers(0, 20),
)
def test_an_alert_fires_when_it_has_held_for_long_enough(
    played: list[tuple[str, int, bool]], length: int
) -> None:
    """Held is the time between neighbouring alerts since the last ok, no slot missed between."""
    story = Story(make_alert(for_=f"{length}m", keep_firing_for="1000d"))
    minute, held_for, before, fires = 0, 0, "", False
    for letter, minutes, missed in played:
        minute += minutes
        if letter == "a":
            held_for += minutes if before == "a" and not missed else 0
            fires = fires or held_for >= length
        elif letter == "o":
            held_for = 0
        before = letter
        result = {"a": read(alerting()), "o": read(ok()), "e": failed()}[letter]
        story.see(result, minute, missed_slots=int(missed))

        assert is_open(story.state) is fires


@examples
@given(
    policies,
    st.lists(
        st.dictionaries(st.sampled_from(["north", "south", "west"]), outcomes, max_size=3),
        max_size=12,
    ),
)
def test_an_instance_lives_as_if_it_were_alone(
    keys: dict[str, Any], played: list[dict[str, Any]]
) -> None:
    """As long as it is in every result, what the others do is nothing to it."""
    together, alone = Story(make_alert(dimensions="region", **keys)), Story(make_alert(**keys))
    for number, others in enumerate(played):
        mine = others.get("north", ok())
        instances = [
            replace(each, instance=f"region={name}", dimensions={"region": name})
            for name, each in (others | {"north": mine}).items()
        ]
        together.see(read(*instances), number * 5)
        alone.see(mine, number * 5)

        north = together.states["region=north"]
        for name in ("phase", "phase_since", "held_s", "alert_count", "severity", "peak_severity"):
            assert getattr(north, name) == getattr(alone.state, name)


def test_judging_is_repeatable() -> None:
    """A lost compare-and-swap judges the same observation again."""
    alert, result, time = make_alert(), read(alerting()), EvaluationTime(at(0), at(0))

    assert apply_result(alert, result, (), time, "shop") == apply_result(
        alert, result, (), time, "shop"
    )
