"""A run: which alerts it evaluates, what it sends, and what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from sentinel.app.alerts import Alerts
from sentinel.app.batch import BatchOptions, EvaluatedBatch
from sentinel.app.delivery.result import DeliveryResult
from sentinel.app.run import Run, RunRequest, RunResult
from sentinel.app.slots import Shard
from sentinel.app.timed_planning import TimedPlan
from sentinel.core.errors import TablesMissing, UsageError
from sentinel.core.notification import Notification, Status
from sentinel.core.planning import NotificationPlan
from tests.fakes import NOW, MemoryStore, alerts_of, notification, source

TIMEOUT = timedelta(seconds=5)
NEW = notification("new", status=Status.CLAIMED)
LATER = notification("later", status=Status.PENDING)
TIMED = notification("timed", status=Status.CLAIMED)


@dataclass
class Bench:
    """A run whose parts are recorded."""

    store: MemoryStore = field(default_factory=MemoryStore)
    evaluated: list[tuple[Alerts, BatchOptions]] = field(default_factory=list)
    sent: list[tuple[Sequence[str] | None, timedelta, list[str]]] = field(default_factory=list)
    planned: list[tuple[Alerts, str]] = field(default_factory=list)

    def run(self, alerts: Alerts, **request: Any) -> RunResult:
        run = Run(self.store, self._evaluate, self._deliver, self._plan, lambda: 1.5)
        return run(alerts, RunRequest(4, "me", delivery_timeout=TIMEOUT, **request))

    def _evaluate(self, alerts: Alerts, options: BatchOptions) -> EvaluatedBatch:
        self.evaluated.append((alerts, options))
        return EvaluatedBatch("run", NOW, (), (), NotificationPlan((NEW, LATER)))

    def _deliver(
        self, only: Sequence[str] | None, timeout: timedelta, claimed: Sequence[Notification]
    ) -> DeliveryResult:
        self.sent.append((only, timeout, [row.notification_id for row in claimed]))
        return DeliveryResult(sent=(NEW,), waiting=(LATER,), errors={LATER.message_id: "down"})

    def _plan(self, alerts: Alerts, holder: str) -> TimedPlan:
        self.planned.append((alerts, holder))
        return TimedPlan(NOW, plan=NotificationPlan((TIMED,)))

    @property
    def options(self) -> BatchOptions:
        [(_, options)] = self.evaluated
        return options


def evaluated_names(it: Bench) -> list[str]:
    [(alerts, _)] = it.evaluated
    return [alert.name for alert in alerts.all]


HOURLY = source("hourly", {"schedule": "0 * * * *"})
MANUAL = source("manual")


def test_a_manual_run_evaluates_all_alerts_and_sends_their_messages() -> None:
    it = Bench()
    result = it.run(alerts_of(HOURLY, MANUAL))
    assert evaluated_names(it) == ["hourly", "manual"]
    assert it.options == BatchOptions(4, holder="me")
    assert it.sent == [([NEW.message_id, LATER.message_id], TIMEOUT, [NEW.notification_id])]
    assert it.planned == []
    assert result.report.elapsed_s == 1.5
    assert result.report.sent == (NEW,)
    assert list(result.report.undelivered.values()) == ["down"]


def test_a_dry_run_sends_nothing() -> None:
    it = Bench()
    result = it.run(alerts_of(MANUAL), dry_run=True)
    assert it.options.dry_run
    assert it.sent == []
    assert result.report.dry_run


def test_a_dry_run_of_what_is_due_plans_nothing_by_time() -> None:
    it = Bench()
    it.run(alerts_of(HOURLY), due=True, dry_run=True)
    assert it.planned == []
    assert it.sent == []


def test_due_evaluates_due_alerts_and_sends_time_based_and_earlier_notifications() -> None:
    it = Bench()
    alerts = alerts_of(HOURLY, MANUAL)
    result = it.run(alerts, due=True)
    assert evaluated_names(it) == ["hourly"]
    assert it.options.triggered_by == "schedule"
    assert it.options.slots["model.shop.hourly"].at == NOW
    assert it.planned == [(alerts, "me")], "also for alerts that are not due"
    assert it.sent == [(None, TIMEOUT, [NEW.notification_id, TIMED.notification_id])]
    assert result.choice.share == alerts


def test_a_slot_is_evaluated_for_every_alert_and_sends_only_their_messages() -> None:
    it = Bench()
    slot = NOW - timedelta(hours=1)
    it.run(alerts_of(HOURLY, MANUAL), slot=slot)
    assert evaluated_names(it) == ["hourly", "manual"]
    assert {each.at for each in it.options.slots.values()} == {slot}
    assert it.options.triggered_by == "schedule"
    assert it.planned == []
    assert it.sent[0][0] == [NEW.message_id, LATER.message_id]


def test_a_slot_in_the_future_is_refused_before_anything_is_evaluated() -> None:
    it = Bench()
    with pytest.raises(UsageError, match="in the future"):
        it.run(alerts_of(HOURLY), slot=NOW + timedelta(hours=1))
    assert it.evaluated == []


@pytest.mark.parametrize("request_", [{"due": True}, {"slot": NOW}])
def test_a_scheduled_run_needs_the_tables(request_: dict[str, bool | datetime]) -> None:
    it = Bench(MemoryStore(missing=True))
    with pytest.raises(TablesMissing):
        it.run(alerts_of(HOURLY), **request_)
    assert it.evaluated == []


def test_shards_share_the_alerts_between_them() -> None:
    alerts = alerts_of(*(source(f"alert_{n}") for n in range(20)))
    shares = []
    for number in (1, 2, 3):
        it = Bench()
        result = it.run(alerts, shard=Shard(number, 3))
        shares.append(evaluated_names(it))
        assert [alert.name for alert in result.choice.share.all] == shares[-1]
    assert sorted(name for share in shares for name in share) == sorted(
        alert.name for alert in alerts.all
    )
    assert all(shares)


def test_an_empty_choice_still_says_what_it_was_chosen_of() -> None:
    it = Bench()
    alerts = alerts_of(MANUAL)
    result = it.run(replace(alerts), due=True)
    assert result.choice.alerts.all == ()
    assert result.choice.share.all == alerts.all


def test_options_are_passed_on() -> None:
    it = Bench()
    it.run(alerts_of(MANUAL), fail_fast=True)
    assert it.options.fail_fast
    assert it.options.threads == 4
