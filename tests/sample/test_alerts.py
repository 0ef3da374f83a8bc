"""What fires in the shipped shop, judged from the SQL that dbt compiled."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest
import yaml

from sentinel.core.alert import DefinitionContext, parse_definitions
from sentinel.core.project import AlertSource
from sentinel.core.routing import Routing, Traits

from .conftest import AS_OF, BuiltShop

FIRING = {
    "revenue_drop": {""},
    "orphan_payments": {""},
    "late_orders_by_region": {"west"},
    "stock_below_minimum": {"Espresso", "Filter Papers"},
}


def limit(condition: str) -> int:
    """The n of `>n`, the only form that the shop uses."""
    assert condition.startswith(">")
    return int(condition[1:])


def fires(shop: BuiltShop, name: str, as_of: datetime, zone: str = "UTC") -> set[str]:
    """The instances of an alert that fire; '' is the one of an alert without dimensions."""
    block = shop.meta[name]["sentinel"]
    sql = AS_OF.sub(f"timestamp '{as_of:%Y-%m-%d %H:%M:%S}'", shop.alerts()[name])
    with shop.connect() as connection:
        connection.execute(f"set TimeZone = '{zone}'")
        result = connection.execute(sql)
        columns = [column[0] for column in result.description or []]
        rows = [dict(zip(columns, row, strict=True)) for row in result.fetchall()]

    def instance(row: dict[str, object]) -> str:
        return ", ".join(str(row[column]) for column in block.get("dimensions", []))

    if block.get("shape") != "rows":
        assert rows, f"{name} has no row"
        assert {row["status"] for row in rows} <= {"OK", "ALERT"}
        assert all(row["message"] and row["threshold"] is not None for row in rows)
        return {instance(row) for row in rows if row["status"] == "ALERT"}
    assert "status" not in columns
    tolerated = limit(block.get("warn_if", ">0"))
    return {instance(row) for row in rows} if len(rows) > tolerated else set()


def firing(shop: BuiltShop, as_of: datetime, zone: str = "UTC") -> dict[str, set[str]]:
    found = {name: fires(shop, name, as_of, zone) for name in shop.alerts()}
    return {name: instances for name, instances in found.items() if instances}


def documented(sample: Path) -> dict[str, bool]:
    """The table in the README: alert to whether it fires."""
    readme = (sample / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (yes|no)\b[^|]*\|$", readme, re.MULTILINE)
    return {name: answer == "yes" for name, answer in rows}


def test_every_alert_stands_in_the_readme(shop: BuiltShop, sample: Path) -> None:
    assert sorted(documented(sample)) == sorted(shop.alerts())
    assert len(shop.alerts()) >= 10


def test_what_fires_is_what_the_readme_says(shop: BuiltShop, sample: Path) -> None:
    said = {name for name, does in documented(sample).items() if does}
    assert firing(shop, shop.morning()) == FIRING
    assert said == set(FIRING)


@pytest.mark.parametrize(
    ("hours", "zone"),
    [
        (0.001, "UTC"),
        (6, "Pacific/Kiritimati"),
        (12, "America/Los_Angeles"),
        (23.999, "Asia/Tokyo"),
        (24.5, "UTC"),  # built before midnight, run after it
    ],
)
def test_what_fires_does_not_depend_on_hour_or_zone(
    shop: BuiltShop, hours: float, zone: str
) -> None:
    midnight = shop.morning().replace(hour=0)
    assert firing(shop, midnight + timedelta(hours=hours), zone) == FIRING


def test_the_shops_day_is_that_of_utc_wherever_it_is_built(shop: BuiltShop) -> None:
    assert shop.today() in shop.built_on


@pytest.mark.parametrize("days", [1, 5, 13, 27])
def test_revenue_was_as_usual_on_earlier_days(shop: BuiltShop, days: int) -> None:
    assert fires(shop, "revenue_drop", shop.morning() - timedelta(days=days)) == set()


def test_freshness_fires_once_the_nightly_load_is_missed(shop: BuiltShop) -> None:
    assert fires(shop, "orders_are_fresh", shop.morning() + timedelta(days=2)) == {""}


def test_the_late_payments_bring_revenue_back(shop: BuiltShop, sample: Path) -> None:
    """The demo's repair, on the numbers: revenue of the last day with the late file added."""
    with duckdb.connect() as memory:
        row = memory.execute(
            f"select sum(amount_cents) / 100 from '{sample / 'late/card_payments.csv'}'"
        ).fetchone()
    assert row is not None
    with shop.connect() as connection:
        sql = AS_OF.sub("now()::timestamp", shop.alerts()["revenue_drop"])
        found = connection.execute(
            f"select actual_value, threshold from ({sql.rstrip()}) as alert"
        ).fetchone()
    assert found is not None
    assert found[0] < found[1]
    assert found[0] + row[0] > found[1]


def test_every_alert_has_a_schedule_and_a_severity(shop: BuiltShop) -> None:
    assert set(shop.meta) == set(shop.alerts())
    for name, meta in shop.meta.items():
        given = {**meta["sentinel_defaults"], **meta["sentinel"]}
        assert "schedule" in given, name
        assert "severity" in given or "warn_if" in given, name


def test_the_build_is_without_warnings(shop: BuiltShop) -> None:
    assert "WARN=0 ERROR=0 SKIP=0" in shop.log
    # dbt 1.9 calls itself deprecated; that is no matter of the project's.
    lines = [line for line in shop.log.splitlines() if "of dbt is deprecated" not in line]
    assert "deprecat" not in "\n".join(lines).lower()
    assert "[WARNING]" not in shop.log


def test_every_definition_is_good(shop: BuiltShop, sample: Path) -> None:
    settings = yaml.safe_load((sample / "sentinel.yml").read_text(encoding="utf-8"))
    around = DefinitionContext(
        settings["timezone"],
        settings["defaults"],
        Routing(dict.fromkeys(settings["channels"], Traits())),
    )
    sources = [
        AlertSource(
            f"model.shop.{name}", name, name, meta["sentinel"], meta.get("sentinel_defaults")
        )
        for name, meta in shop.meta.items()
    ]
    valid, broken = parse_definitions(sources, around)
    assert broken == []
    recorded = {alert.name for alert in valid if alert.channels == ("console", "log")}
    assert recorded == {
        "orphan_payments",
        "payments_match_orders",
        "refund_rate",
        "revenue_drop",
        "unpaid_orders",
    }
