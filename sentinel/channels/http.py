"""HTTP for channels: one request, and the one place that says which failures are worth another."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

import requests
from pydantic import AfterValidator, Field, SecretStr, field_validator
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from sentinel.channels.address import check_url, literal, refused, resolve
from sentinel.channels.contract import ChannelSettings
from sentinel.channels.escape import plain as clean
from sentinel.core.errors import DeliveryError

TIMEOUT = timedelta(seconds=10)
# All of one request; less than a claim lasts, by far.
DEADLINE = timedelta(seconds=25)
_RETRIED = frozenset({408, 425, 429})
_READ = 4_096
_SHOWN = 200
# RFC 9110, sections 5.1 and 5.5, without the bytes above ASCII.
_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_VALUE = re.compile(r"[!-~]([\t -~]*[!-~])?")


def _can_be_sent(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} can't be the name of a header")
        if not _VALUE.fullmatch(value.get_secret_value()):
            raise ValueError(f"the value of {name!r} holds what a header can't")
    return headers


Headers = Annotated[dict[str, SecretStr], AfterValidator(_can_be_sent)]


class HttpSettings(ChannelSettings):
    """The keys that channels share which post to a URL."""

    url: SecretStr = Field(description="Where to post; secret, since such URLs often are.")
    allow_private: bool = Field(
        False, description="true allows loopback and private addresses as well."
    )

    @field_validator("url")
    @classmethod
    def _fit(cls, url: SecretStr) -> SecretStr:
        check_url(url.get_secret_value())
        return url


@dataclass(frozen=True)
class Answer:
    """What a receiver said: as much of its text as was asked for. Names of headers are in lower case."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, allow_private: bool = False
) -> Answer:
    """POST once, and have it accepted.

    Raises DeliveryError: permanent for redirects, most 4xx, addresses that are refused and what
    can't be sent at all; to be tried again for network errors, timeouts, 408, 425, 429 (with its
    Retry-After) and 5xx.
    """
    return _accepted(exchange(url, body, headers, allow_private=allow_private))


def exchange(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allow_private: bool = False,
    most: int = _READ,
) -> Answer:
    """POST once, without following redirects, to an address that was checked.

    Gives whatever was answered, at most `most` bytes of its text. Raises DeliveryError if nothing
    was, or nothing could be sent.
    """
    authorized = any(name.lower() == "authorization" for name in headers)
    watch = _Watch()
    try:
        with (
            watch,
            _session(url, watch, allow_private=allow_private) as session,
            session.post(
                url,
                data=body,
                headers=dict(headers),
                timeout=TIMEOUT.total_seconds(),
                allow_redirects=False,
                stream=True,
                # Without it requests puts a password of ~/.netrc over the header that was given.
                auth=(lambda request: request) if authorized else None,
            ) as response,
        ):
            told = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status_code, _read(response, most), told)
    except DeliveryError:
        raise
    except ValueError as error:
        # Of requests, of urllib3 for host names, of http.client for headers.
        words = type(error).__name__
        raise DeliveryError(f"the URL or a header can't be used: {words}", permanent=True) from None
    except (requests.RequestException, OSError) as error:
        words = (
            f"no answer within {DEADLINE.total_seconds():.0f} s" if watch.barked else _kind(error)
        )
        raise DeliveryError(f"the receiver can't be reached: {words}") from None


def _accepted(answer: Answer) -> Answer:
    if 200 <= answer.status < 300:
        return answer
    reason = f"the receiver answered {answer.status}"
    said = clean(answer.text[:_SHOWN]).strip()
    if said:
        reason += f": {said}"
    raise DeliveryError(
        reason,
        permanent=not retried(answer.status),
        retry_after=retry_after(answer.headers.get("retry-after"), datetime.now(UTC)),
    )


def retried(status: int) -> bool:
    """Whether the same request may be accepted later."""
    return status in _RETRIED or status >= 500


def _read(response: requests.Response, most: int) -> str:
    """The beginning of the body, as far as it comes in time: the status is what counts."""
    said = bytearray()
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    # Byte by byte, since a larger piece waits for a receiver that trickles.
    with suppress(requests.RequestException, OSError):
        for piece in response.iter_content(1):
            said += piece
            if len(said) >= most or time.monotonic() >= deadline:
                break
    return said.decode("utf-8", "replace")


def _kind(error: Exception) -> str:
    """What went wrong, without the URL that requests prints with it."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT.total_seconds():.0f} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate was not accepted"
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    words = str(reason).split(": ", 1)[-1] if reason else ""
    return words or type(error).__name__


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


# -- the connection ----------------------------------------------------------------------------


class _Watch:
    """Ends a request that takes too long as a whole: a receiver may trickle for ever."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(DEADLINE.total_seconds(), self._bark)
        self._timer.daemon = True
        self.barked = False

    def _bark(self) -> None:
        self.barked = True
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def over(self, connected: socket.socket) -> socket.socket:
        self._sockets.append(connected)
        return connected

    def __enter__(self) -> _Watch:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


@contextmanager
def _session(url: str, watch: _Watch, *, allow_private: bool) -> Iterator[requests.Session]:
    """A session whose connections go to checked addresses only.

    Where a proxy of the environment stands between, it is the proxy that resolves names: then only
    an address written in the URL can be checked.
    """
    with requests.Session() as session:
        proxies = session.merge_environment_settings(url, {}, None, None, None)["proxies"]
        if select_proxy(url, proxies) is None:
            adapter = _Pinned(watch, allow_private=allow_private)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
        else:
            _check_literal(urlsplit(url).hostname or "", allow_private=allow_private)
        yield session


def _check_literal(host: str, *, allow_private: bool) -> None:
    address = literal(host)
    refusal = refused(address, allow_private=allow_private) if address else ""
    if refusal:
        raise DeliveryError(f"the host {host} is not reached: {refusal}", permanent=True)


class _Pinned(HTTPAdapter):
    """Connects to the address that was checked: a name may resolve to another one a moment later."""

    def __init__(self, watch: _Watch, *, allow_private: bool) -> None:
        super().__init__()

        def connect(connection: HTTPConnection) -> socket.socket:
            return watch.over(_connect(connection, allow_private=allow_private))

        class Plain(HTTPConnection):
            _new_conn = connect

        class Secure(HTTPSConnection):
            _new_conn = connect

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        kwargs["proxies"] = None
        return super().send(request, *args, **kwargs)


def _connect(connection: HTTPConnection, *, allow_private: bool) -> socket.socket:
    """A connection to the first checked address that answers; the host stays what it is for TLS."""
    host, port = connection.host.strip("[]"), connection.port or connection.default_port
    last: OSError | None = None
    for family, address in resolve(host, port, allow_private=allow_private):
        connected = socket.socket(family, socket.SOCK_STREAM)
        try:
            connected.settimeout(TIMEOUT.total_seconds())
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.connect((address, port))
        except OSError as error:
            connected.close()
            last = error
        else:
            return connected
    words = "no answer" if isinstance(last, TimeoutError) else getattr(last, "strerror", None)
    raise DeliveryError(f"the receiver can't be reached: {words or 'no address'}")
