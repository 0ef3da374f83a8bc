"""No peer on the daemon's port keeps it from its work, or an honest client from its answer."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinel.web import limits
from tests.daemon.rig import DaemonProcess, open_shop, until
from tests.fakes import MemoryStore
from tests.places.place import ROOT, Place
from tests.security.one_bad_thing.peers import ATTACKS, ask, attacked_by
from tests.web.test_server import Site, serving

FILES = 128
LARGEST_LOG = 200_000
KILL_S = 120


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.mark.parametrize("name", ATTACKS)
def test_an_honest_client_is_answered_beside_any_attack(site: Site, name: str) -> None:
    with attacked_by(site.port, 200, [ATTACKS[name]]):
        for _ in range(5):
            assert ask(site.port, "/healthz")[0] == 200
    # What the attackers asked for may still be on its way.
    deadline = time.monotonic() + KILL_S
    while (status := ask(site.port, "/api/status")[0]) == 503 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status == 200


def test_two_thousand_connections_take_no_more_places_than_there_are(site: Site) -> None:
    before = descriptors()
    with attacked_by(site.port, 2_000, [ATTACKS["says nothing"]]) as crowd:
        assert ask(site.port, "/healthz")[0] == 200
        mine = descriptors() - before - len(crowd._peers)
        assert mine <= limits.most_connections() * 2
    assert "all places for connections were taken" in site.refused


def test_places_are_few_beside_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, places in ((64, 8), (128, 16), (256, 32), (1_024, 64), (resource.RLIM_INFINITY, 64)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert limits.most_connections() == places


def test_the_peer_that_has_most_connections_makes_room() -> None:
    dropped: list[str] = []

    class Connection:
        def __init__(self, name: str) -> None:
            self.name = name

        def drop(self, reason: str) -> None:
            dropped.append(self.name)
            places.leave(self)  # type: ignore[arg-type]  # stands in for a connection

    places = limits.Places(lambda _: None, most=4)
    for name, peer in (("a", "one"), ("b", "two"), ("c", "two"), ("d", "three"), ("e", "four")):
        places.take(Connection(name), peer)  # type: ignore[arg-type]  # stands in for a connection
    assert dropped == ["b"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("says nothing", "no request came in time"),
        ("sends headers slowly", "no request came in time"),
        ("never reads", "a request took too long"),
    ],
)
def test_every_connection_ends_in_time(
    monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    monkeypatch.setattr(limits, "_HEAD_S", 0.5)
    monkeypatch.setattr(limits, "_WHOLE_S", 1.0)
    large = {"rows": "x" * 10_000_000}
    monkeypatch.setattr("sentinel.web.server.history_document", lambda _: large)
    with serving() as site, attacked_by(site.port, 1, [ATTACKS[name]]):
        until(lambda: site.refused == [reason], "the connection is closed")
        assert ask(site.port, "/healthz")[0] == 200


def test_one_request_at_a_time_reads_the_tables_and_few_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many ask: a batch of evaluations needs the same tables."""
    result, most, reads = 0, 0, 0
    lock = threading.Lock()

    def slow(store: MemoryStore, *_: object) -> list[object]:
        nonlocal result, most, reads
        with lock:
            result, reads = result + 1, reads + 1
            most = max(most, result)
        time.sleep(0.1)
        with lock:
            result -= 1
        return []

    monkeypatch.setattr(MemoryStore, "history", slow)
    with serving() as site:
        answers: list[int] = []

        def honest() -> None:
            answers.append(ask(site.port, "/api/history", within_s=60)[0])

        began = time.monotonic()
        threads = [threading.Thread(target=honest) for _ in range(40)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        lasted = time.monotonic() - began
    assert most == 1
    assert set(answers) == {200, 503}
    assert answers.count(200) >= 8
    assert lasted >= 0.2 * (reads - 1), "the tables are free half of the time"


def test_whoever_closes_one_half_after_a_request_is_answered(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as peer:
        peer.sendall(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        peer.shutdown(socket.SHUT_WR)
        answer = b""
        while data := peer.recv(65_536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
def test_schedules_and_deliveries_go_on_while_peers_attack(place: Place, tmp_path: Path) -> None:
    with open_shop(tmp_path / "shop", place, ("revenue",)) as shop:
        words = ["-m", "tests.daemon.child", "3", "daemon", "--port", "0", "--log-format", "json"]
        started = subprocess.Popen(
            ["bash", "-c", f'ulimit -n {FILES}; exec "$0" "$@"', sys.executable, *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=shop.root,
            stderr=subprocess.PIPE,
            text=True,
        )
        daemon = DaemonProcess(started)
        shop.daemons.append(daemon)
        until(lambda: shop.evaluations("revenue"), "the first slot is evaluated", 300)
        with attacked_by(daemon.port, 400, list(ATTACKS.values()), pause_s=0.2) as crowd:
            slots = len(shop.evaluations("revenue"))
            shop.set("revenue", 0)
            until(lambda: ("revenue", "firing") in shop.sent(), "it fires", 300)
            shop.set("revenue", 1)
            until(lambda: ("revenue", "resolved") in shop.sent(), "it resolves", 300)
            until(lambda: len(shop.evaluations("revenue")) > slots + 2, "slots are recorded", 300)
            for path in ("/healthz", "/readyz"):
                assert ask(daemon.port, path)[0] == 200
            assert crowd.connections > 400, "who is thrown out comes back"
        assert daemon.stop() == 0
        assert not daemon.said("fault")
        text = "".join(map(str, daemon.lines)) + "".join(daemon.odd)
        assert daemon.said("peer refused")
        assert "Too many open files" not in text
        assert len(text) < LARGEST_LOG
