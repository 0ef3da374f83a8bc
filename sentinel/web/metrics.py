"""Metrics for Prometheus, counted as things happen. Names and labels are in docs/reference/metrics.md."""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections.abc import Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from sentinel import __version__
from sentinel.app.alerts import Alerts
from sentinel.app.batch import EvaluatedBatch
from sentinel.app.delivery.result import DeliveryResult
from sentinel.app.timed_planning import TimedPlan
from sentinel.core.alert import Alert
from sentinel.core.due import Slot, start_offset
from sentinel.core.evaluation import Outcome
from sentinel.core.severity import Severity
from sentinel.core.state import Health, Phase
from sentinel.ports import Outbox

CONTENT_TYPE = CONTENT_TYPE_LATEST
_QUERY_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 900)
_LAG_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """One daemon's metrics, in a separate registry. Safe to use from several threads."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        build = Gauge(
            "sentinel_build_info", "The version that runs.", ["version"], registry=registry
        )
        build.labels(__version__).set(1)
        self._evaluations = Counter(
            "sentinel_evaluations_total", "Evaluations by outcome.", ["outcome"], registry=registry
        )
        for outcome in Outcome:
            self._evaluations.labels(str(outcome))
        self._query = Histogram(
            "sentinel_query_duration_seconds",
            "How long alerts' queries took.",
            registry=registry,
            buckets=_QUERY_BUCKETS,
        )
        self._lag = Histogram(
            "sentinel_slot_lag_seconds",
            "How long after its start was due a query began.",
            registry=registry,
            buckets=_LAG_BUCKETS,
        )
        self._missed = Counter(
            "sentinel_slots_missed_total",
            "Slots that were never evaluated, as a later one found.",
            registry=registry,
        )
        self._instances = Gauge(
            "sentinel_instances",
            "Instances by phase, except ok.",
            ["phase", "severity"],
            registry=registry,
        )
        self._failing = Gauge(
            "sentinel_alerts_failing", "Alerts that can't be evaluated.", registry=registry
        )
        self._alerts = Gauge(
            "sentinel_alerts", "Alerts loaded, by their definition.", ["definition"],
            registry=registry,
        )  # fmt: skip
        self._reloads = Counter(
            "sentinel_reloads_total", "Readings of the project by result.", ["result"],
            registry=registry,
        )  # fmt: skip
        for result in ("good", "failed"):
            self._reloads.labels(result)
        self._reload_good = Gauge(
            "sentinel_reload_success", "Whether the last reading was good.", registry=registry
        )
        self._reloaded_at = Gauge(
            "sentinel_reload_timestamp_seconds", "When the last good one was.", registry=registry
        )
        self._outbox = Gauge(
            "sentinel_outbox_messages", "Notifications not sent, by status.", ["status"],
            registry=registry,
        )  # fmt: skip
        self._oldest = Gauge(
            "sentinel_outbox_oldest_seconds",
            "The age of the oldest notification that waits.",
            registry=registry,
        )
        self._deliveries = Counter(
            "sentinel_deliveries_total", "Attempts by channel and result.", ["channel", "result"],
            registry=registry,
        )  # fmt: skip
        self._leader = Gauge("sentinel_leader", "Whether this daemon leads.", registry=registry)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)

    # -- set by the daemon ------------------------------------------------------------------------

    def evaluated(self, part: EvaluatedBatch, slots: Mapping[str, Slot]) -> None:
        for seen, judged in zip(part.evaluations, part.updates, strict=True):
            self._evaluations.labels(str(judged.result.outcome)).inc()
            if seen.duration_ms is not None:
                self._query.observe(seen.duration_ms / 1000)
            slot = slots.get(seen.alert.id)
            if slot is not None and judged.result.outcome.traits.uses_slot:
                self._missed.inc(slot.missed)
            if slot is not None and seen.began_at is not None and isinstance(seen.alert, Alert):
                due = slot.at + start_offset(seen.alert)
                self._lag.observe(max(0.0, (seen.began_at - due).total_seconds()))

    def planned(self, plan: TimedPlan) -> None:
        found = Counts(
            (str(state.phase), str(state.severity or Severity.CRITICAL))
            for state in plan.states
            if state.phase is not None and state.phase is not Phase.OK
        )
        for phase in Phase:
            for severity in Severity:
                if phase is not Phase.OK:
                    number = found[str(phase), str(severity)]
                    self._instances.labels(str(phase), str(severity)).set(number)
        failing = sum(state.health is Health.FAILING for state in plan.states)
        self._failing.set(failing)

    def outbox(self, outbox: Outbox, now: datetime) -> None:
        self._outbox.labels("waiting").set(outbox.waiting)
        self._outbox.labels("dead").set(outbox.dead)
        self._oldest.set(max(0.0, (now - (outbox.oldest or now)).total_seconds()))

    def delivered(self, delivered: DeliveryResult) -> None:
        for result, rows in (
            ("sent", delivered.sent),
            ("retried", delivered.waiting),
            ("dead", delivered.dead),
        ):
            for row in rows:
                # The address of an owner is none of a metric's business.
                self._deliveries.labels(row.channel.partition(":")[0], result).inc()

    def loaded(self, alerts: Alerts | None) -> None:
        self._reload_good.set(alerts is not None)
        self._reloads.labels("failed" if alerts is None else "good").inc()
        if alerts is None:
            return
        self._reloaded_at.set(time.time())
        self._alerts.labels("good").set(len(alerts.valid))
        self._alerts.labels("broken").set(len(alerts.broken))

    def leads(self, leading: bool) -> None:
        self._leader.set(leading)
