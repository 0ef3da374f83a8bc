"""Who may ask the daemon over HTTP, and by which name: checked before anything else is done."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sentinel.core.hosts import ANY, LOOPBACK, matches_host, normal_host, read_host

# Whoever asks: probes of containers name the daemon by its address, and carry no token.
HEALTH = ("/healthz", "/readyz")
_BEARER = re.compile(rb"bearer +(?P<token>[^ ]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Rules:
    """Who may ask for more than health.

    `hosts` are patterns; `local` says whether only this machine can connect, and decides what is
    shown without a token: everything, or health alone.
    """

    token: str | None
    local: bool
    hosts: Collection[str] = LOOPBACK


@dataclass(frozen=True)
class Access:
    """An ASGI app before which requests are checked; `refused` gets what hints at a mistake.

    `Host` has to match one of the patterns, or be the address at which the connection arrived: no
    page that a browser has from elsewhere can have one of these as its own name. Then the token, if
    there is one, has to be given.
    """

    app: ASGIApp
    rules: Rules
    refused: Callable[[str], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refused := self._refusal(scope)) is not None:
            await refused(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        if not scope.get("raw_path", b"/").startswith(b"/"):
            return _answer(400, "the request's target is a path: /metrics")
        if scope["path"] in HEALTH:
            return None
        return self._wrong_host(scope) or self._wrong_token(scope)

    def _wrong_host(self, scope: Scope) -> Response | None:
        if ANY in self.rules.hosts:
            return None
        given = Headers(scope=scope).getlist("host")
        host = read_host(given[0]) if len(given) == 1 else None
        if host is None:
            return _answer(400, "the request needs one valid Host header")
        here = normal_host(str((scope.get("server") or ("",))[0]))
        if host == here or any(matches_host(host, pattern) for pattern in self.rules.hosts):
            return None
        self.refused(f"the Host header names an unexpected host: {host}")
        return _answer(
            421, "the Host header names an unexpected host: `web.allowed_hosts` of sentinel.yml"
        )

    def _wrong_token(self, scope: Scope) -> Response | None:
        if self.rules.token is None:
            if self.rules.local:
                return None
            return _answer(403, "`web.token` of sentinel.yml is not set: serving health only")
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        found = _BEARER.fullmatch(given[0].strip()) if len(given) == 1 else None
        if found is not None and _same(found["token"], self.rules.token.encode()):
            return None
        return _answer(401, "a bearer token is needed", {"www-authenticate": "Bearer"})


def _same(given: bytes, expected: bytes) -> bool:
    """Whether they are equal, in a time that doesn't depend on where, or in length, they differ."""
    return hmac.compare_digest(*(hashlib.sha256(each).digest() for each in (given, expected)))


def _answer(status: int, words: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": words}, status, headers)
