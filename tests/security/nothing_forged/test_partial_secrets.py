"""A receiver knows the secret that it was sent: whatever it answers, nothing of it is shown."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from pydantic import BaseModel
from ruamel.yaml import YAML
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from sentinel.channels.registry import channel_types
from sentinel.core.origin import is_secret
from sentinel.core.secret import Scrubber
from tests.channels.receiver import _Quiet
from tests.cli.conftest import Project
from tests.security.registry import HTTP_CHANNELS, SMTP_CHANNELS, channel_type

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

PIECE = 6
# Around what is read of an answer, and what was shown of it.
PADDING = (0, 1, 150, 180, 190, 195, 199, 900, 990, 4_000, 4_060, 4_080, 4_090, 4_096)
# What becomes of a secret on its way back.
ECHOES = {
    "as it is": lambda text: text,
    "without its beginning": lambda text: text[4:],
    "in capitals": str.upper,
    "in lines": lambda text: "\n".join(text[n : n + 5] for n in range(0, len(text), 5)),
    "as JSON": lambda text: json.dumps({"error": text}),
}


class Echo:
    """Answers with what it was sent, behind some padding."""

    def __init__(self) -> None:
        self.padding = 0
        self.status = 400
        self.change: Any = ECHOES["as it is"]

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        known = [*request.headers.values(), request.full_path, request.get_data(as_text=True)]
        # The shortest first: one that is cut is the longest.
        text = " ".join(sorted(known, key=len))
        answer = Response("~" * self.padding + self.change(text), status=self.status)
        return answer(environ, start)


@contextmanager
def echoing() -> Iterator[tuple[str, Echo]]:
    echo = Echo()
    server = make_server("127.0.0.1", 0, echo, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", echo
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def new_secret() -> str:
    """A secret of whose pieces none is in a hash or in a word by chance."""
    return "".join(secrets.choice("ghjklmnpqrstvwxyz") for _ in range(40))


def pieces_of(secret: str, text: str) -> set[str]:
    """What of a secret a text shows."""
    shown = "".join(text.split()).lower()
    low = secret.lower()
    return {low[n : n + PIECE] for n in range(len(low) - PIECE + 1) if low[n : n + PIECE] in shown}


def secret_settings(name: str, url: str) -> tuple[dict[str, Any], list[str]]:
    """The settings of a channel with a new secret in each key that takes one."""
    made = [new_secret()]
    values = HTTP_CHANNELS[name](f"{url}/hook/{made[0]}?key={made[0]}")
    model: type[BaseModel] = channel_types()[channel_type(name)].load().Settings
    if name == "slack by token":
        values["api_url"] = f"{url}/api/"
    for key in model.model_fields:
        if key == "headers":
            made.append(new_secret())
            values[key] = {"Authorization": f"Bearer {made[-1]}"}
        elif (
            key in values and key not in ("url", "urls", "webhook_url") and is_secret(model, (key,))
        ):
            made.append(new_secret())
            values[key] = made[-1]
    return values, made


def configure(project: Project, **channel: Any) -> None:
    with (project.root / "sentinel.yml").open("w") as file:
        YAML().dump({"defaults": {"channels": ["it"]}, "channels": {"it": channel}}, file)


@pytest.mark.parametrize("name", HTTP_CHANNELS)
def test_a_receiver_that_echoes_what_it_was_sent_shows_nothing_of_it(
    name: str,
    acme: Project,
) -> None:
    shown: list[str] = []
    with echoing() as (url, echo):
        values, made = secret_settings(name, url)
        configure(acme, type=channel_type(name), **values)
        for padding in PADDING:
            echo.padding = padding
            ran = acme.sentinel("notify-test", "it")
            assert ran.code == 4, ran.err
            shown.append(ran.out + ran.err)
        echo.padding = 10
        for change in ECHOES.values():
            for echo.status in (400, 500, 302):
                echo.change = change
                ran = acme.sentinel("notify-test", "it")
                shown.append(ran.out + ran.err)
    assert {
        piece for secret in made for text in shown for piece in pieces_of(secret, text)
    } == set()


def test_nothing_of_it_reaches_tables_logs_and_commands(acme: Project) -> None:
    with echoing() as (url, echo):
        echo.padding = 4_070
        values, made = secret_settings("webhook", url)
        configure(acme, type="webhook", **values)
        shown = []
        for args in (
            ("run", "--output", "json"),
            ("run", "--log-format", "json"),
            ("deliver",),
            ("status",),
            ("status", "--output", "json"),
            ("explain", "revenue"),
            ("explain", "revenue", "--output", "json"),
            ("history", "--output", "json"),
            ("doctor",),
        ):
            ran = acme.sentinel(*args)
            shown.append(ran.out + ran.err)
    assert any("the receiver answered 400" in text for text in shown)
    shown.append(repr(acme.query("select * from sentinel_notifications")))
    shown += [
        file.read_bytes().decode("latin-1") for file in (acme.root / "target").rglob("*.json")
    ]
    assert {
        piece for secret in made for text in shown for piece in pieces_of(secret, text)
    } == set()


@contextmanager
def mail_server(folder: Path, padding: int) -> Iterator[int]:
    """Refuses a login with what it was sent, behind some padding."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with context.wrap_socket(plain, server_side=True) as peer, peer.makefile("rwb") as file:
                file.write(b"220 here\r\n")
                file.flush()
                for line in file:
                    if line.upper().startswith(b"EHLO"):
                        file.write(b"250-here\r\n250 AUTH PLAIN\r\n")
                    elif line.upper().startswith(b"QUIT"):
                        break
                    else:
                        # A line of SMTP may not be longer than this library reads.
                        file.write(b"535 " + b"~" * padding + line.strip()[:7_000] + b"\r\n")
                    file.flush()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


@pytest.mark.parametrize("padding", [0, 150, 180, 195, 900])
@pytest.mark.parametrize("name", SMTP_CHANNELS)
def test_a_mail_server_that_echoes_a_login_shows_nothing_of_it(
    name: str,
    padding: int,
    acme: Project,
) -> None:
    password = new_secret()
    with mail_server(acme.root, padding) as port:
        values = SMTP_CHANNELS[name](port)
        values |= {
            "security": "tls", "ca_file": "ca.pem", "username": "me", "password": password,
        }  # fmt: skip
        configure(acme, type=channel_type(name), **values)
        ran = acme.sentinel("notify-test", "it")
    assert ran.code == 4
    sent = Scrubber()(ran.out + ran.err)
    assert "535" in sent
    assert pieces_of(password, sent) == set()
    plain = Scrubber([password])
    for start in range(3):
        coded = base64.b64encode(b"\0" * start + password.encode()).decode()[4:-4]
        assert pieces_of(coded, sent) == set()
    assert plain(sent) == sent


SECRET = "xoxb-4711abcdEFGH-secretive-0815"


@pytest.mark.parametrize("kept", range(PIECE, len(SECRET)))
def test_the_beginning_of_a_secret_is_scrubbed_where_a_text_was_cut(kept: int) -> None:
    scrub = Scrubber([SECRET])
    for end in ("", "…", "...", "… (4,321 characters, cut)", " …"):
        assert pieces_of(SECRET, scrub(f"the token {SECRET[:kept]}{end}")) == set()


def test_a_url_is_no_secret_but_for_its_keys() -> None:
    scrub = Scrubber(["https://hooks.example.com/services/T0123/abcdef0123456789"])
    words = "the services of https://hooks.example.com don't answer"
    assert scrub(words) == scrub.thoroughly(words) == words
    assert "abcdef" not in scrub.thoroughly("no such hook: ABCDEF012345")
