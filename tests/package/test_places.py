"""The dbt package on every warehouse: the same tables, the same macros, the same views."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.places.place import NAMES, Place, profile
from tests.places.servers import Servers

from .conftest import BLOCK, TABLES, copy_package
from .results import SECONDS, expected_rows, plain_rows, time_literal

MACROS_PROJECT = Path(__file__).parent / "macros_project"
EXPECTED = MACROS_PROJECT / "expected"
CASES = [path.stem for path in sorted(EXPECTED.glob("*.csv"))]
SQL = {"as_of", "empty_table", "severity_name", "severity_rank"}

# The environments of other dbt versions have no other adapter.
ONE_ADAPTER = Path(sys.prefix).name.startswith(".venv-dbt-")
PLACES = ["duckdb"] if ONE_ADAPTER else list(NAMES)
ENFORCING_KEYS = [name for name in PLACES if name != "bigquery"]

FAR_FROM_UTC = """do $$ begin
    execute format('alter database %I set timezone to ''Asia/Tokyo''', current_database());
end $$"""

PROJECT = """
name: shop
version: '1.0'
profile: shop
flags: {use_colors: false, send_anonymous_usage_stats: false}
seeds:
  shop:
    moments:
      +column_types: {happened_at: timestamp}
"""
LATER = "      - name: added_later\n        data_type: string\n        description: New.\n"


@dataclass(frozen=True)
class Project:
    root: Path
    place: Place

    def dbt(self, *args: str) -> None:
        done = subprocess.run(
            [self.place.bin / "dbt", *args],
            cwd=self.root,
            env={**os.environ, "DBT_PROFILES_DIR": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def rows(self, relation: str) -> list[tuple[Any, ...]]:
        return plain_rows(self.place.execute(f"select * from {relation}"))

    def insert(self, table: str, *rows: dict[str, Any]) -> None:
        """Rows of the same columns; a datetime becomes a literal of the warehouse."""
        values = ", ".join(
            f"({', '.join(_literal(self.place, value) for value in row.values())})" for row in rows
        )
        self.place.execute(f"insert into {table} ({', '.join(rows[0])}) values {values}")


def _literal(place: Place, value: Any) -> str:
    if isinstance(value, datetime):
        return time_literal(place.name, value)
    return "null" if value is None else repr(value)


@pytest.fixture(scope="module", params=PLACES)
def built(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """A project with the package and the cases of its macros, built; the tables are empty."""
    folder = tmp_path_factory.mktemp(f"built-{request.param}")
    root = Path(shutil.copytree(MACROS_PROJECT, folder / "shop"))
    with servers.open_place(request.param, folder) as place:
        (root / "dbt_project.yml").write_text(PROJECT + BLOCK)
        (root / "profiles.yml").write_text(yaml.safe_dump(profile(place)))
        # What `dbt deps` would do.
        (root / "packages.yml").write_text("packages:\n  - local: sentinel_package\n")
        copy_package(root / "sentinel_package")
        (root / "dbt_packages").mkdir()
        (root / "dbt_packages" / "sentinel").symlink_to("../sentinel_package")
        project = Project(root, place)
        project.dbt("build", "--exclude-resource-type", "test")
        yield project


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation of the alert `late` leaves in history."""

    run_id: str
    recorded_at: datetime
    outcome: str
    duration_ms: int
    bytes_billed: int


@dataclass(frozen=True)
class Filled:
    """A built project with a few rows in each table."""

    project: Project
    now: datetime
    evaluations: list[Evaluation]


STARTED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)
BIG = 2**53 + 1  # no float of 64 bits holds it


@pytest.fixture(scope="module")
def filled(built: Project) -> Filled:
    now = datetime.now(UTC)
    this_month = month_start(now)
    last_month = month_start(this_month - DAY)
    evaluations = [
        Evaluation("r1", now, "alert", 30, 100),
        Evaluation("r2", this_month, "error", 10, 1),
        Evaluation("r3", this_month - MOMENT, "ok", 20, 1_000),
        Evaluation("r4", last_month, "alert", 40, 10_000),
        Evaluation("r5", last_month - MOMENT, "ok", 60, 100_000),
    ]
    fill_state(built)
    fill_history(built, now, evaluations)
    fill_incidents(built)
    ids = ("notification_id", "project", "alert_id", "status", "sent_at")
    built.insert(
        "sentinel_notifications",
        *(
            dict(zip(ids, row, strict=True))
            for row in [
                ("1", "p", "late", "pending", None),
                ("2", "p", "late", "claimed", None),
                ("3", "p", "late", "dead", None),
                ("4", "p", "late", "sent", now),
                ("5", "q", "late", "dead", None),
            ]
        ),
    )
    built.insert("sentinel_silences", {"silence_id": "s", "starts_at": now, "ends_at": now + DAY})
    built.insert("sentinel_leases", {"lease": "deliver", "token": BIG, "expires_at": now})
    return Filled(built, now, evaluations)


def month_start(moment: datetime) -> datetime:
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def fill_state(project: Project) -> None:
    names = (
        *("state_key", "project", "alert_id", "alert", "instance", "phase", "health", "severity"),
        *("episode_started", "held_s", "actual_value"),
    )
    rows = [
        ("h", "p", "late", "late_orders", "", None, "healthy", None, None, None, None),
        ("e", "p", "late", "late_orders", "eu", "firing", None, "warning", STARTED, BIG, 0.1),
        ("7", "p", "late", "late_orders", "007", "firing", None, "info", STARTED + DAY, 1, 1e300),
        ("x", "p", "late", "late_orders", "as", "ok", None, "critical", STARTED, 0, 2.0),
        ("o", "q", "late", "others", "", "ok", "failing", None, None, None, None),
    ]
    project.insert("sentinel_state", *(dict(zip(names, row, strict=True)) for row in rows))


def fill_history(project: Project, now: datetime, evaluations: list[Evaluation]) -> None:
    head = {"project": "p", "alert_id": "late", "attempt": 1}
    rows = [
        {
            **head,
            "evaluation_id": each.run_id,
            "instance": "",
            "run_id": each.run_id,
            "as_of": each.recorded_at,
            "outcome": each.outcome,
            "phase_after": None,
            "episode_id": None,
            "duration_ms": each.duration_ms,
            "bytes_billed": each.bytes_billed,
            "recorded_at": each.recorded_at,
        }
        for each in evaluations
    ]
    firing = rows[0] | {"phase_after": "firing", "duration_ms": None, "bytes_billed": None}
    instances = [
        firing | {"evaluation_id": name, "instance": name, "episode_id": f"E-{name}"}
        for name in ("eu", "007")
    ]
    skipped = rows[0] | {"evaluation_id": "s", "run_id": "s", "outcome": "skipped"}
    project.insert("sentinel_history", *rows, *instances, skipped)


def fill_incidents(project: Project) -> None:
    names = (
        *("evaluation_id", "project", "alert_id", "alert", "instance", "as_of", "outcome"),
        *("incident_id", "episode_id", "severity"),
    )
    first, second, third = STARTED, STARTED + DAY, STARTED + 2 * DAY
    rows = [
        ("i1", "i", "up", "upstream", "", first, "alert", "I", "U", "info"),
        ("i2", "i", "down", "downstream", "eu", second, "alert", "I", "D1", "critical"),
        ("i3", "i", "down", "downstream", "us", second, "alert", "I", "D2", "warning"),
        ("i4", "i", "up", "upstream", "", third, "ok", "I", "U", None),
        ("i5", "i", "up", "upstream", "", third, "alert", "J", "V", "info"),
    ]
    project.insert("sentinel_history", *(dict(zip(names, row, strict=True)) for row in rows))
    state = {"state_key": "d", "project": "i", "alert_id": "down", "alert": "downstream"}
    project.insert(
        "sentinel_state",
        state | {"instance": "", "phase": None, "incident_id": None, "episode_id": None},
        state
        | {"state_key": "d1", "instance": "eu", "phase": "recovering"}
        | {"incident_id": "I", "episode_id": "D1"},
    )


@pytest.mark.parametrize("case", CASES)
def test_a_macro_gives_what_is_expected(built: Project, case: str) -> None:
    assert built.rows(case) == expected_rows(EXPECTED / f"{case}.csv")


def test_every_macro_that_writes_sql_of_alerts_and_views_has_cases() -> None:
    assert {case.removesuffix("_cases") for case in CASES} == SQL


def test_the_clock_is_that_of_utc(built: Project) -> None:
    if built.place.name == "postgres":  # the others have no zone of their own
        built.place.execute(FAR_FROM_UTC)
    before = datetime.now(UTC)
    (row,) = built.place.execute(
        "select utc_now, as_of, days_ago, month_start, another_month_start from clock"
    )
    after = datetime.now(UTC)
    now, as_of, days_ago, month, another_month = (utc(value) for value in row)
    # SQLite's clock has milliseconds; the clocks of a server and of this process may differ.
    margin = timedelta(minutes=1)
    assert before - margin < now < after + margin
    assert as_of == now
    assert days_ago == now - 30 * DAY
    assert month == month_start(now)
    assert another_month == month.replace(
        year=month.year - (2 if month.month == 1 else 1), month=(month.month - 2) % 12 + 1
    )


def utc(value: Any) -> datetime:
    """A time of any warehouse; one that is a text must be of the form that Sentinel writes."""
    if isinstance(value, str):
        text, value = value, datetime.strptime(f"{value}+0000", f"{SECONDS}%z")
        assert value.strftime(SECONDS) == text
    moment: datetime = value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@pytest.mark.parametrize("built", ENFORCING_KEYS, indirect=True)
def test_a_key_is_there_and_unique(built: Project) -> None:
    built.insert("sentinel_leases", {"lease": "once"})
    for key in ("once", None):
        with pytest.raises(Exception, match=r"(?i)constraint|unique|null"):
            built.insert("sentinel_leases", {"lease": key})
    built.place.execute("delete from sentinel_leases")


def test_a_column_keeps_what_it_is_given(filled: Filled) -> None:
    found = filled.project.place.execute(
        "select instance, held_s, actual_value, episode_started from sentinel_state "
        "where project = 'p' and phase is not null"
    )
    assert plain_rows(found) == [
        ("007", 1, 1e300, (STARTED + DAY).strftime(SECONDS)),
        ("as", 0, 2, STARTED.strftime(SECONDS)),
        ("eu", BIG, 0.1, STARTED.strftime(SECONDS)),
    ]


def test_the_summary_is_the_same_everywhere(filled: Filled) -> None:
    recent = [each for each in filled.evaluations if each.recorded_at >= filled.now - 30 * DAY]
    durations = [each.duration_ms for each in recent]
    found = filled.project.place.execute(
        "select project, alert, phase, severity, health, firing_since, instances_ok, "
        "instances_firing, last_evaluated_at, evaluations_30d, alerts_30d, errors_30d, "
        "episodes_30d, avg_duration_ms_30d, bytes_billed_this_month, bytes_billed_last_month, "
        "notifications_waiting, notifications_undeliverable "
        "from sentinel_alert_summary where project in ('p', 'q')"
    )
    late, others = plain_rows(found)
    assert late == (
        *("p", "late_orders", "firing", "warning", "healthy", STARTED.strftime(SECONDS), 1, 2),
        *(filled.now.strftime(SECONDS), len(recent)),
        *(sum(each.outcome == outcome for each in recent) for outcome in ("alert", "error")),
        *(2, pytest.approx(sum(durations) / len(durations)), 101, 11_000, 2, 1),
    )
    assert others == (
        *("q", "others", "ok", None, "failing", None, 1, 0),
        *(None, 0, 0, 0, 0, None, None, None, 0, 1),
    )


def test_the_incidents_are_the_same_everywhere(filled: Filled) -> None:
    found = filled.project.place.execute(
        "select incident_id, status, started_at, last_seen_at, resolved_at, peak_severity, "
        "root_alert_id, root_alert, alerts, instances, open_instances, episodes "
        "from sentinel_incidents"
    )
    first, last = (moment.strftime(SECONDS) for moment in (STARTED, STARTED + 2 * DAY))
    assert plain_rows(found) == [
        ("I", "open", first, last, None, "critical", "up", "upstream", 2, 3, 1, 3),
        ("J", "resolved", last, last, last, "info", "up", "upstream", 1, 1, 0, 1),
    ]


def test_rows_survive_a_full_refresh_and_an_upgrade(filled: Filled) -> None:
    project = filled.project
    before = {name: project.rows(f"sentinel_{name}") for name in TABLES}
    assert all(before.values())
    added: tuple[None, ...] = ()
    # The stand-in for BigQuery answers that it has added a column, and doesn't.
    if not getattr(project.place, "emulated", False):
        added = (None,)
        tables = project.root / "sentinel_package" / "dbt_package" / "models" / "tables"
        for path in tables.glob("*.yml"):
            path.write_text(path.read_text() + LATER)
    project.dbt("build", "--full-refresh", "-s", "package:sentinel")
    after = {name: [(*row, *added) for row in rows] for name, rows in before.items()}
    assert {name: project.rows(f"sentinel_{name}") for name in TABLES} == after
