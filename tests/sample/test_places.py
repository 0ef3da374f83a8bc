"""The shop on every warehouse: it builds, its macros agree, and every alert finds the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from sentinel.dbt.options import DbtOptions
from sentinel.dbt.profile import read_profile
from tests.package.results import expected_rows, plain_rows
from tests.places.duckdb import open_duckdb
from tests.places.place import NAMES
from tests.places.servers import Servers

from .conftest import BuiltShop, build_shop
from .story import Story, instances, play

CASES = Path(__file__).parent / "macro_cases"

# Given n, the day so many days before the build; the alerts speak for nine in the morning.
Day = Callable[[int], str]
ALERTS: dict[str, Callable[[Day], list[tuple[Any, ...]]]] = {
    "revenue_drop": lambda day: [
        (
            *("ALERT", 846.6, 1184.715, day(1)),
            f"Revenue of {day(1)} was 847, -50% against the usual 1692 of that weekday",
        )
    ],
    "refund_rate": lambda day: [
        (
            *("OK", 152.5 / 11852.8, 0.08),
            "Refunds of the last seven days are 153 of 11853 in revenue",
        )
    ],
    "orphan_payments": lambda day: [
        (1772, 90001, 7.2, day(5)),
        (1773, 90002, 11.9, day(4)),
        (1774, 90003, 44.9, day(2)),
        (1775, 90004, 6.9, day(2)),
    ],
    "unpaid_orders": lambda day: [(401, 128, day(44), 53.3), (873, 45, day(29), 83.7)],
    "payments_match_orders": lambda day: [],
    "late_orders_by_region": lambda day: [
        late("east", "OK", 0, 49),
        late("north", "OK", 6, 69),
        late("south", "OK", 1, 48),
        late("west", "ALERT", 37, 66),
    ],
    "orders_are_fresh": lambda day: [
        (
            *("OK", 11, 36),
            "The newest order is 11 hours old; the nightly load keeps it under 36",
        )
    ],
    "duplicate_orders": lambda day: [],
    "stock_below_minimum": lambda day: [
        ("Espresso", "coffee", 6, 20),
        ("Filter Papers", "kitchen", 11, 20),
    ],
    "order_lines_drop": lambda day: [
        (
            *("OK", 52, 28.5, day(1)),
            f"52 order lines on {day(1)}, against 57 a week before",
        )
    ],
    "order_backlog": lambda day: [("OK", 51, 150, "51 orders wait to be shipped")],
}


def late(region: str, status: str, orders: int, due: int) -> tuple[Any, ...]:
    message = f"{orders} of {due} orders for the {region}, due in the last seven days, are late"
    return (region, status, orders / due, 0.2, message)


@pytest.fixture(scope="module", params=NAMES)
def built(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BuiltShop]:
    folder = tmp_path_factory.mktemp(f"shop-{request.param}")
    with servers.open_place(request.param, folder) as place:
        # tests/package builds the package on every place.
        yield build_shop(place, folder, "--exclude", "package:sentinel", cases=CASES)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_finds_the_same_everywhere(built: BuiltShop, alert: str) -> None:
    found = plain_rows(built.rows(alert, built.morning()))
    expected = ALERTS[alert](lambda n: (built.today() - timedelta(days=n)).isoformat())
    assert found == [pytest.approx(row) for row in expected]


def test_no_alert_is_left_out(built: BuiltShop) -> None:
    assert set(ALERTS) == set(built.alerts())


def test_the_macros_give_what_is_expected(built: BuiltShop) -> None:
    results = built.place.execute("select * from macro_results")
    assert plain_rows(results) == expected_rows(CASES / "expected" / "macro_results.csv")


@pytest.fixture(scope="module")
def stories() -> dict[str, Story]:
    """By place, as far as they have been played."""
    return {}


def test_the_shop_is_the_same_on_every_warehouse(
    built: BuiltShop, stories: dict[str, Story], demo: ModuleType, tmp_path: Path
) -> None:
    """Outcomes, states, messages and history of all alerts. It changes the shop, so it comes last."""
    story = stories[built.place.name] = play(built, demo)
    if "duckdb" not in stories:  # when this test is run for one warehouse alone
        with open_duckdb(tmp_path) as place:
            shop = build_shop(place, tmp_path, "--exclude", "package:sentinel")
            stories["duckdb"] = play(shop, demo)

    first = instances(story.first)
    assert {each["outcome"] for each in first.values()} == {"ok", "alert"}
    assert {key for key, each in first.items() if each["phase"] == "firing"} == {
        ("late_orders_by_region", "region=west"),
        ("orphan_payments", ""),
        ("revenue_drop", ""),
        ("stock_below_minimum", "product=Espresso"),
        ("stock_below_minimum", "product=Filter Papers"),
    }
    assert not any(each["events"] for each in instances(story.second).values())
    assert instances(story.third)["revenue_drop", ""]["events"] == ["resolved"]
    assert story.sent == [
        ("firing", "orphan_payments"),
        ("firing", "revenue_drop"),
        ("resolved", "revenue_drop"),
    ]
    assert story == stories["duckdb"]


def test_every_macro_has_cases(sample: Path) -> None:
    text = (CASES / "models" / "cases" / "macro_results.sql").read_text(encoding="utf-8")
    for path in (sample / "macros").glob("*.sql"):
        assert f"{path.stem}(" in text


def test_every_target_can_be_chosen_without_any_setting(sample: Path) -> None:
    profiles = yaml.safe_load((sample / "profiles.yml").read_text(encoding="utf-8"))
    chosen = [
        DbtOptions(sample, profiles_dir=sample, target=name) for name in profiles["shop"]["outputs"]
    ]
    types = {read_profile(options, "shop", env={}, cwd=sample).type for options in chosen}
    assert types == set(NAMES)
