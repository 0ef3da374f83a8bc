"""HTTP for channels: one request, and the one place that says which failures are worth another."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import requests

from sentinel.core.errors import DeliveryError

TIMEOUT = timedelta(seconds=10)
_RETRIED = frozenset({408, 425, 429})
_SHOWN = 200


def post(url: str, body: bytes, headers: Mapping[str, str]) -> requests.Response:
    """POST once, without following redirects.

    Raises DeliveryError: permanent for redirects and most 4xx; to be tried again for network
    errors, timeouts, 408, 425, 429 (with its Retry-After) and 5xx.
    """
    try:
        response = requests.post(
            url,
            data=body,
            headers=dict(headers),
            timeout=TIMEOUT.total_seconds(),
            allow_redirects=False,
        )
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise DeliveryError(f"the URL can't be used: {_kind(error)}", permanent=True) from None
    except requests.RequestException as error:
        raise DeliveryError(f"the receiver can't be reached: {_kind(error)}") from None
    if response.ok and not response.is_redirect:
        return response
    reason = f"the receiver answered {response.status_code}"
    said = response.text[:_SHOWN].strip()
    if said:
        reason += f": {said}"
    retried = response.status_code in _RETRIED or response.status_code >= 500
    raise DeliveryError(
        reason, permanent=not retried, retry_after=retry_after(response, datetime.now(UTC))
    )


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
    if text.isdigit():
        return timedelta(seconds=min(int(text), 10**9))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta())
