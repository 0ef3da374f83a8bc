"""`email`: mail by SMTP, as HTML and plain text, with an outcome for each recipient."""

from __future__ import annotations

import re
import smtplib
import ssl
import time
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, getaddresses, parseaddr
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr

from sentinel.channels.contract import ChannelContext, ChannelSettings, SettingFault
from sentinel.channels.escape import cut, html, line, plain
from sentinel.channels.template import Template
from sentinel.channels.text import brief, details, headline, link, title
from sentinel.core.alert import Names
from sentinel.core.errors import DeliveryError
from sentinel.core.lifecycle import Event
from sentinel.core.routing import Traits
from sentinel.core.values import hash_id
from sentinel.ports import Message, Receipt

TIMEOUT = timedelta(seconds=10)
DEADLINE = timedelta(seconds=25)
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_SUBJECT = 180
_LINE = 500
_DETAIL = 10_000
_DETAIL_OF_MANY = 1_000
_ADDRESS = re.compile(r"[^\s@<>,;:\"\\]+@[^\s@<>,;:\"\\]+")
# Unicode's control and format characters, halves of pairs, and what separates lines.
_UNFIT = ("Cc", "Cf", "Cs", "Zl", "Zp")
_COLORS = {"info": "#2563eb", "warning": "#b45309", "critical": "#b91c1c"}
_OVER = (Event.RESOLVED, Event.ERROR_RESOLVED)


def address(text: str) -> str:
    """An address, alone or as `Name <address>`. Raises ValueError."""
    if any(unicodedata.category(sign) in _UNFIT for sign in text):
        raise ValueError("an address can't hold a line break or another control character")
    found = [mailbox for _, mailbox in getaddresses([text])]
    if len(found) > 1 and all(_ADDRESS.fullmatch(each) for each in found):
        raise ValueError(f"{text!r} is more than one address: write them as a list")
    if len(found) != 1 or not _ADDRESS.fullmatch(found[0]):
        raise ValueError(f"{text!r} is no address of a mailbox")
    if not found[0].isascii():
        raise ValueError(f"the address in {text!r} has signs beyond ASCII; a name before it may")
    return text


def _addresses(texts: tuple[str, ...]) -> tuple[str, ...]:
    if not texts:
        raise ValueError("name at least one address")
    return tuple(address(each) for each in texts)


class EmailChannel:
    """Sends one mail a message; who has it already is left out when it is tried again."""

    class Settings(ChannelSettings):
        """The keys of a channel of the type `email`."""

        host: str = Field(min_length=1, description="The mail server.")
        port: int | None = Field(
            None, ge=1, le=65_535, description="Its port; unset, 587, or 465 for tls, 25 for none."
        )
        security: Literal["starttls", "tls", "none"] = Field(
            "starttls", description="starttls, tls from the start, or none."
        )
        username: str | None = Field(None, description="The user to log in as; unset, nobody.")
        password: SecretStr | None = Field(None, description="The user's password.")
        from_: Annotated[str, AfterValidator(address)] = Field(
            alias="from", description="The sender: an address, or `Name <address>`."
        )
        to: Annotated[Names, AfterValidator(_addresses)] = Field(description="The recipients.")
        ca_file: str | None = Field(
            None, description="The certificates to trust, in PEM; unset, the system's."
        )
        template: str | None = Field(None, description="A template for the plain text.")
        html_template: str | None = Field(None, description="A template for the HTML.")
        subject_template: str | None = Field(None, description="A template for the subject.")

    traits = Traits(addressed_by="email")

    @classmethod
    def traits_for(cls, keys: Collection[str]) -> Traits:
        return cls.traits

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        self.name = name
        self._settings = settings
        self._to: Sequence[str] = settings.to
        if (settings.username is None) != (settings.password is None):
            raise SettingFault("username", "`username` and `password` go together")
        _check_host(settings.host)
        for key, given in (("username", settings.username), ("password", _password(settings))):
            if given and not given.isascii():
                raise SettingFault(key, "it has signs beyond ASCII, which SMTP's logins don't take")
        self._ca_file = str(around.project_dir / settings.ca_file) if settings.ca_file else None
        if self._ca_file and not Path(self._ca_file).is_file():
            raise SettingFault("ca_file", f"there is no file {settings.ca_file}")
        try:
            self._context()
        except ssl.SSLError:
            raise SettingFault(
                "ca_file", f"{settings.ca_file} holds no certificate in PEM"
            ) from None

        def load(key: str, escape: Any) -> Template | None:
            path = getattr(settings, key)
            return Template.load(key, path, around, escape) if path else None

        self._text = load("template", plain)
        self._html = load("html_template", html)
        self._subject = load("subject_template", line)

    def addressed(self, address_: str) -> EmailChannel:
        """The same server and sender, another recipient. Raises KeyError if it is no address."""
        try:
            address(address_)
        except ValueError:
            raise KeyError(address_) from None
        other = copy(self)
        other._to = (address_,)
        other.name = f"{self.name}:{address_}"
        return other

    # -- sending -----------------------------------------------------------------------------------

    def send(self, message: Message) -> Receipt:
        left = [each for each in self._to if each not in message.recipients_done]
        if not left:
            return Receipt(recipients_done=tuple(self._to))
        mail = self._mail(message)
        deadline = time.monotonic() + DEADLINE.total_seconds()
        try:
            server = self._connect(deadline)
        except smtplib.SMTPException as error:
            raise _failure(error) from None
        except ssl.SSLError as error:
            words = f"TLS with the mail server failed: {error.reason or 'its certificate'}"
            raise DeliveryError(words) from None
        except OSError as error:
            raise DeliveryError(f"the mail server can't be reached: {_words(error)}") from None
        try:
            refused = self._transmit(server, mail, left, deadline)
        except smtplib.SMTPException as error:
            raise _failure(error) from None
        except OSError as error:
            raise DeliveryError(f"the mail server broke off: {_words(error)}") from None
        finally:
            # The mail is accepted or it isn't: how the session ends says nothing more.
            with suppress(OSError, smtplib.SMTPException):
                server.close()
        return _outcome(message, left, refused)

    def _connect(self, deadline: float) -> smtplib.SMTP:
        settings = self._settings
        port = settings.port or _PORTS[settings.security]
        seconds = TIMEOUT.total_seconds()
        if settings.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                settings.host, port, timeout=seconds, context=self._context()
            )
        else:
            server = smtplib.SMTP(settings.host, port, timeout=seconds)
        try:
            server.ehlo_or_helo_if_needed()
            if settings.security == "starttls":
                if not server.has_extn("starttls"):
                    words = (
                        "the mail server offers no STARTTLS; `security: none` sends in the clear"
                    )
                    raise DeliveryError(words, permanent=True)
                server.starttls(context=self._context())
                server.ehlo()
            _in_time(deadline)
            if settings.username:
                server.login(settings.username, _password(settings))
        except BaseException:
            server.close()
            raise
        return server

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._ca_file)

    def _transmit(
        self, server: smtplib.SMTP, mail: EmailMessage, left: Sequence[str], deadline: float
    ) -> dict[str, tuple[int, str]]:
        """Hand the mail over. Gives the recipients that were refused: code and words."""
        sender = parseaddr(self._settings.from_)[1]
        code, words = server.mail(sender)
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, words, sender)
        refused: dict[str, tuple[int, str]] = {}
        for each in left:
            _in_time(deadline)
            code, words = server.rcpt(parseaddr(each)[1])
            if code == 421:
                raise smtplib.SMTPResponseException(code, words)
            if code not in (250, 251):
                refused[each] = (code, words.decode("utf-8", "replace"))
        if len(refused) < len(left):
            code, words = server.data(mail.as_bytes())
            if code != 250:
                raise smtplib.SMTPDataError(code, words)
        return refused

    # -- the mail ----------------------------------------------------------------------------------

    def _mail(self, message: Message) -> EmailMessage:
        payloads = [row.payload for row in message.notifications]
        sender = parseaddr(self._settings.from_)[1]
        domain = sender.rpartition("@")[2]
        mail = EmailMessage(policy=SMTP)
        subject = self._subject.render(message) if self._subject else _subject(payloads)
        mail["Subject"] = cut(line(subject), _SUBJECT)
        mail["From"] = self._settings.from_
        mail["To"] = ", ".join(self._to)
        mail["Date"] = formatdate(message.notifications[0].created_at.timestamp(), usegmt=True)
        mail["Message-ID"] = f"<{message.message_id}@{domain}>"
        # One thread an episode, whatever its first mail was called.
        episodes = sorted({row.episode_id for row in message.notifications})
        thread = episodes[0] if len(episodes) == 1 else hash_id(*episodes)
        mail["References"] = f"<{line(thread)}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        text = self._text.render(message) if self._text else _plain_text(payloads)
        mail.set_content(text, cte="base64")
        mail.add_alternative(
            self._html.render(message) if self._html else _html_text(payloads),
            subtype="html",
            cte="base64",
        )
        mail.set_boundary(f"=-{message.message_id}")  # or a second try would be other bytes
        return mail


def _check_host(host: str) -> None:
    """Raises SettingFault if it can't be the name of a host."""
    try:
        host.encode("idna")
    except UnicodeError:
        host = ""
    if not host or any(sign.isspace() or not sign.isprintable() for sign in host):
        raise SettingFault("host", "it can't be the name of a host")


def _password(settings: EmailChannel.Settings) -> str:
    return settings.password.get_secret_value() if settings.password else ""


def _in_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        words = f"the mail server took longer than {DEADLINE.total_seconds():.0f} s"
        raise DeliveryError(words)


def _words(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT.total_seconds():.0f} s"
    return line(error.strerror or type(error).__name__)


def _failure(error: smtplib.SMTPException) -> DeliveryError:
    """What the server says of the mail as a whole: 5xx is for ever, all else may pass."""
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        return DeliveryError(
            f"the mail server answered {error.smtp_code}: {cut(line(words), 200)}",
            permanent=500 <= error.smtp_code < 600,
        )
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return DeliveryError("the mail server doesn't support what is needed", permanent=True)
    return DeliveryError(f"the mail server broke off: {type(error).__name__}")


def _outcome(
    message: Message, left: Sequence[str], refused: Mapping[str, tuple[int, str]]
) -> Receipt:
    done = message.recipients_done.union(each for each in left if each not in refused)
    if not refused:
        return Receipt(recipients_done=tuple(sorted(done)))
    said = "; ".join(
        f"{line(each)}: {code} {cut(line(words), 200)}" for each, (code, words) in refused.items()
    )
    raise DeliveryError(
        f"the mail server refused {said}",
        permanent=all(500 <= code < 600 for code, _ in refused.values()),
        recipients_done=sorted(done),
    )


def _subject(payloads: Sequence[Mapping[str, Any]]) -> str:
    return f"[{payloads[0]['project']}] {title(payloads)}"


def _plain_text(payloads: Sequence[Mapping[str, Any]]) -> str:
    if len(payloads) == 1:
        return "\n".join([line(title(payloads)), "", *_plain_details(payloads[0], _DETAIL)]) + "\n"
    lines = [line(title(payloads)), ""]
    lines += [f"- {cut(line(brief(each)), _LINE)}" for each in payloads]
    for each in payloads:
        lines += [
            "",
            line(headline(each)),
            *(f"  {x}" for x in _plain_details(each, _DETAIL_OF_MANY)),
        ]
    return "\n".join(lines) + "\n"


def _plain_details(payload: Mapping[str, Any], most: int) -> Iterator[str]:
    for label, text in details(payload):
        first, *rest = plain(cut(text, most)).splitlines() or [""]
        yield f"{label + ':':<9} {first}"
        yield from (f"{'':<9} {more}" for more in rest)


def _html_text(payloads: Sequence[Mapping[str, Any]]) -> str:
    if len(payloads) == 1:
        body = _html_details(payloads[0], _DETAIL)
    else:
        items = "".join(f"<li>{html(cut(line(brief(each)), _LINE))}</li>" for each in payloads)
        parts = "".join(
            _html_heading(each, line(headline(each)), "h3", 15)
            + _html_details(each, _DETAIL_OF_MANY)
            for each in payloads
        )
        body = f'<ul style="padding-left: 20px">{items}</ul>{parts}'
    return (
        '<!doctype html><html><head><meta charset="utf-8"></head>'
        '<body style="font-family: sans-serif; font-size: 14px; color: #1f2937">'
        f"{_html_heading(payloads[0], line(title(payloads)), 'h2', 18)}{body}</body></html>"
    )


def _html_heading(payload: Mapping[str, Any], words: str, tag: str, size: int) -> str:
    color = "#15803d" if payload["event"] in _OVER else _COLORS.get(payload["severity"], "#374151")
    look = f"color: {color}; font-size: {size}px; margin: 16px 0 8px"
    return f'<{tag} style="{look}">{html(words)}</{tag}>'


def _html_details(payload: Mapping[str, Any], most: int) -> str:
    url = link(payload)
    rows = "".join(
        f'<tr><td style="padding: 2px 12px 2px 0; color: #6b7280; vertical-align: top">'
        f'{html(label)}</td><td style="padding: 2px 0; white-space: pre-wrap">'
        f"{_html_detail(label, text, most, url)}</td></tr>"
        for label, text in details(payload)
    )
    return f'<table style="border-collapse: collapse; font-size: 14px">{rows}</table>'


def _html_detail(label: str, text: str, most: int, url: str | None) -> str:
    shown = html(cut(text, most))
    if label == "runbook" and url:
        return f'<a href="{html(url)}">{shown}</a>'
    return f"<code>{shown}</code>" if label in ("silence", "rows") else shown
