"""What is counted, as Prometheus reads it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sentinel.app.batch import AlertEvaluation, EvaluatedBatch
from sentinel.app.delivery.result import DeliveryResult
from sentinel.app.timed_planning import TimedPlan
from sentinel.core.due import Slot
from sentinel.core.evaluation import EvaluationResult, Outcome
from sentinel.core.lifecycle import AlertUpdate
from sentinel.core.planning import NotificationPlan
from sentinel.core.severity import Severity
from sentinel.core.state import Health, Phase
from sentinel.ports import Outbox
from sentinel.web.metrics import Metrics
from tests.fakes import NOW, alerts_of, notification, source, state

PROMTOOL = shutil.which("promtool")


def read(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Each sample by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return read(metrics)[f"sentinel_{name}", tuple(sorted(labels.items()))]


def used() -> Metrics:
    """Metrics after a little of everything."""
    metrics = Metrics()
    alerts = alerts_of(*(source(name, {"schedule": "* * * * *"}) for name in ("a", "b", "c")))
    outcomes = (Outcome.OK, Outcome.ERROR, Outcome.SKIPPED)
    evaluations = tuple(
        AlertEvaluation(
            alert,
            EvaluationResult(outcome),
            duration_ms=None if outcome is Outcome.SKIPPED else 250,
            began_at=None if outcome is Outcome.SKIPPED else NOW + timedelta(seconds=3),
        )
        for alert, outcome in zip(alerts.valid, outcomes, strict=True)
    )
    updates = tuple(AlertUpdate(seen.alert, seen.result, ()) for seen in evaluations)
    slots: Mapping[str, Slot] = {alert.id: Slot(NOW, missed=2) for alert in alerts.valid}
    metrics.evaluated(EvaluatedBatch("run", NOW, evaluations, updates, NotificationPlan()), slots)
    current_update = (
        state("a", phase=Phase.FIRING, severity=Severity.WARNING),
        state("b", "x", phase=Phase.FIRING, severity=Severity.WARNING),
        state("b", "y", phase=Phase.PENDING),
        state("c", health=Health.FAILING),
    )
    metrics.planned(TimedPlan(NOW, current_update))
    metrics.outbox(Outbox(3, NOW - timedelta(seconds=90), 1), NOW)
    sent = notification("e", channel="mail:team@example.com")
    metrics.delivered(DeliveryResult(sent=(sent,), dead=(notification("f", channel="hook"),)))
    metrics.loaded(alerts)
    metrics.loaded(None)
    metrics.leads(True)
    return metrics


def test_each_thing_that_happened_is_counted() -> None:
    metrics = used()
    assert value(metrics, "evaluations_total", outcome="ok") == 1
    assert value(metrics, "evaluations_total", outcome="skipped") == 1
    assert value(metrics, "query_duration_seconds_count") == 2
    assert value(metrics, "query_duration_seconds_sum") == 0.5
    assert value(metrics, "slot_lag_seconds_sum") == 6
    assert value(metrics, "slots_missed_total") == 4, "what is skipped is not evaluated yet"
    assert value(metrics, "instances", phase="firing", severity="warning") == 2
    assert value(metrics, "instances", phase="pending", severity="critical") == 1
    assert value(metrics, "instances", phase="recovering", severity="info") == 0
    assert value(metrics, "alerts_failing") == 1
    assert value(metrics, "outbox_messages", status="waiting") == 3
    assert value(metrics, "outbox_messages", status="dead") == 1
    assert value(metrics, "outbox_oldest_seconds") == 90
    assert value(metrics, "deliveries_total", channel="mail", result="sent") == 1
    assert value(metrics, "deliveries_total", channel="hook", result="dead") == 1
    assert value(metrics, "alerts", definition="good") == 3
    assert value(metrics, "reloads_total", result="failed") == 1
    assert value(metrics, "reload_success") == 0
    assert value(metrics, "reload_timestamp_seconds") > 0
    assert value(metrics, "leader") == 1


def test_what_no_longer_stands_is_counted_no_more() -> None:
    metrics = used()
    metrics.planned(TimedPlan(NOW))
    metrics.outbox(Outbox(), NOW)
    metrics.leads(False)
    assert value(metrics, "instances", phase="firing", severity="warning") == 0
    assert value(metrics, "alerts_failing") == 0
    assert value(metrics, "outbox_oldest_seconds") == 0
    assert value(metrics, "leader") == 0


def test_all_outcomes_are_there_before_the_first_one() -> None:
    for outcome in Outcome:
        assert value(Metrics(), "evaluations_total", outcome=str(outcome)) == 0


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say_against_them() -> None:
    assert PROMTOOL
    text = used().text()
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
