"""What counts as accepted: a table of answers, and each channel's verdict on each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.wrappers import Response

from sentinel.channels.http import Transport
from sentinel.core.errors import DeliveryError
from tests.channels.contract import build
from tests.channels.examples import DELIVERED, PERMANENT, RETRY, Replies
from tests.channels.receiver import answering, receiving
from tests.fakes import message, notification

from ..registry import HTTP_CHANNELS, HTTP_EXAMPLES, acceptance, channel_type

PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>corporate proxy</body></html>"
)

# Of no receiver: they come from proxies, captive portals, and forms to log in.
FOREIGN: Replies = {
    "a page": (200, "text/html", PAGE),
    "a page of 202": (202, "text/html", PAGE),
    "a page as text": (200, "text/plain", PAGE.lower()),
    "a page of XHTML": (200, "application/xhtml+xml", '<?xml version="1.0"?>\n<html xmlns="x"/>'),
    "a page after a comment": (200, "text/html", "\ufeff <!-- proxy -->\n<HTML>"),
    "a page without html": (200, "text/html", "<head><title>Sign in</title></head>"),
    "a login of the network": (511, "text/html", PAGE),
    "a login of the proxy": (407, "text/html", PAGE),
    "a page of an error": (502, "text/html", PAGE),
}
REFUSED: Replies = {
    "redirected": (302, "", ""),
    "moved": (301, "text/html", PAGE),
    "wrong": (400, "text/plain", "no"),
    "forbidden": (403, "text/plain", "no"),
    "not found": (404, "text/plain", "no"),
    "gone": (410, "text/plain", "no"),
}
LATER: Replies = {
    "timeout": (408, "", ""),
    "too many": (429, "", ""),
    "broken": (500, "", ""),
    "unavailable": (503, "", ""),
}
EVERYONE: Mapping[str, Replies] = {
    RETRY: {**FOREIGN, **LATER},
    PERMANENT: REFUSED,
}


def cases() -> list[Any]:
    found = []
    for channel in HTTP_CHANNELS:
        if channel == "apprise":
            continue
        for verdict, answers in [*EVERYONE.items(), *HTTP_EXAMPLES[channel].verdicts.items()]:
            found += [
                pytest.param(channel, answer, verdict, id=f"{channel}: {name}")
                for name, answer in answers.items()
            ]
    return found


def verdict_on(channel: str, answer: Response, folder: Path) -> tuple[str, str]:
    """What becomes of a message that is answered so, and why."""
    with receiving() as receiver:
        receiver.answers = [answer] * 3
        built, _ = build(channel_type(channel), HTTP_CHANNELS[channel](receiver.url), folder)
        try:
            built.send(message())
        except DeliveryError as error:
            return (PERMANENT if error.permanent else RETRY), error.message
    return DELIVERED, ""


@pytest.mark.parametrize("channel", HTTP_CHANNELS)
def test_the_receiver_s_own_acceptance_is_one(channel: str, tmp_path: Path) -> None:
    assert verdict_on(channel, acceptance(channel), tmp_path) == (DELIVERED, "")


@pytest.mark.parametrize(("channel", "answer", "verdict"), cases())
def test_only_the_receiver_accepts(
    channel: str, answer: tuple[int, str, str], verdict: str, tmp_path: Path
) -> None:
    status, content_type, body = answer
    response = Response(body, status=status, content_type=content_type or None)
    found, words = verdict_on(channel, response, tmp_path)
    assert found == verdict, words
    if status in (200, 202, 407, 511) and body in (PAGE, PAGE.lower()):
        assert "a proxy or another service answered" in words
        assert "<!doctype html>" in words.lower(), "with the first line of what was answered"
        assert "corporate" not in words, "and no more"


@pytest.mark.parametrize("status", [400, 404, 500])
def test_what_apprise_s_plugins_refuse_is_tried_again(status: int, tmp_path: Path) -> None:
    found, words = verdict_on("apprise", Response("no", status=status), tmp_path)
    assert (found, words) == (RETRY, "url 1: the service did not accept it")


def test_a_page_may_be_allowed(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.answers = [Response(PAGE, content_type="text/html")]
        values = {"url": receiver.url, "allow_private": True, "accept_pages": True}
        build("webhook", values, tmp_path)[0].send(message())


@pytest.mark.parametrize("channel", [name for name in HTTP_CHANNELS if name != "apprise"])
def test_an_acceptance_that_breaks_off_is_none_but_for_a_webhook(
    channel: str, tmp_path: Path
) -> None:
    """Its status has arrived, and a webhook is accepted by that."""
    response = acceptance(channel)
    body = response.get_data() or b" "
    head = (
        f"HTTP/1.1 {response.status_code if body.strip() else 200} X\r\n"
        f"Content-Length: {len(body) + 9}\r\n\r\n"
    ).encode()
    with answering(head + body) as url:
        settings = HTTP_CHANNELS[channel](url)
        built, _ = build(channel_type(channel), settings, tmp_path)
        if channel == "webhook":
            built.send(message())
            return
        with pytest.raises(DeliveryError, match=r"broke off|another service") as caught:
            built.send(message())
    assert not caught.value.permanent


def test_a_heartbeat_s_page_is_no_answer_of_its_receiver() -> None:
    with receiving() as receiver:
        receiver.answers = [Response(PAGE, content_type="text/html")]
        transport = Transport(timedelta(seconds=10), allow_private=True)
        with transport.delivery() as requests, pytest.raises(DeliveryError) as caught:
            requests.post(receiver.url, b"", {})
    assert "a proxy or another service answered 200" in caught.value.message


def test_pagerduty_continues_where_it_was_refused(tmp_path: Path) -> None:
    """A message of many incidents ends, though each try has time for some of them only."""
    rows = [notification(name, message_id="together") for name in "abc"]
    earlier = {row.episode_id: f"key {row.episode_id}" for row in rows}
    with receiving() as receiver:
        receiver.accepts = HTTP_EXAMPLES["pagerduty"].accepts
        receiver.answers = [acceptance("pagerduty"), Response(status=500)]
        channel, _ = build("pagerduty", HTTP_CHANNELS["pagerduty"](receiver.url), tmp_path)
        with pytest.raises(DeliveryError) as caught:
            channel.send(replace(message(*rows), earlier=earlier))
        assert caught.value.recipients_done
        again = [replace(row, recipients_done=caught.value.recipients_done) for row in rows]
        channel.send(replace(message(*again), earlier=earlier))
        keys = [json.loads(one.body)["dedup_key"] for one in receiver.got]
    assert keys == ["key a", "key b", "key b", "key c"]
