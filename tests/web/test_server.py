"""What the daemon shows over HTTP, by a real server on loopback."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from sentinel.app.daemon.parts import DaemonStatus
from sentinel.core.errors import ConfigError, StoreError
from sentinel.core.evaluation import Outcome
from sentinel.core.hosts import LOOPBACK
from sentinel.core.state import Phase
from sentinel.ports import Batch, Store
from sentinel.web.access import Rules
from sentinel.web.metrics import Metrics
from sentinel.web.server import Shown, WebServer, application, on_loopback
from tests.fakes import NOW, MemoryStore, notification, state, write
from tests.store.contract import history_row

WELL = DaemonStatus(True, True, True, 3, NOW, NOW + timedelta(minutes=1), {})


@dataclass
class Site:
    """A server and what it shows."""

    condition: DaemonStatus = WELL
    store: Store | None = field(default_factory=MemoryStore)
    port: int = 0
    refused: list[str] = field(default_factory=list)

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        said = answer.read().decode()
        connection.close()
        return answer.status, json.loads(said) if said.startswith("{") else said


def serve(
    shown: Shown, rules: Rules, refused: Callable[[str], None]
) -> tuple[int, Callable[[], None]]:
    """The port of a server in a thread of its own, and what stops it."""
    server = WebServer(lambda: application(shown, rules, refused), "127.0.0.1", 0, refused)
    port = server.listen()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()

    def stop() -> None:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()

    return port, stop


@contextmanager
def serving(
    token: str | None = None, *, local: bool = True, hosts: Collection[str] = LOOPBACK
) -> Iterator[Site]:
    site = Site()
    shown = Shown(lambda: site.condition, lambda: site.store, Metrics())
    rules = Rules(token, local, hosts)
    site.port, stop = serve(shown, rules, site.refused.append)
    try:
        yield site
    finally:
        stop()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def test_alive_and_ready_are_told_apart(site: Site) -> None:
    assert site.get("/healthz") == (200, {"alive": True})
    assert site.get("/readyz")[0] == 200
    site.condition = replace(WELL, ready=False, problems={"store": "no connection to 10.0.0.1"})
    assert site.get("/healthz") == (200, {"alive": True})
    assert site.get("/readyz") == (
        503,
        {"ready": False, "leading": True, "project_loaded": True, "problems": ["store"]},
    )
    site.condition = replace(WELL, alive=False, ready=False)
    assert site.get("/healthz") == (503, {"alive": False})


def test_status_is_the_document_of_the_command_and_how_the_daemon_is(site: Site) -> None:
    assert isinstance(site.store, MemoryStore)
    firing = state(phase=Phase.FIRING, episode_id="e")
    write(site.store, Batch(states=(firing,), notifications=(notification("e"),)))
    status, document = site.get("/api/status")
    assert status == 200
    assert [(each["alert"], each["phase"]) for each in document["alerts"]] == [
        ("revenue", "firing")
    ]
    assert [each["channel"] for each in document["undelivered"]] == ["log"]
    assert document["daemon"] == {
        "leading": True,
        "alerts": 3,
        "loaded_at": "2026-01-02T09:00:00Z",
        "next_start": "2026-01-02T09:01:00Z",
        "problems": {},
    }


def test_history_takes_what_the_command_takes(site: Site) -> None:
    assert isinstance(site.store, MemoryStore)
    rows = (
        history_row("a", outcome=Outcome.OK),
        history_row("b", outcome=Outcome.ERROR, alert_id="model.shop.stock"),
        history_row("c", outcome=Outcome.ALERT, events=["firing"]),
    )
    write(site.store, Batch(history=rows))

    def found(query: str) -> list[str]:
        status, document = site.get(f"/api/history{query}")
        assert status == 200
        return sorted(each["evaluation_id"] for each in document["evaluations"])

    assert found("") == ["a", "b", "c"]
    assert found("?alert_id=model.shop.stock") == ["b"]
    assert found("?outcome=ok&outcome=error") == ["a", "b"]
    assert found("?changes=true") == ["c"]
    assert len(found("?limit=1")) == 1
    assert found("?since=1d") == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?limit=0", "limit is a number from 1 to 1000"),
        ("?limit=many", "limit is a number from 1 to 1000"),
        ("?since=yesterday", "'yesterday' is not a duration"),
        ("?alert=revenue", "unknown parameter 'alert'"),
    ],
)
def test_a_question_that_makes_no_sense_is_answered_with_what_is_wrong(
    site: Site, query: str, words: str
) -> None:
    status, document = site.get(f"/api/history{query}")
    assert status == 400
    assert document["error"].startswith(words)


def test_before_the_project_is_read_there_is_nothing_to_show(site: Site) -> None:
    site.store = None
    site.condition = replace(WELL, ready=False, loaded_at=None, next_start=None)
    assert site.get("/api/status")[0] == 503
    assert site.get("/api/history")[0] == 503
    assert site.get("/readyz")[1]["project_loaded"] is False


def test_a_store_that_is_lost_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise StoreError("no connection")

    monkeypatch.setattr(MemoryStore, "snapshot", fail)
    monkeypatch.setattr(MemoryStore, "history", fail)
    for path in ("/api/status", "/api/history"):
        status, document = site.get(path)
        assert (status, document["error"]) == (503, "no connection")


def test_metrics_are_in_the_text_format_of_prometheus(site: Site) -> None:
    status, text = site.get("/metrics")
    assert status == 200
    assert "# TYPE sentinel_evaluations_total counter" in text


GUARDED = ("/metrics", "/api/status", "/api/history")


@pytest.mark.parametrize("local", [True, False])
def test_with_a_token_all_but_health_needs_it(local: bool) -> None:
    with serving("t0ps3cret", local=local) as site:
        for path in GUARDED:
            assert site.get(path)[0] == 401
            assert site.get(path, authorization="Bearer wrong")[0] == 401
            assert site.get(path, authorization="t0ps3cret")[0] == 401
            assert site.get(path, authorization="Bearer t0ps3cret")[0] == 200
        assert site.get("/healthz")[0] == site.get("/readyz")[0] == 200


def test_beyond_loopback_without_a_token_only_health_is_shown() -> None:
    with serving(local=False) as site:
        for path in GUARDED:
            status, document = site.get(path, authorization="Bearer ")
            assert status == 403
            assert "web.token" in document["error"]
        assert site.get("/healthz")[0] == site.get("/readyz")[0] == 200


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("127.1.2.3", True), ("localhost", True), ("::1", True),
        ("0.0.0.0", False), ("::", False), ("10.1.2.3", False), ("example.com", False),
    ],
)  # fmt: skip
def test_loopback_is_known_by_its_address(host: str, local: bool) -> None:
    assert on_loopback(host) is local


def test_a_port_in_use_is_said_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shown = Shown(lambda: WELL, lambda: None, Metrics())
        rules = Rules(None, True)
        server = WebServer(lambda: application(shown, rules, print), "127.0.0.1", port, print)
        with pytest.raises(ConfigError, match=f"can't listen on 127.0.0.1:{port}: ") as error:
            server.listen()
        assert "--port" in str(error.value.hint)


def test_an_unknown_path_is_not_found(site: Site) -> None:
    assert site.get("/nothing")[0] == 404
