"""Alerts as asset checks, in the real Dagster: run by `make test-orchestrators`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_dbt import DagsterDbtTranslator

from sentinel.core.errors import ProjectError
from sentinel.integrations.dagster import build_alert_checks, default_asset_key
from tests.cli.conftest import Project

EVENTS = """\
version: 2
sources:
  - name: raw
    schema: main
    tables: [{name: events}]
models:
  - name: kept
    config: {schema: core}
  - name: named
    config: {meta: {dagster: {asset_key: [lake, named]}}}
  - name: versioned
    latest_version: 1
    versions: [{v: 1}]
"""


def alert(project: Project, name: str, sql: str, **keys: Any) -> None:
    meta = json.dumps({"sentinel": keys}).replace("true", "True").replace("false", "False")
    project.alert(name, f"{{{{ config(meta={meta}) }}}}\n{sql}\n")


@pytest.fixture
def shop(acme: Project) -> Project:
    """Acme with an alert that fires, a warning, one that passes and one that fails."""
    fires = "select case when sum(amount) < 1000 then 'ALERT' else 'OK' end as status, "
    fires += "sum(amount) as actual_value, 1000 as threshold, 'revenue is low' as message "
    alert(acme, "low", f"{fires} from {{{{ ref('orders') }}}}", runbook="https://example.com/low")
    alert(
        acme, "odd", "select 'ALERT' as status from {{ ref('orders') }} limit 1", severity="warning"
    )
    alert(acme, "lost", "select nope from {{ ref('orders') }}")
    alert(acme, "off", "select 'ALERT' as status from {{ ref('orders') }}", enabled=False)
    parse(acme)
    return acme


def parse(project: Project) -> None:
    dbt = Path(sys.executable).with_name("dbt")
    done = subprocess.run(
        [dbt, "--no-send-anonymous-usage-stats", "parse"],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@dg.asset
def orders() -> None:
    """Stands for the model `orders`."""


@dg.asset(deps=[orders])
def report() -> None:
    """Is made of `orders`."""


def check(
    project: Project,
    *alerts: str,
    raises: bool = True,
    tags: Mapping[str, str] | None = None,
    **keys: Any,
) -> dg.ExecuteInProcessResult:
    """A run of the checks of these alerts, or of all."""
    checks = build_alert_checks(project.root, **keys)
    definitions = dg.Definitions(assets=[orders, report], asset_checks=checks)
    definitions.get_repository_def().load_all_definitions()
    selection = dg.AssetSelection.all_asset_checks()
    if alerts:
        keys_ = [dg.AssetCheckKey(dg.AssetKey("orders"), name) for name in alerts]
        selection = dg.AssetSelection.checks(*keys_)
    job = dg.define_asset_job("checks", selection=selection)
    made = dg.Definitions(assets=[orders, report], asset_checks=checks, jobs=[job])
    return made.resolve_job_def("checks").execute_in_process(raise_on_error=raises, tags=tags)


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def history(project: Project) -> list[tuple[Any, ...]]:
    return project.query(
        "select alert, strftime(slot, '%H:%M'), attempt, outcome from sentinel_history "
        "where instance = '' order by alert, attempt"
    )


def test_a_check_passes_or_fails_as_its_alert_does(shop: Project) -> None:
    result = check(shop)
    found = evaluations(result)
    assert result.success
    assert {name: each.passed for name, each in found.items()} == {
        "revenue": True,
        "negative": True,
        "by_region": False,
        "low": False,
        "odd": False,
        "lost": False,
    }
    error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
    assert (found["low"].severity, found["odd"].severity) == (error, warn)
    assert {each.asset_key for each in found.values()} == {dg.AssetKey("orders")}


def test_what_could_not_be_evaluated_fails_as_an_error_and_says_why(shop: Project) -> None:
    lost = evaluations(check(shop, "lost"))["lost"]
    assert (lost.passed, lost.severity) == (
        False,
        dg.AssetCheckSeverity.ERROR,
    )
    assert "nope" in lost.description
    assert lost.metadata["outcome"].value == "error"


def test_a_check_carries_what_was_measured(shop: Project) -> None:
    found = evaluations(check(shop, "low", "by_region"))
    metadata = {name: each.value for name, each in found["low"].metadata.items()}
    assert metadata == {
        "outcome": "alert",
        "phase": "firing",
        "severity": "critical",
        "value": 200,
        "threshold": 1000,
        "message": "revenue is low",
        "notified": ["log"],
        "runbook": "https://example.com/low",
    }
    instances = found["by_region"].metadata["instances"].value
    assert {each["instance"]: each["phase"] for each in instances} == {
        "region=north": "ok",
        "region=south": "firing",
    }


def test_a_run_asks_one_process_and_evaluates_only_what_is_selected(
    shop: Project, tmp_path: Path
) -> None:
    real = Path(sys.executable).with_name("sentinel")
    wrapper, calls = tmp_path / "sentinel", tmp_path / "calls"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {calls}\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    check(shop, "low", "revenue", sentinel=wrapper, options=["--threads", "1"])
    [call] = calls.read_text().splitlines()
    assert "--threads 1" in call
    assert "--select fqn:acme.alerts.low fqn:acme.alerts.revenue" in call
    assert {row[0] for row in history(shop)} == {"low", "revenue"}


def test_a_schedules_time_is_the_slot_and_a_retry_changes_nothing(shop: Project) -> None:
    tags = {".dagster/scheduled_execution_time": "2026-01-31T09:00:00+01:00"}
    for _ in range(2):
        found = evaluations(check(shop, "low", "revenue", tags=tags))
        assert {name: each.passed for name, each in found.items()} == {
            "low": False,
            "revenue": True,
        }
    assert history(shop) == [("low", "08:00", 1, "alert"), ("revenue", "08:00", 1, "ok")]
    assert [sent["alert"] for sent in shop.sent()] == ["low"]


def test_the_end_of_a_time_partition_is_the_slot(shop: Project) -> None:
    hours = dg.HourlyPartitionsDefinition(start_date="2026-01-01-00:00")

    @dg.asset(name="orders", partitions_def=hours)
    def partitioned() -> None: ...

    checks = build_alert_checks(shop.root, select=lambda node: node["name"] == "revenue")
    job = dg.define_asset_job("all", selection=dg.AssetSelection.all())
    made = dg.Definitions(assets=[partitioned], asset_checks=checks, jobs=[job])
    made.resolve_job_def("all").execute_in_process(partition_key="2026-01-05-07:00")
    assert history(shop) == [("revenue", "08:00", 1, "ok")]


def test_a_slot_may_be_found_otherwise(shop: Project) -> None:
    check(shop, "revenue", slot=lambda context: None)
    assert history(shop) == [("revenue", None, 1, "ok")]


def test_a_run_that_evaluates_nothing_fails_and_passes_no_check(shop: Project) -> None:
    for keys in ({"options": ["--target", "none"]}, {"sentinel": shop.root / "missing"}):
        result = check(shop, raises=False, **keys)
        assert not result.success
        assert evaluations(result) == {}


def test_an_alert_that_is_gone_since_is_no_passing_check(shop: Project) -> None:
    shop.alert("low", "{{ config(meta={'sentinel': {'enabled': False}}) }}\nselect 'OK' as status")
    assert set(evaluations(check(shop, "low", "odd"))) == {"odd"}


@pytest.mark.parametrize(("name", "made"), [("low", False), ("odd", True)])
def test_a_blocking_check_keeps_back_what_is_downstream(
    shop: Project, name: str, made: bool
) -> None:
    checks = build_alert_checks(shop.root, blocking=True, select=lambda node: node["name"] == name)
    job = dg.define_asset_job("all", selection=dg.AssetSelection.all())
    definitions = dg.Definitions(assets=[orders, report], asset_checks=checks, jobs=[job])
    result = definitions.resolve_job_def("all").execute_in_process(raise_on_error=False)
    keys = {each.asset_key for each in result.get_asset_materialization_events()}
    assert (dg.AssetKey("report") in keys) is made


# -- definitions -------------------------------------------------------------------------------


def test_a_project_without_alerts_has_no_checks(shop: Project) -> None:
    assert build_alert_checks(shop.root, select=lambda node: False) == []


def test_without_a_manifest_it_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"manifest\.json"):
        build_alert_checks(tmp_path)


def test_asset_keys_are_those_of_dagster_dbt(acme: Project) -> None:
    acme.write("models/schema.yml", EVENTS)
    kept, events = "{{ ref('kept') }}", "{{ source('raw', 'events') }}"
    both = f"select * from {kept} union all select * from {events}"
    acme.write("models/hidden.sql", f"{{{{ config(materialized='ephemeral') }}}}\n{both}")
    for name in ("kept", "named", "versioned"):
        acme.write(f"models/{name}.sql", "select 1 as id")
    alert(acme, "all_of_them", "select 'OK' as status from {{ ref('hidden') }}, {{ ref('named') }}, "
          "{{ ref('versioned') }}, {{ ref('orders') }}")  # fmt: skip
    alert(acme, "alone", "select 'OK' as status")
    parse(acme)
    manifest = json.loads((acme.root / "target/manifest.json").read_text())
    nodes = [*manifest["nodes"].values(), *manifest["sources"].values()]
    theirs = DagsterDbtTranslator()
    for node in nodes:
        if node["resource_type"] in ("model", "source"):
            assert default_asset_key(node) == theirs.get_asset_key(node)

    def keys(**given: Any) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for definition in build_alert_checks(acme.root, **given):
            for spec in definition.check_specs:
                found.setdefault(spec.name, set()).add(spec.asset_key.to_user_string())
        return found

    assert keys()["alone"] == {"alone"}
    assert keys()["all_of_them"] == {
        "core/kept",
        "raw/events",
        "lake/named",
        "versioned_v1",
        "orders",
    }
    upper = keys(get_asset_key=lambda node: dg.AssetKey(node["name"].upper()))
    assert "KEPT" in upper["all_of_them"]
