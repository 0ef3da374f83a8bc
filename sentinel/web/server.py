"""The daemon over HTTP: health for containers, metrics for Prometheus, status and history as JSON.

Health is told to everybody. All else needs the bearer token, unless only this machine can ask.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sentinel.app.daemon import Condition
from sentinel.app.documents import history_document, json_time, status_document
from sentinel.core.duration import parse_duration
from sentinel.core.errors import ConfigError, SentinelError
from sentinel.core.planning import Status
from sentinel.ports import HistoryQuery, Store
from sentinel.web.metrics import CONTENT_TYPE, Metrics

_MOST_ROWS = 1_000
_START_S = 10.0

Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Shown:
    """What there is to show; `store` is None until the project was read."""

    condition: Callable[[], Condition]
    store: Callable[[], Store | None]
    metrics: Metrics


def on_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def application(shown: Shown, token: str | None, *, local: bool) -> Starlette:
    """The routes. Not on loopback and without a token, only health is shown."""

    def guarded(answer: Answer) -> Answer:
        async def ask(request: Request) -> Response:
            if token is None and not local:
                words = "`web.token` of sentinel.yml is not set: only health is shown"
                return JSONResponse({"error": words}, 403)
            if token is not None and not (local and "authorization" not in request.headers):
                given = request.headers.get("authorization", "")
                if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                    headers = {"www-authenticate": "Bearer"}
                    return JSONResponse({"error": "a bearer token is needed"}, 401, headers)
            return await answer(request)

        return ask

    async def healthz(_: Request) -> Response:
        condition = shown.condition()
        return JSONResponse({"alive": condition.alive}, 200 if condition.alive else 503)

    async def readyz(_: Request) -> Response:
        condition = shown.condition()
        return JSONResponse(ready_document(condition), 200 if condition.ready else 503)

    async def metrics(_: Request) -> Response:
        return Response(shown.metrics.text(), media_type=CONTENT_TYPE)

    async def status(_: Request) -> Response:
        return await run_in_threadpool(_status, shown)

    async def history(request: Request) -> Response:
        return await run_in_threadpool(_history, shown, request)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", guarded(metrics)),
            Route("/api/status", guarded(status)),
            Route("/api/history", guarded(history)),
        ]
    )


def ready_document(condition: Condition) -> dict[str, object]:
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


def _history(shown: Shown, request: Request) -> Response:
    store = shown.store()
    if store is None:
        return JSONResponse({"error": "the project is not loaded yet"}, 503)
    try:
        query = _history_query(request)
    except ValueError as error:
        return JSONResponse({"error": str(error)}, 400)
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
    if not limit.isdigit() or not 1 <= int(limit) <= _MOST_ROWS:
        raise ValueError(f"limit is a number from 1 to {_MOST_ROWS}")
    since = given.get("since")
    return HistoryQuery(
        alert_ids=frozenset(given.getlist("alert_id")) or None,
        since=datetime.now(UTC) - parse_duration(since) if since else None,
        outcomes=frozenset(given.getlist("outcome")),
        changes_only=given.get("changes", "false").lower() in ("1", "true", "yes"),
        limit=int(limit),
    )


class WebServer:
    """uvicorn in a thread of its own."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        self._host, self._port = host, port
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", server_header=False
        )
        self._server = uvicorn.Server(config)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Listen, and give the port. Raises ConfigError if it can't be had."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._host, self._port))
            listening.listen()  # at once: who is told of the port may ask
        except OSError as error:
            listening.close()
            raise ConfigError(
                f"can't listen on {self._host}:{self._port}: {error.strerror or error}",
                hint="`--port` or `web.port` of sentinel.yml takes another port",
            ) from None
        self._socket = listening
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="web", daemon=True
        )
        self._thread.start()
        port: int = listening.getsockname()[1]
        return port

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_START_S)
        if self._socket is not None:
            self._socket.close()
