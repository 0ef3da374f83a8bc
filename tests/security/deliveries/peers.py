"""Receivers that trickle and proxies that stand between: real sockets on loopback."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trustme

EVERY_S = 0.05
_HEAD_ENDS = b"\r\n\r\n"


@dataclass(frozen=True)
class Authority:
    """Certificates of the tests: files in PEM."""

    ca: trustme.CA
    folder: Path

    @property
    def ca_file(self) -> str:
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(path))
        return str(path)

    def server(self, *, client_ca: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        if client_ca:
            self.ca.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@dataclass
class Peer:
    """A server of raw bytes: `serve` gets each connection, and an event that is set at the end."""

    port: int = 0
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0
    heads: list[bytes] = field(default_factory=list)
    first: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        with self._lock:
            self.connections += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.first.set()

    def end(self) -> None:
        with self._lock:
            self.at_once -= 1


Serve = Callable[[Peer, socket.socket, threading.Event], None]


@contextmanager
def peer(serve: Serve, tls: ssl.SSLContext | None = None) -> Iterator[Peer]:
    listener = socket.create_server(("127.0.0.1", 0))
    peer_, stop, threads = Peer(listener.getsockname()[1]), threading.Event(), []
    sockets: list[socket.socket] = []

    def handle(connection: socket.socket) -> None:
        peer_.begin()
        try:
            with suppress(OSError):
                if tls is not None:
                    connection = tls.wrap_socket(connection, server_side=True)
                    sockets.append(connection)
                with connection:
                    serve(peer_, connection, stop)
        finally:
            peer_.end()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            sockets.append(connection)
            thread = threading.Thread(target=handle, args=(connection,), daemon=True)
            thread.start()
            threads.append(thread)

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield peer_
    finally:
        stop.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        accepting.join(1)
        for thread in threads:
            thread.join(1)


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while _HEAD_ENDS not in head:
        piece = connection.recv(1)
        if not piece:
            raise ConnectionResetError
        head += piece
    return head


def trickle(connection: socket.socket, stop: threading.Event, start: bytes, then: bytes) -> None:
    """`start` at once, then `then` again and again, a byte at a time, for ever."""
    connection.sendall(start)
    while not stop.is_set():
        for place in range(len(then)):
            connection.sendall(then[place : place + 1])
            time.sleep(EVERY_S)


# -- receivers, by what they trickle -----------------------------------------------------------


def headers(peer_: Peer, connection: socket.socket, stop: threading.Event) -> None:
    peer_.heads.append(read_head(connection))
    trickle(connection, stop, b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n")


def status_line(peer_: Peer, connection: socket.socket, stop: threading.Event) -> None:
    read_head(connection)
    trickle(connection, stop, b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n")


def body(peer_: Peer, connection: socket.socket, stop: threading.Event) -> None:
    read_head(connection)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n{"
    trickle(connection, stop, head, b" ")


def chunks(peer_: Peer, connection: socket.socket, stop: threading.Event) -> None:
    read_head(connection)
    trickle(
        connection, stop, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"
    )


def silence(peer_: Peer, connection: socket.socket, stop: threading.Event) -> None:
    read_head(connection)
    stop.wait()


def never_reads(peer_: Peer, connection: socket.socket, stop: threading.Event) -> None:
    stop.wait()


def handshake(peer_: Peer, connection: socket.socket, stop: threading.Event) -> None:
    """The beginning of a TLS record of 16 KB, and its bytes one by one."""
    connection.recv(1)
    trickle(connection, stop, b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03", b"\x00")


RECEIVERS: dict[str, Serve] = {
    each.__name__: each for each in (headers, status_line, body, chunks, silence, never_reads)
}


# -- proxies -----------------------------------------------------------------------------------


@dataclass
class Proxy:
    """An HTTP proxy that forwards: CONNECT for https, whole URLs for http. With `credentials` it asks
    for them."""

    credentials: str = ""
    targets: list[str] = field(default_factory=list)

    def __call__(self, peer_: Peer, connection: socket.socket, stop: threading.Event) -> None:
        head = read_head(connection)
        peer_.heads.append(head)
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        self.targets.append(target)
        wanted = base64.b64encode(self.credentials.encode())
        if self.credentials and b"Basic " + wanted not in head:
            connection.sendall(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 9\r\n\r\nwho? "
                + wanted
            )
            return
        authority = target if method == "CONNECT" else target.split("/")[2]
        host, port = authority.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as onward:
            if method == "CONNECT":
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                path = "/" + target.split("/", 3)[3]
                lines = head.replace(target.encode(), path.encode(), 1).split(b"\r\n")
                kept = [each for each in lines if not each.lower().startswith(b"proxy-")]
                onward.sendall(b"\r\n".join(kept))
            back = threading.Thread(target=_pump, args=(onward, connection), daemon=True)
            back.start()
            _pump(connection, onward)
            back.join(1)


def _pump(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while piece := one.recv(65_536):
            other.sendall(piece)
    for each in (one, other):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def trickling_proxy(peer_: Peer, connection: socket.socket, stop: threading.Event) -> None:
    read_head(connection)
    trickle(connection, stop, b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n")
