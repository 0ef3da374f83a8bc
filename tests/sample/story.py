"""A session with the shop: built, evaluated twice, repaired, evaluated again."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from datetime import date
from types import ModuleType
from typing import Any

from tests.places.postgres import PostgresPlace

from .conftest import SAMPLE, BuiltShop, run_dbt

DATE = re.compile(r"\b\d{4}-\d\d-\d\d(?=\b|T)")
# What no two runs have in common.
OF_A_RUN = {
    "as_of", "bytes_billed", "created_at", "duration_ms", "elapsed_s", "episode_id",
    "episode_started", "evaluation_id", "health_since", "incident_id", "last_as_of",
    "last_evaluated_at", "phase_since", "recorded_at", "run_id", "since", "sql_hash", "started_at",
}  # fmt: skip


@dataclass(frozen=True)
class Story:
    """What came of it: documents without what differs from run to run, with rounded numbers.

    `sent` are the events and alerts that the channel `log` was sent.
    """

    first: dict[str, Any]
    second: dict[str, Any]
    third: dict[str, Any]
    status: dict[str, Any]
    history: dict[str, Any]
    sent: list[tuple[str, str]]


def play(shop: BuiltShop, demo: ModuleType) -> Story:
    """Make Sentinel's tables in a shop that is built, run, run again, load late payments, run."""
    run_dbt(shop.path, shop.place, ["run", "--select", "package:sentinel"])
    first, second = (evaluate(shop, demo, n) for n in (1, 2))
    demo.add_late_payments(shop.path)
    late = ["build", "--select", "raw_payments+", "--exclude-resource-type", "test"]
    run_dbt(shop.path, shop.place, late)
    third = evaluate(shop, demo, 3)
    status = sentinel(shop, demo, "status", exits=0)
    history = sentinel(shop, demo, "history", "--limit", "1000", exits=0)
    return Story(first, second, third, status, history, sent(shop))


def evaluate(shop: BuiltShop, demo: ModuleType, second: int) -> Any:
    """Run all alerts for a slot just after midnight of the shop's today, whatever the time is now."""
    slot = f"{shop.today().isoformat()}T00:00:{second:02}Z"
    return sentinel(shop, demo, "run", "--slot", slot, exits=1)


def sentinel(shop: BuiltShop, demo: ModuleType, command: str, *args: str, exits: int) -> Any:
    """What is the same everywhere of a command's document."""
    flags, environment = chosen(shop)
    done = subprocess.run(
        [shop.place.bin / "sentinel", command, *args, *flags, "--output", "json"],
        cwd=shop.path,
        env=demo.environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == exits, (done.stdout, done.stderr)
    return essence(json.loads(done.stdout), shop.today())


def chosen(shop: BuiltShop) -> tuple[list[str], dict[str, str]]:
    """Flags and variables that lead to the shop's place.

    For PostgreSQL those that the README names, for a server that one has already.
    """
    place = shop.place
    if not isinstance(place, PostgresPlace):
        return [], {}
    return ["-t", "postgres", "--profiles-dir", str(SAMPLE)], {
        "SHOP_PG_HOST": place.host,
        "SHOP_PG_PORT": str(place.port),
        "SHOP_PG_USER": place.user,
        "SHOP_PG_PASSWORD": place.password,
        "SHOP_PG_DATABASE": place.dbname,
        "SHOP_PG_SCHEMA": place.schema,
    }


def sent(shop: BuiltShop) -> list[tuple[str, str]]:
    path = shop.path / "target/notifications.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    return sorted((line["event"], line["alert"]) for line in map(json.loads, lines))


def essence(value: Any, today: date) -> Any:
    """A document without what differs from run to run, with rounded numbers and relative dates."""
    if isinstance(value, dict):
        return {key: essence(each, today) for key, each in value.items() if key not in OF_A_RUN}
    if isinstance(value, list):
        return [essence(each, today) for each in value]
    if isinstance(value, str):
        return DATE.sub(lambda found: f"today{date.fromisoformat(found[0]) - today}", value)
    return round(value, 6) if isinstance(value, float) else value


def instances(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The results of a run by alert and instance."""
    return {(each["alert"], each["instance"]): each for each in document["results"]}
