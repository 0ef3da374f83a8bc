"""What peers may take of the daemon: connections, time, bytes, and turns at the tables.

Each connection serves one request and has a deadline. When all places are taken, the connection
that has kept its place longest makes room, first of the peer that has most of them: whoever asks
at once is answered, however many others hold on to theirs.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS = (
    ("connection", "close"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
)
LONGEST_HEAD = 16 << 10
_MOST_BYTES = 64 << 10
_HEAD_S = 10.0
_WHOLE_S = 60.0
_MOST_CONNECTIONS = 64
_SHARE_OF_DESCRIPTORS = 8
_MOST_WAITING = 8
_LONGEST_REST_S = 5.0
T = TypeVar("T")


def most_connections() -> int:
    """How many connections there may be: an eighth of the file descriptors, up to 64."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(4, min(_MOST_CONNECTIONS, soft // _SHARE_OF_DESCRIPTORS))


@dataclass
class Places:
    """The open connections, in the order in which they came; `refused` gets why one was closed."""

    refused: Callable[[str], None]
    most: int = field(default_factory=most_connections)
    taken: dict[BoundedProtocol, str] = field(default_factory=dict)

    def take(self, connection: BoundedProtocol, peer: str) -> None:
        """Give a new connection its place, if need be that of an older one."""
        if len(self.taken) >= self.most:
            [(most, _)] = Counter(self.taken.values()).most_common(1)
            oldest = next(each for each, other in self.taken.items() if other == most)
            oldest.drop("all places for connections were taken")
        self.taken[connection] = peer

    def leave(self, connection: BoundedProtocol) -> None:
        self.taken.pop(connection, None)


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol, with bounds. Only methods of asyncio's protocols are overridden."""

    places: Places  # of a subclass for each server: uvicorn makes the instances

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._received = 0
        self._wire = transport
        loop = asyncio.get_running_loop()
        self._deadlines = [
            loop.call_later(_HEAD_S, self._head_is_late),
            loop.call_later(_WHOLE_S, self.drop, "a request took too long"),
        ]
        peer = transport.get_extra_info("peername")
        self.places.take(self, str(peer[0]) if isinstance(peer, tuple) and peer else "")
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._wire.is_closing():
            return
        self._received += len(data)
        if self._received > _MOST_BYTES:
            self.drop("a request was too large")
        else:
            super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio takes either
        """Whether to go on: who has sent a request may close that half, and is answered."""
        return self.cycle is not None

    def connection_lost(self, exc: Exception | None) -> None:
        self.places.leave(self)
        for each in self._deadlines:
            each.cancel()
        super().connection_lost(exc)

    def drop(self, reason: str) -> None:
        """Close the connection immediately, without sending the rest."""
        self.places.leave(self)
        self.places.refused(reason)
        self._wire.abort()

    def _head_is_late(self) -> None:
        if self.cycle is None:
            self.drop("no request came in time")


class Busy(Exception):
    """Too many requests wait for the tables."""


class Turns:
    """One request at a time reads the tables, and as long as that took, none does afterwards.

    So evaluations, which need the same database, always get at it.
    """

    def __init__(self) -> None:
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._free_at = 0.0

    async def take(self, read: Callable[[], T], gone: Callable[[], Awaitable[bool]]) -> T:
        """What `read` gives, by a thread. Raises Busy if too many wait, or the peer is gone."""
        if self._waiting >= _MOST_WAITING:
            raise Busy
        self._waiting += 1
        try:
            async with self._turn:
                await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))
                if await gone():
                    raise Busy
                began = time.monotonic()
                try:
                    return await run_in_threadpool(read)
                finally:
                    ended = time.monotonic()
                    self._free_at = ended + min(ended - began, _LONGEST_REST_S)
        finally:
            self._waiting -= 1
