"""Who is told: once for each episode and channel, and every decision has its reason."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.alert import BrokenAlert, DefinitionContext, parse_definitions
from sentinel.core.evaluation import EvaluationResult, Outcome, read_counts, read_status
from sentinel.core.lifecycle import apply_result
from sentinel.core.notification import Notification, Status, ledger_of, retry_at
from sentinel.core.planning import NotificationPlan, plan
from sentinel.core.project import Owner
from sentinel.core.severity import Severity
from sentinel.core.state import EvaluationTime, Phase
from tests.core.builders import (
    NOON,
    ROUTING,
    Seen,
    Story,
    alerting,
    at,
    examples,
    failed,
    make_alert,
    make_broken,
    make_result,
    make_source,
    ok,
    read,
)

BOTH = ["ops", "mail"]


def change(story: Story, **keys: Any) -> None:
    story.alert = make_alert(**keys)


# -- firing -------------------------------------------------------------------------------------------


def test_each_channel_is_told_of_firing() -> None:
    story = Story(make_alert(channels=BOTH))
    seen = story.see(alerting(), 0)

    assert seen.notified == [("ops", "firing", "first_firing"), ("mail", "firing", "first_firing")]
    assert [(row.n, row.status, row.not_before) for row in seen.plan.notifications] == [
        (0, Status.PENDING, at(0))
    ] * 2


REPEATED = pytest.mark.parametrize(
    ("status", "reason"),
    [
        (Status.SENT, "already_notified"),
        (Status.CLAIMED, "not_delivered_yet"),
        (Status.PENDING, "not_delivered_yet"),
        (Status.DEAD, "undeliverable"),
    ],
)


@REPEATED
def test_nobody_is_told_twice_of_one_episode(status: Status, reason: str) -> None:
    story = Story(make_alert(channels=BOTH))
    story.see(alerting(), 0, delivered=status)
    seen = story.see(alerting(), 5)

    assert seen.notified == []
    assert seen.suppressed == [("ops", "firing", reason), ("mail", "firing", reason)]


@REPEATED
def test_nobody_is_told_twice_of_one_error(status: Status, reason: str) -> None:
    story = Story(make_alert())
    story.see(failed(), 0, delivered=status)
    seen = story.see(failed(), 5)

    assert (seen.notified, seen.suppressed) == ([], [("ops", "error", reason)])


def test_channels_that_differ_in_delivery_differ_in_reason() -> None:
    story = Story(make_alert(channels=BOTH))
    story.see(alerting(), 0)
    story.deliver(Status.DEAD, "mail")

    assert story.see(alerting(), 5).suppressed == [
        ("ops", "firing", "already_notified"),
        ("mail", "firing", "undeliverable"),
    ]


def test_a_firing_that_was_cancelled_is_told_again_under_a_new_id() -> None:
    story = Story(make_alert())
    (first,) = story.see(alerting(), 0, delivered=Status.CANCELLED).plan.notifications
    (again,) = story.see(alerting(), 5).plan.notifications

    assert (again.event, again.reason, again.n) == (first.event, "not_notified_yet", 1)
    assert again.notification_id != first.notification_id
    assert story.see(alerting(), 10).notified == []


def test_the_next_episode_is_told_again() -> None:
    story = Story(make_alert())
    first = story.see(alerting(), 0).plan.notifications
    story.see(ok(), 5)
    second = story.see(alerting(), 10).plan.notifications

    assert [row.reason for row in second] == ["first_firing"]
    assert first[0].episode_id != second[0].episode_id


def test_an_alert_that_is_pending_tells_nobody() -> None:
    story = Story(make_alert(for_=2))

    assert story.see(alerting(), 0).plan == NotificationPlan()


def test_channels_that_are_empty_tell_nobody() -> None:
    story = Story(make_alert(channels=[]))
    plans = [story.see(each, 5 * n).plan for n, each in enumerate([alerting(), ok()])]
    plans.append(story.see(failed(), 15).plan)
    plans.append(story.see(ok(), 20).plan)

    assert plans == [NotificationPlan()] * 4


def test_a_channel_named_twice_is_told_once() -> None:
    assert Story(make_alert(channels=["ops", "ops"])).see(alerting(), 0).notified == [
        ("ops", "firing", "first_firing")
    ]


@pytest.mark.parametrize("phase", [Phase.FIRING, Phase.RECOVERING])
def test_a_channel_that_is_new_while_it_fires_is_told(phase: Phase) -> None:
    story = Story(make_alert(keep_firing_for="1h"))
    story.see(alerting(severity="warning"), 0)
    change(story, channels=BOTH, keep_firing_for="1h")
    outcome = alerting(severity="warning") if phase is Phase.FIRING else ok()
    seen = story.see(outcome, 5)

    assert story.state.phase is phase
    assert seen.notified == [("mail", "firing", "not_notified_yet")]
    assert seen.suppressed == [("ops", "firing", "already_notified")]
    (row,) = seen.plan.notifications
    assert (row.payload["since"], row.payload["severity"]) == ("2026-01-05T12:00:00Z", "warning")
    assert story.see(alerting(), 10).notified == [
        ("ops", "severity", "severity_rose"),
        ("mail", "severity", "severity_rose"),
    ]


def test_a_channel_that_is_new_is_told_even_if_the_evaluation_failed() -> None:
    story = Story(make_alert(error_after=9))
    story.see(alerting(), 0)
    change(story, channels=BOTH, error_after=9)

    assert story.see(failed(), 5).notified == [("mail", "firing", "not_notified_yet")]


def test_firing_may_be_unwanted() -> None:
    story = Story(make_alert(notify_on=["resolved", "error"]))

    for minute in (0, 5):
        seen = story.see(alerting(), minute)
        assert (seen.notified, seen.suppressed) == ([], [("ops", "firing", "not_in_notify_on")])


# -- severity -----------------------------------------------------------------------------------------


def test_a_rise_of_severity_is_told_to_who_knows_of_firing() -> None:
    story = Story(make_alert())
    story.see(alerting(severity="info"), 0)
    warned = story.see(alerting(severity="warning"), 5)
    assert warned.notified == [("ops", "severity", "severity_rose")]
    story.see(alerting(severity="info"), 10)
    assert story.see(alerting(severity="warning"), 15).notified == []
    worse = story.see(alerting(severity="critical"), 20)

    assert worse.notified == [("ops", "severity", "severity_rose")]
    assert [row.n for row in (*warned.plan.notifications, *worse.plan.notifications)] == [
        Severity.WARNING.rank,
        Severity.CRITICAL.rank,
    ]


def test_who_learns_of_firing_and_its_rise_at_once_is_told_once() -> None:
    story = Story(make_alert())
    story.see(alerting(severity="info"), 0)
    change(story, channels=BOTH)
    seen = story.see(alerting(severity="critical"), 5)

    assert seen.notified == [
        ("ops", "severity", "severity_rose"),
        ("mail", "firing", "not_notified_yet"),
    ]
    assert {row.payload["severity"] for row in seen.plan.notifications} == {"critical"}


# -- resolved -----------------------------------------------------------------------------------------


def test_who_was_told_of_firing_is_told_of_resolved() -> None:
    story = Story(make_alert(channels=BOTH))
    story.see(alerting(), 0)
    seen = story.see(ok(), 5)

    assert seen.notified == [("ops", "resolved", "recovered"), ("mail", "resolved", "recovered")]
    assert seen.plan.superseded == ()
    assert story.see(ok(), 10).plan == NotificationPlan()


def test_a_channel_that_was_never_told_of_firing_is_not_told_of_resolved() -> None:
    story = Story(make_alert())
    story.see(alerting(), 0)
    change(story, channels=BOTH)
    seen = story.see(ok(), 5)

    assert seen.notified == [("ops", "resolved", "recovered")]
    assert seen.suppressed == [("mail", "resolved", "firing_never_notified")]


def test_a_channel_the_alert_no_longer_names_is_told_of_resolved() -> None:
    story = Story(make_alert(channels=BOTH))
    story.see(alerting(), 0)
    change(story, channels=["pager"])
    seen = story.see(ok(), 5)

    assert sorted(seen.notified) == [
        ("mail", "resolved", "recovered"),
        ("ops", "resolved", "recovered"),
    ]
    assert seen.suppressed == [("pager", "resolved", "firing_never_notified")]


@pytest.mark.parametrize("status", [Status.PENDING, Status.DEAD])
def test_a_firing_that_was_never_sent_is_told_with_its_resolution(status: Status) -> None:
    story = Story(make_alert())
    (firing,) = story.see(alerting(), 0, delivered=status).plan.notifications
    seen = story.see(ok(), 5)

    assert seen.notified == [("ops", "resolved", "fired_and_resolved")]
    assert seen.plan.superseded == (firing.notification_id,)


def test_channels_are_superseded_one_by_one() -> None:
    story = Story(make_alert(channels=BOTH))
    story.see(alerting(), 0, delivered=Status.PENDING)
    story.deliver(Status.SENT, "ops")
    (mail,) = [row.notification_id for row in story.outbox.values() if row.channel == "mail"]
    seen = story.see(ok(), 5)

    assert seen.notified == [
        ("ops", "resolved", "recovered"),
        ("mail", "resolved", "fired_and_resolved"),
    ]
    assert seen.plan.superseded == (mail,)


def test_a_firing_that_is_just_being_sent_counts_as_told() -> None:
    story = Story(make_alert())
    story.see(alerting(), 0, delivered=Status.CLAIMED)
    seen = story.see(ok(), 5)

    assert seen.notified == [("ops", "resolved", "recovered")]
    assert seen.plan.superseded == ()


def test_a_rise_that_was_never_sent_is_superseded_and_resolved_told() -> None:
    story = Story(make_alert())
    story.see(alerting(severity="info"), 0)
    (rise,) = story.see(alerting(), 5, delivered=Status.PENDING).plan.notifications
    seen = story.see(ok(), 10)

    assert seen.notified == [("ops", "resolved", "recovered")]
    assert seen.plan.superseded == (rise.notification_id,)


def test_firing_and_rise_that_were_never_sent_make_one_message() -> None:
    story = Story(make_alert())
    story.see(alerting(severity="info"), 0, delivered=Status.PENDING)
    story.see(alerting(), 5, delivered=Status.PENDING)
    seen = story.see(ok(), 10)

    assert seen.notified == [("ops", "resolved", "fired_and_resolved")]
    assert len(seen.plan.superseded) == 2


def test_a_firing_that_was_cancelled_was_never_told() -> None:
    story = Story(make_alert())
    story.see(alerting(), 0, delivered=Status.CANCELLED)

    assert story.see(ok(), 5).suppressed == [("ops", "resolved", "firing_never_notified")]


def test_resolved_may_be_unwanted_and_an_unsent_firing_is_still_sent() -> None:
    story = Story(make_alert(notify_on=["firing"]))
    story.see(alerting(), 0, delivered=Status.PENDING)
    seen = story.see(ok(), 5)

    assert (seen.notified, seen.suppressed) == ([], [("ops", "resolved", "not_in_notify_on")])
    assert seen.plan.superseded == ()


def test_the_reason_of_a_resolution_is_told() -> None:
    story = Story(make_alert(dimensions="region"))
    story.see(read(alerting(region="north"), ok(region="south")), 0)
    seen = story.see(read(ok(region="south")), 5)

    assert seen.notified == [("ops", "resolved", "instance_missing")]
    assert seen.plan.notifications[0].instance == "region=north"


# -- health -------------------------------------------------------------------------------------------


def test_an_error_is_told_once_and_so_is_its_end() -> None:
    story = Story(make_alert(channels=BOTH))
    notified = [story.see(failed(), minute) for minute in (0, 5)]
    healed = story.see(ok(), 10)

    assert notified[0].notified == [
        ("ops", "error", "evaluation_failed"),
        ("mail", "error", "evaluation_failed"),
    ]
    assert notified[1].notified == []
    assert notified[1].suppressed == [
        ("ops", "error", "already_notified"),
        ("mail", "error", "already_notified"),
    ]
    assert healed.notified == [
        ("ops", "error_resolved", "evaluation_recovered"),
        ("mail", "error_resolved", "evaluation_recovered"),
    ]


def test_errors_before_error_after_are_told_to_nobody() -> None:
    story = Story(make_alert(error_after=3))
    found = [story.see(failed(), minute) for minute in (0, 5, 10)]

    assert [seen.notified for seen in found] == [[], [], [("ops", "error", "evaluation_failed")]]
    assert [seen.suppressed for seen in found] == [[], [], []]


def test_errors_may_be_unwanted() -> None:
    story = Story(make_alert(notify_on=["firing"]))

    for minute in (0, 5):
        seen = story.see(failed(), minute)
        assert (seen.notified, seen.suppressed) == ([], [("ops", "error", "not_in_notify_on")])
    assert story.see(ok(), 10).plan == NotificationPlan()


def test_a_channel_that_is_new_while_it_fails_is_told() -> None:
    story = Story(make_alert(severity="warning"))
    story.see(failed(), 0)
    change(story, channels=BOTH, severity="warning")
    seen = story.see(failed("still refused"), 5)

    assert seen.notified == [("mail", "error", "not_notified_yet")]
    assert seen.suppressed == [("ops", "error", "already_notified")]
    (row,) = seen.plan.notifications
    assert (row.payload["since"], row.payload["message"], row.payload["severity"]) == (
        "2026-01-05T12:00:00Z",
        "still refused",
        "warning",
    )


@pytest.mark.parametrize("status", [Status.PENDING, Status.DEAD])
def test_an_error_that_was_never_sent_is_over_without_a_word(status: Status) -> None:
    story = Story(make_alert())
    (error,) = story.see(failed(), 0, delivered=status).plan.notifications
    seen = story.see(ok(), 5)

    assert (seen.notified, seen.suppressed) == (
        [],
        [("ops", "error_resolved", "error_never_notified")],
    )
    assert seen.plan.superseded == (error.notification_id,)


def test_a_broken_alert_tells_its_faults_to_the_channels_that_exist() -> None:
    story = Story(make_broken("ops", "mail"))
    seen = story.see(failed("models/x.sql:3: unknown key `chanels`"), 0)

    assert seen.notified == [
        ("ops", "error", "evaluation_failed"),
        ("mail", "error", "evaluation_failed"),
    ]
    payload = seen.plan.notifications[0].payload
    assert payload["phase"] is None
    assert payload["message"] == "models/x.sql:3: unknown key `chanels`"
    assert (payload["severity"], payload["alert"]) == ("critical", "revenue")


def test_a_channel_that_a_broken_alert_gains_is_told_of_its_faults() -> None:
    story = Story(make_broken("ops"))
    story.see(failed(), 0)
    story.alert = make_broken("ops", "mail")
    seen = story.see(failed(), 5)

    assert seen.notified == [("mail", "error", "not_notified_yet")]
    assert seen.plan.notifications[0].payload["severity"] == "critical"


def test_firing_and_the_end_of_an_error_are_told_together() -> None:
    story = Story(make_alert())
    story.see(failed(), 0)

    assert story.see(alerting(), 5).notified == [
        ("ops", "firing", "first_firing"),
        ("ops", "error_resolved", "evaluation_recovered"),
    ]


def test_what_is_only_recorded_tells_nobody() -> None:
    story = Story(make_alert())
    story.see(alerting(), 5)
    change(story, channels=BOTH)

    assert story.see(alerting(), 0, now=10).plan == NotificationPlan()
    assert story.see(EvaluationResult(Outcome.SKIPPED), 15).plan == NotificationPlan()
    assert story.see(alerting(), 20).notified == [("mail", "firing", "not_notified_yet")]


# -- several alerts -----------------------------------------------------------------------------------


def test_alerts_of_one_batch_are_told_apart() -> None:
    sources = [make_source({"channels": ["ops"]}, name=name) for name in ("one", "two")]
    alerts, _ = parse_definitions(sources, DefinitionContext(routing=ROUTING))
    update = [
        apply_result(alert, read(alerting()), (), EvaluationTime(NOON, NOON), "shop")
        for alert in alerts
    ]
    planned = plan(update, {}, "shop", NOON)

    assert [row.alert_id for row in planned.notifications] == ["model.shop.one", "model.shop.two"]
    assert [each.alert_id for each in planned.decisions] == ["model.shop.one", "model.shop.two"]
    assert len({row.episode_id for row in planned.notifications}) == 2


def test_the_ledger_is_by_episode_and_channel() -> None:
    story = Story(make_alert(channels=BOTH))
    story.see(alerting(severity="info"), 0)
    story.see(alerting(), 5)
    rows = list(story.outbox.values())
    ledger = ledger_of(rows)

    assert {key: len(each) for key, each in ledger.items()} == {
        (rows[0].episode_id, "ops"): 2,
        (rows[0].episode_id, "mail"): 2,
    }


# -- identity -----------------------------------------------------------------------------------------


def planned_ids(version: int = 1, channel: str = "ops") -> list[str]:
    """The ids of firing, rise and resolution."""
    story = Story(make_alert(channels=[channel]))
    story.see(ok(), -5)
    story.states[""] = replace(story.state, version=version)
    found: list[Notification] = []
    for minute, seen in enumerate([alerting(severity="info"), alerting(), ok()]):
        found += story.see(seen, minute).plan.notifications
    return [row.notification_id for row in found]


def test_planning_again_gives_the_same_ids() -> None:
    assert planned_ids() == planned_ids()
    assert len(set(planned_ids())) == 3


def test_an_id_is_that_of_one_episode_and_channel() -> None:
    assert not set(planned_ids()) & set(planned_ids(version=2))
    assert not set(planned_ids()) & set(planned_ids(channel="mail"))


def test_a_notification_is_a_message_of_its_own_and_belongs_to_its_incident() -> None:
    story = Story(make_alert())
    (fired,) = story.see(alerting(), 0).plan.notifications
    incident = story.state.incident_id
    (resolved,) = story.see(ok(), 5).plan.notifications

    assert fired.message_id == fired.notification_id
    assert fired.incident_id == resolved.incident_id == incident
    assert (fired.project, fired.alert_id) == ("shop", "model.shop.revenue")


# -- the payload --------------------------------------------------------------------------------------

ROW = {
    "status": "ALERT",
    "region": "north",
    "actual_value": Decimal("8120.5"),
    "threshold": 10_000,
    "severity": "warning",
    "message": "too little money",
    "orders": Decimal("12"),
    "day": datetime(2026, 1, 5, tzinfo=UTC),
    "share": float("nan"),
    "raw": b"\xff",
}


def rich_story() -> Story:
    source = make_source(
        {
            "id": "finance.revenue",
            "channels": ["ops"],
            "dimensions": "region",
            "description": "Money by region.",
            "runbook": "https://example.org/runbook",
        },
        description="What the model says.",
        tags=("finance", "daily"),
        group_owner=Owner("Finance"),
        depends_on=("model.shop.orders",),
        exposures=("dashboard",),
    )
    ((alert,), _) = parse_definitions([source], DefinitionContext(routing=ROUTING))
    return Story(alert)


def only_payload(seen: Seen) -> dict[str, Any]:
    (row,) = seen.plan.notifications
    return dict(row.payload)


def test_the_payload_of_firing_is_complete() -> None:
    story = rich_story()
    result = read_status(story.alert.rules, make_result(ROW))  # type: ignore[union-attr]  # it is good
    seen = story.see(result, 0)

    assert only_payload(seen) == {
        "event": "firing",
        "reason": "first_firing",
        "alert": "revenue",
        "alert_id": "finance.revenue",
        "unique_id": "model.shop.revenue",
        "instance": "region=north",
        "dimensions": {"region": "north"},
        "severity": "warning",
        "phase": "firing",
        "since": "2026-01-05T12:00:00Z",
        "as_of": "2026-01-05T12:00:00Z",
        "actual_value": 8120.5,
        "threshold": 10_000.0,
        "failures": None,
        "message": "too little money",
        "context": {"orders": 12, "day": "2026-01-05T00:00:00Z", "share": "nan", "raw": "ff"},
        "description": "Money by region.",
        "owner": "Finance",
        "runbook": "https://example.org/runbook",
        "tags": ["finance", "daily"],
        "path": "models/alerts/revenue.sql",
        "depends_on": ["model.shop.orders"],
        "exposures": ["dashboard"],
        "acknowledged": None,
        "episode_id": seen.plan.notifications[0].episode_id,
        "project": "shop",
    }


def test_the_payload_of_resolved_speaks_of_the_episode_and_of_now() -> None:
    story = Story(make_alert())
    story.see(alerting(severity="warning", actual_value=7), 0)
    resolved = only_payload(story.see(ok(actual_value=3), 5, now=7))

    assert (resolved["event"], resolved["phase"], resolved["severity"]) == (
        "resolved",
        "ok",
        "warning",
    )
    assert (resolved["since"], resolved["as_of"]) == (
        "2026-01-05T12:00:00Z",
        "2026-01-05T12:05:00Z",
    )
    assert resolved["actual_value"] == 3


def test_the_payload_of_counted_rows_gives_their_number() -> None:
    story = Story(make_alert(error_if=">1"))
    payload = only_payload(story.see(read_counts(make_alert(error_if=">1").rules, {(): 3}), 0))

    assert (payload["failures"], payload["actual_value"], payload["threshold"]) == (3, 3, 1)
    assert payload["message"] == "3 violating rows (error_if: >1)"


def test_the_payload_is_frozen_when_it_is_planned() -> None:
    story = Story(make_alert())
    (fired,) = story.see(alerting(actual_value=7), 0).plan.notifications
    change(story, severity="info", owner="someone else")
    story.see(alerting(actual_value=9), 5)

    assert story.outbox[fired.notification_id].payload == fired.payload
    assert fired.payload["actual_value"] == 7


def test_every_payload_is_json_and_has_the_same_keys() -> None:
    found: list[Notification] = []
    for story in (rich_story(), Story(make_alert()), Story(make_broken("ops"))):
        for minute, result in enumerate([failed(), read(alerting()), read(ok())]):
            if isinstance(story.alert, BrokenAlert) and minute:
                break
            found += story.see(result, minute * 5).plan.notifications

    assert {str(row.event) for row in found} == {"error", "error_resolved", "firing", "resolved"}
    keys = {tuple(row.payload) for row in found}
    assert len(keys) == 1
    for row in found:
        assert json.loads(json.dumps(row.payload, allow_nan=False)) == row.payload


# -- what always holds --------------------------------------------------------------------------------

channels = st.sets(st.sampled_from(["ops", "mail", "pager"])).map(sorted)
readings = st.sampled_from(
    [
        read(alerting(severity="info")),
        read(alerting()),
        read(ok()),
        read(ok()),
        failed(),
        EvaluationResult(Outcome.EMPTY, absent="unknown"),
    ]
)
deliveries = st.sampled_from([Status.SENT, Status.SENT, Status.PENDING, Status.DEAD])


@examples
@given(
    st.lists(st.tuples(readings, channels, deliveries), max_size=20),
    st.sampled_from(["0s", "10m"]),
)
def test_what_is_told_matches_what_is_wanted(
    played: list[tuple[EvaluationResult, list[str], Status]], keep_firing_for: str
) -> None:
    """The story itself refuses a notification whose id is in the outbox already."""
    story = Story(make_alert())
    for number, (result, wanted, delivered) in enumerate(played):
        story.alert = make_alert(channels=wanted, keep_firing_for=keep_firing_for)
        seen = story.see(result, number * 5, delivered=delivered)

        decided = [(each.channel, each.event) for each in seen.plan.decisions]
        assert len(set(decided)) == len(decided)
        assert [(row.channel, row.event) for row in seen.plan.notifications] == [
            (each.channel, each.event) for each in seen.plan.decisions if each.notified
        ]
        counted = [
            row
            for row in story.outbox.values()
            if row.status not in (Status.SUPERSEDED, Status.CANCELLED)
        ]
        for episode, event in (
            (story.state.episode_id, "firing"),
            (story.state.health_episode_id, "error"),
        ):
            notified = [r.channel for r in counted if r.episode_id == episode and r.event == event]
            assert len(set(notified)) == len(notified)
            if episode:
                assert set(wanted) <= set(notified)

    ends = {"resolved": "firing", "error_resolved": "error"}
    beginnings = {(row.episode_id, row.channel, row.event) for row in story.outbox.values()}
    for row in story.outbox.values():
        if row.event in ends:
            assert (row.episode_id, row.channel, ends[row.event]) in beginnings


# -- trying again -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "spread", "seconds"),
    [
        (1, 0.0, 0.5),
        (1, 0.5, 1.0),
        (3, 0.5, 4.0),
        (9, 0.5, 256.0),
        (10, 0.5, 300.0),
        (20, 0.999, 599.4),
        (5_000, 0.5, 300.0),
    ],
)
def test_the_wait_grows_with_full_jitter_to_ten_minutes(
    attempt: int, spread: float, seconds: float
) -> None:
    assert retry_at(NOON, attempt, spread) == NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("status", "finished"),
    [
        ("pending", False),
        ("claimed", False),
        ("sent", True),
        ("dead", True),
        ("superseded", True),
        ("cancelled", True),
    ],
)
def test_what_is_finished_is_no_longer_waited_for(status: str, finished: bool) -> None:
    assert Status(status).finished is finished
