"""A real mail server on loopback that refuses as it is told."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


@dataclass
class Mailbox:
    """What has arrived, and how the server behaves."""

    refuse: dict[str, str] = field(default_factory=dict)
    """Recipient to the reply to RCPT."""
    data_reply: str = "250 OK"
    drop_after_data: int = 0
    """How many times the connection is dropped after the mail was taken, before the reply."""
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    users: dict[str, str] = field(default_factory=dict)
    tls_used: list[bool] = field(default_factory=list)
    port: int = 0
    ca_file: str = ""

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        if self.data_reply.startswith("250"):
            mail: Any = email.message_from_bytes(envelope.content, policy=email.policy.default)
            self.mails.append((list(envelope.rcpt_tos), mail))
            assert server.transport
            self.tls_used.append(server.transport.get_extra_info("ssl_object") is not None)
        if self.drop_after_data:
            self.drop_after_data -= 1
            transport: Any = server.transport
            transport.abort()
            await asyncio.sleep(0)
        return self.data_reply

    def authenticate(
        self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        good = isinstance(data, LoginPassword) and (
            self.users.get(data.login.decode()) == data.password.decode()
        )
        return AuthResult(success=good, handled=good)


@contextmanager
def mail_server(folder: Path, security: str = "starttls", **users: str) -> Iterator[Mailbox]:
    """`security` is what the server offers: starttls, tls, none."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    mailbox = Mailbox(users=users, ca_file=str(ca_file))
    settings: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0}
    if security == "tls":
        settings["ssl_context"] = context
    if security == "starttls":
        settings |= {"tls_context": context, "require_starttls": False}
    if users:
        settings |= {
            "authenticator": mailbox.authenticate,
            "auth_required": True,
            "auth_require_tls": security == "starttls",
        }
    controller = _Controller(mailbox, **settings)
    controller.start()
    try:
        mailbox.port = controller.port
        yield mailbox
    finally:
        controller.stop()


class _Controller(Controller):
    """Takes any free port, which is known once it listens."""

    def _trigger_server(self) -> None:
        server: Any = self.server
        self.port = server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]  # the library has no types here
