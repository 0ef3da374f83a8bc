"""`email`: mail by SMTP, as HTML and plain text, with an outcome for each recipient."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr

from sentinel.channels.address import is_loopback
from sentinel.channels.certificates import Certificates
from sentinel.channels.contract import BaseChannel, ChannelContext, ChannelSettings, SettingFault
from sentinel.channels.deadline import Deadline
from sentinel.channels.escape import cut, html
from sentinel.channels.http import warn_of_plain_http
from sentinel.channels.mime import Mail, parse_mailbox
from sentinel.channels.oauth2 import OAuth2Settings, TokenSource, signer
from sentinel.channels.smtp import (
    PASSWORD_MECHANISMS,
    TOKEN_MECHANISMS,
    Progress,
    Refused,
    Session,
)
from sentinel.channels.template import Template
from sentinel.channels.text import brief, details, headline, link, title
from sentinel.core.definition_types import Names
from sentinel.core.errors import DeliveryError
from sentinel.core.routing import Traits
from sentinel.core.state import Event
from sentinel.core.text import line, plain
from sentinel.core.transport import TransportSettings
from sentinel.core.values import hash_id
from sentinel.ports import Message, Receipt

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_SUBJECT = 180
_LINE = 500
_DETAIL = 10_000
_DETAIL_OF_MANY = 1_000
_COLORS = {"info": "#2563eb", "warning": "#b45309", "critical": "#b91c1c"}
_OVER = (Event.RESOLVED, Event.ERROR_RESOLVED)
# What Microsoft answers to passwords, here by code and there by words.
_NO_PASSWORDS = ("5.7.139", "5.7.30", "basic auth")
_SET_OAUTH2 = "set `oauth2` instead of `password`"


def address(text: str) -> str:
    """An address, alone or as `Name <address>`. Raises ValueError."""
    parse_mailbox(text)
    return text


def _addresses(texts: tuple[str, ...]) -> tuple[str, ...]:
    if not texts:
        raise ValueError("name at least one address")
    return tuple(address(each) for each in texts)


class EmailChannel(BaseChannel):
    """Sends one mail per message; a retry omits recipients that have received it."""

    class Settings(TransportSettings, ChannelSettings):
        """The keys of a channel of the type `email`."""

        host: str = Field(min_length=1, description="The mail server.")
        port: int | None = Field(
            None, ge=1, le=65_535, description="The port (default: 587; 465 for tls, 25 for none)."
        )
        security: Literal["starttls", "tls", "none"] = Field(
            "starttls", description="starttls, tls from the start, or none."
        )
        username: str | None = Field(
            None, description="The user to log in as (default: no login; with oauth2 the sender)."
        )
        password: SecretStr | None = Field(None, description="The user's password.")
        oauth2: OAuth2Settings | None = Field(
            None, description="How to get access tokens, instead of a password."
        )
        from_: Annotated[str, AfterValidator(address)] = Field(
            alias="from", description="The sender: an address, or `Name <address>`."
        )
        to: Annotated[Names, AfterValidator(_addresses)] = Field(description="The recipients.")
        template: str | None = Field(None, description="A template for the plain text.")
        html_template: str | None = Field(None, description="A template for the HTML.")
        subject_template: str | None = Field(None, description="A template for the subject.")

    traits = Traits(addressed_by="email")

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        super().__init__(name)
        self._settings = settings
        self._to: Sequence[str] = settings.to
        sender = parse_mailbox(settings.from_).address
        if settings.oauth2:
            if settings.password:
                raise SettingFault("oauth2", "either `oauth2` or `password`, not both")
        elif (settings.username is None) != (settings.password is None):
            raise SettingFault("username", "`username` and `password` go together")
        _check_host(settings.host)
        for key, given in (("username", settings.username), ("password", _password(settings))):
            if given and not given.isascii():
                raise SettingFault(key, "it has signs beyond ASCII, which SMTP's logins don't take")
            if given and not given.isprintable():
                raise SettingFault(key, "it has a control character")
        self._certificates = Certificates.load(settings, around.project_dir, around.warn)
        self._username = settings.username or (sender if settings.oauth2 else None)
        self._tokens = _tokens(settings, self._username, around) if settings.oauth2 else None
        if self._username and settings.security == "none" and not is_loopback(settings.host):
            exposed = "token" if settings.oauth2 else "password"
            words = f"it sends the {exposed} without TLS, readable on the way: use starttls or tls"
            around.warn("security", words)

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
        raw = mail.as_bytes()
        recipients = [(each, parse_mailbox(each).address) for each in left]
        progress = Progress()
        try:
            with Deadline(self._settings.timeout) as deadline:
                session = self._open(deadline)
                try:
                    session.transmit(mail.sender_address, recipients, raw, progress)
                finally:
                    # The mail is accepted or it isn't: how the session ends doesn't change that.
                    session.leave()
        except DeliveryError as error:
            error.recipients_done = tuple(sorted(message.recipients_done.union(progress.accepted)))
            raise
        return _outcome(message, progress)

    def _open(self, deadline: Deadline) -> Session:
        """A session that is logged in. Raises DeliveryError."""
        if self._tokens is None:
            return self._connected(deadline, None)
        token, is_new = self._tokens.token(deadline)
        try:
            return self._connected(deadline, token)
        except Refused as refused:
            if is_new:
                raise _token_refused(refused, self._username) from None
        # It may have been revoked before its time.
        token, _ = self._tokens.token(deadline, refused=token)
        try:
            return self._connected(deadline, token)
        except Refused as refused:
            raise _token_refused(refused, self._username) from None

    def _connected(self, deadline: Deadline, token: str | None) -> Session:
        """Raises DeliveryError, and Refused if the server refuses the token."""
        settings = self._settings
        port = settings.port or _PORTS[settings.security]
        session = Session(settings.host, port, settings.security, self._context(), deadline)
        try:
            session.open()
            if token is not None and self._username:
                _check_mechanisms(session, TOKEN_MECHANISMS, "set `password` instead of `oauth2`")
                session.log_in_by_token(self._username, token)
            elif self._username:
                _check_mechanisms(session, PASSWORD_MECHANISMS, _SET_OAUTH2)
                try:
                    session.log_in(self._username, _password(settings))
                except Refused as refused:
                    raise _password_refused(refused, session) from None
        except BaseException:
            session.leave()
            raise
        return session

    def _context(self) -> ssl.SSLContext:
        """Made for each delivery, since certificates are renewed. Raises DeliveryError."""
        files = self._certificates
        try:
            context = ssl.create_default_context(cafile=files.ca_file)
            if files.client_cert:
                context.load_cert_chain(files.client_cert, files.client_key, password="")
        except (OSError, ValueError):
            words = "a file of `ca_file`, `client_cert` or `client_key` can't be read any more"
            raise DeliveryError(words) from None
        return context

    # -- the mail ----------------------------------------------------------------------------------

    def _mail(self, message: Message) -> Mail:
        payloads = [row.payload for row in message.notifications]
        subject = self._subject.render(message) if self._subject else _subject(payloads)
        episodes = sorted({row.episode_id for row in message.notifications})
        return Mail(
            subject=cut(line(subject), _SUBJECT),
            sender=self._settings.from_,
            to=self._to,
            date=message.notifications[0].created_at.timestamp(),
            message_id=message.message_id,
            thread=episodes[0] if len(episodes) == 1 else hash_id(*episodes),
            text=self._text.render(message) if self._text else _plain_text(payloads),
            html=self._html.render(message) if self._html else _html_text(payloads),
        )


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


def _tokens(
    settings: EmailChannel.Settings, username: str | None, around: ChannelContext
) -> TokenSource:
    """Raises SettingFault."""
    oauth2 = settings.oauth2
    assert oauth2 and username
    if oauth2.service_account_key:
        try:
            signer(oauth2.service_account_key)
        except ImportError:
            words = "a service account's key needs google-auth: pip install google-auth"
            raise SettingFault("oauth2", words) from None
        except ValueError:
            raise SettingFault(
                "oauth2", "the private key of the service account is damaged"
            ) from None
    if oauth2.token_url:
        warn_of_plain_http(oauth2.token_url, "the application's secret", "oauth2", around.warn)
    return TokenSource(oauth2, username, settings.timeout)


def _check_mechanisms(session: Session, usable: Sequence[str], advice: str) -> None:
    """Raises DeliveryError, permanent, unless the server offers one of these ways to log in."""
    offered = session.mechanisms
    if set(offered) & set(usable):
        return
    if not offered:
        words = "the mail server offers no login on this connection: check `port` and `security`"
        raise DeliveryError(words, permanent=True)
    shown = cut(line(", ".join(dict.fromkeys(offered))), 100)
    other = set(offered) & {*PASSWORD_MECHANISMS, *TOKEN_MECHANISMS}
    hint = f": {advice}" if other else ", which Sentinel doesn't support"
    raise DeliveryError(f"the mail server offers no login but {shown}{hint}", permanent=True)


def _password_refused(refused: Refused, session: Session) -> DeliveryError:
    words = f"the mail server answered {refused.code}: {refused.words}"
    permanent = 500 <= refused.code < 600
    if any(each in refused.words.lower() for each in _NO_PASSWORDS):
        words = f"the mail server takes no passwords any more: {_SET_OAUTH2} ({words})"
        permanent = True
    elif permanent and set(session.mechanisms) & set(TOKEN_MECHANISMS):
        words += " (it also takes tokens: see `oauth2`)"
    return DeliveryError(words, permanent=permanent)


def _token_refused(refused: Refused, username: str | None) -> DeliveryError:
    return DeliveryError(
        f"the mail server refused a new token for {username}: {refused.code} {refused.words} "
        "(check `username`, `oauth2.scope`, and that the application may send as this mailbox)",
        permanent=500 <= refused.code < 600,
    )


def _outcome(message: Message, progress: Progress) -> Receipt:
    done = tuple(sorted(message.recipients_done.union(progress.accepted)))
    refused = progress.refused
    if not refused:
        return Receipt(recipients_done=done)
    words = "; ".join(f"{line(each)}: {code} {said}" for each, (code, said) in refused.items())
    raise DeliveryError(
        f"the mail server refused {words}",
        permanent=all(500 <= code < 600 for code, _ in refused.values()),
        recipients_done=done,
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
