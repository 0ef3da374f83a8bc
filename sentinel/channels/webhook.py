"""`webhook`: JSON to a URL, signed by the Standard Webhooks specification."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from sentinel import __version__
from sentinel.channels.contract import BaseChannel, ChannelContext
from sentinel.channels.http import (
    ANY_SUCCESS,
    Headers,
    Transport,
    UrlSettings,
    secret_of,
    warn_of_plain_http,
)
from sentinel.channels.template import Template
from sentinel.core.errors import DeliveryError
from sentinel.core.notification import Notification
from sentinel.core.routing import Traits
from sentinel.core.secret_scan import SecretPatterns
from sentinel.core.values import isoformat, to_json
from sentinel.ports import Message, Receipt

_PREFIX = "whsec_"
_SHORTEST_KEY, _LONGEST_KEY = 24, 64


def _listed(value: Any) -> Any:
    """One key as a list of one."""
    if isinstance(value, list | tuple) and not value:
        raise ValueError("it names no key")
    return () if value is None else value if isinstance(value, list | tuple) else (value,)


class WebhookChannel(BaseChannel):
    """Posts each notification as `{"type", "timestamp", "data"}`."""

    class Settings(UrlSettings):
        """The keys of a channel of the type `webhook`."""

        secret: Annotated[tuple[SecretStr, ...], BeforeValidator(_listed)] = Field(
            (),
            description="The signing key, `whsec_` and base64 of 24 to 64 bytes, or a list of keys, "
            "each of which signs (default: no signature).",
        )
        headers: Headers = Field(
            default_factory=dict, description="Further headers; their values are secret."
        )
        template: str | None = Field(
            None, description="A template of the project for the whole body, in JSON."
        )

        accept_pages: bool = Field(
            False,
            description="true takes an HTML page for acceptance as well, as long as it is a 2xx.",
        )

        @field_validator("secret")
        @classmethod
        def _signing_keys(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
            for secret in secrets:
                signing_key(secret)
            return secrets

    traits = Traits(groups=False)
    secret_patterns = SecretPatterns(values=(r"\bwhsec_",))

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        super().__init__(name)
        self._settings = settings
        self._transport = Transport.load(settings, around, allow_private=settings.allow_private)
        url = settings.url.get_secret_value()
        exposed = "secret headers" if settings.headers else secret_of(url)
        if urlsplit(url).path.strip("/"):
            exposed = exposed or "its secret URL"
        warn_of_plain_http(url, exposed, "url", around.warn)
        self._acceptance = ANY_SUCCESS
        if settings.accept_pages:
            self._acceptance = replace(ANY_SUCCESS, accepts=lambda _: True)
        path = settings.template
        self._template = Template.load("template", path, around, _in_json) if path else None

    def send(self, message: Message) -> Receipt:
        """One request each; which were accepted already is remembered."""
        done = set(message.recipients_done)
        url = self._settings.url.get_secret_value()
        with self._transport.delivery() as requests:
            for notification in message.notifications:
                key = notification.notification_id
                if key in done:
                    continue
                body = self._body(message, notification)
                try:
                    requests.post(url, body, self._headers(key, body), self._acceptance)
                except DeliveryError as error:
                    error.recipients_done = tuple(sorted(done))
                    raise
                if len(message.notifications) > 1:
                    done.add(key)
        return Receipt(recipients_done=tuple(sorted(done)))

    def _body(self, message: Message, notification: Notification) -> bytes:
        if self._template is None:
            document: Any = {
                "type": f"alert.{notification.event}",
                "timestamp": isoformat(notification.created_at),
                "data": notification.payload,
            }
        else:
            text = self._template.render(replace(message, notifications=(notification,)))
            try:
                document = json.loads(text)
            except ValueError as error:
                words = f"the template {self._template.path} makes no JSON: {error}"
                raise DeliveryError(words, permanent=True) from None
        return json.dumps(document, ensure_ascii=True).encode("ascii")

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        moment = str(int(datetime.now(UTC).timestamp()))
        headers = {
            "content-type": "application/json",
            "user-agent": f"dbt-sentinel/{__version__}",
            **{key: value.get_secret_value() for key, value in self._settings.headers.items()},
            "webhook-id": message_id,
            "webhook-timestamp": moment,
        }
        if self._settings.secret:
            keys = map(signing_key, self._settings.secret)
            signatures = (signature(key, message_id, moment, body) for key in keys)
            headers["webhook-signature"] = " ".join(signatures)
        return headers


def _in_json(value: object) -> str:
    """A value within a template: a text is escaped for the quotes around it, others are JSON."""
    text = to_json(value)
    return text[1:-1] if isinstance(value, str) else text


def signing_key(secret: SecretStr) -> bytes:
    """The key behind `whsec_` and base64. Raises ValueError unless it is one of 24 to 64 bytes.

    Source: the Standard Webhooks specification, "Signature scheme".
    """
    text = secret.get_secret_value().removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("the secret must be `whsec_` followed by base64")
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        raise ValueError(
            f"the secret's key has {len(key)} bytes; Standard Webhooks asks for {_SHORTEST_KEY} to "
            f"{_LONGEST_KEY}"
        )
    return key


def signature(key: bytes, message_id: str, moment: str, body: bytes) -> str:
    """The `webhook-signature` header: `v1,` and base64 of HMAC-SHA256 over id, time and body.

    Source: the Standard Webhooks specification, "Webhook Headers".
    """
    signed = b".".join((message_id.encode(), moment.encode(), body))
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()
