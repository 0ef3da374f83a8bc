"""Peers that take what they can of an HTTP server: connections, time, bytes, turns."""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Attack:
    """What a peer sends at once, what it goes on sending, and whether it then closes its half."""

    first: bytes = b""
    more: bytes = b""
    half_closes: bool = False
    leaves: bool = False


def _request(path: str = "/metrics", *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


_UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA==")
ATTACKS: Mapping[str, Attack] = {
    "says nothing": Attack(),
    "sends its request line slowly": Attack(b"GET /", b"a"),
    "sends headers slowly": Attack(b"GET /healthz HTTP/1.1\r\n", b"X-More: 1\r\n"),
    "sends a body slowly": Attack(
        _request("/api/status", "Content-Length: 1000000", method="POST"), b"x"
    ),
    "sends a body of a good path slowly": Attack(_request("/metrics", "Content-Length: 99"), b"x"),
    "sends chunks slowly": Attack(
        _request("/metrics", "Transfer-Encoding: chunked"), b"1\r\nx\r\n"
    ),
    "waits to be asked for its body": Attack(
        _request("/metrics", "Content-Length: 9", "Expect: 100-continue")
    ),
    "never reads": Attack(_request("/api/history?limit=1000") * 20),
    "sends requests without end": Attack(_request() * 50, _request() * 50),
    "asks for what is costly": Attack(_request("/api/status")),
    "upgrades": Attack(_request("/metrics", *_UPGRADE), b"\x81\x05hello"),
    "sends header after header": Attack(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5_000, b"X: y\r\n"),
    "sends a header of a megabyte": Attack(b"GET / HTTP/1.1\r\nX: " + b"y" * 1_000_000, b"y" * 999),
    "sends a path of a megabyte": Attack(b"GET /" + b"y" * 1_000_000, b"y" * 999),
    "sends no HTTP": Attack(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 50, b"\xff"),
    "closes its half after half a request": Attack(b"GET / HT", half_closes=True),
    "closes its half at once": Attack(half_closes=True),
    "leaves at once": Attack(_request("/api/history"), leaves=True),
}


@dataclass
class Crowd:
    """So many peers at a time, of these kinds in turn; one that is thrown out comes back."""

    port: int
    attacks: Sequence[Attack]
    number: int
    pause_s: float = 0.05
    connections: int = 0
    _peers: dict[socket.socket, Attack] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        turn = 0
        while not self._stop.is_set():
            while len(self._peers) < self.number and not self._stop.is_set():
                attack = self.attacks[turn % len(self.attacks)]
                turn += 1
                if not self._come(attack):
                    break
            for peer, attack in list(self._peers.items()):
                if not self._go_on(peer, attack):
                    peer.close()
                    del self._peers[peer]
            self._stop.wait(self.pause_s)

    def _come(self, attack: Attack) -> bool:
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        peer.settimeout(0.2)
        try:
            peer.connect(("127.0.0.1", self.port))
            self.connections += 1
            peer.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                peer.send(attack.first)
            if attack.half_closes:
                peer.shutdown(socket.SHUT_WR)
        except OSError:  # refused, or thrown out already
            peer.close()
            return False
        if attack.leaves:
            peer.close()
        else:
            self._peers[peer] = attack
        return True

    @staticmethod
    def _go_on(peer: socket.socket, attack: Attack) -> bool:
        try:
            if peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return False
            if attack.more:
                peer.send(attack.more)
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def end(self) -> None:
        self._stop.set()

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


@contextmanager
def attacked_by(
    port: int, number: int, attacks: Sequence[Attack], *, pause_s: float = 0.05
) -> Iterator[Crowd]:
    """While this lasts, a crowd attacks a server; all of it has come before it begins."""
    with many_files():
        crowd = Crowd(port, attacks, number, pause_s)
        thread = threading.Thread(target=crowd.work, daemon=True)
        thread.start()
        try:
            end = time.monotonic() + 60
            while crowd.connections < number and time.monotonic() < end:
                time.sleep(0.05)
            assert crowd.connections >= number, "the attackers came in"
            yield crowd
        finally:
            crowd.end()
            thread.join(20)
            crowd.close()


@contextmanager
def many_files() -> Iterator[None]:
    """This process may open as many files as it can be allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ask(port: int, path: str, *, within_s: float = 30.0) -> tuple[int, bytes]:
    """An honest client, which tries again for a while where it is thrown out."""
    end = time.monotonic() + within_s
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            if time.monotonic() >= end:
                raise
            time.sleep(0.05)
        finally:
            connection.close()
