"""What happens to people: an alert over time, and who is told what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sentinel.channels.secret_scan import ChannelSecretScan
from sentinel.core.alert import Alert, DefinitionContext, parse_definitions
from sentinel.core.evaluation import EvaluationResult, Outcome
from sentinel.core.fallback import rows_for_fallback
from sentinel.core.lifecycle import apply_result
from sentinel.core.notification import MOST_IN_ONE, Status
from sentinel.core.planning import plan
from sentinel.core.project import Owner
from sentinel.core.routing import Route, Routing, Traits
from sentinel.core.secret_scan import scan_source
from sentinel.core.severity import Severity
from sentinel.core.state import EvaluationTime, Phase

from .builders import ROUTING, Story, alerting, at, failed, make_alert, make_source, ok, read

HOUR = 60


def notified(story: Story) -> list[tuple[str, str]]:
    """(channel, event) of what was sent, in order."""
    rows = [row for row in story.outbox.values() if row.status is Status.SENT]
    return [(row.channel, str(row.event)) for row in sorted(rows, key=lambda row: row.created_at)]


# -- an episode and the next -------------------------------------------------------------------


def test_what_flaps_is_told_each_time_unless_it_has_to_keep_firing() -> None:
    flapping, calm = Story(make_alert()), Story(make_alert(keep_firing_for="15m"))
    for minute in range(0, 60, 10):
        result = ok() if minute % 20 else alerting()
        flapping.see(result, minute)
        calm.see(result, minute)
    assert notified(flapping) == [("ops", "firing"), ("ops", "resolved")] * 3
    assert len({row.episode_id for row in flapping.outbox.values()}) == 3
    assert notified(calm) == [("ops", "firing")]
    calm.see(ok(), 60)
    assert calm.see(ok(), 70).notified == [("ops", "resolved", "recovered")]


def test_flapping_below_its_hold_is_told_to_nobody() -> None:
    story = Story(make_alert(for_="15m"))
    for minute in range(0, 100, 10):
        story.see(ok() if minute % 20 else alerting(), minute)
    assert notified(story) == []


def test_a_severity_that_rises_while_pending_is_that_of_the_firing() -> None:
    story = Story(make_alert(for_="10m"))
    assert story.see(alerting(severity="warning"), 0).notified == []
    seen = story.see(alerting(severity="critical"), 10)
    assert seen.notified == [("ops", "firing", "first_firing")]
    assert seen.plan.notifications[0].payload["severity"] == "critical"


def test_a_severity_that_falls_and_rises_again_is_told_above_its_peak_only() -> None:
    story = Story(make_alert())
    for minute, severity in enumerate(["warning", "critical", "info", "warning", "critical"]):
        story.see(alerting(severity=severity), minute)
    assert notified(story) == [("ops", "firing"), ("ops", "severity")]
    seen = story.see(ok(), 10)
    assert seen.plan.notifications[0].payload["severity"] == "critical"


def test_an_error_in_between_moves_nothing_and_is_told_for_itself() -> None:
    story = Story(make_alert(on_empty="keep"))
    story.see(alerting(), 0)
    assert story.see(failed(), 10).notified == [("ops", "error", "evaluation_failed")]
    assert story.see(EvaluationResult(Outcome.EMPTY, absent="unknown"), 20).notified == [
        ("ops", "error_resolved", "evaluation_recovered")
    ]
    assert story.state.phase is Phase.FIRING
    assert story.see(ok(), 30).notified == [("ops", "resolved", "recovered")]


def test_an_alert_that_never_could_be_evaluated_is_not_told_to_be_over() -> None:
    story = Story(make_alert())
    assert story.see(failed(), 0).notified == [("ops", "error", "evaluation_failed")]
    assert story.state.phase is None
    assert story.see(ok(), 10).notified == [("ops", "error_resolved", "evaluation_recovered")]


# -- instances and names -----------------------------------------------------------------------


def test_an_instance_that_vanishes_is_resolved_and_fires_anew_when_it_returns() -> None:
    story = Story(make_alert(dimensions=["region"]))
    north, south = alerting(region="north"), ok(region="south")
    story.see(read(north, south), 0)
    assert story.see(read(south), 10).notified == [("ops", "resolved", "instance_missing")]
    assert story.see(read(south), 20).notified == []
    assert story.see(read(north, south), 30).notified == [("ops", "firing", "first_firing")]
    assert len({row.episode_id for row in story.outbox.values()}) == 2


def test_an_instance_that_is_kept_is_reminded_of_while_it_is_not_seen() -> None:
    story = Story(make_alert(dimensions=["region"], on_missing="keep", repeat_interval="1h"))
    story.see(read(alerting(region="north"), ok(region="south")), 0)
    assert story.see(read(ok(region="south")), 30).notified == []
    assert story.see(read(ok(region="south")), HOUR).notified == [("ops", "reminder", "repeat_due")]
    assert story.see(read(ok(region="north"), ok(region="south")), 70).notified == [
        ("ops", "resolved", "recovered")
    ]


def test_a_renamed_dimension_ends_the_old_instances_and_begins_new_ones() -> None:
    story = Story(make_alert(dimensions=["region"]))
    story.see(read(alerting(region="north")), 0)
    story.alert = make_alert(dimensions=["area"])
    assert sorted(story.see(read(alerting(area="north")), 10).notified) == [
        ("ops", "firing", "first_firing"),
        ("ops", "resolved", "dimensions_changed"),
    ]


def test_an_alert_that_is_renamed_under_the_same_id_goes_on() -> None:
    def named(name: str) -> Alert:
        source = make_source({"id": "money", "channels": ["ops"]}, name=name)
        (alert,), _ = parse_definitions([source], DefinitionContext(routing=ROUTING))
        return alert

    story = Story(named("revenue"))
    story.see(alerting(), 0)
    story.alert = named("income")
    assert story.see(alerting(), 10).notified == []
    seen = story.see(ok(), 20)
    assert seen.notified == [("ops", "resolved", "recovered")]
    assert seen.plan.notifications[0].payload["alert"] == "income"


# -- silences ----------------------------------------------------------------------------------


def test_a_silence_over_a_whole_episode_keeps_it_to_itself() -> None:
    story = Story(make_alert())
    story.silence(0, 60)
    assert story.see(alerting(), 5).suppressed == [("ops", "firing", "silenced")]
    assert story.see(ok(), 10).suppressed == [("ops", "resolved", "silenced")]
    assert story.see(ok(), 70).notified == []


def test_a_silence_that_ends_while_it_fires_is_followed_by_one_message() -> None:
    story = Story(make_alert())
    story.silence(0, 60)
    story.see(alerting(), 5)
    assert story.wait(59).notified == []
    seen = story.wait(60)
    assert seen.notified == [("ops", "firing", "not_notified_yet")]
    assert seen.plan.notifications[0].payload["since"] == "2026-01-05T12:05:00Z"
    assert story.wait(61).notified == []


def test_a_rise_during_a_silence_is_told_when_it_ends() -> None:
    story = Story(make_alert())
    story.see(alerting(severity="warning"), 0)
    story.silence(5, 60)
    assert story.see(alerting(severity="critical"), 10).suppressed == [
        ("ops", "severity", "silenced")
    ]
    story.see(alerting(severity="warning"), 20)
    assert story.wait(60).notified == [("ops", "severity", "severity_rose")]
    assert story.wait(61).notified == []


def test_what_waits_unsent_when_silence_and_end_come_is_dropped() -> None:
    story = Story(make_alert())
    story.see(alerting(), 0, delivered=Status.PENDING)
    story.silence(1, 60)
    assert story.see(ok(), 5).notified == []
    assert {row.status for row in story.outbox.values()} == {Status.SUPERSEDED}


@pytest.mark.parametrize("result", [alerting(), failed()])
@pytest.mark.parametrize("status", [Status.PENDING, Status.DEAD])
def test_what_waits_unsent_stays_so_in_a_silence_and_goes_on_after_it(
    result: Any, status: Status
) -> None:
    story = Story(make_alert())
    story.see(result, 0, delivered=status)
    story.silence(1, 2 * HOUR)
    during = story.see(result, HOUR + 5)
    assert ([reason for *_, reason in during.suppressed], during.plan.revived) == (["silenced"], ())
    after = story.see(result, 2 * HOUR)
    assert len(after.plan.revived) == (status is Status.DEAD)
    assert after.notified == []


def test_what_may_have_arrived_is_told_to_be_over_in_a_silence_too() -> None:
    story = Story(make_alert())
    story.see(alerting(), 0, delivered=Status.PENDING)
    story.outbox = {key: replace(row, attempts=1) for key, row in story.outbox.items()}
    story.silence(1, 60)
    assert story.see(ok(), 5).notified == [("ops", "resolved", "fired_and_resolved")]


def test_a_silence_of_one_instance_leaves_the_others() -> None:
    story = Story(make_alert(dimensions=["region"]))
    story.silence(0, 60, region="north")
    seen = story.see(read(alerting(region="north"), alerting(region="south")), 5)
    assert [row.instance for row in seen.plan.notifications] == ["region=south"]


def test_an_error_is_silenced_and_told_afterwards() -> None:
    story = Story(make_alert())
    story.silence(0, 60)
    assert story.see(failed(), 5).suppressed == [("ops", "error", "silenced")]
    assert story.wait(60).notified == [("ops", "error", "not_notified_yet")]
    assert story.see(ok(), 70).notified == [("ops", "error_resolved", "evaluation_recovered")]


# -- reminders, escalations, acknowledgements --------------------------------------------------


def test_hourly_reminders_keep_their_pace_though_slots_come_some_seconds_late() -> None:
    story = Story(make_alert(repeat_interval="1h"))
    late = [0, 0.3, 0.1, 0.2, 0.0, 0.4]
    for hour, delay in enumerate(late):
        story.see(alerting(), hour * HOUR, now=hour * HOUR + delay)
    assert notified(story) == [("ops", "firing")] + [("ops", "reminder")] * 5


def test_nobody_is_reminded_of_what_has_not_arrived() -> None:
    story = Story(make_alert(repeat_interval="1h"))
    story.see(alerting(), 0, delivered=Status.PENDING)
    assert story.see(alerting(), 2 * HOUR).suppressed == [("ops", "firing", "not_delivered_yet")]


def test_reminders_and_escalations_come_while_recovering_too() -> None:
    rules = {"repeat_interval": "1h", "escalations": [{"after": "2h", "channels": ["pager"]}]}
    story = Story(make_alert(keep_firing_for="1d", **rules))
    story.see(alerting(), 0)
    story.see(ok(), 10)
    assert story.state.phase is Phase.RECOVERING
    assert story.wait(1 * HOUR).notified == [("ops", "reminder", "repeat_due")]
    assert story.wait(2 * HOUR).notified == [
        ("ops", "reminder", "repeat_due"),
        ("pager", "escalation", "escalation_due"),
    ]


def test_an_acknowledgement_ends_reminders_and_escalations_until_it_fires_anew() -> None:
    rules = {"repeat_interval": "1h", "escalations": [{"after": "2h", "channels": ["pager"]}]}
    story = Story(make_alert(**rules))
    story.see(alerting(severity="warning"), 0)
    story.acknowledge(5)
    assert ("ops", "reminder", "acknowledged") in story.wait(HOUR).suppressed
    assert ("pager", "escalation", "acknowledged") in story.wait(3 * HOUR).suppressed
    assert story.see(alerting(severity="critical"), 4 * HOUR).notified == [
        ("ops", "severity", "severity_rose")
    ]
    assert story.see(ok(), 5 * HOUR).notified == [("ops", "resolved", "recovered")]
    story.see(alerting(), 6 * HOUR)
    assert story.wait(7 * HOUR).notified == [("ops", "reminder", "repeat_due")]


def test_an_escalated_channel_hears_the_rest() -> None:
    rules = {"repeat_interval": "1h", "escalations": [{"after": "30m", "channels": ["pager"]}]}
    story = Story(make_alert(severity="warning", **rules))
    story.see(alerting(severity="warning"), 0)
    story.wait(30)
    assert story.wait(31).notified == []
    story.wait(91)
    story.see(alerting(severity="critical"), 100)
    story.see(ok(), 110)
    assert [event for channel, event in notified(story) if channel == "pager"] == [
        "escalation",
        "reminder",
        "severity",
        "resolved",
    ]


def test_each_escalation_comes_once() -> None:
    steps = [{"after": "1h", "channels": ["pager"]}, {"after": "2h", "channels": ["pager", "mail"]}]
    story = Story(make_alert(escalations=steps))
    story.see(alerting(), 0)
    for minute in range(30, 5 * HOUR, 30):
        story.wait(minute)
    assert notified(story) == [
        ("ops", "firing"),
        ("pager", "escalation"),
        ("pager", "escalation"),
        ("mail", "escalation"),
    ]


def test_only_channels_that_keep_it_are_told_of_an_acknowledgement() -> None:
    channels = {"ops": Traits(), "pager": Traits(groups=False, acknowledges=True)}
    story = Story(make_alert(channels=["ops", "pager"]), routing=Routing(channels))
    story.see(alerting(), 0)
    assert story.acknowledge(5).notified == [("pager", "acknowledged", "acknowledged")]
    assert story.wait(6).notified == []


# -- channels that fail, or go -----------------------------------------------------------------


def test_a_channel_that_is_down_while_it_fires_gets_one_message_at_the_end() -> None:
    story = Story(make_alert(channels=["ops", "mail"]))
    story.see(alerting(), 0)
    story.deliver(Status.PENDING, "mail")
    seen = story.see(ok(), 5)
    assert seen.notified == [
        ("ops", "resolved", "recovered"),
        ("mail", "resolved", "fired_and_resolved"),
    ]
    assert len(seen.plan.superseded) == 1


def test_what_died_is_tried_again_each_hour_while_it_fires() -> None:
    story = Story(make_alert())
    story.see(alerting(), 0, delivered=Status.DEAD)
    assert story.wait(59).suppressed == [("ops", "firing", "undeliverable")]
    seen = story.wait(60)
    assert seen.suppressed == [("ops", "firing", "retried")]
    assert len(seen.plan.revived) == 1


def test_a_channel_that_is_taken_out_is_told_no_more() -> None:
    story = Story(make_alert(channels=["ops", "mail"]), routing=ROUTING)
    story.see(alerting(), 0)
    story.routing = Routing({"ops": Traits(groups=False)})
    assert ("mail", "resolved", "channel_removed") in story.see(ok(), 5).suppressed


def test_what_was_never_told_to_a_channel_that_is_taken_out_becomes_visible() -> None:
    """It dies as one message, which a fallback is told of; the firing alone never does."""
    story = Story(make_alert(channels=["ops", "mail"]), routing=ROUTING)
    story.see(alerting(), 0)
    story.deliver(Status.PENDING, "mail")
    story.routing = Routing({"ops": Traits(groups=False)})
    seen = story.see(ok(), 5)
    assert ("mail", "resolved", "fired_and_resolved") in seen.notified
    assert [story.outbox[key].channel for key in seen.plan.superseded] == ["mail"]


def test_a_reminder_that_waits_for_a_channel_that_is_taken_out_is_dropped_at_the_end() -> None:
    story = Story(make_alert(channels=["mail"], repeat_interval="1h"), routing=ROUTING)
    story.see(alerting(), 0)
    story.see(alerting(), HOUR, delivered=Status.PENDING)
    story.routing = Routing({})
    seen = story.see(ok(), 2 * HOUR)
    assert (seen.notified, seen.suppressed) == ([], [("mail", "resolved", "channel_removed")])
    assert len(seen.plan.superseded) == 1


def test_an_error_that_waits_for_a_channel_that_is_taken_out_is_dropped_at_its_end() -> None:
    story = Story(make_alert(channels=["mail"]), routing=ROUTING)
    story.see(failed(), 0, delivered=Status.PENDING)
    story.routing = Routing({})
    assert story.see(ok(), 5).suppressed == [("mail", "error_resolved", "channel_removed")]
    assert {row.status for row in story.outbox.values()} == {Status.SUPERSEDED}


def handed(story: Story, fallback: str, minute: float) -> list[tuple[str, str]]:
    """What is dead comes to the fallback, as delivery hands it on; (channel, event) of it."""
    dead = [
        row
        for row in story.outbox.values()
        if row.status is Status.DEAD and row.channel != fallback
    ]
    new = [
        row
        for row in rows_for_fallback(dead, fallback, at(minute), story.outbox.values())
        if row.notification_id not in story.outbox
    ]
    story.outbox |= {row.notification_id: replace(row, status=Status.SENT) for row in new}
    return [(row.channel, str(row.event)) for row in new]


def test_a_fallback_that_was_told_of_the_firing_is_told_of_its_end_once() -> None:
    story = Story(make_alert(), routing=ROUTING)
    story.see(alerting(), 0, delivered=Status.DEAD)
    assert handed(story, "mail", 1) == [("mail", "firing")]
    assert story.see(ok(), 5, delivered=Status.DEAD).notified == [
        ("ops", "resolved", "fired_and_resolved"),
        ("mail", "resolved", "recovered"),
    ]
    assert handed(story, "mail", 6) == []


def test_a_fallback_is_told_of_an_end_that_could_not_be_told_elsewhere() -> None:
    story = Story(make_alert(channels=["ops", "mail"]), routing=ROUTING)
    story.see(alerting(), 0)
    story.see(ok(), 5)
    story.outbox = {
        key: replace(row, status=Status.DEAD)
        if (row.channel, str(row.event)) == ("ops", "resolved")
        else row
        for key, row in story.outbox.items()
    }
    assert handed(story, "mail", 6) == [("mail", "resolved")]


def test_an_error_that_may_have_arrived_is_told_to_be_over() -> None:
    story = Story(make_alert())
    story.see(failed(), 0, delivered=Status.PENDING)
    story.outbox = {key: replace(row, attempts=2) for key, row in story.outbox.items()}
    assert story.see(ok(), 5).notified == [("ops", "error_resolved", "evaluation_recovered")]


def test_who_wants_only_the_end_is_told_only_the_end() -> None:
    story = Story(make_alert(notify_on=["resolved"]))
    assert story.see(alerting(), 0).notified == []
    assert story.see(ok(), 5).notified == [("ops", "resolved", "recovered")]


# -- many at once ------------------------------------------------------------------------------


def many(number: int, channel: str, routing: Routing, result: EvaluationResult) -> list[str]:
    """The message ids when so many alerts see the same at once."""
    sources = [make_source({"channels": [channel]}, name=f"alert_{n}") for n in range(number)]
    alerts, _ = parse_definitions(sources, DefinitionContext(routing=routing))
    time = EvaluationTime(at(0), at(0), at(0))
    update = [apply_result(alert, result, [], time, "shop") for alert in alerts]
    made = plan(update, {}, "shop", at(0), routing=routing)
    assert len({row.notification_id for row in made.notifications}) == number
    return [row.message_id for row in made.notifications]


def test_a_thousand_alerts_make_few_messages_in_a_chat_and_none_is_left_out() -> None:
    ids = many(1_000, "chat", Routing({"chat": Traits()}), read(alerting()))
    assert len(ids) == 1_000
    assert len(set(ids)) == 1_000 / MOST_IN_ONE == 20


def test_a_pager_gets_one_for_each_episode() -> None:
    ids = many(1_000, "pager", Routing({"pager": Traits(groups=False)}), read(alerting()))
    assert len(set(ids)) == 1_000


def test_a_lost_warehouse_is_told_once_to_a_pager_too() -> None:
    lost = EvaluationResult.failed("gone", unreachable=True)
    ids = many(30, "pager", Routing({"pager": Traits(groups=False)}), lost)
    assert len(set(ids)) == 1
    one_by_one = many(30, "pager", Routing({"pager": Traits(groups=False)}), failed())
    assert len(set(one_by_one)) == 30


def test_what_has_to_wait_holds_up_nothing_else() -> None:
    story = Story(make_alert(dimensions=["region"]), routing=Routing({"ops": Traits()}))
    story.see(read(alerting(region="north"), ok(region="south")), 0, delivered=Status.CLAIMED)
    seen = story.see(read(ok(region="north"), alerting(region="south")), 5)
    assert len({row.message_id for row in seen.plan.notifications}) == 2


def test_two_that_are_due_at_once_on_one_channel_come_one_after_the_other() -> None:
    """A silence that ends late: the firing goes first, and the escalation waits for it."""
    story = Story(make_alert(escalations=[{"after": "1h", "channels": ["ops"]}]))
    story.silence(0, 2 * HOUR)
    story.see(alerting(), 0)
    rows = story.wait(2 * HOUR).plan.notifications
    first, second = sorted(rows, key=lambda row: row.created_at)
    assert (first.event, second.event) == ("firing", "escalation")
    assert first.created_at < second.created_at


# -- slots -------------------------------------------------------------------------------------


def test_by_hand_counts_once_a_slot() -> None:
    story = Story(make_alert(for_=3, schedule="0 * * * *"))
    story.see(alerting(), 0)
    for minute in (10, 20, 30):
        story.see(alerting(), minute, by_hand=True)
    assert (story.state.phase, story.state.alert_count) == (Phase.PENDING, 1)
    story.see(alerting(), HOUR + 5, by_hand=True)
    assert story.state.alert_count == 2
    assert story.see(alerting(), 2 * HOUR).notified == [("ops", "firing", "first_firing")]


def test_without_a_schedule_each_run_counts() -> None:
    story = Story(make_alert(for_=3))
    for minute in (0, 1):
        assert story.see(alerting(), minute, by_hand=True).notified == []
    assert story.see(alerting(), 2, by_hand=True).notified == [("ops", "firing", "first_firing")]


def test_a_slot_that_comes_after_a_later_run_by_hand_is_only_recorded() -> None:
    story = Story(make_alert(schedule="0 * * * *"))
    story.see(ok(), 5, by_hand=True)
    late = story.see(alerting(), 0, now=6)
    assert (late.notified, late.update.steps[0].recorded_only) == ([], True)
    assert story.see(alerting(), HOUR).notified == [("ops", "firing", "first_firing")]
    assert story.see(alerting(), HOUR).notified == []


def test_a_run_by_hand_uses_no_slot_up() -> None:
    story = Story(make_alert(schedule="0 * * * *"))
    story.see(ok(), 0)
    story.see(alerting(), HOUR, by_hand=True)
    assert story.state.last_slot == at(0)
    story.see(ok(), 2 * HOUR)
    assert story.state.last_slot == at(2 * HOUR)


def test_what_is_told_after_the_clock_was_set_back_still_comes_after_what_was_told_before() -> None:
    story = Story(make_alert())
    first = story.see(alerting(severity="warning"), 60, delivered=Status.PENDING)
    second = story.see(alerting(severity="critical"), 10)
    assert second.notified == [("ops", "severity", "severity_rose")]
    [earlier], [later] = first.plan.notifications, second.plan.notifications
    assert earlier.created_at < later.created_at
    assert later.not_before == at(10)


def test_an_alert_that_fired_for_want_of_rows_recovers_when_they_come() -> None:
    story = Story(make_alert(dimensions=["region"], on_empty="alert", shape="status"))
    empty = EvaluationResult(Outcome.ALERT, (alerting(),))
    story.see(empty, 0)
    seen = story.see(read(ok(region="north")), 5)
    assert seen.notified == [("ops", "resolved", "recovered")]


# -- routes ------------------------------------------------------------------------------------


ROUTED = Routing(
    {"chat": Traits(), "pager": Traits(groups=False), "mail": Traits(addressed_by="email")},
    (
        Route(("pager",), severity=Severity.CRITICAL, tag="money", further=True),
        Route(("chat",), path="models/alerts"),
        Route(("mail",)),
    ),
)


@pytest.mark.parametrize(
    ("tags", "severity", "channels"),
    [
        ((), Severity.WARNING, ("chat",)),
        (("money",), Severity.WARNING, ("chat",)),
        (("money",), Severity.CRITICAL, ("pager", "chat")),
    ],
)
def test_the_first_route_that_matches_decides_unless_it_goes_on(
    tags: tuple[str, ...], severity: Severity, channels: tuple[str, ...]
) -> None:
    (alert,), _ = parse_definitions([make_source({}, tags=tags)], DefinitionContext(routing=ROUTED))
    assert alert.recipients.at(severity) == channels


@pytest.mark.parametrize(
    ("route", "matches"),
    [
        (Route(("mail",), name="rev*"), True),
        (Route(("mail",), name="Revenue"), False),
        (Route(("mail",), name="rev"), False),
        (Route(("mail",), owner="ann"), True),
        (Route(("mail",), owner="Money"), True),
        (Route(("mail",), owner="money@example.org"), True),
        (Route(("mail",), owner="bob"), False),
        (Route(("mail",), name="rev*", owner="bob"), False),
        (Route(("mail",), path="models/alerts/rev*.sql"), True),
        (Route(("mail",), path="models/alert"), False),
        (Route(("mail",), tag="money"), True),
        (Route(("mail",), tag="mon"), False),
        (Route(("mail",)), True),
    ],
)
def test_a_route_is_for_the_alerts_that_all_of_it_matches(route: Route, matches: bool) -> None:
    owner = Owner("Money", "money@example.org")
    source = make_source({}, tags=("money",), group_owner=owner)
    assert route.matches(source, "ann", Severity.CRITICAL) is matches


def test_a_channel_that_a_rise_brings_in_is_told_of_the_firing() -> None:
    (alert,), _ = parse_definitions(
        [make_source({}, tags=("money",))], DefinitionContext(routing=ROUTED)
    )
    story = Story(alert, routing=ROUTED)
    story.see(alerting(severity="warning"), 0)
    assert story.see(alerting(severity="critical"), 5).notified == [
        ("pager", "firing", "not_notified_yet"),
        ("chat", "severity", "severity_rose"),
    ]


@pytest.mark.parametrize(
    ("block", "defaults", "channels"),
    [
        ({"channels": ["mail"]}, None, ("mail",)),
        ({"channels": []}, {"channels": ["pager"]}, ()),
        ({}, {"channels": ["pager"]}, ("pager",)),
        ({}, None, ("mail:money@example.org",)),
    ],
)
def test_own_channels_come_before_defaults_and_both_before_the_owner(
    block: dict[str, object], defaults: dict[str, object] | None, channels: tuple[str, ...]
) -> None:
    owner = Owner("Money", "money@example.org")
    routing = replace(ROUTED, routes=())
    source = make_source(block, group_owner=owner)
    (alert,), _ = parse_definitions([source], DefinitionContext(defaults=defaults, routing=routing))
    assert alert.channels == channels


def test_an_owner_without_a_contact_is_nobody() -> None:
    source = make_source({}, group_owner=Owner("Money"))
    _, (broken,) = parse_definitions(
        [source], DefinitionContext(routing=replace(ROUTED, routes=()))
    )
    assert "no channel would be notified" in broken.faults[0].message


# -- secrets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "block",
    [
        {"channels": ["https://hooks.slack.com/services/T0/B0/t0ps3cret"]},
        {"runbook": "https://me:t0ps3cret@example.org/"},
        {"runbook": "https://example.org/?token=t0ps3cret-0123"},
        {"webhook_url": "t0ps3cret"},
        {"escalations": [{"after": "1h", "channels": ["xoxb-t0ps3cret"]}]},
        {"password": "t0ps3cret"},
    ],
)
def test_a_literal_secret_is_refused_and_not_shown(block: dict[str, object]) -> None:
    scanned = scan_source(make_source(block), ChannelSecretScan())
    _, (broken,) = parse_definitions([scanned], DefinitionContext(routing=ROUTING))
    said = " ".join(fault.message for fault in broken.faults)
    assert "looks like a secret" in said
    assert "t0ps3cret" not in said


def test_an_ordinary_definition_holds_no_secret() -> None:
    block = {
        "channels": ["ops"],
        "runbook": "https://example.org/runbooks/a?page=2#token",
        "description": "Tokens that were sold twice, by webhook: see secret santa.",
    }
    scanned = scan_source(make_source(block), ChannelSecretScan())
    (alert,), broken = parse_definitions([scanned], DefinitionContext(routing=ROUTING))
    assert (broken, alert.channels) == ([], ("ops",))
