"""The example DAG, in the real Airflow 2 and 3: run by `make test-orchestrators`.

Airflow and Sentinel are in environments of their own, as they are where Airflow's tasks call
`sentinel`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Project
from tests.places.place import ROOT

EXAMPLES = ROOT / "docs" / "examples"
SENTINEL = Path(sys.executable).with_name("sentinel")
MORNING = ("2026-01-31T08:00:00+00:00", "2026-01-31T09:00:00+00:00")


@dataclass(frozen=True)
class Airflow:
    """An Airflow without servers: a metadata database in SQLite, in a folder of its own."""

    python: Path
    home: Path

    def environment(self, project: Path, sentinel: Path) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
        return plain | {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "SENTINEL_COMMAND": str(sentinel),
            "SHOP_PROJECT_DIR": str(project),
        }

    def call(self, words: list[str], environment: dict[str, str]) -> str:
        done = subprocess.run(
            [self.python, *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, project: Path, *moments: str, sentinel: Path = SENTINEL) -> dict[str, Any]:
        """Runs of the example for these logical dates; see airflow_runs.py."""
        script = str(Path(__file__).with_name("airflow_runs.py"))
        environment = self.environment(project, sentinel)
        said = self.call([script, str(EXAMPLES), "shop_alerts", *moments], environment)
        found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        return found


@pytest.fixture(scope="module", params=["airflow", "airflow2"])
def airflow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    folder = ROOT / f".venv-{request.param}"
    assert (folder / ".ready").exists(), "`make test-orchestrators` installs it"
    made = Airflow(folder / "bin" / "python", tmp_path_factory.mktemp(request.param))
    made.call(["-m", "airflow", "db", "migrate"], made.environment(made.home, SENTINEL))
    return made


def history(project: Project) -> list[tuple[Any, ...]]:
    return project.query(
        "select strftime(slot, '%H:%M'), alert, count(*), max(attempt) from sentinel_history "
        "where instance = '' and outcome <> 'skipped' group by all order by all"
    )


def test_each_interval_is_recorded_once_whatever_is_run_again(
    airflow: Airflow, acme: Project
) -> None:
    acme.query("update orders set amount = amount / 10 where id > 1")
    found = airflow.run(acme.root, *MORNING, MORNING[1])
    assert found["errors"] == {}
    assert found["tasks"] == {"alerts_1_of_2": 3, "alerts_2_of_2": 3}
    assert found["catchup"] is False
    states = {state for run in found["runs"] for state, _ in run.values()}
    assert (len(found["runs"]), states) == (3, {"success"})
    slots = sorted({row[0] for row in history(acme)})
    alerts = {row[1] for row in history(acme)}
    assert len(slots) == 2
    assert alerts == {"by_region", "example_alert", "negative", "revenue"} & alerts
    assert {"by_region", "negative", "revenue"} <= alerts
    assert [row[2:] for row in history(acme)] == [(1, 1)] * 2 * len(alerts)
    sent = [(each["alert"], each["instance"], each["event"]) for each in acme.sent()]
    assert len(sent) == len(set(sent))
    assert ("revenue", "", "firing") in sent


def test_a_task_that_died_after_it_had_recorded_is_retried_and_changes_nothing(
    airflow: Airflow, acme: Project, tmp_path: Path
) -> None:
    acme.query("update orders set amount = amount / 10")
    dies, mark = tmp_path / "sentinel", tmp_path / "died"
    dies.write_text(
        f'#!/bin/sh\n{SENTINEL} "$@" || exit\n'
        f'case "$*" in *1/2*) [ -e {mark} ] || {{ touch {mark}; exit 137; }} ;; esac\n'
    )
    dies.chmod(0o755)
    found = airflow.run(acme.root, MORNING[0], sentinel=dies)
    [run] = found["runs"]
    assert run["alerts_1_of_2"] == ["success", 2]
    assert run["alerts_2_of_2"][0] == "success"
    assert {row[2:] for row in history(acme)} == {(1, 1)}
    assert [each["alert"] for each in acme.sent()].count("revenue") == 1


def test_a_slot_that_ended_in_an_error_is_tried_again_by_the_retry(
    airflow: Airflow, acme: Project, tmp_path: Path
) -> None:
    acme.query("alter table orders rename to later")
    mends, mark = tmp_path / "sentinel", tmp_path / "first"
    rename = f"import duckdb; duckdb.connect('{acme.root}/acme.duckdb').execute('alter table later rename to orders')"  # noqa: E501 - a script
    mends.write_text(
        f'#!/bin/sh\n{SENTINEL} "$@"; code=$?\n'
        f'if [ $code = 3 ] && mkdir {mark} 2>/dev/null; then {sys.executable} -c "{rename}"; fi\n'
        "exit $code\n"
    )
    mends.chmod(0o755)
    [run] = airflow.run(acme.root, MORNING[0], sentinel=mends)["runs"]
    assert {state for state, _ in run.values()} == {"success"}
    assert max(tries for _, tries in run.values()) == 2
    assert {row[3] for row in history(acme)} >= {2}
