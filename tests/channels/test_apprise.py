from __future__ import annotations

import logging
from pathlib import Path

import pytest
from werkzeug.wrappers import Response

from sentinel.channels.text import EACH
from sentinel.core.errors import ConfigError, DeliveryError
from tests.fakes import message, notification, payload

from .by_http import PostUnderTest, many
from .contract import SECRET, RemoteChannelContract, RemoteUnderTest, build
from .examples import HttpExample
from .receiver import Receiver, closed_port

# The library decides by the status; what it refuses is retried.
EXAMPLE = HttpExample(
    name="apprise",
    settings=lambda url: {"urls": [url.replace("http", "json", 1).split("?")[0]]},
    accepts=(200, "text/plain", "ok"),
    verdicts={},
)


class ByApprise(PostUnderTest):
    example = EXAMPLE

    def __post_init__(self) -> None:
        self.kind = self.example.kind
        place = self.receiver.url.removeprefix("http://").split("?")[0]
        self.values = {"urls": [f"json://user:{SECRET}@{place}"]}

    def arrived(self) -> list[str]:
        found: list[str] = []
        for body in self.bodies:
            lines = body["message"].splitlines()
            grouped = body["title"][:1].isdigit()
            found += lines[:-2] if grouped else [f"{body['title']}\n{body['message']}"]
        return found

    def break_down(self) -> None:
        self.values["urls"] = [f"json://user:{SECRET}@127.0.0.1:{closed_port()}/{SECRET}"]


class TestApprise(RemoteChannelContract):
    example = EXAMPLE

    @pytest.fixture
    def it(self, tmp_path: Path, receiver: Receiver) -> RemoteUnderTest:
        return ByApprise(tmp_path, receiver=receiver)


@pytest.fixture
def it(tmp_path: Path, receiver: Receiver) -> ByApprise:
    return ByApprise(tmp_path, receiver=receiver)


def test_a_message_of_many_holds_them_all(it: ByApprise) -> None:
    it.build().send(message(*many(50)))
    assert [f"alert_{n:04}" in text for n, text in enumerate(it.arrived())] == [True] * 50


def test_which_service_has_it_is_remembered(it: ByApprise) -> None:
    it.values["urls"] *= 2
    it.receiver.answers = [Response(status=204), Response("no", status=500)]
    with pytest.raises(DeliveryError) as caught:
        it.build().send(message())
    assert (caught.value.recipients_done, caught.value.message) == (
        ("url 1",),
        "url 2: the service did not accept it",
    )
    receipt = it.build().send(message(notification(recipients_done=["url 1"])))
    assert (receipt.recipients_done, len(it.receiver.got)) == (("url 1", "url 2"), 3)


@pytest.mark.parametrize(("severity", "kind"), [("critical", "failure"), ("info", "info")])
def test_how_bad_it_is_goes_along(it: ByApprise, severity: str, kind: str) -> None:
    it.build().send(message(notification(payload=payload(severity=severity))))
    assert it.bodies[0]["type"] == kind


def test_a_url_that_is_none_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        build("apprise", {"urls": [f"nowhere-{SECRET}"]}, tmp_path)
    assert "url 1 is not one that Apprise knows" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_library_logs_no_url(it: ByApprise, caplog: pytest.LogCaptureFixture) -> None:
    it.break_down()
    with caplog.at_level(logging.NOTSET), pytest.raises(DeliveryError):
        it.build().send(message())
    assert [record for record in caplog.records if SECRET in record.getMessage()] == []


def test_values_call_nobody_in_the_chats_behind_it(it: ByApprise) -> None:
    evil = "@everyone <!channel> <@U1> [x](http://evil) a@b.org"
    it.build().send(message(notification(payload=payload(message=evil, instance=evil))))
    [text] = it.arrived()
    for sign in ("@everyone", "<!", "<@", "]("):
        assert sign not in text
    assert "a@b.org" in text


def test_a_list_of_many_says_how_to_see_and_silence_each(it: ByApprise) -> None:
    it.build().send(message(*many(2)))
    assert it.bodies[0]["message"].endswith(EACH)
