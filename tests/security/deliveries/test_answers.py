"""Answers that no receiver should give: none of them takes memory or time, or ends a message."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from sentinel.core.errors import DeliveryError
from sentinel.ports import Receipt
from tests.channels.contract import build
from tests.channels.receiver import answering
from tests.fakes import message

from ..registry import HTTP_CHANNELS, acceptance, channel_type

# Apprise's plugins read answers in a process of their own.
OUR_OWN = [name for name in HTTP_CHANNELS if name != "apprise"]
KILL_S = 120
MOST_MEMORY = 400_000_000
SEND = """
import json, sys
from pathlib import Path
from tests.channels.contract import build
from tests.fakes import message
from tests.peak import peak_bytes
kind, values = json.loads(sys.argv[1])
channel, _ = build(kind, values, Path(sys.argv[2]))
try:
    shown = repr(channel.send(message()))
except Exception as error:
    shown = repr(error)
print(json.dumps({"shown": shown, "memory": peak_bytes()}))
"""


def head(status: str, *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode()


@cache
def bomb(times: int) -> bytes:
    """600 MB of zeros, packed once or more often."""
    packed = gzip.compress(bytes(10_000_000)) * 60
    for _ in range(times - 1):
        packed = gzip.compress(packed)
    return packed


@pytest.mark.parametrize(
    ("channel", "status"),
    [*((each, "302 Found") for each in OUR_OWN), ("slack by token", "200 OK")],
)
def test_a_body_that_unpacks_to_very_much_takes_no_memory(
    channel: str, status: str, tmp_path: Path
) -> None:
    times = 3 if status == "200 OK" else 1
    body = bomb(times)
    answer = head(
        status,
        f"Content-Length: {len(body)}",
        "Location: https://example.org/",
        f"Content-Encoding: {', '.join(['gzip'] * times)}",
    )
    with answering(answer + body) as url:
        values = {**HTTP_CHANNELS[channel](url), "timeout": "2s"}
        done = subprocess.run(
            [sys.executable, "-c", SEND, json.dumps([channel_type(channel), values]), tmp_path],
            capture_output=True, text=True, timeout=KILL_S, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    found = json.loads(done.stdout)
    assert "DeliveryError" in found["shown"] or "Receipt" in found["shown"]
    assert found["memory"] < MOST_MEMORY


ODD = {
    "processing": head("102 Processing"),
    "hints": head("103 Early Hints", "Link: </a>"),
    "another protocol": head("101 Switching Protocols", "Upgrade: x"),
    "two lengths": head("200 OK", "Content-Length: 1", "Content-Length: 2") + b"ok",
    "a status that is none": head("abc OK"),
    "no HTTP": b"ok",
    "much": head("200 OK", *["a: b"] * 200),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("channel", OUR_OWN)
def test_an_answer_that_is_none_is_tried_again(channel: str, odd: str, tmp_path: Path) -> None:
    with answering(ODD[odd]) as url:
        sending, _ = build(channel_type(channel), HTTP_CHANNELS[channel](url), tmp_path)
        with pytest.raises(DeliveryError) as raised:
            sending.send(message())
    assert not raised.value.permanent
    assert "URL" not in raised.value.message


@pytest.mark.parametrize("place", ["http://[::1", "http://", "//", "\xff", "gopher://a", "a b:c"])
def test_where_a_redirect_leads_doesn_t_matter(place: str, tmp_path: Path) -> None:
    answer = head("302 Found", f"Location: {place}", "Content-Length: 5") + b"moved"
    with answering(answer) as url:
        sending, _ = build("webhook", HTTP_CHANNELS["webhook"](url), tmp_path)
        with pytest.raises(DeliveryError, match="answered 302: moved"):
            sending.send(message())


@pytest.mark.parametrize("channel", OUR_OWN)
def test_a_byte_order_mark_before_an_acceptance_changes_nothing(
    channel: str, tmp_path: Path
) -> None:
    own = acceptance(channel)
    body = b"\xef\xbb\xbf" + own.get_data()
    answer = head(own.status, f"Content-Length: {len(body)}") + body
    with answering(answer) as url:
        sending, _ = build(channel_type(channel), HTTP_CHANNELS[channel](url), tmp_path)
        assert isinstance(sending.send(message()), Receipt)


@pytest.mark.parametrize("body", [b"ok", b'{"ok": true}', b'{"success": true}'])
def test_services_that_take_slack_s_messages_accept(body: bytes, tmp_path: Path) -> None:
    """Mattermost, and Rocket.Chat by its `success`."""
    answer = head("200 OK", f"Content-Length: {len(body)}") + body
    with answering(answer) as url:
        values = HTTP_CHANNELS["slack by webhook"](url)
        sending, _ = build("slack", values, tmp_path)
        assert isinstance(sending.send(message()), Receipt)
