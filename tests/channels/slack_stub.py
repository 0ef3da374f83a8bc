"""Slack's Web API on loopback, as far as Sentinel speaks to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from .receiver import _Quiet

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


@dataclass
class SlackStub:
    """Keeps messages; `answers` are given before it does its work again."""

    url: str = ""
    token: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        method = request.path.rsplit("/", 1)[-1]
        content = json.loads(request.get_data())
        self.calls.append((method, content))
        if self.answers:
            answer = self.answers.pop(0)
        elif request.headers.get("Authorization") != f"Bearer {self.token}":
            answer = said({"ok": False, "error": "invalid_auth"})
        else:
            ts = content.get("ts") or f"17{len(self.calls):08}.000100"
            answer = said({"ok": True, "channel": "C0123", "ts": ts})
        return answer(environ, start)

    def methods(self) -> list[str]:
        return [method for method, _ in self.calls]


def said(document: dict[str, Any], status: int = 200, **headers: str) -> Response:
    return Response(
        json.dumps(document), status=status, headers=headers, content_type="application/json"
    )


@contextmanager
def slack(token: str) -> Iterator[SlackStub]:
    stub = SlackStub(token=token)
    server = make_server("127.0.0.1", 0, stub, threaded=True, request_handler=_Quiet)
    stub.url = f"http://127.0.0.1:{server.server_port}/api/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
