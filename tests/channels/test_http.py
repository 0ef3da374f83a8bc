"""One request: where it may go, how long it may take, and which failures are worth another."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.wrappers import Response

from sentinel.channels.address import check_url, refused
from sentinel.channels.http import Answer, Transport, retry_after
from sentinel.core.errors import DeliveryError

from .receiver import Receiver, answering, closed_port, rebinding

NOW = datetime(2026, 1, 2, 9, 0, tzinfo=UTC)


def send(url: str, *, allow_private: bool = True, timeout: float = 10) -> Answer:
    transport = Transport(timedelta(seconds=timeout), allow_private)
    with transport.delivery() as requests:
        return requests.post(url, b"{}", {"content-type": "application/json"})


def failure(url: str, *, allow_private: bool = True, timeout: float = 10) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        send(url, allow_private=allow_private, timeout=timeout)
    return caught.value


# -- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("93.184.215.14", ""),
        ("2606:2800:220:1::1", ""),
        ("127.0.0.1", "private"),
        ("10.1.2.3", "private"),
        ("192.168.0.1", "private"),
        ("172.16.0.1", "private"),
        ("100.64.0.1", "private"),
        ("::1", "private"),
        ("fd12::1", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("64:ff9b::a00:1", "private"),
        ("2002:a00:1::", "private"),
    ],
)
def test_private_addresses_need_to_be_allowed(address: str, private: str) -> None:
    assert (private in refused(address, allow_private=False)) and bool(private) == bool(
        refused(address, allow_private=False)
    )
    assert refused(address, allow_private=True) == ""


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.1.1",
        "100.100.100.200",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "64:ff9b:1::a9fe:a9fe",
        "::a9fe:a9fe",
        "2001:0:1:1:1:1:5601:5601",
        "168.63.129.16",
        "192.0.0.192",
        "fd20:ce::254",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
    ],
)
def test_metadata_and_what_is_no_host_is_never_reached(address: str) -> None:
    if address == "255.255.255.255":
        assert refused(address, allow_private=False)
        return
    assert refused(address, allow_private=True)


def test_a_private_address_is_a_permanent_failure_that_names_the_key(receiver: Receiver) -> None:
    error = failure(receiver.url, allow_private=False)
    assert error.permanent
    assert error.message == (
        "the host 127.0.0.1 is not reached: its address is private; "
        "`allow_private: true` of the channel allows that"
    )
    assert receiver.got == []


def test_a_name_with_a_single_refused_address_is_refused(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolver(["93.184.215.14", "127.0.0.1"]))
    assert "private" in failure("http://example.org/", allow_private=False).message


@pytest.mark.parametrize("second", ["169.254.169.254", "127.0.0.2", "::1"])
def test_a_name_that_resolves_to_another_address_a_moment_later_is_not_followed(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    """DNS rebinding: the answer that is checked is the one that is used."""
    asked = rebinding(monkeypatch, "127.0.0.1", second)
    send(receiver.url.replace("127.0.0.1", "hook.example.org"))
    assert (asked, len(receiver.got)) == (["hook.example.org"], 1)
    assert receiver.got[0].headers["host"].startswith("hook.example.org:")


def test_the_first_answer_is_the_one_that_is_checked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebinding(monkeypatch, "169.254.169.254", "127.0.0.1")
    error = failure(receiver.url.replace("127.0.0.1", "hook.example.org"))
    assert (error.permanent, "metadata" in error.message, receiver.got) == (True, True, [])


@pytest.mark.parametrize(
    "host",
    [
        "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "[::ffff:127.0.0.1]",
        "[::127.0.0.1]", "localhost", "LOCALHOST.", "user:pw@127.0.0.1", "hook.example.org@127.0.0.1",
    ],
)  # fmt: skip
def test_however_an_address_is_spelled_it_is_checked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    port = receiver.url.rsplit(":", 1)[1].split("/")[0]
    error = failure(f"http://{host}:{port}/", allow_private=False)
    assert (error.permanent, "its address is private" in error.message) == (True, True)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("NO_PROXY", "")
    if "localhost" not in host.lower():  # behind a proxy, which resolves names by itself
        assert "private" in failure(f"http://{host}:{port}/", allow_private=False).message
    assert receiver.got == []


def resolver(addresses: list[str]) -> Any:
    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [
            (
                socket.AF_INET6 if ":" in each else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (each, port),
            )
            for each in addresses
        ]

    return getaddrinfo


def test_a_name_that_does_not_resolve_may_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    error = failure("http://nowhere.example.org/t0ps3cret")
    assert (error.permanent, error.message) == (
        False,
        "the host nowhere.example.org can't be resolved",
    )


def test_the_host_keeps_its_name(receiver: Receiver) -> None:
    port = int(receiver.url.rsplit(":", 1)[1].split("/")[0])
    send(f"http://localhost:{port}/hook")
    assert receiver.got[0].headers["host"] == f"localhost:{port}"


def test_behind_a_proxy_it_is_the_proxy_that_resolves(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = receiver.url.rsplit(":", 1)[1].split("/")[0]
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    send("http://internal.example.org/hook", allow_private=False)
    assert receiver.got[0].path.endswith("/hook")
    assert "private" in failure("http://10.0.0.1/hook", allow_private=False).message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "has to begin with https:// or http://"),
        ("//example.org", "has to begin with"),
        ("http://", "names no host"),
        ("http:///path", "names no host"),
        ("https://example.org:port/", "malformed"),
        ("https://[::1/", "malformed"),
        ("https://example.org/a b", "a space, a backslash or a control character"),
        ("https://example.org\\@169.254.169.254/", "a backslash"),
        ("ftp://example.org/", "has to begin with"),
        ("javascript:alert(1)", "has to begin with"),
        ("https://example.org/\r\nHost: evil", "a space, a backslash or a control character"),
    ],
)
def test_a_url_that_is_none_is_refused_without_showing_it(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        check_url(url)
    assert url not in str(caught.value)


# -- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        (301, True), (302, True), (307, True), (308, True),
        (400, True), (401, True), (403, True), (404, True), (410, True), (413, True), (422, True),
        (408, False), (425, False), (429, False),
        (500, False), (502, False), (503, False), (504, False), (599, False),
    ],
)  # fmt: skip
def test_what_is_tried_again(receiver: Receiver, status: int, permanent: bool) -> None:
    receiver.answers.append(Response("no", status=status))
    error = failure(receiver.url)
    assert error.permanent is permanent
    assert error.message == f"the receiver answered {status}: no"


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers.append(Response(status=302, headers={"Location": receiver.url}))
    assert failure(receiver.url).permanent
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("120", timedelta(minutes=2)),
        ("Fri, 02 Jan 2026 09:05:00 GMT", timedelta(minutes=5)),
        ("Fri, 02 Jan 2026 08:00:00 GMT", timedelta()),
        (str(10 * 365 * 86_400), timedelta(days=3_650)),
        ("9" * 40, timedelta(seconds=999_999_999)),
        ("soon", None),
        ("-1", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, pause: timedelta | None) -> None:
    assert retry_after(header, NOW) == pause


def test_nobody_there_may_be_tried_again() -> None:
    error = failure(f"http://127.0.0.1:{closed_port()}/t0ps3cret")
    assert not error.permanent
    assert error.message == "the receiver can't be reached: Connection refused"


def test_a_reset_may_be_tried_again() -> None:
    with answering(b"", reset=True) as url:
        assert not failure(url).permanent


def test_a_receiver_that_trickles_its_headers_has_not_answered() -> None:
    """The end of the connection looks like the end of the headers; the rest never came."""
    with answering(b"HTTP/1.1 200 OK\r\n", then=b"X-A: b\r\n", every=0.2) as url:
        error = failure(url, timeout=1)
    assert (error.permanent, "no answer within 1 s" in error.message) == (False, True)


def test_a_receiver_that_trickles_its_body_has_accepted() -> None:
    """Its status is what counts to a webhook."""
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", then=b"x", every=0.2) as url:
        began = time.monotonic()
        assert send(url, timeout=1).status == 200
    assert time.monotonic() - began < 60, "it would trickle for ever"
