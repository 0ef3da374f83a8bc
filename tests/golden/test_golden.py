"""Behaviour is what was recorded."""

from __future__ import annotations

import json

import pytest

from tests.golden import schedules
from tests.golden.record import parts, read
from tests.golden.stories import play


@pytest.mark.parametrize("file", parts())
def test_stories_end_as_they_were_recorded(file: str) -> None:
    recorded = read(file)
    for seed in parts()[file]:
        story = json.loads(json.dumps(play(seed)))
        for number, (now, then) in enumerate(
            zip(story["steps"], recorded[str(seed)]["steps"], strict=False)
        ):
            assert now == then, f"story {seed}, step {number}"
        assert story == recorded[str(seed)], f"story {seed}"


def test_schedules_have_the_slots_that_were_recorded() -> None:
    recorded = read("slots.json")
    slots = schedules.slots()
    assert slots.keys() == recorded.keys()
    for key, each in slots.items():
        assert each == recorded[key], key


def test_what_is_no_schedule_is_refused_as_it_was_recorded() -> None:
    assert schedules.refusals() == read("refusals.json")
