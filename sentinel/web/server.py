"""The daemon over HTTP: health for containers, metrics for Prometheus, status and history as JSON.

Everybody may ask for health. All else needs the bearer token, if there is one; and so much at a time
as leaves the daemon its work.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sentinel.app.daemon.parts import DaemonStatus
from sentinel.app.documents import history_document, json_time, status_document
from sentinel.core.duration import parse_duration
from sentinel.core.errors import ConfigError, SentinelError
from sentinel.core.notification import Status
from sentinel.ports import HistoryQuery, Store
from sentinel.web.access import Access, Rules
from sentinel.web.limits import HEADERS, LONGEST_HEAD, BoundedProtocol, Busy, Places, Turns
from sentinel.web.metrics import CONTENT_TYPE, Metrics

_MOST_ROWS = 1_000
_STOP_S = 5
_KEPT_S = 1.0
# Connections that wait in the kernel until they are accepted, a few at a time.
_BACKLOG = 128


@dataclass(frozen=True)
class Shown:
    """What there is to show; `store` is None until the project was read."""

    condition: Callable[[], DaemonStatus]
    store: Callable[[], Store | None]
    metrics: Metrics


def on_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def application(shown: Shown, rules: Rules, refused: Callable[[str], None]) -> Starlette:
    """The routes, and what is checked before. `refused` gets why a request was refused."""
    turns = Turns()

    async def tables(request: Request, read: Callable[[], Response]) -> Response:
        try:
            return await turns.take(read, request.is_disconnected)
        except Busy:
            words = "too many requests wait for the tables"
            return JSONResponse({"error": words}, 503, {"retry-after": "5"})

    async def healthz(_: Request) -> Response:
        condition = shown.condition()
        return JSONResponse({"alive": condition.alive}, 200 if condition.alive else 503)

    async def readyz(_: Request) -> Response:
        condition = shown.condition()
        return JSONResponse(ready_document(condition), 200 if condition.ready else 503)

    kept, kept_until = b"", 0.0

    async def metrics(_: Request) -> Response:
        nonlocal kept, kept_until
        if time.monotonic() >= kept_until:
            kept, kept_until = shown.metrics.text(), time.monotonic() + _KEPT_S
        return Response(kept, media_type=CONTENT_TYPE)

    async def status(request: Request) -> Response:
        return await tables(request, lambda: _status(shown))

    async def history(request: Request) -> Response:
        try:
            query = _history_query(request)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        return await tables(request, lambda: _history(shown, query))

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/api/status", status),
            Route("/api/history", history),
        ],
        middleware=[Middleware(Access, rules=rules, refused=refused)],
    )


def ready_document(condition: DaemonStatus) -> dict[str, object]:
    """What /readyz says. The reasons are in the log: they may name what outsiders needn't know."""
    return {
        "ready": condition.ready,
        "leading": condition.leading,
        "project_loaded": condition.loaded_at is not None,
        "problems": sorted(condition.problems),
    }


def _status(shown: Shown) -> Response:
    store, condition = shown.store(), shown.condition()
    daemon = {
        "leading": condition.leading,
        "alerts": condition.alerts,
        "loaded_at": json_time(condition.loaded_at),
        "next_start": json_time(condition.next_start),
        "problems": dict(condition.problems),
    }
    if store is None:
        return JSONResponse({"error": "the project is not loaded yet", "daemon": daemon}, 503)
    try:
        snapshot = store.snapshot()
        stuck = store.notifications([Status.PENDING, Status.CLAIMED, Status.DEAD])
    except SentinelError as error:
        return JSONResponse({"error": error.message, "daemon": daemon}, 503)
    return JSONResponse({**status_document(snapshot, stuck), "daemon": daemon})


def _history(shown: Shown, query: HistoryQuery) -> Response:
    store = shown.store()
    if store is None:
        return JSONResponse({"error": "the project is not loaded yet"}, 503)
    try:
        return JSONResponse(history_document(store.history(query)))
    except SentinelError as error:
        return JSONResponse({"error": error.message}, 503)


def _history_query(request: Request) -> HistoryQuery:
    """`?alert_id=...&since=2h&outcome=error&changes=true&limit=50`. Raises ValueError."""
    given = request.query_params
    known = {"alert_id", "since", "outcome", "changes", "limit"}
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"unknown parameter {unknown[0]!r}; known are {', '.join(sorted(known))}")
    limit = given.get("limit", "50")
    if not (limit.isdecimal() and len(limit) <= 4 and 1 <= int(limit) <= _MOST_ROWS):
        raise ValueError(f"limit is a number from 1 to {_MOST_ROWS}")
    since = given.get("since")
    if any("\0" in value for value in given.values()):
        raise ValueError("a parameter can't hold a NUL character")
    return HistoryQuery(
        alert_ids=frozenset(given.getlist("alert_id")) or None,
        since=_before_now(since) if since else None,
        outcomes=frozenset(given.getlist("outcome")),
        changes_only=given.get("changes", "false").lower() in ("1", "true", "yes"),
        limit=int(limit),
    )


def _before_now(duration: str) -> datetime:
    try:
        return datetime.now(UTC) - parse_duration(duration)
    except OverflowError:
        raise ValueError(f"{duration!r} is too long a duration") from None


class WebServer:
    """uvicorn on a socket: `listen`, then `serve` in a thread, which may be called again."""

    def __init__(
        self,
        make_app: Callable[[], Starlette],
        host: str,
        port: int,
        refused: Callable[[str], None],
    ) -> None:
        self._make_app = make_app
        self._host, self._port = host, port
        self._refused = refused
        self._socket: socket.socket | None = None
        self._server: _Server | None = None

    def listen(self) -> int:
        """Listen, and give the port. Raises ConfigError if it can't be had."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._host, self._port))
            listening.listen(
                _BACKLOG
            )  # immediately: a client may connect as soon as the log shows the port
        except OSError as error:
            listening.close()
            raise ConfigError(
                f"can't listen on {self._host}:{self._port}: {error.strerror or error}",
                hint="`--port` or `web.port` of sentinel.yml takes another port",
            ) from None
        self._socket = listening
        port: int = listening.getsockname()[1]
        return port

    def serve(self) -> None:
        """Answer requests until `stop`."""
        assert self._socket is not None
        places = Places(self._refused)
        config = uvicorn.Config(
            self._make_app,
            factory=True,
            http=type("Protocol", (BoundedProtocol,), {"places": places}),
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            headers=list(HEADERS),
            h11_max_incomplete_event_size=LONGEST_HEAD,
            backlog=max(2, places.most // 4),  # this many are accepted before the next event
            timeout_graceful_shutdown=_STOP_S,
        )
        self._server = _Server(config)
        self._server.run(sockets=[self._socket.dup()])

    def stop(self) -> None:
        """Ask it to end. Safe from any thread."""
        if self._server is not None:
            self._server.should_exit = True


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(
                _BACKLOG
            )  # what asyncio takes for its backlog is how many it accepts at once
