"""The whole shop on every warehouse: the same outcomes, states, messages and history everywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.places.place import BIN, NAMES, Place, profile
from tests.places.postgres import PostgresPlace
from tests.places.servers import Servers

# What no two runs have in common.
OF_A_RUN = {
    "bytes_billed", "duration_ms", "elapsed_s", "episode_id", "as_of", "evaluation_id",
    "incident_id", "recorded_at", "run_id", "since", "sql_hash", "started_at", "phase_since",
    "last_as_of", "health_since", "created_at", "last_evaluated_at", "episode_started",
}  # fmt: skip


@dataclass(frozen=True)
class Shop:
    """A copy of the sample project that leads to one place."""

    path: Path
    place: Place
    environment: Mapping[str, str]
    target: tuple[str, ...] = ()

    def dbt(self, *args: str) -> None:
        done = self._call("dbt", *args, *self.target)
        assert done.returncode == 0, done.stdout

    def sentinel(self, command: str, *args: str, exits: int) -> dict[str, Any]:
        """The document of a command."""
        done = self._call("sentinel", command, *args, *self.target, "--output", "json")
        assert done.returncode == exits, (done.stdout, done.stderr)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def _call(self, program: str, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.place.bin / program, *args],
            cwd=self.path,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


def told(shop: Shop) -> list[tuple[str, str]]:
    """Event and alert of what the channel `log` was told so far."""
    path = shop.path / "target/notifications.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return sorted((line["event"], line["alert"]) for line in map(json.loads, lines))


def essence(value: Any) -> Any:
    """A document without what differs from run to run, and with numbers rounded."""
    if isinstance(value, dict):
        return {key: essence(each) for key, each in value.items() if key not in OF_A_RUN}
    if isinstance(value, list):
        return [essence(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value


@dataclass(frozen=True)
class Story:
    """What came of the same session on one warehouse."""

    first: dict[str, Any]
    second: dict[str, Any]
    third: dict[str, Any]
    status: dict[str, Any]
    history: dict[str, Any]
    told: list[tuple[str, str]]


def play(shop: Shop, demo: ModuleType) -> Story:
    """Build, run, run again, load the late payments, run."""
    shop.dbt("build", "--exclude-resource-type", "test")
    first = essence(shop.sentinel("run", exits=1))
    second = essence(shop.sentinel("run", exits=1))
    demo.add_late_payments(shop.path)
    shop.dbt("build", "--select", "raw_payments+", "--exclude-resource-type", "test")
    third = essence(shop.sentinel("run", exits=1))
    status = essence(shop.sentinel("status", exits=0))
    history = essence(shop.sentinel("history", "--limit", "1000", exits=0))
    return Story(first, second, third, status, history, told(shop))


@pytest.fixture(scope="module")
def template(demo: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop with its packages installed."""
    shop: Path = demo.scratch_copy(tmp_path_factory.mktemp("template"))
    subprocess.run([BIN / "dbt", "deps"], cwd=shop, env=demo.environment(), check=True, timeout=120)
    return shop


OpenShop = Callable[[str], Shop]


@pytest.fixture(scope="module")
def open_shop(
    template: Path, demo: ModuleType, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenShop]:
    with ExitStack() as stack:

        def open_on(name: str) -> Shop:
            folder = tmp_path_factory.mktemp(name)
            place = stack.enter_context(servers.open_place(name, folder))
            path = folder / "shop"
            shutil.copytree(template, path, symlinks=True)
            environment = demo.environment()
            if isinstance(place, PostgresPlace):
                # As the README says: the sample's own profile, for a server one already has.
                environment |= {
                    "SHOP_PG_HOST": place.host,
                    "SHOP_PG_PORT": str(place.port),
                    "SHOP_PG_USER": place.user,
                    "SHOP_PG_PASSWORD": place.password,
                    "SHOP_PG_DATABASE": place.dbname,
                }
                return Shop(path, place, environment, ("-t", "postgres"))
            text = yaml.safe_dump(profile(place))
            (path / "profiles.yml").write_text(text, encoding="utf-8")
            return Shop(path, place, environment)

        yield open_on


@pytest.fixture(scope="module")
def on_duckdb(open_shop: OpenShop, demo: ModuleType) -> Story:
    return play(open_shop("duckdb"), demo)


def by_instance(results: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["alert"], each["instance"]): each for each in results}


@pytest.mark.parametrize("name", NAMES)
def test_the_shop_is_the_same_on_every_warehouse(
    name: str, on_duckdb: Story, open_shop: OpenShop, demo: ModuleType
) -> None:
    story = on_duckdb if name == "duckdb" else play(open_shop(name), demo)
    firing = {
        (each["alert"], each["instance"])
        for each in story.first["results"]
        if each["phase"] == "firing"
    }
    assert firing == {
        ("late_orders_by_region", "region=west"),
        ("orphan_payments", ""),
        ("revenue_drop", ""),
        ("stock_below_minimum", "product=Espresso"),
        ("stock_below_minimum", "product=Filter Papers"),
    }
    assert {each["outcome"] for each in story.first["results"]} == {"ok", "alert"}
    assert all(not each["events"] for each in story.second["results"])
    assert by_instance(story.third["results"])["revenue_drop", ""]["events"] == ["resolved"]
    assert story.told == [
        ("firing", "orphan_payments"),
        ("firing", "revenue_drop"),
        ("resolved", "revenue_drop"),
    ]
    assert story == on_duckdb
