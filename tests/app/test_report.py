"""What a batch came to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from sentinel.app.batch import BatchOptions, EvaluatedBatch
from sentinel.app.delivery.delivery import Delivery
from sentinel.app.delivery.result import DeliveryResult
from sentinel.app.evaluate import Evaluation
from sentinel.app.report import InstanceResult, Report, report
from sentinel.core.errors import DeliveryError
from sentinel.core.evaluation import Outcome
from sentinel.core.evaluation import QueryResult as Rows
from sentinel.core.project import AlertSource
from sentinel.core.severity import Severity
from sentinel.core.state import Event, Phase
from sentinel.ports import HistoryQuery
from tests.fakes import (
    NOW,
    FakeChannel,
    FakeProject,
    FakeWarehouse,
    MemoryStore,
    alerts_of,
    counted,
    refused,
    source,
    status,
)

ALERT = status("ALERT", actual_value=5, threshold=10, message="low", shop="north")


@dataclass
class Shop:
    """Alerts that are evaluated again and again, and what their channels do."""

    sources: tuple[AlertSource, ...]
    warehouse: FakeWarehouse = field(default_factory=FakeWarehouse)
    store: MemoryStore = field(default_factory=MemoryStore)
    channels: dict[str, FakeChannel] = field(default_factory=lambda: {"log": FakeChannel()})

    def evaluate(self, **options: Any) -> EvaluatedBatch:
        self.store.clock.pass_by(timedelta(minutes=1))
        evaluation = Evaluation(FakeProject(self.sources), self.warehouse, self.store)
        alerts = alerts_of(*self.sources, channels=self.channels)
        return evaluation(alerts, BatchOptions(1, **options))

    def run(self, **options: Any) -> Report:
        evaluated = self.evaluate(**options)
        dry_run = options.get("dry_run", False)
        delivered = DeliveryResult()
        if not dry_run:
            clock = self.store.clock
            deliver = Delivery(
                self.store, self.channels, "me", sleep=clock.sleep, clock=clock.monotonic
            )
            delivered = deliver(evaluated.messages, timedelta())
        return report(evaluated, delivered, 1.5, dry_run=dry_run)


def shop(*sources: AlertSource | str, **answers: Any) -> Shop:
    it = Shop(tuple(source(each) if isinstance(each, str) else each for each in sources))
    for name, answer in answers.items():
        it.warehouse.answers["select " + name] = answer
    return it


def by_name(sent: Report) -> dict[str, InstanceResult]:
    return {each.alert + each.instance: each for each in sent.results}


# -- one line an instance ----------------------------------------------------------------------


def test_a_result_holds_all_that_is_known_of_an_instance() -> None:
    sent = shop("revenue", revenue=ALERT).run()
    [result] = sent.results
    assert result == InstanceResult(
        alert="revenue",
        unique_id="model.shop.revenue",
        instance="",
        outcome=Outcome.ALERT,
        phase=Phase.FIRING,
        previous_phase=Phase.OK,
        since=NOW + timedelta(minutes=1),
        severity=Severity.CRITICAL,
        actual_value=5.0,
        threshold=10.0,
        failures=None,
        message="low",
        context={"shop": "north"},
        events=(Event.FIRING,),
        notified=("log",),
        suppressed={},
        duration_ms=result.duration_ms,
        bytes_billed=None,
    )
    assert sent.elapsed_s == 1.5
    assert sent.started_at == NOW + timedelta(minutes=1)


def test_an_alert_with_dimensions_has_a_line_for_each_instance_and_none_for_its_head() -> None:
    rows = Rows(("region", "status"), (("n", "ALERT"), ("s", "OK")))
    sent = shop(source("by_region", {"dimensions": ["region"]}), by_region=rows).run()
    assert [(each.instance, each.phase) for each in sent.results] == [
        ("region=n", "firing"),
        ("region=s", "ok"),
    ]


def test_an_alert_that_failed_has_one_line_with_the_error() -> None:
    sent = shop(
        source("by_region", {"dimensions": ["region"]}), by_region=refused("no such column")
    ).run()
    [result] = sent.results
    assert (result.outcome, result.message, result.events) == (
        "error",
        "no such column",
        ("error",),
    )


def test_an_alert_without_violations_of_any_instance_has_one_line() -> None:
    it = shop(source("orders", {"shape": "rows", "dimensions": ["region"]}))
    it.warehouse.answers = {
        ("describe", "select orders"): Rows(("region",), ()),
        ("count", "select orders"): Rows(("region", "failures"), ()),
    }
    [result] = it.run().results
    assert (result.outcome, result.phase, result.instance) == ("ok", None, "")


def test_a_resolved_instance_tells_where_it_came_from() -> None:
    it = shop("revenue", revenue=ALERT)
    it.run()
    it.warehouse.answers["select revenue"] = status("OK")
    [result] = it.run().results
    assert (result.previous_phase, result.phase, result.events) == ("firing", "ok", ("resolved",))
    assert result.notified == ("log",)


def test_violations_are_counted() -> None:
    it = shop(source("orders", {"shape": "rows"}))
    it.warehouse.answers["count", "select orders"] = counted(3)
    [result] = it.run().results
    assert (result.failures, result.actual_value) == (3, 3.0)


# -- who was told ------------------------------------------------------------------------------


def test_who_was_told_before_is_not_told_again_and_why() -> None:
    it = shop("revenue", revenue=ALERT)
    it.run()
    [result] = it.run().results
    assert (result.notified, result.suppressed) == ((), {"log": "already_notified"})


def test_notifications_are_in_the_same_order_whichever_channel_answers_first() -> None:
    it = shop("revenue", revenue=ALERT)
    it.channels = {name: FakeChannel(name) for name in ("ops", "mail")}
    evaluated = it.evaluate()
    rows = evaluated.plan.notifications
    for order in (rows, rows[::-1]):
        shown = report(evaluated, DeliveryResult(sent=order), 1.5, dry_run=False)
        assert [row.channel for row in shown.sent] == ["mail", "ops"]


def test_on_a_dry_run_nobody_is_told() -> None:
    sent = shop("revenue", revenue=ALERT).run(dry_run=True)
    [result] = sent.results
    assert (result.notified, result.suppressed) == ((), {"log": "dry_run"})
    assert sent.dry_run


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (DeliveryError("down"), "not_delivered_yet"),
        (DeliveryError("no such hook", permanent=True), "undeliverable"),
    ],
)
def test_what_was_not_accepted_is_not_told_and_is_named(
    failure: DeliveryError, reason: str
) -> None:
    it = shop("revenue", revenue=ALERT)
    it.channels = {"log": FakeChannel(), "hook": FakeChannel("hook", always=failure)}
    sent = it.run()
    [result] = sent.results
    assert (result.notified, result.suppressed) == (("log",), {"hook": reason})
    assert sent.undelivered == {"revenue (firing) to hook": failure.message}
    assert sent.counts["undelivered"] == 1


def test_what_an_earlier_run_could_not_deliver_is_delivered_and_then_told() -> None:
    it = shop("revenue", revenue=ALERT)
    it.channels = {"hook": FakeChannel("hook", always=DeliveryError("down"))}
    it.run()
    it.channels["hook"].always = None
    sent = it.run()
    [result] = sent.results
    assert (result.events, result.notified, result.suppressed) == ((), ("hook",), {})
    assert sent.undelivered == {}


def test_an_instance_that_fires_on_unseen_is_shown_and_counts() -> None:
    kept = source("by_region", {"dimensions": ["region"], "on_missing": "keep"})
    seen = Rows(("region", "status"), (("n", "OK"), ("s", "ALERT")))
    it = shop(kept, by_region=seen)
    it.run()
    it.warehouse.answers["select by_region"] = Rows(("region", "status"), (("n", "OK"),))
    sent = it.run()
    shown = {each.instance: (str(each.outcome), str(each.phase)) for each in sent.results}
    assert shown == {"region=s": ("skipped", "firing"), "region=n": ("ok", "ok")}
    assert sent.exit_code(Severity.WARNING) == 1
    assert len(it.store.history(HistoryQuery())) == 5  # head and two instances, head and one


def test_what_is_undeliverable_stays_visible_while_the_episode_lasts() -> None:
    it = shop("revenue", revenue=ALERT)
    refused_for_good = DeliveryError("no such hook", permanent=True)
    it.channels = {"hook": FakeChannel("hook", always=refused_for_good)}
    it.run()
    for _ in range(2):
        sent = it.run()
        assert sent.results[0].suppressed == {"hook": "undeliverable"}
        assert sent.undelivered == {"revenue (firing) to hook": "no such hook"}
        assert sent.exit_code(None) == 4
    assert len(it.channels["hook"].tried) == 1


def test_every_message_that_was_not_accepted_is_counted() -> None:
    rows = Rows(("region", "status"), (("n", "ALERT"), ("s", "ALERT")))
    it = shop(source("by_region", {"dimensions": ["region"]}), "revenue", by_region=rows)
    it.warehouse.answers["select revenue"] = refused("gone")
    it.channels = {"hook": FakeChannel("hook", always=DeliveryError("down"))}
    sent = it.run()
    assert sorted(sent.undelivered) == [
        "by_region [region=n] (firing) to hook",
        "by_region [region=s] (firing) to hook",
        "revenue (error) to hook",
    ]
    assert sent.counts["undelivered"] == 3


def test_a_message_that_waits_behind_an_earlier_one_is_not_taken_for_told() -> None:
    it = shop("revenue", revenue=status("ALERT", severity="warning"))
    it.channels = {"hook": FakeChannel("hook", always=DeliveryError("down"))}
    it.run()
    it.channels["hook"].always = None
    it.store.tables.notifications = {
        key: replace(row, not_before=row.not_before + timedelta(days=1))
        for key, row in it.store.tables.notifications.items()
    }
    it.warehouse.answers["select revenue"] = status("ALERT", severity="critical")
    sent = it.run()
    [result] = sent.results
    assert (result.notified, result.suppressed) == ((), {"hook": "not_delivered_yet"})
    assert sent.undelivered == {
        "revenue (firing) to hook": "down",
        "revenue (severity) to hook": "it has to wait for an earlier message",
    }
    assert sent.exit_code(Severity.WARNING) == 4


# -- order and sums ----------------------------------------------------------------------------


def result(alert: str = "revenue", **others: Any) -> InstanceResult:
    given: dict[str, Any] = {
        "alert": alert,
        "unique_id": f"model.shop.{alert}",
        "instance": "",
        "outcome": Outcome.OK,
        "phase": Phase.OK,
        "previous_phase": Phase.OK,
        "since": NOW,
        "severity": Severity.CRITICAL,
        "actual_value": None,
        "threshold": None,
        "failures": None,
        "message": None,
        "context": {},
        "events": (),
        "notified": (),
        "suppressed": {},
        "duration_ms": 1,
        "bytes_billed": None,
    }
    return InstanceResult(**given | others)


def of(*results: InstanceResult, undelivered: dict[str, str] | None = None) -> Report:
    return Report("run", NOW, 1.0, results, undelivered or {})


def test_what_needs_a_person_comes_first_and_the_worst_of_it_first() -> None:
    in_order = [
        result("f", phase=Phase.FIRING, outcome=Outcome.ALERT, severity=Severity.CRITICAL),
        result("c", phase=Phase.FIRING, outcome=Outcome.ALERT, severity=Severity.WARNING),
        result("d", phase=Phase.FIRING, outcome=Outcome.ALERT, severity=Severity.WARNING),
        result("a", phase=Phase.FIRING, outcome=Outcome.ERROR, severity=Severity.INFO),
        result("a", phase=Phase.RECOVERING, severity=Severity.INFO),
        result("z", outcome=Outcome.ERROR, severity=None),
        result("b", phase=Phase.PENDING, outcome=Outcome.ALERT, severity=Severity.WARNING),
        result("a", phase=Phase.OK, severity=Severity.INFO),
        result("a", phase=Phase.OK, instance="region=n"),
        result("b", phase=None, outcome=Outcome.SKIPPED),
    ]
    shuffled = [in_order[n] for n in (9, 3, 7, 1, 5, 0, 8, 2, 6, 4)]
    assert sorted(shuffled, key=lambda each: each.urgency) == in_order


def test_a_report_is_in_that_order() -> None:
    it = shop("a", "b", "c", b=ALERT, c=refused("gone"))
    assert [each.alert for each in it.run().results] == ["b", "c", "a"]


def test_everything_is_counted_by_outcome_and_by_phase() -> None:
    sent = of(
        result(outcome=Outcome.ALERT, phase=Phase.FIRING),
        result(outcome=Outcome.OK, phase=Phase.RECOVERING),
        result(outcome=Outcome.ALERT, phase=Phase.PENDING),
        result(outcome=Outcome.ERROR, phase=Phase.FIRING),
        result(outcome=Outcome.SKIPPED, phase=None),
        result(),
        undelivered={"a": "b"},
    )
    assert sent.counts == {
        "total": 6,
        "ok": 2,
        "alert": 2,
        "error": 1,
        "empty": 0,
        "skipped": 1,
        "pending": 1,
        "firing": 2,
        "recovering": 1,
        "undelivered": 1,
    }


# -- exit codes --------------------------------------------------------------------------------

FIRING = result(outcome=Outcome.ALERT, phase=Phase.FIRING, severity=Severity.WARNING)
RECOVERING = result(phase=Phase.RECOVERING, severity=Severity.CRITICAL)
PENDING = result(outcome=Outcome.ALERT, phase=Phase.PENDING)
ERROR = result(outcome=Outcome.ERROR)
SKIPPED = result(outcome=Outcome.SKIPPED, phase=None)
DEAD = {"revenue to log": "down"}


@pytest.mark.parametrize(
    ("results", "undelivered", "fail_on", "code"),
    [
        ([result()], {}, Severity.INFO, 0),
        ([], {}, Severity.INFO, 0),
        ([PENDING, SKIPPED, result()], {}, Severity.INFO, 0),
        ([FIRING], {}, Severity.INFO, 1),
        ([FIRING], {}, Severity.WARNING, 1),
        ([FIRING], {}, Severity.CRITICAL, 0),
        ([FIRING], {}, None, 0),
        ([RECOVERING], {}, Severity.CRITICAL, 1),
        ([result()], DEAD, Severity.WARNING, 4),
        ([FIRING], DEAD, Severity.WARNING, 4),
        ([FIRING], DEAD, None, 4),
        ([ERROR], {}, Severity.CRITICAL, 3),
        ([ERROR], {}, None, 3),
        ([ERROR, FIRING], DEAD, Severity.INFO, 3),
    ],
)
def test_of_several_reasons_3_wins_over_4_and_4_over_1(
    results: list[InstanceResult], undelivered: dict[str, str], fail_on: Severity | None, code: int
) -> None:
    assert of(*results, undelivered=undelivered).exit_code(fail_on) == code
