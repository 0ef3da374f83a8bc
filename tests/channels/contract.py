"""What every channel does. A channel's tests subclass `ChannelContract`."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sentinel.channels.contract import ChannelContext
from sentinel.channels.registry import build_channel, channel_types
from sentinel.core.errors import ConfigError, DeliveryError
from sentinel.core.project import Location
from sentinel.core.state import Event
from sentinel.ports import Channel, Receipt
from tests.fakes import message, notification, payload

from .examples import Example

SECRET = "t0ps3cret"
HERE = Location("sentinel.yml", 7)
# What is longest where it is escaped, or written in bytes.
WORST = ("&<*_`\N{GRINNING FACE}\u202e" * 3_000, "&" * 20_000, "😀" * 20_000, '"\\' * 10_000)
ODD = 'it\'s "odd" <b>&amp; {{ x }} %s 😀 żółw\n  second line'


@dataclass
class Said:
    """What a channel said on the terminal."""

    texts: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        self.texts.append(text)


def build(
    kind: str, values: dict[str, Any], folder: Path, said: Said | None = None, name: str = "it"
) -> tuple[Channel, list[str]]:
    return build_channel(
        name, kind, values, lambda *_: HERE, ChannelContext(folder, said or Said())
    )


@dataclass
class ChannelUnderTest(ABC):
    """One channel with what it sends to: `kind` and the `values` of a block in sentinel.yml."""

    folder: Path
    kind: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    said: Said = field(default_factory=Said)
    # Others get the payload as it is.
    for_people: ClassVar[bool] = True

    def build(self) -> Channel:
        return build(self.kind, self.values, self.folder, self.said)[0]

    @abstractmethod
    def arrived(self) -> list[str]:
        """The text of what has arrived, one for each notification, in order; what the receiver
        would not have taken fails."""

    def read(self, text: str) -> str:
        """Of what has arrived, what a person sees."""
        return text


class RemoteUnderTest(ChannelUnderTest):
    """A channel whose receiver may refuse."""

    @abstractmethod
    def break_down(self) -> None:
        """From now on nothing is accepted, in a way that shows as much as it can."""


class ChannelContract:
    """A subclass gives the fixture `it`, and the `example` for the suites over all channels."""

    example: ClassVar[Example]

    @pytest.fixture
    def it(self) -> ChannelUnderTest:
        raise NotImplementedError

    def test_it_is_registered_under_its_name(self, it: ChannelUnderTest) -> None:
        assert it.kind in channel_types()
        assert it.kind == self.example.kind
        assert it.build().name == "it"

    def test_a_message_arrives_and_is_acknowledged(self, it: ChannelUnderTest) -> None:
        assert isinstance(it.build().send(message()), Receipt)
        [text] = it.arrived()
        assert "revenue" in text
        assert "firing" in text.lower()

    @pytest.mark.parametrize("event", list(Event))
    def test_every_event_can_be_told(self, it: ChannelUnderTest, event: Event) -> None:
        row = notification(event=event, payload=payload(event=str(event)))
        it.build().send(message(row))
        assert len(it.arrived()) == 1

    def test_a_message_may_hold_several_notifications(self, it: ChannelUnderTest) -> None:
        rows = [
            notification(name, message_id="together", payload=payload(alert=name))
            for name in ("revenue", "stock", "orders")
        ]
        it.build().send(message(*rows))
        arrived = it.arrived()
        assert len(arrived) == 3
        for name, text in zip(("revenue", "stock", "orders"), arrived, strict=True):
            assert name in text

    def test_a_payload_with_nothing_but_what_is_always_there_is_told(
        self, it: ChannelUnderTest
    ) -> None:
        optional = ["actual_value", "threshold", "failures", "message", "owner", "runbook"]
        bare = payload(**dict.fromkeys(optional), description="", depends_on=[], exposures=[])
        it.build().send(message(notification(payload=bare)))
        [text] = it.arrived()
        assert "revenue" in text

    def test_a_message_says_all_there_is_to_say(self, it: ChannelUnderTest) -> None:
        sent = payload(
            alert="late_orders",
            instance="region=west",
            dimensions={"region": "west"},
            exposures=["weekly_report"],
            depends_on=["model.shop.stg_orders", "source.shop.raw.orders"],
        )
        it.build().send(message(notification(payload=sent)))
        [text] = map(it.read, it.arrived())
        known = [
            "late_orders",
            "region=west",
            "critical",
            "revenue is low",
            "2026-01-02",
            "09:00:00",
        ]
        known += ["Revenue of the last day.", "finance", "https://example.com/runbook"]
        known += ["stg_orders", "weekly_report", "models/alerts/revenue.sql"]
        if it.for_people:
            known += ["8,120", "10,000", "sentinel silence late_orders --dimension region=west"]
        assert [words for words in known if words not in text] == []

    @pytest.mark.parametrize("worst", WORST, ids=["mixed", "escaped", "bytes", "quoted"])
    @pytest.mark.parametrize("number", [1, 50])
    def test_the_worst_values_are_taken_by_the_receiver_and_what_is_cut_says_so(
        self, it: ChannelUnderTest, worst: str, number: int
    ) -> None:
        keys = ["message", "description", "owner", "runbook", "instance"]
        rows = [
            notification(
                f"episode {place}",
                message_id="together",
                payload=payload(
                    alert=f"alert_{place:04}",
                    context={"a": worst[:4_000], "samples": [{"b": worst[:900]}] * 100},
                    dimensions={"region": worst[:1_000]},
                    **dict.fromkeys(keys, worst),
                ),
            )
            for place in range(number)
        ]
        it.build().send(message(*rows))
        arrived = it.arrived()
        assert [f"alert_{place:04}" in it.read(text) for place, text in enumerate(arrived)] == (
            [True] * number
        )
        assert not it.for_people or all("cut" in text for text in arrived)

    def test_text_of_every_kind_is_told(self, it: ChannelUnderTest) -> None:
        texts = ["message", "description", "owner", "runbook"]
        for odd in (ODD, "   ", "\n", "\x00\x1b[31m\x7f\u202e", "\ud800", "x" * 20_000):
            it.build().send(message(notification(payload=payload(**dict.fromkeys(texts, odd)))))
        assert len(it.arrived()) == 6

    def test_numbers_of_every_size_are_told(self, it: ChannelUnderTest) -> None:
        for number in (0, -0.0, 1e-300, 1e300, 2**53 + 1, -12.5):
            it.build().send(
                message(notification(payload=payload(actual_value=number, threshold=number)))
            )
        assert len(it.arrived()) == 6

    def test_an_unknown_key_is_named_with_its_line(self, it: ChannelUnderTest) -> None:
        it.values["colour"] = SECRET
        with pytest.raises(ConfigError) as caught:
            it.build()
        assert str(caught.value) == "sentinel.yml:7: the channel `it`: unknown key `colour`"

    def test_a_second_try_sends_the_same(self, it: ChannelUnderTest) -> None:
        channel = it.build()
        channel.send(message())
        channel.send(message())
        first, second = it.arrived()
        assert first == second

    def test_secrets_are_never_shown(self, it: ChannelUnderTest) -> None:
        channel = it.build()
        shown = [repr(channel), str(channel), repr(vars(channel))]
        assert not [text for text in shown if SECRET in text]


class RemoteChannelContract(ChannelContract):
    """What a channel does, besides, whose receiver may refuse: all but the terminal."""

    @pytest.fixture
    def it(self) -> RemoteUnderTest:
        raise NotImplementedError

    def test_secrets_are_not_in_errors(self, it: RemoteUnderTest) -> None:
        it.break_down()
        with pytest.raises(DeliveryError) as caught:
            it.build().send(message())
        shown = traceback.format_exception(caught.value, chain=True)
        assert not [text for text in shown if SECRET in text]

    def test_a_message_that_is_not_accepted_can_be_tried_again(self, it: RemoteUnderTest) -> None:
        it.break_down()
        with pytest.raises(DeliveryError) as caught:
            it.build().send(message())
        assert caught.value.message
        assert not caught.value.permanent
