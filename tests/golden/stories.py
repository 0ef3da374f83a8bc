"""The stories: projects and what happens to them, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tests.fakes import counted, source, status
from tests.golden.drive import NOW, Story, without_chance

STORIES = 240
STEPS = 20
WHOLE = 30  # of so many stories, one is recorded with all that its steps returned
REGIONS = ("eu", "us", "apac")


def play(seed: int) -> dict[str, Any]:
    """What a story recorded: each step, and in the end what was sent, and the payloads' bytes."""
    draw = random.Random(seed)
    with without_chance():
        story = _project(draw, whole=seed % WHOLE == 0)
        for _ in range(STEPS):
            _step(story, draw)
        story.play("deliver")
    return {
        "steps": story.records,
        "sent": story.sent(),
        "payloads": story.payloads(),
        "rows": story.rows() if seed % WHOLE == 0 else None,
    }


def _project(draw: random.Random, *, whole: bool) -> Story:
    kinds = [_plain, _held, _by_region, _rows, _scheduled, _keyed, _broken]
    names = ("revenue", "stock", "orders", "refunds")[: draw.randint(2, 4)]
    return Story([source(name, draw.choice(kinds)(draw)) for name in names], whole=whole)


def _common(draw: random.Random) -> dict[str, Any]:
    block: dict[str, Any] = {"severity": draw.choice(["info", "warning", "critical"])}
    if draw.random() < 0.4:
        block["repeat_interval"] = draw.choice(["10m", "1h"])
    if draw.random() < 0.3:
        block["escalations"] = [{"after": "15m", "channels": ["oncall"]}]
    if draw.random() < 0.2:
        block["notify_on"] = draw.choice([["firing"], ["firing", "resolved"], ["error"]])
    if draw.random() < 0.2:
        block["error_after"] = 2
    if draw.random() < 0.3:
        block["channels"] = draw.choice([["ops", "oncall"], ["archive"], []])
    block["on_empty"] = draw.choice(["error", "ok", "alert", "keep"])
    return block


def _plain(draw: random.Random) -> Mapping[str, Any]:
    return _common(draw)


def _held(draw: random.Random) -> Mapping[str, Any]:
    return {**_common(draw), "for": draw.choice(["5m", "12m"]), "keep_firing_for": "7m"}


def _by_region(draw: random.Random) -> Mapping[str, Any]:
    missing = draw.choice(["resolve", "keep", "alert"])
    return {**_common(draw), "dimensions": ["region"], "on_missing": missing}


def _rows(draw: random.Random) -> Mapping[str, Any]:
    return {**_common(draw), "shape": "rows", "warn_if": ">0", "error_if": ">10"}


def _scheduled(draw: random.Random) -> Mapping[str, Any]:
    return {**_common(draw), "schedule": draw.choice(["*/5 * * * *", "hourly"]), "for": 2}


def _keyed(draw: random.Random) -> Mapping[str, Any]:
    return {**_common(draw), "id": f"key-{draw.randint(0, 999)}"}


def _broken(draw: random.Random) -> Mapping[str, Any]:
    return {**_common(draw), "severty": "high"}


def _step(story: Story, draw: random.Random) -> None:
    for each in story.sources:
        if draw.random() < 0.35:
            story.answer(each.name, _answer(draw, dict(each.block)))
    story.wait(draw.choice([1, 3, 5, 11, 61]))
    names = [each.name for each in story.sources] or ["revenue"]
    name = draw.choice(names)
    region = draw.choice([None, None, {"region": "eu"}])
    if draw.random() < 0.15:
        story.fail_channel(draw.choice(["ops", "oncall"]), draw.random() < 0.5)
    if draw.random() < 0.15:
        story.race(name)
    action = draw.choices(
        ["all", "one", "due", "slot", "dry", "plan", "ack", "silence", "unsilence", "deliver",
         "retry", "project", "lead", "fenced", "lost", "remove", "disable"],
        [8, 3, 5, 3, 1, 5, 3, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1],
    )[0]  # fmt: skip
    holder = draw.choice([None, "me"])
    match action:
        case "all":
            story.play("evaluate", holder=holder)
        case "one":
            story.play("evaluate", holder=holder, names=(name,))
        case "due":
            story.play("evaluate", holder=holder, slots="due")
        case "slot":
            back = draw.choice([0, 5, 60])
            moment = story.clock.now().replace(second=0, microsecond=0) - timedelta(minutes=back)
            story.play("evaluate", holder=holder, slots=moment)
            if draw.random() < 0.5:
                story.play("evaluate", holder=holder, slots=moment)
        case "dry":
            story.play("evaluate", dry_run=True)
        case "plan":
            story.play("plan_by_time")
        case "ack":
            story.play("acknowledge", name, region)
        case "silence":
            story.play("silence", name, draw.choice([4, 30]), region)
        case "unsilence":
            story.play("end_silences")
        case "deliver":
            story.play("deliver")
        case "retry":
            story.play("retry_dead")
        case "project":
            story.play("project_health", draw.choice([None, "the project can't be parsed"]))
        case "lead":
            story.play("lead", "me")
        case "fenced":
            story.play("lead", "me")
            story.play("evaluate", holder=holder, fenced=True)
            story.play("plan_by_time", fenced=True)
        case "lost":
            story.play("lead", "me")
            story.wait(2)
            story.play("lead", "another")
            story.play("evaluate", holder=holder, fenced=True)
            story.play("plan_by_time", fenced=True)
        case "remove" if len(names) > 1:
            story.remove(name)
        case "disable":
            story.disable(name)


def _answer(draw: random.Random, block: Mapping[str, Any]) -> Any:
    if draw.random() < 0.12:
        return draw.choice(["no such table", "division by zero"])
    if block.get("shape") == "rows":
        return counted(draw.choice([0, 0, 3, 40]))
    if block.get("dimensions"):
        rows = [
            (draw.choice(["OK", "ALERT"]), region, draw.randint(0, 9))
            for region in REGIONS
            if draw.random() < 0.8
        ]
        return _table(("status", "region", "actual_value"), rows)
    if draw.random() < 0.08:
        return _table(("status", "actual_value"), [])
    word = draw.choice(["OK", "ALERT"])
    severity = {} if draw.random() < 0.8 else {"severity": draw.choice(["info", "critical"])}
    return status(word, actual_value=draw.randint(0, 99), threshold=10, note="a, b", **severity)


def _table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Any:
    made = status("OK")
    return type(made)(columns, tuple(rows))


__all__ = ["NOW", "STORIES", "play"]
