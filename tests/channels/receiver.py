"""A real HTTP server on loopback that answers as it is told and remembers what it got."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from .examples import Reply

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


# As receivers of webhooks do.
NO_CONTENT: Reply = (204, "", "")


def response(reply: Reply) -> Response:
    status, content_type, body = reply
    return Response(body, status=status, content_type=content_type or None)


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


@dataclass
class Receiver:
    """Answers each request with the next of `answers`, and after the last with what it `accepts` by."""

    url: str = ""
    accepts: Reply = NO_CONTENT
    answers: list[Response] = field(default_factory=list)
    got: list[Received] = field(default_factory=list)

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        self.got.append(
            Received(
                request.method,
                request.full_path.rstrip("?"),
                {name.lower(): value for name, value in request.headers.items()},
                request.get_data(),
            )
        )
        answer = self.answers.pop(0) if self.answers else response(self.accepts)
        return answer(environ, start)


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def receiving(accepts: Reply = NO_CONTENT) -> Iterator[Receiver]:
    receiver = Receiver(accepts=accepts)
    server = make_server("127.0.0.1", 0, receiver, threaded=True, request_handler=_Quiet)
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook?token=t0ps3cret"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def answering(
    reply: bytes, *, then: bytes = b"", every: float = 0.0, reset: bool = False
) -> Iterator[str]:
    """A server of raw bytes for one request: `reply`, then `then` again and again until cut off."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65_536)
            if reset:
                mark_delay = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, mark_delay)
                return
            try:
                connection.sendall(reply)
                while every and not stop.is_set():
                    time.sleep(every)
                    connection.sendall(then)
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        stop.set()
        listener.close()
        thread.join()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def rebinding(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Names under example.org resolve to one of these addresses after the other; gives who asked."""
    real, asked, left = socket.getaddrinfo, [], list(answers)

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if not str(host).endswith("example.org"):
            return real(host, port, *args, **kwargs)
        asked.append(str(host))
        address = left.pop(0) if len(left) > 1 else left[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked
