"""The webhook channel and the HTTP that all channels share, against real servers on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from werkzeug.wrappers import Response

from sentinel import __version__
from sentinel.channels.http import Answer, Transport
from sentinel.core.errors import ConfigError, DeliveryError
from sentinel.core.state import Event
from tests.fakes import message, notification, payload

from .contract import SECRET, RemoteChannelContract, RemoteUnderTest, build
from .examples import DELIVERED, VAGUE, HttpExample
from .receiver import Received, Receiver, answering, closed_port, receiving

KEY = b"a key of thirty-two bytes, no less"
SIGNED = {"secret": "whsec_" + base64.b64encode(KEY).decode()}


EXAMPLE = HttpExample(
    name="webhook",
    settings=lambda url: {"url": url, "allow_private": True},
    accepts=(204, "", ""),
    verdicts={DELIVERED: {**VAGUE, "text of a framework": (200, "text/html", "OK")}},
    mentions_allowed="its JSON is for programs, which get values as they are",
)


@dataclass
class Webhook(RemoteUnderTest):
    kind: str = "webhook"
    for_people = False
    receiver: Receiver = field(default_factory=Receiver)

    def __post_init__(self) -> None:
        self.values = {
            "url": self.receiver.url,
            "allow_private": True,
            "secret": "whsec_" + base64.b64encode(SECRET.encode() * 3).decode(),
            "headers": {"X-Key": SECRET},
        }

    def arrived(self) -> list[str]:
        return [each.body.decode() for each in self.receiver.got]

    def break_down(self) -> None:
        self.values["url"] = f"http://user:{SECRET}@127.0.0.1:{closed_port()}/{SECRET}?k={SECRET}"
        self.receiver.answers = [Response("no", status=500)] * 9


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


class TestWebhook(RemoteChannelContract):
    example = EXAMPLE

    @pytest.fixture
    def it(self, tmp_path: Path, receiver: Receiver) -> RemoteUnderTest:
        return Webhook(tmp_path, receiver=receiver)


def send(receiver: Receiver, *rows: Any, **values: Any) -> list[Received]:
    build("webhook", {"url": receiver.url, "allow_private": True, **values}, Path())[0].send(
        message(*rows)
    )
    return receiver.got


# -- what is sent ------------------------------------------------------------------------------


def test_a_notification_is_posted_as_json(receiver: Receiver) -> None:
    row = notification(
        event=Event.RESOLVED, payload=payload(event="resolved", message='żółw "😀"\n')
    )
    [got] = send(receiver, row)
    assert (got.method, got.path) == ("POST", "/hook?token=t0ps3cret")
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"] == f"dbt-sentinel/{__version__}"
    assert json.loads(got.body) == {
        "type": "alert.resolved",
        "timestamp": "2026-01-02T09:00:00Z",
        "data": row.payload,
    }


def test_the_id_is_that_of_the_notification_and_the_time_is_now(receiver: Receiver) -> None:
    row = notification()
    before = int(time.time())
    [got] = send(receiver, row)
    assert got.headers["webhook-id"] == row.notification_id
    assert before <= int(got.headers["webhook-timestamp"]) <= int(time.time())


def test_notifications_of_one_message_have_ids_of_their_own(receiver: Receiver) -> None:
    rows = [notification(name, message_id="together") for name in "ab"]
    got = send(receiver, *rows)
    assert [each.headers["webhook-id"] for each in got] == [row.notification_id for row in rows]


def test_without_a_secret_nothing_is_signed(receiver: Receiver) -> None:
    [got] = send(receiver)
    assert "webhook-signature" not in got.headers


@pytest.mark.parametrize("prefix", ["whsec_", ""])
def test_the_signature_is_hmac_sha256_of_id_time_and_body(receiver: Receiver, prefix: str) -> None:
    [got] = send(receiver, secret=prefix + base64.b64encode(KEY).decode())
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    expected = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"


def test_the_signature_satisfies_the_reference_library(receiver: Receiver) -> None:
    [got] = send(receiver, notification(payload=payload(message="żółw 😀")), **SIGNED)
    verifier = standardwebhooks.Webhook(SIGNED["secret"])
    assert verifier.verify(got.body, got.headers)["type"] == "alert.firing"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verifier.verify(got.body.replace(b"revenue", b"avenues"), got.headers)


def test_a_second_try_has_the_same_id_and_body_and_a_good_signature(receiver: Receiver) -> None:
    receiver.answers = [Response(status=503)]
    channel, _ = build("webhook", {"url": receiver.url, "allow_private": True, **SIGNED}, Path())
    with pytest.raises(DeliveryError):
        channel.send(message())
    channel.send(message())
    first, second = receiver.got
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    for got in receiver.got:
        standardwebhooks.Webhook(SIGNED["secret"]).verify(got.body, got.headers)


def test_headers_are_added_but_can_t_replace_those_of_the_specification(
    receiver: Receiver,
) -> None:
    headers = {"X-Team": "data", "Content-Type": "text/plain"}
    [got] = send(receiver, headers=headers, **SIGNED)
    assert (got.headers["x-team"], got.headers["content-type"]) == ("data", "text/plain")
    standardwebhooks.Webhook(SIGNED["secret"]).verify(got.body, got.headers)


def test_an_authorization_that_is_given_wins_over_netrc(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    [got] = send(receiver, headers={"authorization": "Bearer abc"})
    assert got.headers["authorization"] == "Bearer abc"


def test_a_password_in_the_url_is_used(receiver: Receiver) -> None:
    url = receiver.url.replace("http://", "http://someone:pw@")
    build("webhook", {"url": url, "allow_private": True}, Path())[0].send(message())
    expected = "Basic " + base64.b64encode(b"someone:pw").decode()
    assert receiver.got[0].headers["authorization"] == expected


# -- what is refused before anything is sent ---------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"url": f"ftp://{SECRET}"}, "has to begin with https:// or http://"),
        ({"url": SECRET}, "has to begin with https:// or http://"),
        ({"url": 7}, "`url`"),
        ({"secret": f"{SECRET} is no base64"}, "`whsec_` followed by base64"),
        ({"secret": ""}, "`whsec_` followed by base64"),
        ({"secret": "whsec_"}, "`whsec_` followed by base64"),
        ({"secret": []}, "`secret`: it names no key"),
        ({"headers": {"Webhook-Id": "mine"}}, "the header 'Webhook-Id' can't be set"),
        ({"headers": {"X-Key": f"{SECRET}\nX-Other: 1"}}, "the value of 'X-Key'"),
        ({"headers": {"X-Key": f"{SECRET} ü"}}, "the value of 'X-Key'"),
        ({"headers": {"X-Key": f" {SECRET}"}}, "the value of 'X-Key'"),
        ({"headers": {"X Key": SECRET}}, "'X Key' can't be the name of a header"),
        ({"headers": {"": SECRET}}, "'' can't be the name of a header"),
        ({"headers": [SECRET]}, "`headers`"),
    ],
)
def test_settings_that_can_t_work_are_refused_without_showing_them(
    tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build("webhook", {"url": "https://example.com", **values}, tmp_path)
    assert words in str(caught.value)
    assert str(caught.value).startswith("sentinel.yml:7: the channel `it`: ")
    assert SECRET not in str(caught.value)


# -- what is accepted, tried again, given up ---------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success_is_acknowledged(receiver: Receiver, status: int) -> None:
    receiver.answers = [Response(b"" if status == 204 else b"fine", status=status)]
    send(receiver)


@pytest.mark.parametrize(
    "status", [300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 410, 413, 422, 451]
)
def test_refusals_and_redirects_are_permanent(receiver: Receiver, status: int) -> None:
    receiver.answers = [Response("" if status == 304 else "no such hook", status=status)]
    with pytest.raises(DeliveryError, match=f"the receiver answered {status}") as caught:
        send(receiver)
    assert caught.value.permanent


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again(receiver: Receiver, status: int) -> None:
    receiver.answers = [Response("later", status=status)]
    with pytest.raises(DeliveryError, match=f"the receiver answered {status}: later") as caught:
        send(receiver)
    assert not caught.value.permanent
    assert caught.value.retry_after is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    receiver.answers = [Response(status=status, headers={"Location": "/elsewhere"})]
    with pytest.raises(DeliveryError) as caught:
        send(receiver)
    assert caught.value.permanent
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("0", 0, 0),
        ("120", 120, 120),
        (str(10 * 365 * 86_400), 315_360_000, 315_360_000),
        pytest.param("9" * 5_000, 10**8, 10**10, id="a number without end"),
        ("in an hour", 3_500, 3_600),
        ("Fri, 02 Jan 2026 09:00:00 GMT", 0, 0),
        ("Fri, 02 Jan 2036 09:00:00 -0000", 10**6, 10**9),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_receiver_may_say_when(
    receiver: Receiver, status: int, header: str, least: int, most: int
) -> None:
    if header == "in an hour":
        header = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    receiver.answers = [Response(status=status, headers={"Retry-After": header})]
    with pytest.raises(DeliveryError) as caught:
        send(receiver)
    assert caught.value.retry_after is not None
    assert least <= caught.value.retry_after.total_seconds() <= most


@pytest.mark.parametrize(
    "header", ["", "soon", "-5", "1.5", "\u00b2", "Fri, 31 Dec 99999 23:59:59 GMT", "Fri, 02"]
)
def test_a_retry_after_that_makes_no_sense_is_ignored(receiver: Receiver, header: str) -> None:
    receiver.answers = [Response(status=429, headers={"Retry-After": header})]
    with pytest.raises(DeliveryError) as caught:
        send(receiver)
    assert caught.value.retry_after is None
    assert not caught.value.permanent


def test_what_the_receiver_says_is_told_short_and_harmless(receiver: Receiver) -> None:
    receiver.answers = [Response("\x1b[31mno\x00" + "x" * 10_000, status=400)]
    with pytest.raises(DeliveryError) as caught:
        send(receiver)
    assert len(str(caught.value)) < 300
    assert "\x1b" not in str(caught.value)
    assert "no" in str(caught.value)


def test_the_first_notification_that_is_refused_stops_the_message(receiver: Receiver) -> None:
    receiver.answers = [Response(status=204), Response(status=500), Response(status=204)]
    rows = [notification(name, message_id="together") for name in "abc"]
    with pytest.raises(DeliveryError) as caught:
        send(receiver, *rows)
    assert len(receiver.got) == 2
    assert caught.value.recipients_done == (rows[0].notification_id,)


def test_what_was_accepted_of_a_message_is_not_sent_again(receiver: Receiver) -> None:
    names = ["a", "b"]
    done = [notification("a").notification_id]
    rows = [notification(name, message_id="together", recipients_done=done) for name in names]
    [got] = send(receiver, *rows)
    assert got.headers["webhook-id"] == rows[1].notification_id


# -- the network -------------------------------------------------------------------------------


def post(url: str, headers: Mapping[str, str] | None = None, timeout: float = 10) -> Answer:
    with Transport(timedelta(seconds=timeout), allow_private=True).delivery() as requests:
        return requests.post(url, b"{}", headers or {})


def failure(url: str, timeout: float = 10) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        post(url, timeout=timeout)
    return caught.value


def test_a_refused_connection_is_tried_again() -> None:
    error = failure(f"http://127.0.0.1:{closed_port()}/{SECRET}")
    assert "Connection refused" in str(error)
    assert not error.permanent
    assert SECRET not in str(error)


def test_a_connection_that_breaks_off_is_tried_again() -> None:
    with answering(b"", reset=True) as url:
        assert not failure(url).permanent
    with answering(b"") as url:
        assert not failure(url).permanent


def test_an_answer_that_is_no_http_is_tried_again() -> None:
    with answering(b"220 mail.example.com ESMTP\r\n\r\n") as url:
        assert not failure(url).permanent


def test_a_host_that_is_unknown_is_tried_again() -> None:
    assert not failure("http://no-such-host.invalid/").permanent


def test_a_receiver_that_is_too_slow_is_cut_off_and_tried_again() -> None:
    with answering(b"", then=b"", every=0.05) as url:
        error = failure(url, timeout=0.4)
    assert "no answer within 0.4 s" in str(error)
    assert not error.permanent


def test_a_certificate_that_is_not_accepted_is_tried_again(receiver: Receiver) -> None:
    error = failure(receiver.url.replace("http://", "https://"))
    assert not error.permanent
    assert SECRET not in str(error)


def test_an_accepted_message_is_accepted_though_the_body_never_ends() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", then=b"x", every=0.1) as url:
        assert post(url, timeout=0.4).status == 200


@pytest.mark.parametrize(
    "rest", [b"Content-Length: 900\r\n\r\nfi", b"Content-Encoding: gzip\r\n\r\nno gzip"]
)
def test_an_accepted_message_is_accepted_though_the_body_can_t_be_read(rest: bytes) -> None:
    with answering(b"HTTP/1.1 200 OK\r\n" + rest) as url:
        assert post(url).status == 200


def test_a_refusal_is_one_though_the_body_never_ends() -> None:
    with answering(b"HTTP/1.1 404 No\r\nContent-Length: 900\r\n\r\n", then=b"x", every=0.1) as url:
        assert failure(url, timeout=0.4).permanent


def test_no_more_of_an_answer_is_read_than_is_needed() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n"
    with answering(head + b"y" * 100_000) as url:
        assert post(url).text == "y" * 4_096


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (f"http://{SECRET}..example/", {}),
        (f"http://{'a' * 70}.{SECRET}/", {}),
        (f"http://[{SECRET}", {}),
        (f"http://127.0.0.1:99999/{SECRET}", {}),
        ("http://127.0.0.1/", {"x": f"{SECRET}\n"}),
        ("http://127.0.0.1/", {"x": f"{SECRET}\u0434"}),
        (f"gopher://{SECRET}", {}),
    ],
)
def test_what_can_t_be_sent_at_all_is_permanent_and_not_shown(
    url: str, headers: dict[str, str]
) -> None:
    with pytest.raises(DeliveryError) as caught:
        post(url, headers)
    assert caught.value.permanent
    assert SECRET not in str(caught.value)
