"""The alert definition: every key, every bad definition, and what is merged under it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sentinel.core.alert import (
    KEYS,
    Alert,
    BrokenAlert,
    Definition,
    DefinitionContext,
    parse_definitions,
)
from sentinel.core.definition_errors import suggest
from sentinel.core.definition_types import Comparison, Escalation, HoldPeriod
from sentinel.core.project import AlertSource, Owner
from sentinel.core.severity import Severity
from tests.core.builders import ROUTING, make_alert, make_source

AROUND = DefinitionContext(timezone="Europe/Paris", routing=ROUTING)


def judge_block(block: Any, context: DefinitionContext = AROUND) -> Alert | BrokenAlert:
    valid, broken = parse_definitions([make_source(block)], context)
    return valid[0] if valid else broken[0]


def faults_of(block: Any, context: DefinitionContext = AROUND) -> list[tuple[tuple[str, ...], str]]:
    """(keys, message) of every fault of a definition that is otherwise good."""
    whole = {"channels": [], **block} if isinstance(block, Mapping) else block
    alert = judge_block(whole, context)
    assert isinstance(alert, BrokenAlert), "the definition is good"
    return [(fault.keys, fault.message) for fault in alert.faults]


# -- every key --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "written", "means"),
    [
        ("id", "finance.revenue", "finance.revenue"),
        ("enabled", False, False),
        ("schedule", "*/10 * * * *", "*/10 * * * *"),
        ("timezone", "America/New_York", "America/New_York"),
        ("severity", "info", Severity.INFO),
        ("owner", "Finance", "Finance"),
        ("channels", ["ops", "mail"], ("ops", "mail")),
        ("channels", "ops", ("ops",)),
        ("channels", ["ops", "mail", "ops"], ("ops", "mail")),
        ("channels", [], ()),
        ("description", "Too little money.", "Too little money."),
        ("runbook", "https://example.org/runbook", "https://example.org/runbook"),
        ("shape", "rows", "rows"),
        ("shape", "status", "status"),
        ("dimensions", ["Region", "store"], ("region", "store")),
        ("dimensions", "region", ("region",)),
        ("warn_if", ">10", Comparison(">10", ">", 10, 10)),
        ("error_if", "between 5 and 10", Comparison("between 5 and 10", "between", 5, 10)),
        ("for", "15m", HoldPeriod(length=timedelta(minutes=15))),
        ("for", 3, HoldPeriod(count=3)),
        ("for", 0, HoldPeriod()),
        ("keep_firing_for", "2h", timedelta(hours=2)),
        ("keep_firing_for", "0s", timedelta()),
        ("repeat_interval", "1d", timedelta(days=1)),
        (
            "escalations",
            [{"after": "30m", "channels": "pager"}],
            (Escalation(after=timedelta(minutes=30), channels=("pager",)),),
        ),
        ("notify_on", ["firing", "error"], ("firing", "error")),
        ("notify_on", "firing", ("firing",)),
        ("notify_on", [], ()),
        ("on_empty", "keep", "keep"),
        ("on_missing", "alert", "alert"),
        ("error_after", 3, 3),
        ("timeout", "30s", timedelta(seconds=30)),
        ("samples", 5, 5),
        ("sample_columns", ["Order_ID"], ("order_id",)),
        ("jitter", "10s", timedelta(seconds=10)),
        ("max_bytes_billed", 10**9, 10**9),
    ],
)
def test_a_key_is_read(key: str, written: Any, means: Any) -> None:
    alert = judge_block({"channels": ["ops"], key: written})

    assert isinstance(alert, Alert)
    assert getattr(alert.rules, {"for": "for_"}.get(key, key)) == means


def test_the_keys_are_those_of_the_design() -> None:
    assert set(KEYS) == {
        "id", "enabled", "schedule", "timezone", "severity", "owner", "channels", "description",
        "runbook", "shape", "dimensions", "warn_if", "error_if", "for", "keep_firing_for",
        "repeat_interval", "escalations", "notify_on", "on_empty", "on_missing", "error_after",
        "timeout", "samples", "context_columns", "sample_columns", "jitter", "max_bytes_billed",
    }  # fmt: skip


def test_without_keys_the_defaults_of_the_design_hold() -> None:
    rules = Definition()

    assert rules.enabled
    assert rules.schedule is None
    assert rules.severity is Severity.CRITICAL
    assert (rules.for_, rules.keep_firing_for) == (HoldPeriod(), timedelta())
    assert rules.repeat_interval is None
    assert rules.escalations == ()
    assert rules.notify_on == ("firing", "resolved", "error")
    assert (rules.on_empty, rules.on_missing) == ("error", "resolve")
    assert rules.error_after == 1
    assert rules.timeout == timedelta(minutes=5)
    assert (rules.samples, rules.sample_columns, rules.jitter) == (0, (), timedelta())
    assert (rules.shape, rules.dimensions, rules.warn_if, rules.error_if) == (None, (), None, None)


def test_severities_are_ranked() -> None:
    assert sorted(Severity, key=lambda each: each.rank) == ["info", "warning", "critical"]


# -- conditions and holds ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "met", "unmet"),
    [
        (">10", [11, 100], [10, 0]),
        (">= 10", [10, 11], [9]),
        ("<10", [9, 0], [10]),
        ("<=10", [10], [11]),
        ("= 10", [10], [9, 11]),
        ("==10", [10], [9, 11]),
        ("!= 0", [1, 5], [0]),
        ("<> 0", [1, 5], [0]),
        (" > 0.5 ", [1], [0]),
        (">-1", [0], []),
        ("between 5 and 10", [5, 7, 10], [4, 11]),
        ("BETWEEN 0 AND 0", [0], [1]),
    ],
)
def test_a_condition_counts_rows_exactly(text: str, met: list[int], unmet: list[int]) -> None:
    condition = Comparison.parse(text)

    assert [condition.met(count) for count in met] == [True] * len(met)
    assert [condition.met(count) for count in unmet] == [False] * len(unmet)


@pytest.mark.parametrize("text", ["10", "", ">", "> ten", ">10 or 1=1", "=> 10", 10, None, [">1"]])
def test_what_is_no_condition_is_refused_with_the_ways_to_write_it(text: object) -> None:
    with pytest.raises(ValueError, match="write it as '>10', '!= 0' or '>=5'"):
        Comparison.parse(text)


@pytest.mark.parametrize(
    ("hold", "held", "count", "met"),
    [
        (HoldPeriod(), 0, 1, True),
        (HoldPeriod(length=timedelta(minutes=5)), 4, 99, False),
        (HoldPeriod(length=timedelta(minutes=5)), 5, 1, True),
        (HoldPeriod(count=3), 999, 2, False),
        (HoldPeriod(count=3), 0, 3, True),
    ],
)
def test_a_hold_is_a_length_of_time_or_a_count(
    hold: HoldPeriod, held: int, count: int, met: bool
) -> None:
    assert hold.met(timedelta(minutes=held), count) is met


# -- bad definitions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "keys", "message"),
    [
        ({"chanels": []}, "chanels", "unknown key `chanels`; did you mean `channels`?"),
        ({"Severity": "info"}, "Severity", "unknown key `Severity`; did you mean `severity`?"),
        ({"xyzzy": 1}, "xyzzy", "unknown key `xyzzy`"),
        ({"for_": "5m"}, "for_", "unknown key `for_`; did you mean `for`?"),
        ({"a[b]": 1}, "a[b]", "unknown key `a[b]`"),
        ({5: 1}, "5", "`5`: keys should be strings, not 5"),
        ({"id": ""}, "id", "`id`: string should have at least 1 character, not ''"),
        ({"id": 5}, "id", "`id`: input should be a valid string, not 5"),
        ({"schedule": 5}, "schedule", "`schedule`: input should be a valid string, not 5"),
        (
            {"schedule": "0 25 * * *"},
            "schedule",
            "'25' in the hour field is not one of 0-23",
        ),
        (
            {"schedule": "0 0 31 2 *"},
            "schedule",
            "'0 0 31 2 *' never comes: no month has such a day",
        ),
        (
            {"timezone": "Paris"},
            "timezone",
            "'Paris' is not a time zone; write it as Europe/Paris or UTC",
        ),
        (
            {"severity": "Warn"},
            "severity",
            "`severity`: 'Warn' is not one of 'info', 'warning' or 'critical'; "
            "did you mean `warning`?",
        ),
        (
            {"channels": ["opps"]},
            "channels",
            "there is no channel 'opps' in sentinel.yml; did you mean `ops`?",
        ),
        (
            {"channels": "data-team"},
            "channels",
            "there is no channel 'data-team' in sentinel.yml; did you mean `Data-Team`?",
        ),
        ({"channels": ["teams!"]}, "channels", "there is no channel 'teams!' in sentinel.yml"),
        ({"channels": 5}, "channels", "`channels`: input should be a valid tuple, not 5"),
        ({"channels": [5]}, "channels.0", "`channels.0`: input should be a valid string, not 5"),
        (
            {"shape": "row"},
            "shape",
            "`shape`: 'row' is not one of 'status' or 'rows'; did you mean `rows`?",
        ),
        ({"dimensions": ["a b"]}, "dimensions.0", "`dimensions.0`: 'a b' is not a plain column name"),
        ({"dimensions": ["Region", "region"]}, "", "`dimensions` names a column twice"),
        (
            {"warn_if": 10},
            "warn_if",
            "`warn_if`: 10 is not a condition; write it as '>10', '!= 0' or '>=5'",
        ),
        (
            {"shape": "status", "error_if": ">1"},
            "",
            "`warn_if` and `error_if` count rows; they can't be used with `shape: status`",
        ),
        ({"for": -1}, "for", "`for`: a count of slots can't be negative"),
        (
            {"for": "5 minutes"},
            "for",
            "`for`: '5 minutes' is not a duration; write it as 30s, 15m, 2h or 1d",
        ),
        (
            {"for": True},
            "for",
            "`for`: True is not a duration; write it as 30s, 15m, 2h or 1d",
        ),
        (
            {"keep_firing_for": "-5m"},
            "keep_firing_for",
            "`keep_firing_for`: '-5m' is not a duration (it can't be negative); "
            "write it as 30s, 15m, 2h or 1d",
        ),
        (
            {"repeat_interval": "0s"},
            "repeat_interval",
            "`repeat_interval`: must be longer than 0",
        ),
        ({"timeout": "0m"}, "timeout", "`timeout`: must be longer than 0"),
        (
            {"timeout": 300},
            "timeout",
            "`timeout`: 300 is not a duration; write it as 30s, 15m, 2h or 1d",
        ),
        (
            {"jitter": 5},
            "jitter",
            "`jitter`: 5 is not a duration; write it as 30s, 15m, 2h or 1d",
        ),
        ({"escalations": [{"after": "5m"}]}, "escalations.0.channels", "`channels` is missing"),
        (
            {"escalations": [{"after": "0s", "channels": "ops"}]},
            "escalations.0.after",
            "`escalations.0.after`: must be longer than 0",
        ),
        (
            {"escalations": [{"after": "5m", "channels": []}, {"afer": "5m", "channels": [],
                                                                "after": "1m"}]},
            "escalations.1.afer",
            "unknown key `afer`; did you mean `after`?",
        ),
        (
            {"escalations": [{"after": "5m", "channels": ["pagr"]}]},
            "escalations.0.channels",
            "there is no channel 'pagr' in sentinel.yml; did you mean `pager`?",
        ),
        (
            {"escalations": ["pager"]},
            "escalations.0",
            "`escalations.0`: input should be a valid dictionary or instance of Escalation, "
            "not 'pager'",
        ),
        (
            {"notify_on": ["fireing"]},
            "notify_on.0",
            "`notify_on.0`: 'fireing' is not one of 'firing', 'resolved' or 'error'; "
            "did you mean `firing`?",
        ),
        (
            {"on_empty": "alerts"},
            "on_empty",
            "`on_empty`: 'alerts' is not one of 'error', 'ok', 'alert' or 'keep'; "
            "did you mean `alert`?",
        ),
        (
            {"on_missing": None},
            "on_missing",
            "`on_missing`: None is not one of 'resolve', 'keep' or 'alert'",
        ),
        (
            {"error_after": 0},
            "error_after",
            "`error_after`: input should be greater than or equal to 1, not 0",
        ),
        ({"samples": -1}, "samples", "`samples`: input should be greater than or equal to 0, not -1"),
        (
            {"samples": 101},
            "samples",
            "`samples`: input should be less than or equal to 100, not 101",
        ),
        (
            {"max_bytes_billed": 0},
            "max_bytes_billed",
            "`max_bytes_billed`: input should be greater than or equal to 1, not 0",
        ),
        (
            {"enabled": "perhaps"},
            "enabled",
            "`enabled`: input should be a valid boolean, unable to interpret input, not 'perhaps'",
        ),
    ],
)  # fmt: skip
def test_a_bad_definition_names_its_key_and_what_to_do(block: Any, keys: str, message: str) -> None:
    assert faults_of(block) == [(tuple(keys.split(".")) if keys else (), message)]


@pytest.mark.parametrize("block", ["daily", ["ops"], 5, True])
def test_a_block_that_is_no_mapping_is_a_fault(block: Any) -> None:
    context = replace(AROUND, defaults={"channels": ["ops"]})

    assert faults_of(block, context) == [
        ((), "`sentinel` must be a mapping of keys, such as {schedule: daily}")
    ]


def test_the_block_that_is_no_mapping_is_named() -> None:
    source = make_source({"channels": []}, folder_defaults="daily")
    _, (broken,) = parse_definitions([source], replace(AROUND, defaults={}))

    assert [fault.message for fault in broken.faults] == [
        "`sentinel_defaults` must be a mapping of keys, such as {schedule: daily}"
    ]


def test_all_faults_of_a_definition_are_told_at_once() -> None:
    faults = faults_of(
        {"chanels": [], "for": -1, "channels": ["opps"], "timezone": "Mars", "timeout": "0s"}
    )

    assert {keys for keys, _ in faults} == {
        ("chanels",),
        ("for",),
        ("channels",),
        ("timezone",),
        ("timeout",),
    }


def test_a_bad_time_zone_of_the_project_is_a_fault_of_the_alert() -> None:
    assert faults_of({"schedule": "daily"}, replace(AROUND, timezone="Mars")) == [
        (("timezone",), "'Mars' is not a time zone; write it as Europe/Paris or UTC")
    ]


def test_a_bad_definition_leaves_the_others_good() -> None:
    sources = [
        make_source({"channels": ["ops"]}, name="good"),
        make_source({"channels": ["opps"]}, name="bad"),
        make_source("nonsense", name="worse"),
    ]
    valid, broken = parse_definitions(sources, AROUND)

    assert [alert.name for alert in valid] == ["good"]
    assert [alert.name for alert in broken] == ["bad", "worse"]


# -- merging -----------------------------------------------------------------------------------------


def test_the_nearest_block_wins_key_by_key() -> None:
    context = replace(
        AROUND,
        defaults={"channels": ["ops"], "severity": "info", "timeout": "1m", "owner": "project"},
    )
    source = make_source(
        {"owner": "model"},
        folder_defaults={"severity": "warning", "owner": "folder", "channels": ["mail"]},
    )
    ((alert,), _) = parse_definitions([source], context)

    assert alert.owner == "model"
    assert alert.rules.severity == "warning"
    assert alert.channels == ("mail",)
    assert alert.rules.timeout == timedelta(minutes=1)


def test_a_key_of_the_nearest_block_replaces_the_others_whole() -> None:
    context = replace(AROUND, defaults={"channels": ["ops"], "repeat_interval": "4h"})
    alert = judge_block({"channels": ["mail"], "repeat_interval": None}, context)

    assert isinstance(alert, Alert)
    assert alert.channels == ("mail",)
    assert alert.rules.repeat_interval is None


def test_an_unknown_key_in_the_folder_defaults_is_a_fault() -> None:
    source = make_source({"channels": []}, folder_defaults={"sevrity": "info"})
    _, (broken,) = parse_definitions([source], AROUND)

    assert [fault.message for fault in broken.faults] == [
        "unknown key `sevrity`; did you mean `severity`?"
    ]


@pytest.mark.parametrize("block", [{}, None])
def test_an_empty_block_is_an_alert_that_runs_by_hand(block: Any) -> None:
    alert = judge_block(block, replace(AROUND, defaults={"channels": ["ops"]}))

    assert isinstance(alert, Alert)
    assert alert.cron is None
    assert alert.channels == ("ops",)


# -- who is told -------------------------------------------------------------------------------------


def test_an_alert_that_would_tell_nobody_is_a_fault() -> None:
    alert = judge_block({})

    assert isinstance(alert, BrokenAlert)
    assert [(fault.keys, fault.message) for fault in alert.faults] == [
        (
            ("channels",),
            "no channel would be notified: name `channels` here or under `defaults` in sentinel.yml, or "
            "a route there that matches it (`channels: []` if that is meant)",
        )
    ]


def test_an_alert_may_tell_nobody_if_it_says_so() -> None:
    context = replace(AROUND, defaults={"channels": ["ops"]})
    alert = judge_block({"channels": []}, context)

    assert isinstance(alert, Alert)
    assert alert.channels == ()


@pytest.mark.parametrize(
    ("block", "channels"),
    [
        ({"channels": ["ops", "opps", "mail", "ops"], "for": -1}, ("ops", "mail")),
        ({"channels": "mail", "sevrity": "info"}, ("mail",)),
        ({"channels": ["opps"]}, ("pager",)),
        ({"channels": {"ops": 1}}, ("pager",)),
        ({"for": -1}, ("pager",)),
        ("nonsense", ("pager",)),
    ],
)
def test_a_broken_alert_still_tells_the_channels_that_exist(
    block: Any, channels: tuple[str, ...]
) -> None:
    alert = judge_block(block, replace(AROUND, defaults={"channels": ["pager"]}))

    assert isinstance(alert, BrokenAlert)
    assert alert.channels == channels


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("chanels", ["channels", "schedule"], "; did you mean `channels`?"),
        ("OPS", ["ops"], "; did you mean `ops`?"),
        ("ops", ["OPS"], "; did you mean `OPS`?"),
        ("xyzzy", ["channels"], ""),
        ("ops", [], ""),
    ],
)
def test_a_word_that_is_nearly_known_is_suggested(word: str, known: list[str], said: str) -> None:
    assert suggest(word, known) == said


# -- identity ----------------------------------------------------------------------------------------


def test_the_id_is_the_given_one_else_the_unique_id() -> None:
    assert make_alert(id="finance.revenue").id == "finance.revenue"
    assert make_alert().id == "model.shop.revenue"
    assert make_alert().name == "revenue"


@pytest.mark.parametrize(
    ("block", "alert_id"),
    [
        ({"id": "kept", "for": -1}, "kept"),
        ({"id": "", "for": -1}, "model.shop.revenue"),
        ({"id": ["x"]}, "model.shop.revenue"),
        ("nonsense", "model.shop.revenue"),
    ],
)
def test_a_broken_alert_keeps_its_id_so_that_its_state_stays(block: Any, alert_id: str) -> None:
    assert judge_block(block).id == alert_id


def twins(*sources: AlertSource) -> list[BrokenAlert]:
    valid, broken = parse_definitions(sources, AROUND)
    assert valid == []
    return broken


def test_two_alerts_with_one_id_are_both_broken_under_their_own_names() -> None:
    one = make_source({"id": "same", "channels": ["ops"]}, name="one")
    other = make_source({"id": "same", "channels": ["mail"], "for": -1}, name="other")
    broken = twins(one, other)

    assert [alert.id for alert in broken] == ["model.shop.one", "model.shop.other"]
    assert [alert.channels for alert in broken] == [("ops",), ("mail",)]
    assert [[fault.message for fault in alert.faults] for alert in broken] == [
        ["the id 'same' is also that of other; ids are unique"],
        [
            "`for`: a count of slots can't be negative",
            "the id 'same' is also that of one; ids are unique",
        ],
    ]


def test_an_id_that_is_the_unique_id_of_another_alert_breaks_both() -> None:
    thief = make_source({"id": "model.shop.other", "channels": []}, name="thief")

    blocks: tuple[Any, ...] = ({"channels": []}, "nonsense")
    for block in blocks:
        broken = twins(thief, make_source(block, name="other"))
        assert [alert.id for alert in broken] == ["model.shop.thief", "model.shop.other"]


def test_the_alert_says_more_than_the_model() -> None:
    source = make_source(
        {"channels": [], "description": "of the alert", "owner": "of the alert"},
        description="of the model",
        group_owner=Owner("of the group"),
    )
    ((alert,), _) = parse_definitions([source], AROUND)
    ((plain,), _) = parse_definitions([replace(source, block={"channels": []})], AROUND)

    assert (alert.description, alert.owner) == ("of the alert", "of the alert")
    assert (plain.description, plain.owner) == ("of the model", "of the group")


@pytest.mark.parametrize(
    ("group_owner", "owner"),
    [(None, None), (Owner(), None), (Owner(email="a@example.org"), "a@example.org")],
)
def test_the_owner_of_the_group_is_named_or_written_to(
    group_owner: Owner | None, owner: str | None
) -> None:
    alert = make_alert()

    assert replace(alert, source=replace(alert.source, group_owner=group_owner)).owner == owner


# -- schedule ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "zone"),
    [({}, "Europe/Paris"), ({"timezone": "UTC"}, "UTC"), ({"timezone": None}, "Europe/Paris")],
)
def test_a_schedule_runs_in_the_alerts_time_zone_else_the_projects(block: Any, zone: str) -> None:
    alert = judge_block({"channels": [], "schedule": "daily"} | block)

    assert isinstance(alert, Alert)
    assert alert.cron is not None
    assert alert.cron.zone == zone
