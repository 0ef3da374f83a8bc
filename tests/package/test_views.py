"""What the views say of known rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .conftest import DbtProject

HISTORY = "project, alert_id, alert, evaluation_id, instance, run_id, as_of, attempt, outcome"
NOW = "now() at time zone 'UTC'"


def _one(project: DbtProject, view: str, where: str) -> dict[str, Any]:
    names = [name for name, _ in project.columns(view)]
    (row,) = project.sql(f"select * from {view} where {where}")
    return dict(zip(names, row, strict=True))


def test_the_views_are_empty_on_empty_tables(made: DbtProject) -> None:
    assert made.sql("from sentinel_alert_summary") == []
    assert made.sql("from sentinel_incidents") == []


def test_the_summary_counts_evaluations_once_whatever_their_instances(
    made: DbtProject, tmp_path: Path
) -> None:
    project = made.copy(tmp_path / "shop")
    state = (
        "project, alert_id, alert, state_key, instance, phase, health, severity, episode_started"
    )
    started = "timestamp '2026-01-02 03:04:05'"
    project.sql(
        f"""insert into sentinel_state ({state}) values
        ('p', 'a', 'late', 'h', '', null, 'healthy', null, null),
        ('p', 'a', 'late', 'e', 'eu', 'firing', null, 'warning', {started}),
        ('p', 'a', 'late', 'u', 'us', 'firing', null, 'info', {started} + interval 1 day),
        ('p', 'a', 'late', 'x', 'as', 'ok', null, 'critical', {started}),
        ('q', 'a', 'other', 'o', '', 'ok', 'failing', null, null)""",
        f"""insert into sentinel_history
        ({HISTORY}, phase_after, episode_id, duration_ms, bytes_billed, recorded_at) values
        ('p', 'a', 'late', '1', '', 'r1', {NOW}, 1, 'alert', null, null, 30, 100, {NOW}),
        ('p', 'a', 'late', '2', 'eu', 'r1', {NOW}, 1, 'alert', 'firing', 'E', null, null, {NOW}),
        ('p', 'a', 'late', '3', 'us', 'r1', {NOW}, 1, 'alert', 'firing', 'U', null, null, {NOW}),
        ('p', 'a', 'late', '4', '', 'r2', {NOW}, 1, 'error', null, null, 10, 1, {NOW}),
        ('p', 'a', 'late', '5', '', 'r3', {NOW}, 1, 'skipped', null, null, 0, 0, {NOW}),
        ('p', 'a', 'late', '6', '', 'r0', {started}, 1, 'alert', null, null, 5, 5,
            {NOW} - interval 40 day)""",
        """insert into sentinel_notifications (notification_id, project, alert_id, status) values
        ('1', 'p', 'a', 'pending'), ('2', 'p', 'a', 'claimed'), ('3', 'p', 'a', 'dead'),
        ('4', 'p', 'a', 'sent'), ('5', 'q', 'a', 'dead')""",
    )
    late = _one(project, "sentinel_alert_summary", "project = 'p'")
    assert late["alert"] == "late"
    assert (late["phase"], late["severity"], late["health"]) == ("firing", "warning", "healthy")
    assert str(late["firing_since"]) == "2026-01-02 03:04:05"
    assert (late["instances_ok"], late["instances_firing"]) == (1, 2)
    assert (late["evaluations_30d"], late["alerts_30d"], late["errors_30d"]) == (2, 1, 1)
    assert late["episodes_30d"] == 2
    assert late["avg_duration_ms_30d"] == 20
    assert late["bytes_billed_this_month"] == 101
    assert late["notifications_waiting"] == 2
    assert late["notifications_undeliverable"] == 1
    other = _one(project, "sentinel_alert_summary", "project = 'q'")
    assert (other["phase"], other["severity"], other["evaluations_30d"]) == ("ok", None, 0)
    assert other["notifications_undeliverable"] == 1


def test_an_incident_is_open_until_its_last_instance_is_resolved(
    made: DbtProject, tmp_path: Path
) -> None:
    project = made.copy(tmp_path / "shop")
    columns = f"{HISTORY}, incident_id, episode_id, severity"
    project.sql(
        f"""insert into sentinel_history ({columns}) values
        ('p', 'up', 'upstream', '1', '', 'r', timestamp '2026-01-01', 1, 'alert', 'I', 'U', 'info'),
        ('p', 'dn', 'down', '2', 'eu', 'r', timestamp '2026-01-02', 1, 'alert', 'I', 'D1', 'critical'),
        ('p', 'dn', 'down', '3', 'us', 'r', timestamp '2026-01-02', 1, 'alert', 'I', 'D2', 'warning'),
        ('p', 'up', 'upstream', '4', '', 's', timestamp '2026-01-03', 1, 'ok', 'I', 'U', null),
        ('q', 'up', 'upstream', '5', '', 's', timestamp '2026-02-03', 1, 'alert', 'I', 'Q', 'info'),
        ('p', 'up', 'upstream', '6', '', 't', timestamp '2026-01-04', 1, 'ok', null, null, null)""",
        """insert into sentinel_state
        (state_key, project, alert_id, alert, instance, phase, incident_id, episode_id) values
        ('1', 'p', 'up', 'upstream', '', 'ok', 'I', 'U'),
        ('2', 'p', 'dn', 'down', 'eu', 'recovering', 'I', 'D1')""",
    )
    incident = _one(project, "sentinel_incidents", "project = 'p'")
    assert (incident["status"], incident["resolved_at"]) == ("open", None)
    assert (incident["alerts"], incident["instances"], incident["episodes"]) == (2, 3, 3)
    assert incident["open_instances"] == 1
    assert incident["peak_severity"] == "critical"
    assert (incident["root_alert_id"], incident["root_alert"]) == ("up", "upstream")
    assert str(incident["started_at"]) == "2026-01-01 00:00:00"
    assert _one(project, "sentinel_incidents", "project = 'q'")["status"] == "resolved"

    project.sql("update sentinel_state set phase = 'ok'")
    incident = _one(project, "sentinel_incidents", "project = 'p'")
    assert (incident["status"], incident["open_instances"]) == ("resolved", 0)
    assert str(incident["resolved_at"]) == "2026-01-03 00:00:00"
