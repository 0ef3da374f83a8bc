"""Access tokens for mail servers, by OAuth 2.0: requested when they are needed, kept while they last."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from sentinel.channels.address import check_url
from sentinel.channels.deadline import Deadline
from sentinel.channels.escape import cut
from sentinel.channels.http import Requests, Transport, retried
from sentinel.core.errors import DeliveryError
from sentinel.core.text import line

_READ = 100_000
_SHOWN = 300
# RFC 6750, section 2.1; nothing in it may end a field of SMTP's login.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/:|-]+=*")
# What a token lasts that doesn't say it, and how long before its end it is no longer used.
_LASTS_S = 300.0
_MARGIN_S = 120.0
_ASSERTION_LASTS_S = 3_600
_HEADERS = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class OAuth2Settings(BaseModel):
    """The keys of `oauth2`: client credentials, a refresh token, or a Google service account."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_url: str | None = Field(
        None, description="The token endpoint (default: the service account key's)."
    )
    client_id: str | None = Field(None, description="The application's id.")
    client_secret: SecretStr | None = Field(None, description="The application's secret.")
    refresh_token: SecretStr | None = Field(
        None,
        description="A refresh token of the mailbox (default: the application itself logs in).",
    )
    service_account_key: SecretStr | None = Field(
        None, description="The key of a Google service account, as JSON, instead of an application."
    )
    scope: str | None = Field(None, min_length=1, description="What the token has to allow.")
    allow_private: bool = Field(
        False, description="true allows a `token_url` at a loopback or private address as well."
    )

    @field_validator("token_url")
    @classmethod
    def _fit(cls, url: str | None) -> str | None:
        return url if url is None else check_url(url)

    @model_validator(mode="after")
    def _one_way(self) -> OAuth2Settings:
        if self.service_account_key is not None:
            if self.client_id or self.client_secret or self.refresh_token:
                raise ValueError("`service_account_key` is instead of client_id and refresh_token")
            _service_account(self.service_account_key)
            return self
        if not self.token_url or not self.client_id:
            raise ValueError("it needs `token_url` and `client_id`, or `service_account_key`")
        if not self.client_secret and not self.refresh_token:
            raise ValueError("it needs `client_secret`, or `refresh_token`")
        return self


class TokenSource:
    """The current access token. Several threads share it."""

    def __init__(self, settings: OAuth2Settings, username: str, timeout: timedelta) -> None:
        self._settings = settings
        self._username = username
        self._transport = Transport(timeout, settings.allow_private)
        self._lock = threading.Lock()
        self._token: _Token | None = None
        self._grant = _grant_of(settings, username)

    def __repr__(self) -> str:
        return f"TokenSource({self._username!r})"

    def token(self, deadline: Deadline, refused: str | None = None) -> tuple[str, bool]:
        """A token, and whether it is new. `refused` is one that the mail server didn't take.

        Raises DeliveryError.
        """
        if not self._lock.acquire(timeout=_remaining(deadline)):
            raise _late(deadline)
        try:
            kept = self._token
            if kept and time.monotonic() < kept.good_until and kept.text != refused:
                return kept.text, False
            self._token = self._request(deadline)
            return self._token.text, True
        finally:
            self._lock.release()

    def _request(self, deadline: Deadline) -> _Token:
        url, fields = self._grant()
        began = time.monotonic()
        try:
            answer = Requests(self._transport, deadline).exchange(
                url, urlencode(fields).encode("ascii"), _HEADERS, _READ
            )
        except DeliveryError as error:
            raise DeliveryError(
                f"the token for the mail server can't be requested: {error.message}",
                permanent=error.permanent,
                retry_after=error.retry_after,
            ) from None
        said = _document(answer.text)
        if answer.status == 200:
            return _token_in(said, began)
        raise _refusal(answer.status, said)


@dataclass(frozen=True, repr=False)
class _Token:
    text: str
    good_until: float


def _token_in(said: dict[str, Any], began: float) -> _Token:
    """The token of an answer. Raises DeliveryError, not permanent: it may be a proxy's answer."""
    text, kind = said.get("access_token"), said.get("token_type", "bearer")
    fits = isinstance(text, str) and _TOKEN.fullmatch(text)
    if not fits or not isinstance(kind, str) or kind.lower() != "bearer":
        words = "the answer of `token_url` holds no token that SMTP can use"
        raise DeliveryError(f"{words}: is it the address where tokens are requested?")
    try:
        lasts = float(said.get("expires_in", _LASTS_S))
    except (TypeError, ValueError):
        lasts = _LASTS_S
    return _Token(str(text), began + max(0.0, lasts - _MARGIN_S))


def _refusal(status: int, said: dict[str, Any]) -> DeliveryError:
    """RFC 6749, section 5.2: an invalid request is a permanent failure."""
    known = {
        key: line(said[key])
        for key in ("error", "error_description")
        if isinstance(said.get(key), str)
    }
    words = ": ".join(known.values()) or f"it answered {status}"
    # Not 407 and 511: those are a proxy's.
    passing = retried(status) or status in (407, 511) or 200 <= status < 300
    passing = passing or known.get("error") in ("temporarily_unavailable", "server_error")
    advice = _ADVICE.get(known.get("error", ""), "")
    return DeliveryError(
        f"`token_url` gives no token: {cut(words, _SHOWN)}{advice}", permanent=not passing
    )


_ADVICE = {
    "invalid_client": " (check `oauth2.client_id` and `oauth2.client_secret`: secrets expire)",
    "unauthorized_client": " (the application may not use this grant, or not for this user)",
    "invalid_grant": " (the refresh token or the service account's key is not valid any more)",
    "invalid_scope": " (check `oauth2.scope`)",
}


def _document(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _remaining(deadline: Deadline) -> float:
    try:
        return deadline.remaining()
    except OSError:
        raise _late(deadline) from None


def _late(deadline: Deadline) -> DeliveryError:
    seconds = deadline.limit.total_seconds()
    return DeliveryError(f"the token for the mail server took longer than {seconds:.0f} s")


# -- grants ----------------------------------------------------------------------------------------


def _grant_of(settings: OAuth2Settings, username: str) -> Any:
    """A function that gives the URL and the fields of a request for a token."""
    key = settings.service_account_key
    if key is not None:
        return lambda: _service_account_grant(settings, key, username)

    def grant() -> tuple[str, dict[str, str]]:
        fields = {"grant_type": "client_credentials", "client_id": settings.client_id or ""}
        if settings.client_secret:
            fields["client_secret"] = settings.client_secret.get_secret_value()
        if settings.refresh_token:
            fields["grant_type"] = "refresh_token"
            fields["refresh_token"] = settings.refresh_token.get_secret_value()
        if settings.scope:
            fields["scope"] = settings.scope
        return str(settings.token_url), fields

    return grant


def _service_account(key: SecretStr) -> dict[str, Any]:
    """The document of a service account's key. Raises ValueError."""
    document = _document(key.get_secret_value())
    fields = ("client_email", "private_key", "token_uri")
    if not all(isinstance(document.get(field), str) for field in fields):
        raise ValueError("`service_account_key` is not the JSON of a service account's key")
    check_url(document["token_uri"])
    return document


def _service_account_grant(
    settings: OAuth2Settings, key: SecretStr, username: str
) -> tuple[str, dict[str, str]]:
    """RFC 7523: the account asks, in the name of the mailbox, which the domain has to allow."""
    jwt: Any = import_module("google.auth.jwt")
    document = _service_account(key)
    now = int(time.time())
    claims = {
        "iss": document["client_email"],
        "sub": username,
        "scope": settings.scope or GOOGLE_SCOPE,
        "aud": document["token_uri"],
        "iat": now,
        "exp": now + _ASSERTION_LASTS_S,
    }
    assertion = jwt.encode(signer(key), claims).decode("ascii")
    url = settings.token_url or document["token_uri"]
    return url, {"grant_type": _JWT_BEARER, "assertion": assertion}


GOOGLE_SCOPE = "https://mail.google.com/"


def signer(key: SecretStr) -> Any:
    """What signs for a service account. Raises ValueError for a bad key, and ImportError."""
    crypt: Any = import_module("google.auth.crypt")
    return crypt.RSASigner.from_service_account_info(_service_account(key))
