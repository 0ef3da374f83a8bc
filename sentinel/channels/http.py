"""HTTP for channels: one request, and the one place that says which failures are worth another."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import requests

from sentinel.channels.escape import plain as clean
from sentinel.core.errors import DeliveryError

TIMEOUT = timedelta(seconds=10)
_RETRIED = frozenset({408, 425, 429})
_READ = 4_096
_SHOWN = 200


@dataclass(frozen=True)
class Answer:
    """What a receiver that accepted a request said: at most the first 4 KiB."""

    status: int
    text: str


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """POST once, without following redirects.

    Raises DeliveryError: permanent for redirects, most 4xx and what can't be sent at all; to be
    tried again for network errors, timeouts, 408, 425, 429 (with its Retry-After) and 5xx.
    """
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    authorized = any(name.lower() == "authorization" for name in headers)
    try:
        with requests.post(
            url,
            data=body,
            headers=dict(headers),
            timeout=TIMEOUT.total_seconds(),
            allow_redirects=False,
            stream=True,
            # Without it requests puts a password of ~/.netrc over the header that was given.
            auth=(lambda request: request) if authorized else None,
        ) as response:
            answer = Answer(response.status_code, _read(response, deadline))
    except ValueError as error:
        # Of requests, of urllib3 for host names, of http.client for headers.
        words = type(error).__name__
        raise DeliveryError(f"the URL or a header can't be used: {words}", permanent=True) from None
    except requests.RequestException as error:
        raise DeliveryError(f"the receiver can't be reached: {_kind(error)}") from None
    if 200 <= answer.status < 300:
        return answer
    reason = f"the receiver answered {answer.status}"
    said = clean(answer.text[:_SHOWN]).strip()
    if said:
        reason += f": {said}"
    retried = answer.status in _RETRIED or answer.status >= 500
    raise DeliveryError(
        reason, permanent=not retried, retry_after=retry_after(response, datetime.now(UTC))
    )


def _read(response: requests.Response, deadline: float) -> str:
    """The beginning of the body, as far as it comes in time: the status is what counts."""
    said = bytearray()
    # Byte by byte, since a larger piece waits for a receiver that trickles.
    with suppress(requests.RequestException):
        for piece in response.iter_content(1):
            said += piece
            if len(said) >= _READ or time.monotonic() >= deadline:
                break
    return said.decode("utf-8", "replace")


def _kind(error: requests.RequestException) -> str:
    """What went wrong, without the URL that requests prints with it."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT.total_seconds():.0f} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate was not accepted"
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    words = str(reason).split(": ", 1)[-1] if reason else ""
    return words or type(error).__name__


def retry_after(response: requests.Response, now: datetime) -> timedelta | None:
    """The Retry-After header, given as seconds or as a date (RFC 9110, section 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return timedelta(seconds=int(text[:9]))  # with more digits it is for ever anyway
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta())
