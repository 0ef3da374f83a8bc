from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes import message, notification, payload

from .contract import ChannelContract, ChannelUnderTest
from .examples import LocalExample

EXAMPLE = LocalExample(name="console", settings={}, mentions_allowed="a terminal calls nobody")


@dataclass
class Console(ChannelUnderTest):
    kind: str = "console"

    def arrived(self) -> list[str]:
        """A notification begins with a headline; its details are indented."""
        found: list[str] = []
        for line in "\n".join(self.said.texts).split("\n"):
            if line.startswith(" "):
                found[-1] += "\n" + line
            else:
                found.append(line)
        return found


class TestConsole(ChannelContract):
    example = EXAMPLE

    @pytest.fixture
    def it(self, tmp_path: Path) -> ChannelUnderTest:
        return Console(tmp_path)


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(tmp_path)


def sent(console: Console, **others: object) -> str:
    console.build().send(message(notification(payload=payload(**others))))
    return console.said.texts[-1]


def test_a_message_says_what_happened_how_bad_since_when_and_what_to_do(console: Console) -> None:
    assert sent(console, instance="region=north", exposures=["board"]).split("\n") == [
        "FIRING revenue [region=north] (critical)",
        "  message:  revenue is low",
        "  value:    8,120 (threshold 10,000)",
        "  since:    2026-01-02 09:00:00 UTC",
        "  about:    Revenue of the last day.",
        "  owner:    finance",
        "  runbook:  https://example.com/runbook",
        "  watches:  orders",
        "  affects:  board",
        "  model:    models/alerts/revenue.sql",
        "  silence:  sentinel silence revenue --for 2h --comment '...'",
    ]


def test_what_is_not_known_is_left_out(console: Console) -> None:
    text = sent(console, owner=None, runbook=None, message="  \n ", actual_value=None)
    for label in ("owner", "runbook", "message", "value"):
        assert f"{label}:" not in text


def test_further_lines_stand_under_the_first(console: Console) -> None:
    lines = sent(console, message="one\ntwo").split("\n")
    assert lines[1:3] == ["  message:  one", "            | two"]


@pytest.mark.parametrize(
    "evil",
    ["\x1b[2J", "\x1b]0;title\x07", "\x00", "\x08", "\r", "\x7f", "\x9b31m", "\u202e", "\u2028"],
)
def test_control_characters_of_the_warehouse_do_nothing(console: Console, evil: str) -> None:
    text = sent(
        console,
        message=f"a{evil}b",
        instance=f"x{evil}y",
        owner=f"c{evil}d",
        alert=f"e{evil}f",
        runbook=evil,
    )
    assert not set(evil) & set("\x1b\x07\x00\x08\r\x7f\x9b\u202e\u2028") & set(text)
    assert "a\N{REPLACEMENT CHARACTER}" in text


def test_a_value_cannot_pretend_to_be_another_message(console: Console) -> None:
    text = sent(console, message="fine\nRESOLVED revenue (critical)")
    assert [line for line in text.split("\n") if not line.startswith(" ")] == [
        "FIRING revenue (critical)"
    ]


@pytest.mark.parametrize(
    ("event", "reason", "word"),
    [
        ("firing", "first_firing", "FIRING"),
        ("severity", "severity_rose", "WORSE"),
        ("resolved", "recovered", "RESOLVED"),
        ("resolved", "fired_and_resolved", "FIRED AND RESOLVED"),
        ("error", "evaluation_failed", "CAN'T BE EVALUATED"),
        ("error_resolved", "evaluation_recovered", "EVALUATED AGAIN"),
        ("reminder", "repeat_due", "STILL FIRING"),
    ],
)
def test_the_headline_says_what_happened(
    console: Console, event: str, reason: str, word: str
) -> None:
    first = sent(console, event=event, reason=reason).split("\n")[0]
    assert first == f"{word} revenue (critical)"


@pytest.mark.parametrize(
    ("value", "threshold", "shown"),
    [
        (0, None, "0"),
        (8120.0, 10_000, "8,120 (threshold 10,000)"),
        (0.12345, 0.5, "0.1235 (threshold 0.5)"),
        (1234.567, None, "1,234.57"),
        (-3, 0, "-3 (threshold 0)"),
        (1e300, None, "1e+300"),
        (-0.0, None, "0"),
    ],
)
def test_numbers_read_easily(
    console: Console, value: float, threshold: float | None, shown: str
) -> None:
    lines = sent(console, actual_value=value, threshold=threshold).split("\n")
    assert f"  value:    {shown}" in lines


@pytest.mark.parametrize(
    ("as_of", "shown"),
    [
        ("2026-01-02T11:05:00Z", "2026-01-02 09:00:00 UTC, for 2h 5m"),
        ("2026-01-02T09:00:00Z", "2026-01-02 09:00:00 UTC"),
        ("2026-01-01T09:00:00Z", "2026-01-02 09:00:00 UTC"),
        ("9999-12-31T23:59:59.999999-05:00", "2026-01-02 09:00:00 UTC, for 2912441d 20h"),
    ],
)
def test_how_long_it_has_lasted_is_said(console: Console, as_of: str, shown: str) -> None:
    assert f"  since:    {shown}" in sent(console, as_of=as_of).split("\n")
