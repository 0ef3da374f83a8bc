"""How long one delivery may take, on every transport.

A socket's own time-out starts again with each byte that a peer sends, so it bounds nothing. A
deadline counts from its beginning: name resolution, connecting, a proxy, TLS, and every byte in
either direction share one time.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

# A socket's family, and its address as `connect` takes it.
Place = tuple[socket.AddressFamily, tuple[Any, ...]]
_T = TypeVar("_T")
_S = TypeVar("_S", bound=socket.socket)


class DeadlinePassed(TimeoutError):
    """The delivery's time is over: an OSError, as sockets raise them."""


class Deadline:
    """The time of one delivery, a context manager. When it is over, every connection made within
    it is shut down, so that whatever waits for the peer ends at once with an OSError, or with the
    end of the stream; `passed` then says why. TLS over such a connection ends with it.
    """

    def __init__(self, limit: timedelta) -> None:
        self.limit = limit
        self._end = time.monotonic() + limit.total_seconds()
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._timer = threading.Timer(limit.total_seconds(), self._shut_down)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for each in self._connections:
                each.close()
            self._connections.clear()

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._end

    def remaining(self) -> float:
        """The seconds that are left, more than 0. Raises DeadlinePassed."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlinePassed(f"not finished within {self.limit.total_seconds():.0f} s")
        return left

    def watch(self, connection: _S) -> _S:
        """Bound a connection that was made elsewhere; gives it back.

        The deadline keeps a descriptor of its own: wrapping a socket in TLS takes the one away
        that the socket had. Raises DeadlinePassed.
        """
        connection.settimeout(self.remaining())
        with self._lock:
            self._connections.append(connection.dup())
        self.remaining()  # the time may have ended in between
        return connection

    def resolve(self, host: str, port: int) -> list[Place]:
        """The addresses of a host for TCP. Raises OSError and UnicodeError, as getaddrinfo does."""
        found = self.call(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        return list(dict.fromkeys((family, address) for family, _, _, _, address in found))

    def connect(self, places: Iterable[Place]) -> socket.socket:
        """A watched connection to the first address that answers. Raises OSError."""
        left = list(places)
        error = OSError("no address")
        while left:
            family, address = left[0]
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                # Each address has its share: one that drops packets leaves time for the others.
                connection.settimeout(self.remaining() / len(left))
                connection.connect(address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return self.watch(connection)
            except OSError as caught:
                connection.close()
                error = caught
            del left[0]
        self.remaining()
        raise error

    def open(self, host: str, port: int) -> socket.socket:
        """A watched connection to a host by its name. Raises OSError and UnicodeError."""
        return self.connect(self.resolve(host, port))

    def call(self, function: Callable[[], _T]) -> _T:
        """The result of something that can't be interrupted and has no effect, in a thread that is
        abandoned when the time is over. Raises DeadlinePassed, and what the function raises.
        """
        results: list[_T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(function())
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                errors.append(error)

        seconds = self.remaining()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(seconds)
        if errors:
            raise errors[0]
        if not results:
            self.remaining()
            raise DeadlinePassed(f"not finished within {self.limit.total_seconds():.0f} s")
        return results[0]

    def _shut_down(self) -> None:
        with self._lock:
            for each in self._connections:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
