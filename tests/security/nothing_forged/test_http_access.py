"""Over HTTP only those read who have the token, and only under a name that is expected."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sentinel.config.settings import WebSettings
from sentinel.core.hosts import host_pattern, matches_host, read_host
from sentinel.ports import HistoryQuery
from tests.fakes import MemoryStore
from tests.web.test_server import Site, serving

TOKEN = "a-t0ken-of-s0me-length-ü"
GUARDED = ("/metrics", "/api/status", "/api/history", "/nothing", "/docs", "//metrics", "/healthz/")
HEALTH = ("/healthz", "/readyz")


def ask(port: int, head: str | bytes, *, body: bytes = b"") -> tuple[int, str, str]:
    """(status, head, body) of the answer to a request as it is written here."""
    text = head if isinstance(head, bytes) else head.encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(text.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body)
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    got, _, rest = answer.partition(b"\r\n\r\n")
    return int(got.split()[1]), got.decode("latin-1").lower(), rest.decode()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Site]:
    """A daemon on loopback that has a token."""
    with serving(TOKEN, hosts=(*WebSettings().allowed_hosts, "*.example.com", "sentinel")) as site:
        yield site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A daemon on loopback as it is unless anything is configured."""
    with serving(hosts=WebSettings().allowed_hosts) as site:
        yield site


# -- the token -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"\nAuthorization:",
        b"\nAuthorization: Bearer",
        b"\nAuthorization: Bearer ",
        b"\nAuthorization: Bearer wrong",
        b"\nAuthorization: Bearer a-t0ken-of-s0me-length-",
        b"\nAuthorization: Bearer a-t0ken-of-s0me-length-\xfc",  # as Latin-1
        f"\nAuthorization: Bearer {TOKEN}x".encode(),
        f"\nAuthorization: Bearer {TOKEN} {TOKEN}".encode(),
        f"\nAuthorization: Basic {TOKEN}".encode(),
        f"\nAuthorization: {TOKEN}".encode(),
        f"\nAuthorization: Bearer {TOKEN}\nAuthorization: Bearer {TOKEN}".encode(),
        f"\nAuthorization: Bearer wrong\nAuthorization: Bearer {TOKEN}".encode(),
        f"\nX-Authorization: Bearer {TOKEN}\nProxy-Authorization: Bearer {TOKEN}".encode(),
    ],
)
def test_without_the_token_nothing_but_health_is_answered(
    guarded: Site, path: str, given: bytes
) -> None:
    request = f"GET {path} HTTP/1.1\nHost: localhost".encode()
    status, _, said = ask(guarded.port, request + given)
    assert status in (400, 401)
    assert "sentinel_" not in said


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE", "BREW"])
def test_no_method_gets_around_the_token(guarded: Site, method: str) -> None:
    assert ask(guarded.port, f"{method} /metrics HTTP/1.1\nHost: localhost")[0] == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_with_the_token_everything_is_answered(guarded: Site, scheme: str) -> None:
    for path in ("/metrics", "/api/status", "/api/history"):
        request = f"GET {path} HTTP/1.1\nHost: localhost\naUTHORIZATION: {scheme} {TOKEN}"
        assert ask(guarded.port, request)[0] == 200


def test_health_needs_neither_token_nor_host(guarded: Site) -> None:
    for path in HEALTH:
        for host in ("Host: localhost", "Host: 10.1.2.3:8642", "Host: evil.example"):
            assert ask(guarded.port, f"GET {path} HTTP/1.1\n{host}")[0] == 200
        assert ask(guarded.port, f"GET {path} HTTP/1.0")[0] == 200


# -- the host --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/metrics", "/api/status", "/api/history", "/nothing"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "evil.example:8642", "127.0.0.1.evil.example",
        "127.0.0.1@evil.example", "localhost@evil.example", "evil.example/localhost",
        "evil.example, localhost", "localhost, evil.example", "localhost evil.example",
        "localhost:80:90", "localhost:99999", "localhost:x", "[localhost]", "[::1", "::1", "[::2]",
        "8.8.8.8", "0x7f000001", "127.1", "2130706433", "localhost..", ".localhost", "", "*",
        "%6cocalhost", "l\u00f6calhost", "localhost#", "localhost?",
    ],
)  # fmt: skip
def test_a_foreign_or_malformed_host_is_refused(site: Site, path: str, host: str) -> None:
    status, _, said = ask(site.port, f"GET {path} HTTP/1.1\nHost: {host}")
    assert status in (400, 421)
    assert "sentinel_" not in said and "alerts" not in said


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost", "localhost.", "localhost:8642", "localhost:", "127.0.0.1",
     "127.0.0.1:80", "[::1]", "[::1]:8642", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"],
)  # fmt: skip
def test_loopback_is_expected_however_it_is_written(site: Site, host: str) -> None:
    assert ask(site.port, f"GET /metrics HTTP/1.1\nHost: {host}")[0] == 200


@pytest.mark.parametrize(
    "request_",
    [
        "GET /metrics HTTP/1.1",
        "GET /metrics HTTP/1.0",
        "GET /metrics HTTP/1.1\nHost: localhost\nHost: evil.example",
        "GET /metrics HTTP/1.1\nHost: evil.example\nHost: localhost",
        "GET /metrics HTTP/1.0\nHost: evil.example\nHost: localhost",
        "GET http://evil.example/metrics HTTP/1.1\nHost: localhost",
        "GET http://localhost/metrics HTTP/1.1\nHost: evil.example",
        "GET /metrics HTTP/1.1\nHost: evil.example\nX-Forwarded-Host: localhost",
        "GET /metrics HTTP/1.1\nHost: evil.example\nForwarded: host=localhost",
        "OPTIONS * HTTP/1.1\nHost: localhost",
        "CONNECT localhost:80 HTTP/1.1\nHost: localhost",
    ],
)
def test_a_request_that_names_no_host_or_several_is_refused(site: Site, request_: str) -> None:
    status, _, said = ask(site.port, request_)
    assert status in (400, 421)
    assert "sentinel_" not in said


def test_the_host_is_checked_before_the_token(guarded: Site) -> None:
    for given in ("", f"\nAuthorization: Bearer {TOKEN}"):
        request = f"GET /metrics HTTP/1.1\nHost: evil.example{given}"
        assert ask(guarded.port, request)[0] == 421


def test_more_hosts_can_be_expected(guarded: Site) -> None:
    def status(host: str) -> int:
        request = f"GET /metrics HTTP/1.1\nHost: {host}\nAuthorization: Bearer {TOKEN}"
        return ask(guarded.port, request)[0]

    for host in ("sentinel", "sentinel:8642", "a.example.com", "a.b.EXAMPLE.com."):
        assert status(host) == 200
    for host in (
        "example.com",
        "sentinel.evil",
        "badexample.com",
        ".example.com",
        "a..example.com",
    ):
        assert status(host) in (400, 421)


def test_any_host_can_be_expected() -> None:
    with serving(hosts=("*",)) as site:
        assert ask(site.port, "GET /metrics HTTP/1.1\nHost: evil.example")[0] == 200


def test_the_address_at_which_a_connection_arrives_is_expected() -> None:
    with serving(hosts=()) as site:
        assert ask(site.port, "GET /metrics HTTP/1.1\nHost: 127.0.0.1")[0] == 200
        assert ask(site.port, "GET /metrics HTTP/1.1\nHost: 127.0.0.2")[0] == 421


def test_what_hints_at_a_mistake_is_reported() -> None:
    with serving() as site:
        ask(site.port, "GET /metrics HTTP/1.1\nHost: sentinel.monitoring.svc")
        assert site.refused == ["the Host header names an unexpected host: sentinel.monitoring.svc"]


@pytest.mark.parametrize(
    "wrong",
    [
        "https://example.com",
        "example.com:80",
        "*example.com",
        "a.*.com",
        "*.",
        "",
        "a b",
        "*.10.0.0.1",
    ],
)
def test_an_expected_host_that_could_never_match_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        host_pattern(wrong)
    with pytest.raises(ValueError, match="is no host"):
        WebSettings(allowed_hosts=wrong)


def test_a_pattern_matches_what_is_below_its_domain_only() -> None:
    host = read_host("a.example.com:80")
    assert host and matches_host(host, host_pattern("*.EXAMPLE.com"))
    assert not matches_host("example.com", host_pattern("*.example.com"))


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        "GET /metrics HTTP/1.1\nHost: localhost\nOrigin: https://evil.example",
        "GET /api/status HTTP/1.1\nHost: localhost\nOrigin: null",
        "OPTIONS /api/status HTTP/1.1\nHost: localhost\nOrigin: https://evil.example"
        "\nAccess-Control-Request-Method: GET\nAccess-Control-Request-Private-Network: true",
        "GET /nothing HTTP/1.1\nHost: localhost",
        "BREW /metrics HTTP/1.1\nHost: localhost",
        "GET /metrics HTTP/1.1\nHost: evil.example",
        "GET /healthz HTTP/1.1\nHost: localhost",
        "GET /api/history?limit=0 HTTP/1.1\nHost: localhost",
        "GET /metrics HTTP/1.1\nHost: localhost\nConnection: Upgrade\nUpgrade: websocket"
        "\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: eA==",
    ],
)
def test_answers_are_kept_by_nobody_and_shared_with_no_other_origin(
    site: Site, request_: str
) -> None:
    _, head, said = ask(site.port, request_)
    assert "cache-control: no-store" in head
    assert "x-content-type-options: nosniff" in head
    assert "access-control-" not in head
    assert "server:" not in head
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "query",
    [
        "since=999999999d", "since=99999999999999999999d", "limit=%C2%B2", "limit=" + "9" * 5_000,
        "limit=-1", "alert_id=%00", "alert_id=a&alert_id=%00", "outcome=%00", "since=%00", "%00=1",
        "limit=%D9%A3%D9%A3%D9%A3%D9%A3%D9%A3",
    ],
)  # fmt: skip
def test_a_parameter_that_makes_no_sense_is_the_askers_error(site: Site, query: str) -> None:
    status, _, said = ask(site.port, f"GET /api/history?{query} HTTP/1.1\nHost: localhost")
    assert status == 400
    assert json.loads(said)["error"]


def test_a_fault_of_its_own_is_answered_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_store: MemoryStore, _query: HistoryQuery) -> Any:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(MemoryStore, "history", fail)
    with serving() as site:
        status, _, said = ask(site.port, "GET /api/history HTTP/1.1\nHost: localhost")
    assert (status, said) == (500, "Internal Server Error")
