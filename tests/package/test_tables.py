"""The five tables: their columns, and that dbt never loses their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import BLOCK, DbtProject

# The table of design.md section 9: T time, I integer, F float, S string or JSON as text.
DESIGN = {
    "sentinel_state": """
        state_key S, project S, alert_id S, unique_id S, alert S, instance S, dimensions S, phase S,
        phase_since T, held_s I, alert_count I, severity S, peak_severity S, episode_id S,
        episode_started T, incident_id S, last_as_of T, last_slot T, last_outcome S,
        actual_value F, threshold F, message S, health S, health_since T, error_count I,
        health_episode_id S, acked_at T, acked_by S, ack_comment S, missing_since T,
        removed_since T, version I, updated_at T, target S""",
    "sentinel_history": """
        evaluation_id S, kind S, run_id S, triggered_by S, project S, alert_id S, alert S,
        instance S, slot T, as_of T, attempt I, missed_slots I, outcome S, phase_before S,
        phase_after S, severity S, actual_value F, threshold F, failures I, message S, context S,
        events S, reasons S, episode_id S, incident_id S, error S, sql_hash S, duration_ms I,
        bytes_billed I, recorded_at T""",
    "sentinel_notifications": """
        notification_id S, message_id S, project S, channel S, event S, n I, episode_id S,
        alert_id S, instance S, incident_id S, reason S, payload S, status S, created_at T,
        not_before T, attempts I, claimed_by S, claim_token I, claim_until T, recipients_done S,
        remote_ref S, last_error S, sent_at T""",
    "sentinel_silences": """
        silence_id S, project S, alert_ids S, dimensions S, selector S, comment S, author S,
        os_user S, created_at T, starts_at T, ends_at T, ended_at T, ended_by S""",
    "sentinel_leases": "lease S, holder S, token I, acquired_at T, expires_at T",
}
ON_DUCKDB = {"S": "VARCHAR", "T": "TIMESTAMP", "I": "BIGINT", "F": "DOUBLE"}
COLUMNS = {
    name: [tuple(column.split()) for column in columns.replace("\n", " ").split(",")]
    for name, columns in DESIGN.items()
}

MODELS = "models:\n  {setting}\n"
SETTINGS = ("+full_refresh: true", "+incremental_strategy: insert_overwrite")


@pytest.mark.parametrize("table", DESIGN)
def test_the_columns_are_those_of_the_design(
    table: str, made: DbtProject, documented: dict[str, dict[str, Any]]
) -> None:
    wanted = COLUMNS[table]
    assert [column["name"] for column in documented[table]["columns"]] == [n for n, _ in wanted]
    assert made.columns(table) == [(name, ON_DUCKDB[kind]) for name, kind in wanted]


def test_a_key_is_there_and_unique(filled: DbtProject, tmp_path: Path) -> None:
    project = filled.copy(tmp_path / "shop")
    for table, ((key, _), *_) in COLUMNS.items():
        for value in ("null", "'key-1'"):
            with pytest.raises(RuntimeError, match="Constraint Error"):
                project.sql(f"insert into {table} ({key}) values ({value})")


@pytest.mark.parametrize("setting", SETTINGS)
def test_rows_survive_every_run_and_an_upgrade(
    setting: str, filled: DbtProject, tmp_path: Path
) -> None:
    project = filled.copy(tmp_path / "shop")
    project.configure(BLOCK.replace("models:\n", MODELS.format(setting=setting)))
    before = project.rows()
    assert all(len(rows) == 4 for rows in before.values())
    for command in (["run"], ["run", "--full-refresh"], ["build", "--full-refresh"]):
        project.dbt(*command)
        assert project.rows() == before, command

    tables = project.root / "sentinel_package" / "dbt_package" / "models" / "tables"
    for path in tables.glob("*.yml"):
        added = "      - name: added_later\n        data_type: string\n        description: New.\n"
        path.write_text(path.read_text() + added)
    project.dbt("run", "--full-refresh")
    upgraded = {name: [(*row, None) for row in rows] for name, rows in before.items()}
    assert project.rows() == upgraded
    assert all(project.columns(f"sentinel_{name}")[-1][0] == "added_later" for name in before)


def test_the_guard_refuses_another_materialization(filled: DbtProject, tmp_path: Path) -> None:
    project = filled.copy(tmp_path / "shop")
    project.configure(MODELS.format(setting="+materialized: table"))
    before = project.rows()
    success, output = project.try_dbt("run", "--full-refresh", "-s", "sentinel_state")
    assert not success
    assert "sentinel_state" in output
    assert "materialized is table and must be sentinel_table" in output
    indented = [line.strip() for line in output.splitlines()]
    for line in BLOCK.split():
        assert any(line in found for found in indented), line
    assert project.rows() == before


def test_commands_that_write_no_model_pass_the_guard(made: DbtProject, tmp_path: Path) -> None:
    project = made.copy(tmp_path / "shop")
    project.configure(MODELS.format(setting="+materialized: table"))
    project.dbt("compile", "-s", "sentinel_state")
