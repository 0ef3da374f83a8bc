"""A real mail server on loopback that refuses as it is told."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import re
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

_MECHANISMS = {"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"}


@dataclass
class Mailbox:
    """What has arrived, and how the server behaves."""

    refuse: dict[str, str] = field(default_factory=dict)
    """Recipient to the reply to RCPT."""
    data_reply: str = "250 OK"
    drop_after_data: int = 0
    """How many times the connection is dropped after the mail was taken, before the reply."""
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    """The bytes of each mail, as they came over the wire."""
    senders: list[str] = field(default_factory=list)
    users: dict[str, str] = field(default_factory=dict)
    tls_used: list[bool] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    """User to the access token that is accepted."""
    token_logins: list[tuple[str, str]] = field(default_factory=list)
    """Mechanism and token of each try."""
    login_refusal: str = "535 5.7.8 Authentication credentials invalid"
    port: int = 0
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""

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
            self.raw.append(envelope.content)
            self.senders.append(envelope.mail_from)
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
        valid = isinstance(data, LoginPassword) and (
            self.users.get(data.login.decode()) == data.password.decode()
        )
        if not valid:
            return AuthResult(success=False, handled=False, message=self.login_refusal)
        return AuthResult(success=valid, handled=valid)


class TokenMailbox(Mailbox):
    """Takes tokens as well."""

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:
        text = base64.b64decode(args[1]).decode()
        found = re.fullmatch("user=([^\x01]*)\x01auth=Bearer ([^\x01]*)\x01\x01", text)
        return await self._by_token(server, "XOAUTH2", found, b"")

    async def auth_OAUTHBEARER(self, server: SMTP, args: list[str]) -> AuthResult:
        text = base64.b64decode(args[1]).decode()
        found = re.fullmatch(
            "n,a=([^,]*),\x01host=[^\x01]+\x01port=[0-9]+\x01auth=Bearer ([^\x01]*)\x01\x01", text
        )
        return await self._by_token(server, "OAUTHBEARER", found, b"\x01")

    async def _by_token(
        self, server: SMTP, mechanism: str, found: re.Match[str] | None, last: bytes
    ) -> AuthResult:
        assert found, "not a login by token"
        user, token = found.groups()
        self.token_logins.append((mechanism, token))
        if self.tokens.get(user) == token:
            return AuthResult(success=True, auth_data=user)
        acknowledged = await server.challenge_auth('{"status":"401","schemes":"bearer"}')
        assert acknowledged == last
        return AuthResult(success=False, handled=False, message=self.login_refusal)


@contextmanager
def mail_server(
    folder: Path,
    security: str = "starttls",
    *,
    mechanisms: Iterable[str] = (),
    mutual: bool = False,
    **users: str,
) -> Iterator[Mailbox]:
    """`security` is what the server offers: starttls, tls, none. `mechanisms` are the ways to log in
    (without them, those by password), `mutual` asks for a client certificate."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    kind = TokenMailbox if mechanisms else Mailbox
    mailbox = kind(users=users, ca_file=str(ca_file))
    settings: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0}
    if mutual:
        client = authority.issue_cert("sentinel@example.org")
        mailbox.client_cert, mailbox.client_key = str(folder / "cert.pem"), str(folder / "key.pem")
        client.cert_chain_pems[0].write_to_path(mailbox.client_cert)
        client.private_key_pem.write_to_path(mailbox.client_key)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    if security == "tls":
        settings["ssl_context"] = context
    if security == "starttls":
        settings |= {"tls_context": context, "require_starttls": False}
    if users or mechanisms:
        settings |= {
            "authenticator": mailbox.authenticate,
            "auth_required": True,
            "auth_require_tls": security == "starttls",
            "auth_exclude_mechanism": _MECHANISMS - set(mechanisms) if mechanisms else (),
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
