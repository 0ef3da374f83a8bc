"""Every service of the internet on loopback: a proxy that speaks TLS in the name of any host."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

# What one service or another takes for acceptance, all at once.
_ACCEPTED: dict[str, Any] = {
    "ok": True, "success": True, "code": 0, "StatusCode": 0, "errcode": 0, "error": 0,
    "errors": [], "id": "1", "channel": {"_id": "1"}, "result": {"message_id": 1},
    "access_token": "token", "token": "token", "expires_in": 3600,
    "data": {"authToken": "token", "userId": "1", "id": "1"}, "room_id": "!r:x.org", "user_id": "@u:x.org",
    "event_id": "$1", "status": "success",
}  # fmt: skip


@dataclass
class Services:
    """What was sent to any host."""

    requests: list[tuple[str, bytes]] = field(default_factory=list)
    """The host of each request, and its body."""

    def by_host(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for host, body in self.requests:
            found.setdefault(host, []).append(body)
        return found


@contextmanager
def every_service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """While it lasts, all requests of this process go to it, and are accepted."""
    authority = trustme.CA()
    ca_file = folder / "services.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    services, contexts = Services(), {}
    lock = threading.Lock()

    def context(host: str) -> ssl.SSLContext:
        with lock:
            if host not in contexts:
                contexts[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                authority.issue_cert(host).configure_cert(contexts[host])
            found: ssl.SSLContext = contexts[host]
            return found

    def serve(connection: Any) -> None:
        with suppress(OSError, ValueError), connection:
            first, _ = _request(connection.makefile("rb"))
            assert first.startswith("CONNECT ")
            connection.sendall(b"HTTP/1.1 200 ok\r\n\r\n")
            host = first.split()[1].rpartition(":")[0]
            with context(host).wrap_socket(connection, server_side=True) as protected:
                reader = protected.makefile("rb")
                while True:
                    _, body = _request(reader)
                    services.requests.append((host, body))
                    answer = b"ok" if host == "hooks.slack.com" else json.dumps(_ACCEPTED).encode()
                    head = (
                        "HTTP/1.1 200 ok\r\ncontent-type: application/json\r\n"
                        f"content-length: {len(answer)}\r\n\r\n"
                    )
                    protected.sendall(head.encode() + answer)

    listener = socket.create_server(("127.0.0.1", 0))
    connections, threads = [], []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    for name in ("NO_PROXY", "no_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_file))
    try:
        yield services
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for each in connections:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _request(reader: Any) -> tuple[str, bytes]:
    """The first line and the body of a request. Raises ValueError at the end of the connection."""
    first = reader.readline().decode("latin-1").strip()
    if not first:
        raise ValueError
    length = 0
    while line := reader.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "content-length":
            length = int(value)
    return first, reader.read(length)
