"""The package's data tests: they warn, they can be switched off, and each finds a bad row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.package.conftest import BLOCK, ROOT, DbtProject

NOW = "current_timestamp::timestamp"
# A bad row for each test; tables lose their keys first, which DuckDB enforces.
BAD = {
    "sentinel_state_key": "insert into sentinel_state from sentinel_state where state_key = 'key-0'",
    "sentinel_history_key": "insert into sentinel_history from sentinel_history "
    "where evaluation_id = 'key-0'",
    "sentinel_notifications_key": "insert into sentinel_notifications "
    "from sentinel_notifications where notification_id = 'key-0'",
    "sentinel_silences_key": "insert into sentinel_silences (starts_at, ends_at) "
    f"values ({NOW}, {NOW})",
    "sentinel_leases_key": "insert into sentinel_leases (holder) values ('nobody')",
    "sentinel_state_values": "update sentinel_state set phase = 'burning' where state_key = 'key-1'",
    "sentinel_state_one_head": "insert into sentinel_state (state_key, project, alert_id, instance) "
    "values ('i', 'p', 'a', 'eu')",
    "sentinel_history_values": "update sentinel_history set outcome = 'good' "
    "where evaluation_id = 'key-1'",
    "sentinel_notifications_values": "update sentinel_notifications set status = 'lost' "
    "where notification_id = 'key-1'",
    "sentinel_silences_values": "update sentinel_silences set ends_at = null "
    "where silence_id = 'key-1'",
}


def statuses(project: DbtProject) -> dict[str, str]:
    results = json.loads((project.root / "target" / "run_results.json").read_text())["results"]
    return {each["unique_id"].split(".")[2]: each["status"] for each in results}


@pytest.fixture(scope="module")
def recent(filled: DbtProject, tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    """Rows of today, in tables without keys."""
    project = filled.copy(tmp_path_factory.mktemp("recent") / "shop")
    (project.root / "models" / "orders.sql").write_text("select 1 as id")
    for table in {name.rsplit("_", 1)[0] for name in BAD if name.endswith("_key")}:
        [(comment,)] = project.sql(
            f"select comment from duckdb_tables() where table_name = '{table}'"
        )
        project.sql(
            f"create table plain as from {table}",
            f"drop table {table}",
            f"alter table plain rename to {table}",
            f"comment on table {table} is '{comment}'",
        )
    project.sql(f"update sentinel_history set recorded_at = {NOW}")
    project.sql(f"update sentinel_notifications set created_at = {NOW}")
    return project


def test_there_is_a_bad_row_for_each() -> None:
    assert {path.stem for path in (ROOT / "dbt_package" / "tests").glob("*.sql")} == set(BAD)


def test_each_finds_a_bad_row_and_only_warns(recent: DbtProject, tmp_path: Path) -> None:
    project = recent.copy(tmp_path / "shop")
    project.dbt("build")
    assert {statuses(project)[name] for name in BAD} == {"pass"}
    project.sql(*BAD.values())
    project.dbt("build")  # the user's job goes on
    assert {name: statuses(project)[name] for name in BAD} == dict.fromkeys(BAD, "warn")
    # What grows is looked at for a week.
    old = "timestamp '2020-01-01'"
    project.sql(f"update sentinel_history set recorded_at = {old}")
    project.sql(f"update sentinel_notifications set created_at = {old}")
    project.dbt("test", "-s", "sentinel_history", "sentinel_notifications")
    assert set(statuses(project).values()) == {"pass"}


@pytest.mark.parametrize(
    ("configured", "args"),
    [({"sentinel": {"data_tests": False}}, ()), ({}, ("--vars", "data_tests: 'false'"))],
)
def test_a_var_switches_them_off(
    configured: Any, args: tuple[str, ...], recent: DbtProject, tmp_path: Path
) -> None:
    project = recent.copy(tmp_path / "shop")
    project.configure(BLOCK + yaml.safe_dump({"vars": configured}))
    project.dbt("build", *args)
    assert not set(BAD) & set(statuses(project))
    assert "sentinel_state" in statuses(project)
