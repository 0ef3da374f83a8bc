"""Which instances a silence mutes."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from sentinel.channels.text import silence_command
from tests.fakes import NOW, payload, silence


@pytest.mark.parametrize(
    "value", ["west", "", 'it\'s "odd" = ', "żółw", 12, 1.5, True, None, ["a", None], {"a": 1}]
)
def test_the_command_that_a_message_gives_mutes_the_instance_it_tells_of(value: Any) -> None:
    where = {"region": value, "store": 7}
    words = shlex.split(silence_command(payload(dimensions=where)))
    given = [words[n + 1] for n, word in enumerate(words) if word == "--dimension"]
    dimensions = dict(each.split("=", 1) for each in given)
    hush = silence("model.shop.revenue", dimensions=dimensions)
    assert hush.mutes(["model.shop.revenue"], where, NOW)
    assert not hush.mutes(["model.shop.revenue"], {**where, "region": "another"}, NOW)
