"""What a user sees of a daemon, on whichever database."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import reference
from tests.places.place import Place

from .rig import PACE_S, Shop, open_shop, until


class DaemonScenes:
    """A subclass for each database, so that they run beside each other."""

    @pytest.fixture
    def shop(self, place: Place, tmp_path: Path) -> Iterator[Shop]:
        with open_shop(tmp_path / "shop", place, ("revenue", "stock")) as shop:
            yield shop

    def test_it_works_while_somebody_works_on_the_project_and_after_stops_and_kills(
        self, shop: Shop
    ) -> None:
        daemon = shop.daemon()
        until(daemon.is_ready, "it is ready")
        until(lambda: shop.evaluations("revenue"), "the first slot is evaluated at once")
        # The data changes.
        shop.set("revenue", 0)
        until(lambda: ("revenue", "firing") in shop.sent(), "it fires")
        # In another terminal: a build, and a silence.
        shop.dbt("build")
        shop.run("silence", "stock", "--for", "1h", "--comment", "known")
        shop.set("stock", 0)
        until(
            lambda: any(row["phase_after"] == "firing" for row in shop.evaluations("stock")),
            "it fires in silence",
        )
        # A new alert, and a mistake, which is told and mended.
        shop.alert("orders", watches="revenue", severity="warning")
        until(lambda: ("orders", "firing") in shop.sent(), "a new alert is picked up")
        wrong = shop.write("models/wrong.sql", "{{ config(meta={'sentinel': {}) }} select 1")
        until(lambda: ("dbt_project", "error") in shop.sent(), "the project's error is told")
        assert daemon.is_ready(), "it goes on with what was good"
        before = len(shop.evaluations("revenue"))
        until(lambda: len(shop.evaluations("revenue")) > before, "alerts go on")
        wrong.unlink()
        until(lambda: ("dbt_project", "error_resolved") in shop.sent(), "it recovers by itself")
        # The data is repaired.
        shop.set("revenue", 1)
        until(lambda: ("revenue", "resolved") in shop.sent(), "it resolves")
        shop.run("unsilence", "stock")
        until(lambda: ("stock", "firing") in shop.sent(), "the silence is over", 90)
        # Asked to stop, it ends well; what comes meanwhile is missed, and said to be.
        assert daemon.stop() == 0
        assert daemon.odd == [], f"lines that are no JSON: {daemon.odd}"
        described = reference("logs").sections["Events"].names()
        assert {line["event"] for line in daemon.lines} <= set(described)
        assert all({"timestamp", "level"} <= line.keys() for line in daemon.lines)
        known = len(shop.evaluations("revenue"))
        time.sleep(PACE_S * 2.5)
        second = shop.daemon()
        until(lambda: len(shop.evaluations("revenue")) >= known + 2, "it goes on")
        assert shop.evaluations("revenue")[known]["missed_slots"] >= 1
        # A hangup reads the project at once.
        loads = len(second.said("project loaded"))
        second.signal(signal.SIGHUP)
        until(lambda: len(second.said("project loaded")) > loads, "it is loaded anew")
        # Killed, it loses nothing.
        shop.set("revenue", 0)
        time.sleep(PACE_S)
        second.kill()
        third = shop.daemon()
        until(third.is_ready, "it is ready")
        until(lambda: shop.sent().count(("revenue", "firing")) == 2, "it is told all the same", 120)
        assert third.stop() == 0
        assert shop.sent().count(("revenue", "firing")) == 2, "nobody is told twice"
        assert shop.sent().count(("stock", "firing")) == 1
        for name in ("revenue", "stock"):
            _each_slot_once(shop, name)


def _each_slot_once(shop: Shop, name: str) -> None:
    rows = [row for row in shop.evaluations(name) if row["outcome"] != "skipped"]
    slots = [row["slot"] for row in rows]
    assert len(slots) == len(set(slots)), "a slot was recorded twice"
    expected = (slots[-1] - slots[0]).total_seconds() / PACE_S + 1
    missed = sum(row["missed_slots"] for row in rows[1:])
    assert len(slots) + missed == expected, "a slot was lost sight of"
