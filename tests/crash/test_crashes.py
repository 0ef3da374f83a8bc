"""Killed at any point, a run loses no change and no message, and repeats one only under its id.

`make crash-test N=200` kills so many times on each database; the suite kills once at each point.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.channels.receiver import Receiver, receiving
from tests.places.place import ROOT, Place, profile

POINTS = (
    "before_query",
    "after_query",
    "in_transaction",
    "after_commit",
    "after_claim",
    "after_send",
    "before_mark",
    "in_reload",
)
# After these the message has gone out, and only its record is missing.
SENT_ALREADY = ("after_send", "before_mark")
KILLS = int(os.environ.get("SENTINEL_CRASHES", "0"))

PROJECT = """\
name: shop
profile: shop
model-paths: [models]
"""
ALERT = """\
{{ config(meta={"sentinel": {"channels": ["hook"]}}) }}
select case when amount > 0 then 'OK' else 'ALERT' end as status, amount as actual_value
from {{ target.schema }}.orders
"""


@dataclass
class Shop:
    """One alert, whose condition the test sets, and the receiver of its messages."""

    root: Path
    place: Place
    receiver: Receiver
    flips: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    may_repeat: set[str] = field(default_factory=set)

    def child(self, point: str, *args: str) -> subprocess.Popen[str]:
        program = [sys.executable, "-m", "tests.crash.child", point, *args]
        return subprocess.Popen(
            program,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, point: str = "none", command: str = "run", *, wait: float | None = None) -> int:
        """One command; with `wait` it is killed from outside after so many seconds."""
        more = ["--fail-on", "never"] if command == "run" else []
        process = self.child(point, command, *more)
        if wait is not None:
            time.sleep(wait)
            process.kill()
        said, _ = process.communicate(timeout=120)
        assert process.returncode in (0, -9), said
        return process.returncode

    def flip(self) -> None:
        """What fired is ok, what was ok fires."""
        self.flips += 1
        self.place.execute(f"update {self.place.schema}.orders set amount = {(self.flips + 1) % 2}")

    def restart(self) -> None:
        """Run until nothing is left to do."""
        self.age()
        assert self.run() == 0
        assert self.run(command="deliver") == 0

    def age(self) -> None:
        """The claims of the dead have run out."""
        self.place.execute(
            f"update {self.place.schema}.sentinel_notifications "
            "set claim_until = created_at where status = 'claimed'"
        )

    def crash(self, point: str, *, wait: float | None = None) -> None:
        """The condition changes, and the run that would see it dies."""
        self.flip()
        if point == "in_reload" or wait is not None:
            alert = self.root / "models" / "watch.sql"
            alert.write_text(f"{ALERT}\n-- {self.flips}\n")
        known = {got.headers["webhook-id"] for got in self.receiver.got}
        if point == "after_claim":
            # A run claims what is new by its commit; what another has left is claimed later.
            self.run("after_commit")
            self.age()
        ended = self.run(point, "deliver" if point == "after_claim" else "run", wait=wait)
        assert wait is not None or ended == -9, f"{point} was not reached"
        if point in SENT_ALREADY or wait is not None:
            new = {got.headers["webhook-id"] for got in self.receiver.got} - known
            self.may_repeat |= new
        self.killed[point] += 1
        self.restart()

    # -- what has come of it -----------------------------------------------------------------------

    def events(self) -> list[str]:
        rows = self.place.execute(
            f"select events from {self.place.schema}.sentinel_history order by recorded_at, as_of"
        )
        return [event for (text,) in rows for event in json.loads(text)]

    def check(self) -> None:
        wanted = [("firing", "resolved")[place % 2] for place in range(self.flips)]
        assert self.events() == wanted, "a change was lost, or recorded twice"
        rows = self.place.execute(
            f"select notification_id, event, status from "
            f"{self.place.schema}.sentinel_notifications order by created_at"
        )
        assert [event for _, event, _ in rows] == wanted
        assert {status for _, _, status in rows} <= {"sent"}
        arrived = Counter(got.headers["webhook-id"] for got in self.receiver.got)
        assert set(arrived) == {key for key, _, _ in rows}, "a message was lost"
        repeated = {key for key, number in arrived.items() if number > 1}
        assert repeated <= self.may_repeat, "a message came twice without need"
        bodies = {(got.headers["webhook-id"], got.body) for got in self.receiver.got}
        assert len(bodies) == len(arrived), "a repeated message had another body"


@pytest.fixture
def shop(place: Place, tmp_path: Path) -> Iterator[Shop]:
    root = tmp_path / "shop"
    (root / "models").mkdir(parents=True)
    (root / "dbt_project.yml").write_text(PROJECT)
    (root / "profiles.yml").write_text(yaml.safe_dump(profile(place)))
    (root / "models" / "watch.sql").write_text(ALERT)
    place.execute(f"create table {place.schema}.orders as select 1 as amount")
    with receiving() as receiver:
        shop = Shop(root, place, receiver)
        process = shop.child("none", "init")
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        example = root / "models" / "alerts" / "example_alert.sql"
        example.unlink(missing_ok=True)
        channel = {"type": "webhook", "url": receiver.url, "allow_private": True}
        (root / "sentinel.yml").write_text(yaml.safe_dump({"channels": {"hook": channel}}))
        assert shop.run() == 0
        yield shop


@pytest.mark.parametrize("place", ["duckdb", "postgres"], indirect=True)
def test_a_run_that_is_killed_loses_nothing(shop: Shop) -> None:
    for point in POINTS:
        shop.crash(point)
    shop.check()
    repeated = Counter(got.headers["webhook-id"] for got in shop.receiver.got)
    assert max(repeated.values()) == 2, "what was sent before the kill is sent again"


if KILLS:

    @pytest.mark.parametrize("place", ["duckdb", "postgres"], indirect=True)
    def test_a_run_that_is_killed_many_times_loses_nothing(shop: Shop) -> None:
        chance = random.Random(KILLS)
        for _ in range(KILLS):
            point = chance.choice((*POINTS, "at_random"))
            if point == "at_random":
                shop.crash("none", wait=chance.uniform(0.2, 6.0))
            else:
                shop.crash(point)
        shop.check()
        arrived = len(shop.receiver.got)
        print(f"{KILLS} kills on {shop.place.name}: {dict(shop.killed)}; {shop.flips} changes, ")  # noqa: T201 - what the run at length is for
        print(f"{arrived} requests, {arrived - shop.flips} of them repeated under their id")  # noqa: T201
