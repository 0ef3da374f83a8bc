"""The daemon and its health check as commands."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .conftest import Project


@dataclass
class Asked:
    """A daemon as the health check sees it."""

    port: int
    status: int = 200
    document: object = None
    path: str = ""


@pytest.fixture
def asked() -> Iterator[Asked]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            it.path = self.path
            self.send_response(it.status)
            self.end_headers()
            self.wfile.write(json.dumps(it.document or {}).encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    it = Asked(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield it
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_daemon_that_is_alive_is_said_to_be(acme: Project, asked: Asked) -> None:
    ran = acme.sentinel("healthcheck", "--host", "127.0.0.1", "--port", str(asked.port))
    assert (ran.code, ran.out, asked.path) == (0, "alive\n", "/healthz")


def test_where_it_listens_is_taken_from_the_configuration(acme: Project, asked: Asked) -> None:
    acme.write("sentinel.yml", f"web: {{host: 0.0.0.0, port: {asked.port}}}\n")
    asked.document = {"ready": True}
    ran = acme.sentinel("healthcheck", "--ready")
    assert (ran.code, ran.out, asked.path) == (0, "ready\n", "/readyz")


def test_a_daemon_that_is_not_ready_says_what_it_waits_for(acme: Project, asked: Asked) -> None:
    asked.status, asked.document = 503, {"problems": ["store", "warehouse"]}
    ran = acme.sentinel("healthcheck", "--ready", "--host", "localhost", "--port", str(asked.port))
    assert (ran.code, ran.out) == (1, "unhealthy: store, warehouse\n")


def test_what_the_daemon_is_told_by_the_environment_the_health_check_reads_too(
    acme: Project, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTINEL_DAEMON_PORT", str(asked.port))
    monkeypatch.setenv("SENTINEL_DAEMON_HOST", "0.0.0.0")
    assert acme.sentinel("healthcheck").code == 0


def test_where_nobody_listens_nobody_is_alive(acme: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ran = acme.sentinel("healthcheck", "--host", "127.0.0.1", "--port", str(port))
    assert ran.code == 1
    assert ran.err.startswith(f"no answer from 127.0.0.1:{port}: ")


def test_a_port_in_use_ends_it_at_the_start(acme: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = acme.sentinel("daemon", "--port", str(port))
    assert ran.code == 2
    assert f"can't listen on 127.0.0.1:{port}" in ran.err
    assert "--port" in ran.err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("web: {port: 99999}\n", "sentinel.yml:1: `web`: `port`"),
        ("web: {token: short}\n", "sentinel.yml:1: `web`: `token`"),
        ("web:\n  token: {env: SENTINEL_NO_SUCH_VARIABLE}\n", "sentinel.yml:2"),
        ("heartbeat: {url: 'ftp://x'}\n", "sentinel.yml:1: `heartbeat.url`"),
        ("heartbeat: {interval: 0s, url: 'https://x.example'}\n", "sentinel.yml:1: `heartbeat`"),
        ("heartbeat: {every: 1m}\n", "unknown key `every`"),
        ("scheduler: {plan_interval: soon}\n", "sentinel.yml:1: `scheduler.plan_interval`"),
        ("store: {lease_ttl: 0s}\n", "sentinel.yml:1: `store.lease_ttl`"),
    ],
)
def test_settings_of_the_daemon_that_are_wrong_are_named_with_their_line(
    acme: Project, settings: str, words: str
) -> None:
    log = "channels: {log: {type: file, path: told.jsonl}}\ndefaults: {channels: [log]}\n"
    acme.write("sentinel.yml", settings + log)
    # Without a warehouse, variables aren't looked up either.
    offline = [] if "{env:" in settings else [("validate", "--offline")]
    for command in (("daemon", "--port", "0"), *offline):
        ran = acme.sentinel(*command)
        assert ran.code == 2, command
        assert words in ran.err + ran.out, command


def test_other_commands_need_no_secret_of_the_daemon(acme: Project) -> None:
    log = "channels: {log: {type: file, path: told.jsonl}}\ndefaults: {channels: [log]}\n"
    acme.write("sentinel.yml", "web: {token: {env: SENTINEL_NO_SUCH_VARIABLE}}\n" + log)
    assert acme.sentinel("status").code == 0
