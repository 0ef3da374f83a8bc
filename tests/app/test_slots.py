"""Which alerts a run is for: those that are due, those of one slot, a share of them."""

from __future__ import annotations

import random
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from sentinel.app.alerts import Alerts
from sentinel.app.batch import EvaluatedBatch
from sentinel.app.delivery.result import DeliveryResult
from sentinel.app.report import Report, report
from sentinel.app.slots import DueAlerts, Shard, at_slot, due_now
from sentinel.core.errors import UsageError
from sentinel.core.evaluation import Outcome, QueryResult
from sentinel.core.history import HistoryRow
from sentinel.core.severity import Severity
from sentinel.core.state import Health, Phase
from sentinel.ports import HistoryQuery
from tests.app.test_evaluate import ALERT, Shop, shop
from tests.fakes import NOW, alerts_of, refused, source, state, status

HOURLY = {"schedule": "hourly"}
HOUR = timedelta(hours=1)
BY_REGION = QueryResult(("status", "region"), (("ALERT", "north"), ("OK", "south")))


def hourly(**keys: Any) -> Shop:
    return shop(source("revenue", {**HOURLY, **keys}))


def run_due(it: Shop, *, alerts: Alerts | None = None) -> EvaluatedBatch:
    return run_slots(it, due_now(alerts or it.alerts, it.store))


def run_slot(it: Shop, moment: datetime) -> EvaluatedBatch:
    return run_slots(it, at_slot(it.alerts, moment, it.store))


def run_slots(it: Shop, chosen: DueAlerts) -> EvaluatedBatch:
    return it.evaluate(chosen.alerts, slots=chosen.slots, triggered_by="schedule")


def sent(evaluated: EvaluatedBatch) -> Report:
    return report(evaluated, DeliveryResult(), 0.0, dry_run=False)


def rows(it: Shop) -> list[HistoryRow]:
    """History, in the order in which it came."""
    return sorted(it.store.history(HistoryQuery()), key=lambda row: (row.recorded_at, row.attempt))


def names(chosen: DueAlerts) -> list[str]:
    return [alert.name for alert in chosen.alerts.all]


# -- what is due -------------------------------------------------------------------------------


def test_an_alert_that_never_was_is_due_for_its_latest_slot() -> None:
    it = hourly()
    it.store.clock.pass_by(timedelta(minutes=20))
    chosen = due_now(it.alerts, it.store)
    assert [(slot.at, slot.missed) for slot in chosen.slots.values()] == [(NOW, 0)]


def test_what_was_evaluated_is_due_again_at_the_next_slot_and_not_before() -> None:
    it = hourly()
    run_due(it)
    it.store.clock.pass_by(HOUR - timedelta(seconds=1))
    assert names(due_now(it.alerts, it.store)) == []
    it.store.clock.pass_by(timedelta(seconds=1))
    assert names(due_now(it.alerts, it.store)) == ["revenue"]


def test_whenever_it_is_asked_every_slot_comes_once_or_is_counted_as_missed() -> None:
    it = hourly()
    chance = random.Random(5)
    run_due(it)
    for _ in range(60):
        it.store.clock.pass_by(timedelta(minutes=chance.choice([1, 7, 45, 61, 190])))
        run_due(it)
    slots = [row.slot for row in rows(it)]
    assert None not in slots
    assert len(slots) == len(set(slots)) > 10
    for (earlier, later), row in zip(
        pairwise(slot for slot in slots if slot), rows(it)[1:], strict=True
    ):
        assert later - earlier == HOUR * (1 + row.missed_slots)


def test_an_alert_without_a_schedule_is_never_due() -> None:
    it = shop("by_hand", source("revenue", HOURLY))
    assert names(due_now(it.alerts, it.store)) == ["revenue"]


def test_what_ran_by_hand_is_still_due_for_its_slot() -> None:
    it = hourly()
    it.run()
    evaluated = run_due(it)
    assert [seen.alert.name for seen in evaluated.evaluations] == ["revenue"]
    assert it.state("revenue").last_slot == NOW


def test_a_slot_in_the_future_of_the_clock_says_nothing() -> None:
    it = hourly()
    it.store.tables.states["x"] = state(last_slot=NOW + HOUR * 5, state_key="x")
    assert [slot.at for slot in due_now(it.alerts, it.store).slots.values()] == [NOW]


def test_an_alert_that_gains_an_id_is_not_due_twice() -> None:
    it = hourly()
    run_due(it)
    it.sources = (source("revenue", {**HOURLY, "id": "money"}),)
    assert names(due_now(it.alerts, it.store)) == []


def test_an_error_uses_its_slot_up() -> None:
    it = hourly()
    it.answer("revenue", refused("no such table"))
    run_due(it)
    assert names(due_now(it.alerts, it.store)) == []


# -- definitions that are wrong ----------------------------------------------------------------


def test_a_wrong_definition_is_due_until_its_error_is_recorded() -> None:
    it = shop(source("broken", {"schedule": "never"}), source("revenue", HOURLY))
    evaluated = run_due(it)
    assert [str(seen.result.outcome) for seen in evaluated.evaluations] == ["error", "ok"]
    assert [row.event for row in it.outbox] == ["error"]
    it.store.clock.pass_by(HOUR)
    assert names(due_now(it.alerts, it.store)) == ["revenue"]


def test_one_error_that_was_allowed_for_does_not_hide_a_wrong_definition() -> None:
    it = hourly(error_after=3)
    it.answer("revenue", refused("no such table"))
    run_due(it)
    assert it.state("revenue").health is Health.HEALTHY
    it.store.clock.pass_by(timedelta(minutes=1))
    it.sources = (source("revenue", {"schedule": "never"}),)
    run_due(it)
    assert it.state("revenue").health is Health.FAILING
    assert [row.event for row in it.outbox] == ["error"]
    assert names(due_now(it.alerts, it.store)) == []


def test_a_definition_that_was_mended_is_evaluated_at_its_next_slot() -> None:
    it = shop(source("revenue", {"schedule": "never"}))
    run_due(it)
    it.sources = (source("revenue", HOURLY),)
    it.store.clock.pass_by(HOUR)
    run_due(it)
    assert it.state("revenue").health is Health.HEALTHY


# -- one slot ----------------------------------------------------------------------------------


def test_a_second_run_for_a_slot_neither_records_nor_tells() -> None:
    it = hourly()
    it.answer("revenue", ALERT)
    run_slot(it, NOW)
    it.store.clock.pass_by(timedelta(minutes=1))
    before = it.state("revenue")
    it.answer("revenue", status("OK"))
    again = run_slot(it, NOW)
    assert (len(rows(it)), len(it.outbox), it.state("revenue")) == (1, 1, before)
    assert again.recorded_before == {"model.shop.revenue"}
    [result] = sent(again).results
    assert (result.outcome, result.message) == (Outcome.SKIPPED, "its slot was recorded before")
    assert (result.phase, result.events) == (Phase.FIRING, ())
    assert sent(again).exit_code(Severity.WARNING) == 1
    assert sent(again).exit_code(None) == 0


def test_a_second_run_still_shows_each_instance_that_fires() -> None:
    it = hourly(dimensions=["region"])
    it.answer("revenue", BY_REGION)
    run_slot(it, NOW)
    results = sent(run_slot(it, NOW)).results
    assert {each.outcome for each in results} == {Outcome.SKIPPED}
    assert [each.instance for each in results if each.firing] == ["region=north"]


def test_what_the_first_run_could_not_send_is_sent_by_the_second() -> None:
    it = hourly()
    it.answer("revenue", ALERT)
    [message] = run_slot(it, NOW).messages
    assert run_slot(it, NOW).messages == [message]


def test_a_slot_that_ended_in_an_error_may_be_tried_again() -> None:
    it = hourly()
    it.answer("revenue", refused("the table is being replaced"))
    run_slot(it, NOW)
    it.store.clock.pass_by(timedelta(minutes=1))
    it.answer("revenue", ALERT)
    again = run_slot(it, NOW)
    assert [(row.slot, row.attempt, row.outcome) for row in rows(it)] == [
        (NOW, 1, "error"),
        (NOW, 2, "alert"),
    ]
    assert sent(again).results[0].events == ("firing", "error_resolved")
    third = run_slot(it, NOW)
    assert sent(third).results[0].outcome is Outcome.SKIPPED
    assert len(rows(it)) == 2


def test_an_older_slot_goes_into_history_only() -> None:
    it = hourly()
    run_slot(it, NOW)
    before = it.state("revenue")
    it.answer("revenue", ALERT)
    it.store.clock.pass_by(timedelta(minutes=1))
    run_slot(it, NOW - HOUR)
    assert [(row.slot, row.outcome) for row in rows(it)] == [(NOW, "ok"), (NOW - HOUR, "alert")]
    assert (it.state("revenue"), it.outbox) == (before, [])
    run_slot(it, NOW - HOUR)
    assert len(rows(it)) == 2


def test_a_slot_is_not_due_once_it_was_evaluated() -> None:
    it = hourly()
    run_slot(it, NOW)
    assert names(due_now(it.alerts, it.store)) == []


def test_a_slot_in_the_future_is_refused() -> None:
    it = hourly()
    with pytest.raises(UsageError, match="lies in the future"):
        at_slot(it.alerts, NOW + HOUR, it.store)
    assert at_slot(it.alerts, NOW + timedelta(seconds=30), it.store).slots


def test_slots_that_were_left_out_are_counted() -> None:
    it = hourly()
    run_slot(it, NOW)
    it.store.clock.pass_by(HOUR * 3)
    run_slot(it, NOW + HOUR * 3)
    assert [row.missed_slots for row in rows(it)] == [0, 2]


def test_of_a_clock_that_is_not_the_alerts_nothing_is_missed() -> None:
    it = shop(source("revenue", HOURLY), "by_hand")
    run_slot(it, NOW)
    it.store.clock.pass_by(HOUR * 3)
    run_slot(it, NOW + HOUR * 3 - timedelta(minutes=10))
    assert {row.missed_slots for row in rows(it)} == {0}


def test_a_count_counts_slots_and_not_attempts() -> None:
    it = hourly(**{"for": 2})
    it.answer("revenue", ALERT)
    run_slot(it, NOW)
    it.store.clock.pass_by(timedelta(minutes=1))
    run_slot(it, NOW)
    it.run()
    assert it.state("revenue").phase is Phase.PENDING
    it.store.clock.pass_by(HOUR)
    run_slot(it, NOW + HOUR)
    assert it.state("revenue").phase is Phase.FIRING
    assert it.state("revenue").episode_started == NOW + HOUR


def test_a_wrong_definition_of_a_slot_is_tried_again() -> None:
    it = shop(source("revenue", {"schedule": "never"}))
    run_slot(it, NOW)
    it.sources = (source("revenue", HOURLY),)
    it.store.clock.pass_by(timedelta(minutes=1))
    run_slot(it, NOW)
    assert [(row.attempt, row.outcome) for row in rows(it)] == [(1, "error"), (2, "ok")]


# -- shares ------------------------------------------------------------------------------------

MANY = alerts_of(
    *(source(f"a{number}") for number in range(500)),
    *(source(f"b{number}", {"schedule": "never"}) for number in range(20)),
)


@pytest.mark.parametrize("of", [1, 2, 5, 7])
def test_every_alert_is_in_exactly_one_share(of: int) -> None:
    shares = [Shard(number, of).of_alerts(MANY) for number in range(1, of + 1)]
    found = Counter(alert.id for share in shares for alert in share.all)
    assert found == Counter(alert.id for alert in MANY.all)
    sizes = [len(share.all) for share in shares]
    assert min(sizes) > len(MANY.all) / of / 2


def test_more_alerts_move_none_to_another_share() -> None:
    few = alerts_of(*(source(f"a{number}") for number in range(0, 500, 3)))
    for number in range(1, 6):
        shard = Shard(number, 5)
        few_here = {alert.id for alert in shard.of_alerts(few).all}
        many_here = {alert.id for alert in shard.of_alerts(MANY).all}
        assert few_here <= many_here


def test_an_alert_with_an_id_stays_in_its_share_when_its_model_is_renamed() -> None:
    one, other = (alerts_of(source(name, {"id": "money"})).valid[0] for name in ("old", "new"))
    shards = [Shard(number, 9) for number in range(1, 10)]
    assert [shard.holds(one) for shard in shards] == [shard.holds(other) for shard in shards]


@pytest.mark.parametrize(
    "text",
    ["", "2", "2/", "/2", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1/²", "1 / 2", "1.0/2"],
)
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a shard"):
        Shard.parse(text)


def test_a_share_reads_as_it_is_written() -> None:
    assert Shard.parse("2/5") == Shard(2, 5)
    assert str(Shard(2, 5)) == "2/5"
