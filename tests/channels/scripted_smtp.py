"""A mail server of raw lines that answers, in any of its phases, whatever a test wants."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

ANSWERS = {
    "banner": b"220 ready\r\n",
    "ehlo": b"250-here\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n",
    "starttls": b"220 go\r\n",
    "ehlo over tls": b"250-here\r\n250 AUTH PLAIN\r\n",
    "auth": b"235 ok\r\n",
    "mail": b"250 ok\r\n",
    "rcpt": b"250 ok\r\n",
    "data": b"354 go\r\n",
    "end": b"250 accepted\r\n",
    "rset": b"250 ok\r\n",
    "quit": b"221 bye\r\n",
}
CLOSE = b""


@dataclass
class ScriptedServer:
    """`answers` are given instead of the usual ones; `trickles` is the phase in which a byte comes
    now and then, and never all of an answer; `silent` the one in which nothing comes."""

    security: str = "none"
    answers: Mapping[str, bytes] = field(default_factory=dict)
    trickles: str = ""
    silent: str = ""
    rcpt_pause_s: float = 0.0
    port: int = 0
    ca_file: str = ""
    lines: list[str] = field(default_factory=list)
    mails: list[tuple[list[str], bytes]] = field(default_factory=list)
    """Recipients and bytes of each mail that was accepted."""
    _context: ssl.SSLContext | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError, _Gone), connection:
            self._session(connection)

    def _session(self, plain: socket.socket) -> None:
        connection: Any = plain
        over_tls = self.security == "tls"
        if over_tls:
            connection = self._protected(plain)
        self._answer(connection, "banner")
        reader, recipients = connection.makefile("rb"), []
        while text := reader.readline():
            line = text.decode("ascii", "replace").rstrip()
            verb = line.split(" ")[0].split(":")[0].lower()
            self.lines.append(line)
            if verb == "starttls":
                self._answer(connection, "starttls")
                connection = self._protected(plain)
                reader, over_tls = connection.makefile("rb"), True
                continue
            if verb == "ehlo" and over_tls:
                verb = "ehlo over tls"
            if verb == "rcpt":
                recipients.append(line[line.index("<") + 1 : line.index(">")])
                time.sleep(self.rcpt_pause_s)
            if verb == "mail":
                recipients = []
            if verb == "data" and self._answer(connection, "data").startswith(b"354"):
                mail = b""
                while not mail.endswith(b"\r\n.\r\n"):
                    more = reader.readline()
                    if not more:
                        return
                    mail += more
                self.mails.append((recipients, mail))
                verb = "end"
            elif verb == "data":
                continue
            self._answer(connection, verb)

    def _protected(self, plain: socket.socket) -> ssl.SSLSocket:
        if self.trickles == "handshake":
            # A record of TLS whose end never comes.
            self._trickle(plain, b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03")
        if self.silent == "handshake":
            self._stop.wait()
            raise _Gone
        assert self._context
        return self._context.wrap_socket(plain, server_side=True)

    def _answer(self, connection: Any, phase: str) -> bytes:
        answer = self.answers.get(phase, ANSWERS.get(phase, b"250 ok\r\n"))
        if phase == self.silent:
            self._stop.wait()
            raise _Gone
        if phase == self.trickles:
            self._trickle(connection, answer[:3] + b"-")
        if answer == CLOSE:
            raise _Gone
        connection.sendall(answer)
        return answer

    def _trickle(self, connection: Any, beginning: bytes) -> None:
        while not self._stop.is_set():
            piece, beginning = beginning[:1] or b"x", beginning[1:]
            connection.sendall(piece)
            time.sleep(0.05)
        raise _Gone


class _Gone(Exception):
    pass


@contextmanager
def scripted_server(folder: Path, security: str = "none", **how: Any) -> Iterator[ScriptedServer]:
    server = ScriptedServer(security, **how)
    if security != "none":
        authority = trustme.CA()
        server._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(server._context)
        server.ca_file = str(folder / "scripted.pem")
        authority.cert_pem.write_to_path(server.ca_file)
    listener = socket.create_server(("127.0.0.1", 0))
    server.port = listener.getsockname()[1]
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threads.append(threading.Thread(target=server.serve, args=(connection,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield server
    finally:
        server._stop.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in connections:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for thread in threads:
            thread.join()
