"""Three daemons on PostgreSQL are killed and stopped at random: each slot is recorded once.

`make chaos-test MINUTES=60` does it at length, with slots a minute apart; the suite does it for a
short while, with slots some seconds apart.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.places.place import Place

from .rig import PACE_S, DaemonProcess, Shop, open_shop, until

MINUTES = float(os.environ.get("SENTINEL_CHAOS_MINUTES", "0.5"))
ALERTS = tuple(f"alert_{number:02d}" for number in range(20))
TTL_S = 2.0


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_three_daemons_survive_kills_and_pauses(place: Place, tmp_path: Path) -> None:
    with open_shop(tmp_path / "shop", place, ALERTS) as shop:
        shop.configure(store={"lease_ttl": f"{TTL_S:.0f}s"})
        daemons = [shop.daemon() for _ in range(3)]
        for each in daemons:
            until(each.is_ready, "it is ready", 120)
        done = torment(shop, daemons, timedelta(minutes=MINUTES))
        # Left in peace, they see what is there, and tell it.
        wanted = {name: shop.amounts()[name] > 0 for name in ALERTS}
        until(lambda: shop.phases() == wanted, "the state is as the data", 3 * PACE_S + 90)
        until(lambda: shop.unsent() == 0, "all is sent", 240)
        for each in daemons:
            each.stop()
        check(shop, done)


def torment(shop: Shop, daemons: list[DaemonProcess], length: timedelta) -> Counter[str]:
    """Kill and stop daemons, and change the data, for so long. Gives what was done."""
    chance = random.Random(7)
    done: Counter[str] = Counter()
    end = time.monotonic() + length.total_seconds()
    stopped: list[tuple[float, DaemonProcess]] = []
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.2, 1.0) * min(PACE_S / 3, 6))
        for moment, each in list(stopped):
            if time.monotonic() >= moment:
                each.signal(signal.SIGCONT)
                stopped.remove((moment, each))
        name = chance.choice(ALERTS)
        shop.set(name, chance.randint(0, 1))
        if chance.random() > 0.35:
            continue
        victim = chance.randrange(3)
        if any(each is daemons[victim] for _, each in stopped):
            continue
        if chance.random() < 0.5:
            daemons[victim].kill()
            daemons[victim] = shop.daemon()
            done["kills"] += 1
        elif not stopped:  # of three, one stands still and one is killed: the third can lead
            daemons[victim].signal(signal.SIGSTOP)
            pause = chance.choice((TTL_S / 4, TTL_S * 2, PACE_S * 2))
            stopped.append((time.monotonic() + pause, daemons[victim]))
            done["pauses"] += 1
    for _, each in stopped:
        each.signal(signal.SIGCONT)
    return done


def check(shop: Shop, done: Counter[str]) -> None:
    slots = missed = changes = 0
    notifications = shop.notifications()
    for name in ALERTS:
        rows = [row for row in shop.evaluations(name) if row["outcome"] != "skipped"]
        found: list[datetime] = [row["slot"] for row in rows]
        assert len(found) == len(set(found)), f"{name}: a slot was recorded twice"
        gaps = sum(row["missed_slots"] for row in rows[1:])
        whole = (found[-1] - found[0]).total_seconds() / PACE_S + 1
        assert len(found) + gaps == whole, f"{name}: a slot was lost sight of"
        events = [event for row in rows for event in row["events"]]
        assert events == (["firing", "resolved"] * len(events))[: len(events)], (
            f"{name}: a change was recorded twice"
        )
        slots, missed, changes = slots + len(found), missed + gaps, changes + len(events)
        planned = [event for alert, event, _ in notifications.values() if alert == name]
        assert sorted(planned) == sorted(events), f"{name}: not planned as it was recorded"
    sent = {key for key, (_, _, status) in notifications.items() if status == "sent"}
    arrived = [got.headers["webhook-id"] for got in shop.receiver.got]
    assert set(arrived) == sent, "what was recorded as sent is what has arrived"
    again = len(arrived) - len(sent)
    if PACE_S >= 60:
        assert missed == 0, "a slot passed by"
    leaders = sum(len(each.said("leading")) for each in shop.daemons)
    assert done["kills"] and done["pauses"] and changes
    print(  # noqa: T201 - what the run at length is for
        f"{dict(done)}, {leaders} changes of leader: {slots} slots of {len(ALERTS)} alerts recorded "
        f"once each, {missed} passed by while nobody led, {changes} changes told, "
        f"{again} messages again under their id"
    )
