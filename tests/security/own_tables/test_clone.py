"""`dbt clone`, on every warehouse: nothing of one environment is written or sent by another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.places.place import BIN, Place
from tests.places.servers import Servers
from tests.security.registry import STORES

from .conftest import TABLES, Shop, new_shop

PENDING = {
    "notification_id": "'n'",
    "message_id": "'m'",
    "project": "'shop'",
    "channel": "'console'",
    "event": "'firing'",
    "n": "1",
    "episode_id": "'e'",
    "alert_id": "'a'",
    "instance": "''",
    "reason": "'first_firing'",
    "payload": '\'{"alert": "prods_alert"}\'',
    "status": "'pending'",
    "attempts": "0",
}
ALERT = """{{ config(meta={"sentinel": {"severity": "warning", "channels": ["console"]}}) }}
select 'OK' as status"""


@dataclass(frozen=True)
class Cloned:
    shop: Shop
    prod: str

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """All of production's rows."""
        return {t: self.shop.place.execute(f"select * from {self.prod}.{t}") for t in TABLES}


@pytest.fixture(scope="module", params=STORES)
def cloned(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloned]:
    """Production's tables with a notification that waits, and a clone of them for CI."""
    folder = tmp_path_factory.mktemp(f"cloned-{request.param}")
    with servers.open_place(request.param, folder) as place:
        if place.bin != BIN and not (place.bin / "sentinel").exists():
            pytest.fail("`make setup-places` installs Sentinel beside the place's dbt")
        shop = new_shop(folder / "shop", place, targets(place, folder), ALERT)
        shop.do("dbt", "run", "-s", "package:sentinel", "--target-path", "state")
        columns, values = ", ".join(PENDING), ", ".join(PENDING.values())
        stamps = "created_at, not_before"
        now = {"sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now')"}.get(
            place.name, "current_timestamp"
        )
        place.execute(
            f"insert into {place.schema}.sentinel_notifications ({columns}, {stamps}) "
            f"values ({values}, {now}, {now})"
        )
        if place.name == "sqlite":
            # No view there reads another file: people copy the file.
            shutil.copy(place.output["schemas_and_paths"]["main"], folder / "ci.db")
        else:
            shop.do("dbt", "clone", "-s", "package:sentinel", "--state", "state", "-t", "ci")
        yield Cloned(shop, place.schema)


def targets(place: Place, folder: Path) -> dict[str, Any]:
    prod = place.output
    if place.name == "sqlite":
        return {"prod": prod, "ci": {**prod, "schemas_and_paths": {"main": str(folder / "ci.db")}}}
    key = "dataset" if place.name == "bigquery" else "schema"
    return {"prod": prod, "ci": {**prod, key: f"{place.schema}_ci" if key == "dataset" else "ci"}}


def test_no_command_that_writes_uses_a_clone(cloned: Cloned) -> None:
    before = cloned.rows()
    others = [["run"], ["silence", "--all", "--for", "1h", "--comment", "c"], ["ack", "late"]]
    # Each costs seconds, and what they have in common is the store's check.
    for command in [["deliver"], *(others if cloned.shop.place.name == "duckdb" else ())]:
        done = cloned.shop.try_it("sentinel", *command, "-t", "ci")
        assert done.code == 2, done.output
        assert "sentinel_state" in done.output
        assert "dbt run -s package:sentinel" in done.output
        assert "prods_alert" not in done.output
    assert cloned.rows() == before


def test_dbt_run_makes_tables_of_its_own_and_production_keeps_its_rows(cloned: Cloned) -> None:
    before, shop = cloned.rows(), cloned.shop
    make = ["run", "-s", "package:sentinel", "-t", "ci"]
    done = shop.try_it("dbt", *make)
    if done.code:  # a real clone, with rows
        assert "sentinel_take_over: empty" in done.output
        assert "Nothing was changed" in done.output
        shop.do("dbt", *make, "--vars", "sentinel_take_over: empty")
    assert "0 sent" in shop.do("sentinel", "deliver", "-t", "ci")
    assert cloned.rows() == before
    assert before["sentinel_notifications"]
