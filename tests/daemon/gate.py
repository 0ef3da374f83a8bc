"""A way to a server that can be shut: what is under way breaks off, nothing new comes through."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Gate:
    """Forwards connections of `port` on 127.0.0.1 to another address while it is open."""

    target: tuple[str, int]
    port: int = 0
    _listening: socket.socket | None = None
    _under_way: list[socket.socket] = field(default_factory=list)

    def open(self) -> None:
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self._listening = listening
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def shut(self) -> None:
        if self._listening is not None:
            _end(self._listening)
            self._listening = None
        while self._under_way:
            _end(self._under_way.pop())

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                return
            far = socket.create_connection(self.target)
            self._under_way += (near, far)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=_forward, args=pair, daemon=True).start()


def _forward(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    _end(source)
    _end(target)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def gate_to(host: str, port: int) -> Iterator[Gate]:
    """An open gate; shut in the end."""
    gate = Gate((host, port))
    gate.open()
    try:
        yield gate
    finally:
        gate.shut()
