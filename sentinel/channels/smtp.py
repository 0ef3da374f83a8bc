"""One session with a mail server, all of it within one deadline."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from sentinel.channels.deadline import Deadline
from sentinel.channels.escape import cut
from sentinel.core.errors import DeliveryError
from sentinel.core.text import line

Security = Literal["starttls", "tls", "none"]
PASSWORD_MECHANISMS = ("CRAM-MD5", "PLAIN", "LOGIN")
TOKEN_MECHANISMS = ("XOAUTH2", "OAUTHBEARER")
# Recipients of one transaction: as many as every server takes (RFC 5321, section 4.5.3.1.8).
_AT_ONCE = 100
# Of all answers of a session together.
_LONGEST_ANSWERS = 1_000_000
_LONGEST_LINE = 8_192
_ANSWER = re.compile(rb"(?P<code>[2-5]\d\d)(?:(?P<more>[ -])(?P<text>[^\n]*))?\r?\n")
_SHOWN = 200
# This many characters of a credential in an answer count as an echo of it.
_ECHO = 8
_SHORTEST = 6
_PASSING = "the mail server broke off"


class Refused(Exception):
    """The server refused the credentials."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


@dataclass
class Progress:
    """Which recipients the server has accepted the mail for, and which it has refused and why."""

    accepted: list[str] = field(default_factory=list)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)


class Session(smtplib.SMTP):
    """A connection with which the mail server is greeted and, unless `security` is none, protected.

    Its methods raise DeliveryError. A server may answer a byte at a time in any of its phases: the
    deadline ends them together.
    """

    def __init__(
        self,
        host: str,
        port: int,
        security: Security,
        context: ssl.SSLContext,
        deadline: Deadline,
    ) -> None:
        # With a name of its own, since smtplib asks the name service for one, as long as it takes.
        super().__init__(local_hostname=_own_name())
        self._host = host
        self._port = port
        self._security = security
        self._context = context
        self._deadline = deadline
        self._phase = "while it was connected to"
        self._credentials: list[str] = []
        self._left = _LONGEST_ANSWERS

    def open(self) -> None:
        """Connect, greet, and protect the connection. Raises DeliveryError."""
        try:
            code, words = self.connect(self._host, self._port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, words)
            self._phase = "while it was greeted"
            self.ehlo_or_helo_if_needed()
            if self._security == "starttls":
                if not self.has_extn("starttls"):
                    refusal = (
                        "the mail server offers no STARTTLS; `security: none` sends in the clear"
                    )
                    raise DeliveryError(refusal, permanent=True)
                self._phase = "while TLS was started"
                code, words = self.starttls(context=self._context)
                if code != 220:
                    raise smtplib.SMTPResponseException(code, words)
                self._phase = "while it was greeted"
                code, words = self.ehlo()
                if code != 250:
                    raise smtplib.SMTPHeloError(code, words)
        except ssl.SSLError as error:
            if self._deadline.passed:
                raise self._late() from None
            reason = error.reason or getattr(error, "verify_message", "") or "its certificate"
            raise DeliveryError(f"TLS with the mail server failed: {line(reason)}") from None
        except UnicodeError:
            raise DeliveryError("the mail server's name can't be used", permanent=True) from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise self._failure(error, "the mail server can't be reached") from None

    @property
    def mechanisms(self) -> list[str]:
        """The ways to log in that the server offers, in capitals."""
        return str(self.esmtp_features.get("auth", "")).upper().split()

    def log_in(self, username: str, password: str) -> None:
        """Log in by a password. Raises Refused, and DeliveryError."""
        self._phase = "while logging in to it"
        self._credentials.append(password)
        try:
            self.login(username, password)
        except smtplib.SMTPAuthenticationError as error:
            raise Refused(error.smtp_code, self._shown(error.smtp_error)) from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise self._failure(error) from None

    def log_in_by_token(self, username: str, token: str) -> None:
        """Log in by XOAUTH2 or OAUTHBEARER (RFC 7628). Raises Refused, and DeliveryError."""
        self._phase = "while logging in to it"
        self._credentials.append(token)
        bearer = f"auth=Bearer {token}\x01\x01"
        if "XOAUTH2" in self.mechanisms:
            mechanism, first, last = "XOAUTH2", f"user={username}\x01{bearer}", ""
        else:
            # RFC 5801, section 4.
            name = username.replace("=", "=3D").replace(",", "=2C")
            place = f"host={self._host}\x01port={self._port}"
            mechanism, first, last = "OAUTHBEARER", f"n,a={name},\x01{place}\x01{bearer}", "\x01"

        def respond(challenge: bytes | None = None) -> str:
            # A challenge is the reason of a refusal, which follows once it is acknowledged.
            return first if challenge is None else last

        try:
            self.auth(mechanism, respond)
        except smtplib.SMTPAuthenticationError as error:
            raise Refused(error.smtp_code, self._shown(error.smtp_error)) from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise self._failure(error) from None

    def transmit(
        self, sender: str, recipients: Sequence[tuple[str, str]], mail: bytes, progress: Progress
    ) -> None:
        """Hand the mail over; recipients are pairs of what they are called and their address.

        `progress` has who was accepted and refused. Raises DeliveryError.
        """
        left = list(recipients)
        try:
            while left:
                del left[: self._transaction(sender, left, mail, progress)]
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise self._failure(error) from None

    def _transaction(
        self, sender: str, left: Sequence[tuple[str, str]], mail: bytes, progress: Progress
    ) -> int:
        """Send to the first recipients that are left; how many were dealt with.

        Half of the remaining time is for naming them, so that a slow server gets the mail for some.
        """
        self._phase = "while it was given the recipients"
        code, words = self.mail(sender)
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, words, sender)
        accepted: list[str] = []
        named = 0
        enough = self._deadline.remaining() / 2
        for name, address in left[:_AT_ONCE]:
            if accepted and self._deadline.remaining() < enough:
                break
            code, words = self.rcpt(address)
            if code == 421:
                raise smtplib.SMTPResponseException(code, words)
            if code in (250, 251):
                accepted.append(name)
            else:
                progress.refused[name] = (code, self._shown(words))
            named += 1
        if accepted:
            self._phase = "while it was given the mail"
            code, words = self.data(mail)
            if code != 250:
                raise smtplib.SMTPDataError(code, words)
            progress.accepted += accepted
        elif named < len(left):
            self.rset()
        return named

    def data(self, msg: Any) -> tuple[int, bytes]:
        code, words = self.docmd("DATA")
        if code != 354:
            raise smtplib.SMTPDataError(code, words)
        # Lines end in CRLF, and none consists of a dot: bodies are base64, headers have a name.
        self.send(msg)
        self._phase = "after it was given the mail: it may be delivered twice"
        self.send(b".\r\n")
        return self.getreply()

    def leave(self) -> None:
        """Say goodbye, and wait for no answer: it says nothing of the mail."""
        with suppress(OSError, smtplib.SMTPException):
            if self.sock:
                self.putcmd("QUIT")
        with suppress(OSError, smtplib.SMTPException):
            self.close()

    # -- parts of smtplib --------------------------------------------------------------------------

    def _get_socket(self, host: str, port: int, timeout: Any) -> socket.socket:
        connection = self._deadline.open(host, port)
        if self._security == "tls":
            self._phase = "while TLS was started"
            return self._context.wrap_socket(connection, server_hostname=host)
        return connection

    def getreply(self) -> tuple[int, bytes]:
        """An answer of any number of lines that agree (RFC 5321, section 4.2.1). Unlike smtplib's,
        it isn't one before its last line has ended."""
        assert self.sock is not None
        if self.file is None:
            self.file = self.sock.makefile("rb")
        codes, texts = set(), []
        while True:
            try:
                text = self.file.readline(_LONGEST_LINE)
            except OSError as error:
                self.close()
                raise smtplib.SMTPServerDisconnected(str(error)) from None
            self._left -= len(text)
            found = _ANSWER.fullmatch(text)
            if found is None or self._left < 0:
                self.close()
                if text.endswith(b"\n"):
                    raise smtplib.SMTPResponseException(-1, text)
                raise smtplib.SMTPServerDisconnected("the answer is not complete")
            codes.add(found["code"])
            texts.append((found["text"] or b"").strip())
            if found["more"] != b"-":
                break
        if len(codes) > 1:
            self.close()
            raise smtplib.SMTPResponseException(-1, b" ".join(texts))
        return int(codes.pop()), b"\n".join(texts)

    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        if self._phase == "while logging in to it":
            # Credentials in base64, which a server may repeat.
            self._credentials += args.split()[1:] if cmd == "AUTH" else [cmd]
        return super().docmd(cmd, args)

    # -- failures ----------------------------------------------------------------------------------

    def _late(self) -> DeliveryError:
        seconds = self._deadline.limit.total_seconds()
        return DeliveryError(f"the mail server took longer than {seconds:.0f} s, {self._phase}")

    def _failure(self, error: Exception, otherwise: str = _PASSING) -> DeliveryError:
        """What the server says of the mail as a whole: 5xx is for ever, all else may pass."""
        if self._deadline.passed:
            return self._late()
        if isinstance(error, smtplib.SMTPNotSupportedError):
            words = "the mail server doesn't support what is needed"
            return DeliveryError(words, permanent=True)
        if isinstance(error, smtplib.SMTPResponseException):
            if not 400 <= error.smtp_code < 600:
                code = f"{error.smtp_code} " if error.smtp_code > 0 else ""
                words = f"the mail server's answer is not the expected one, {self._phase}"
                return DeliveryError(f"{words}: {code}{self._shown(error.smtp_error)}")
            return DeliveryError(
                f"the mail server answered {error.smtp_code}: {self._shown(error.smtp_error)}",
                permanent=error.smtp_code >= 500,
            )
        if isinstance(error, smtplib.SMTPServerDisconnected):
            return DeliveryError(f"{otherwise}, {self._phase}")
        if isinstance(error, OSError):
            return DeliveryError(f"{otherwise}: {line(error.strerror or type(error).__name__)}")
        return DeliveryError(f"{otherwise}, {self._phase}: {type(error).__name__}")

    def _shown(self, answer: bytes | str) -> str:
        """An answer for people, without credentials that it repeats."""
        text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
        if any(
            credential[place : place + _ECHO] in text
            for credential in self._credentials
            if len(credential) >= _SHORTEST
            for place in range(max(1, len(credential) - _ECHO + 1))
        ):
            return "(not shown, since it repeats the credentials)"
        return cut(line(text), _SHOWN)


def _own_name() -> str:
    """A name for the greeting that no name service is asked for."""
    name = socket.gethostname()
    fits = "." in name and name.isascii() and all(each.isalnum() or each in ".-" for each in name)
    return name if fits else "[127.0.0.1]"
