"""HTTP for channels: one request, and the one place that says which failures are worth another."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

import requests
from pydantic import AfterValidator, Field, SecretStr, field_validator
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from sentinel.channels.address import check_unresolved, check_url, is_loopback, resolve
from sentinel.channels.certificates import Certificates
from sentinel.channels.contract import ChannelContext, ChannelSettings
from sentinel.channels.deadline import Deadline
from sentinel.core.errors import DeliveryError
from sentinel.core.text import plain as clean
from sentinel.core.transport import DEFAULT_TIMEOUT, TransportSettings

_RETRIED = frozenset({408, 425, 429})
# Proxy Authentication Required, Network Authentication Required: these aren't the receiver's.
_IN_BETWEEN = frozenset({407, 511})
_TUNNEL = "Tunnel connection failed: "
_READ = 4_096
_SHOWN = 200
# RFC 9110, sections 5.1 and 5.5, without the bytes above ASCII.
_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_VALUE = re.compile(r"[!-~]([\t -~]*[!-~])?")
# Those that say where a message ends, what it passes on its way, and to whom it goes: RFC 9110
# sections 7.2, 7.6, 8.6 and 10.1, RFC 9112 section 6. Two readers that take them differently see
# two requests in one.
_RESERVED = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer",
     "upgrade", "expect", "content-encoding", "via", "max-forwards", "http2-settings", "forwarded"}
)  # fmt: skip
_RESERVED_PREFIXES = ("proxy-", "webhook-", "x-forwarded-")
# Without backtracking: it reads what anybody may have sent.
_PAGE = re.compile(
    r"[\s\ufeff]*+(?>(?:<!--.*?-->|<\?xml[^>]*>)\s*+)*+<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)


def _can_be_sent(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    known: set[str] = set()
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} can't be the name of a header")
        # Some servers take `_` for `-`.
        plain = name.lower().replace("_", "-")
        if plain in _RESERVED or plain.startswith(_RESERVED_PREFIXES):
            raise ValueError(
                f"the header {name!r} can't be set: it belongs to the connection or to Sentinel"
            )
        if plain in known:
            raise ValueError(f"the header {name!r} is set twice: case makes no other header of it")
        known.add(plain)
        if not _VALUE.fullmatch(value.get_secret_value()):
            raise ValueError(f"the value of {name!r} holds what a header can't")
    return headers


Headers = Annotated[dict[str, SecretStr], AfterValidator(_can_be_sent)]


class HttpSettings(TransportSettings, ChannelSettings):
    """Keys of channels that make their own HTTP requests."""

    allow_private: bool = Field(
        False, description="true allows loopback and private addresses as well."
    )


class UrlSettings(HttpSettings):
    """The keys that channels share which post to a URL."""

    url: SecretStr = Field(description="Where to post; secret, since such URLs often are.")

    @field_validator("url")
    @classmethod
    def _fit(cls, url: SecretStr) -> SecretStr:
        check_url(url.get_secret_value())
        return url


def warn_of_plain_http(url: str, exposed: str, key: str, warn: Callable[[str, str], None]) -> None:
    """Warn if `exposed`, a secret, is sent readable by others on the way."""
    parts = urlsplit(url)
    if exposed and parts.scheme.lower() == "http" and not is_loopback(parts.hostname or ""):
        warn(key, f"it sends {exposed} over plain http, readable on the way: use https://")


def secret_of(url: str) -> str:
    """What a URL holds that is a secret, as a phrase; '' if nothing but host and path."""
    parts = urlsplit(url)
    if parts.password or parts.username:
        return "the user and the password of the URL"
    return "the query of the URL" if parts.query else ""


@dataclass(frozen=True)
class Answer:
    """What a receiver answered: as much of its text as was asked for. Names of headers are in
    lower case; an answer that broke off, or took too long, isn't `complete`."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True

    @property
    def document(self) -> Any:
        """Its text as JSON; None if it is none."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None


# -- acceptance --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Acceptance:
    """What acceptance looks like in answers of one kind of receiver.

    `accepts` is asked about answers of 2xx. It gives False where it wasn't the receiver that
    answered, and raises DeliveryError where the receiver refuses in spite of its 2xx. Unless
    `by_status`, it is asked about complete answers only.
    """

    receiver: str
    accepts: Callable[[Answer], bool]
    by_status: bool = False


def is_no_page(answer: Answer) -> bool:
    """Whether an answer may be an API's: pages are those of proxies and of forms to log in."""
    return not _PAGE.match(answer.text)


ANY_SUCCESS = Acceptance("the receiver", is_no_page, by_status=True)


def _accepted(answer: Answer, acceptance: Acceptance) -> Answer:
    judged = answer.complete or acceptance.by_status
    if 200 <= answer.status < 300 and judged and acceptance.accepts(answer):
        return answer
    raise rejection(answer, acceptance.receiver)


def rejection(answer: Answer, receiver: str) -> DeliveryError:
    """What an answer means that is no acceptance."""
    if 200 <= answer.status < 300 and not answer.complete:
        return DeliveryError(f"the answer {answer.status} broke off{_quoted(answer)}")
    if 200 <= answer.status < 300 or answer.status in _IN_BETWEEN:
        return stranger(answer, receiver)
    return refusal(answer)


def stranger(answer: Answer, receiver: str) -> DeliveryError:
    """Something between here and the receiver answered; the receiver itself may later."""
    return DeliveryError(
        f"a proxy or another service answered {answer.status} instead of {receiver}"
        + _quoted(answer),
        retry_after=retry_after(answer.headers.get("retry-after"), datetime.now(UTC)),
    )


def refusal(answer: Answer) -> DeliveryError:
    """The receiver refused, by its status."""
    return DeliveryError(
        f"the receiver answered {answer.status}{_quoted(answer)}",
        permanent=not retried(answer.status),
        retry_after=retry_after(answer.headers.get("retry-after"), datetime.now(UTC)),
    )


def _quoted(answer: Answer) -> str:
    """The beginning of an answer's first line, as the end of a sentence."""
    lines = clean(answer.text[:_SHOWN]).strip().splitlines()
    return f": {lines[0]}" if lines else ""


def retried(status: int) -> bool:
    """Whether the same request may be accepted later; 1xx only announces an answer."""
    return status in _RETRIED or status >= 500 or status < 200


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """The Retry-After header, given as seconds or as a date (RFC 9110, section 10.2.3)."""
    text = (header or "").strip()
    if text.isdecimal():
        return timedelta(seconds=int(text[:9]))  # with more digits it is for ever anyway
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta())


# -- requests ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transport:
    """How requests to one receiver leave."""

    timeout: timedelta = DEFAULT_TIMEOUT
    allow_private: bool = False
    certificates: Certificates = field(default_factory=Certificates)

    @classmethod
    def load(
        cls, settings: TransportSettings, around: ChannelContext, *, allow_private: bool
    ) -> Transport:
        """That of a channel's settings. Raises SettingFault."""
        certificates = Certificates.load(settings, around.project_dir, around.warn)
        return cls(settings.timeout, allow_private, certificates)

    @contextmanager
    def delivery(self) -> Iterator[Requests]:
        """The requests of one delivery, all of which together end in time."""
        with Deadline(self.timeout) as deadline:
            yield Requests(self, deadline)


@dataclass(frozen=True)
class Requests:
    """Requests that share one deadline."""

    transport: Transport
    deadline: Deadline

    def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        acceptance: Acceptance = ANY_SUCCESS,
    ) -> Answer:
        """POST once, and have it accepted.

        Raises DeliveryError: permanent for redirects, most 4xx, addresses that are refused and what
        can't be sent at all; retryable for network errors, timeouts, 408, 425, 429 (with its
        Retry-After), 5xx, and answers that aren't the receiver's.
        """
        return _accepted(self.exchange(url, body, headers), acceptance)

    def exchange(
        self, url: str, body: bytes, headers: Mapping[str, str], most: int = _READ
    ) -> Answer:
        """POST once, without following redirects, to an address that was checked.

        Gives whatever was answered, at most `most` bytes of its text. Raises DeliveryError if nothing
        was, or nothing could be sent.
        """
        authorized = any(name.lower() == "authorization" for name in headers)
        try:
            with (
                _session(url, self.deadline, allow_private=self.transport.allow_private) as session,
                self._sent(
                    session,
                    requests.Request(
                        "POST",
                        url,
                        data=body,
                        headers=dict(headers),
                        # Without it requests puts a password of ~/.netrc over the given header.
                        auth=(lambda request: request) if authorized else None,
                    ),
                ) as response,
            ):
                # The end of the connection looks like the end of the headers.
                if self.deadline.passed:
                    raise self._no_answer()
                received = {name.lower(): value for name, value in response.headers.items()}
                text, complete = _read(response, most, self.deadline)
                return Answer(response.status_code, text, received, complete)
        except DeliveryError:
            raise
        except ValueError as error:
            # Of requests, of urllib3 for names of hosts, of http.client for headers.
            words = f"the URL or a header can't be used: {type(error).__name__}"
            raise DeliveryError(words, permanent=True) from None
        except (requests.RequestException, OSError) as error:
            if self.deadline.passed or isinstance(error, (requests.Timeout, TimeoutError)):
                raise self._no_answer() from None
            raise DeliveryError(f"the receiver can't be reached: {_kind(error)}") from None

    def _sent(self, session: requests.Session, request: requests.Request) -> requests.Response:
        """The response, of which the headers have arrived."""
        certificates = self.transport.certificates
        cert = certificates.client_cert and (
            certificates.client_cert,
            certificates.client_key or certificates.client_cert,
        )
        prepared = session.prepare_request(request)
        merged: Any = session.merge_environment_settings(
            prepared.url,
            {},
            True,
            certificates.ca_file or True,
            cert,
        )
        try:
            return session.send(
                prepared, timeout=self.deadline.remaining(), allow_redirects=False, **merged
            )
        except requests.exceptions.InvalidHeader:
            raise DeliveryError("the receiver's answer has headers that can't be read") from None

    def _no_answer(self) -> DeliveryError:
        limit = self.transport.timeout.total_seconds()
        return DeliveryError(f"the receiver can't be reached: no answer within {limit:g} s")


def _read(response: requests.Response, most: int, deadline: Deadline) -> tuple[str, bool]:
    """The beginning of the body, as far as it arrives in time, and whether it didn't break off."""
    text, complete = bytearray(), False
    # Byte by byte, since a larger piece is lost with a receiver that trickles.
    with suppress(requests.RequestException, OSError):
        for piece in response.iter_content(1):
            text += piece
            # A compressed body that has arrived may still take long to unpack.
            if len(text) >= most or deadline.passed:
                break
        complete = not deadline.passed
    # Some services begin their answers with a byte order mark.
    return text.decode("utf-8-sig", "replace"), complete


def _kind(error: Exception) -> str:
    """What went wrong, without the URL that requests prints with it."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate was not accepted: {clean(cause.verify_message)}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {clean(cause.reason or type(cause).__name__)}"
    if isinstance(error, requests.exceptions.ProxyError):
        words = next((str(each) for each in causes if str(each).startswith(_TUNNEL)), "")
        said = clean(words.removeprefix(_TUNNEL)[:_SHOWN]).strip()
        return f"the proxy refuses the connection: {said}" if said else "the proxy broke off"
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    words = str(reason).split(": ", 1)[-1] if reason else ""
    return words or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those it was made of: requests and urllib3 wrap them, each in its own way."""
    waiting, known = [error], set()
    while waiting:
        each = waiting.pop(0)
        if not isinstance(each, BaseException) or id(each) in known:
            continue
        known.add(id(each))
        yield each
        waiting += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]


# -- connections -------------------------------------------------------------------------------


@contextmanager
def _session(url: str, deadline: Deadline, *, allow_private: bool) -> Iterator[requests.Session]:
    """A session whose connections end in time, and go to checked addresses only.

    Where a proxy of the environment stands between, it is the proxy that resolves names: then only
    an address written in the URL can be checked.
    """
    with _Session() as session:
        proxies = session.merge_environment_settings(url, {}, None, None, None)["proxies"]
        proxy = None if _bypassed(url) else select_proxy(url, proxies)

        def connect(connection: HTTPConnection) -> socket.socket:
            host, port = connection.host.strip("[]"), connection.port or connection.default_port
            try:
                if proxy is not None:
                    return deadline.open(host, port)
                return deadline.connect(resolve(host, port, deadline, allow_private=allow_private))
            except (OSError, UnicodeError) as error:
                if deadline.passed:
                    raise
                words = "no answer" if isinstance(error, TimeoutError) else _strerror(error)
                whom = "the receiver" if proxy is None else "the proxy of the environment"
                raise DeliveryError(f"{whom} can't be reached: {words}") from None

        if proxy is not None:
            _check_proxy(proxy)
            prepared = requests.Request("POST", url).prepare().url or ""
            for each in (url, prepared):
                check_unresolved(urlsplit(each).hostname or "", allow_private=allow_private)
        adapter = _Bounded(connect, proxied=proxy is not None)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        yield session


def _bypassed(url: str) -> bool:
    """Whether NO_PROXY names host and port of a URL, which requests compares for names only."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    entries = getproxies_environment().get("no", "").split(",")
    return f"{parts.hostname}:{port}" in {each.strip().lower() for each in entries}


def _check_proxy(proxy: str) -> None:
    """Raises a temporary DeliveryError, since the environment is at fault."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise DeliveryError(
            "the environment's proxy can't be used: it must be http://host:port or "
            "https://host:port"
        )


def _strerror(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class _Session(requests.Session):
    """Follows no redirect, and doesn't prepare to: requests would read the whole body for that."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class _Bounded(HTTPAdapter):
    """Makes every connection by `connect`, those to proxies too."""

    def __init__(
        self, connect: Callable[[HTTPConnection], socket.socket], *, proxied: bool
    ) -> None:
        super().__init__()
        self._proxied = proxied

        class Plain(HTTPConnection):
            _new_conn = connect

        class Secure(HTTPSConnection):
            _new_conn = connect

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self._pools = {"http": PlainPool, "https": SecurePool}
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        if not self._proxied:
            kwargs["proxies"] = None
        return super().send(request, *args, **kwargs)
