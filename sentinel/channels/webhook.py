"""`webhook`: JSON to a URL, signed by the Standard Webhooks specification."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, SecretStr, field_validator

from sentinel import __version__
from sentinel.channels.contract import ChannelContext
from sentinel.channels.http import Headers, HttpSettings, post
from sentinel.channels.template import Template
from sentinel.core.errors import DeliveryError
from sentinel.core.planning import Notification
from sentinel.core.routing import Traits
from sentinel.core.values import isoformat, to_json
from sentinel.ports import Message, Receipt

_PREFIX = "whsec_"


class WebhookChannel:
    """Posts each notification as `{"type", "timestamp", "data"}`."""

    class Settings(HttpSettings):
        """The keys of a channel of the type `webhook`."""

        secret: SecretStr | None = Field(
            None, description="The signing key, `whsec_` and base64; unset, nothing is signed."
        )
        headers: Headers = Field(
            default_factory=dict, description="Further headers; their values are secret."
        )
        template: str | None = Field(
            None, description="A template of the project for the whole body, in JSON."
        )

        @field_validator("secret")
        @classmethod
        def _signing_key(cls, secret: SecretStr | None) -> SecretStr | None:
            if secret is not None:
                signing_key(secret)
            return secret

    traits = Traits(groups=False)

    @classmethod
    def traits_for(cls, keys: Collection[str]) -> Traits:
        return cls.traits

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        self.name = name
        self._settings = settings
        path = settings.template
        self._template = Template.load("template", path, around, _in_json) if path else None

    def send(self, message: Message) -> Receipt:
        """One request each; which were accepted already is remembered."""
        done = set(message.recipients_done)
        for notification in message.notifications:
            key = notification.notification_id
            if key in done:
                continue
            body = self._body(message, notification)
            try:
                post(
                    self._settings.url.get_secret_value(),
                    body,
                    self._headers(key, body),
                    allow_private=self._settings.allow_private,
                )
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
            key = signing_key(self._settings.secret)
            headers["webhook-signature"] = signature(key, message_id, moment, body)
        return headers


def _in_json(value: object) -> str:
    """A value within a template: a text is escaped for the quotes around it, others are JSON."""
    text = to_json(value)
    return text[1:-1] if isinstance(value, str) else text


def signing_key(secret: SecretStr) -> bytes:
    """The key behind `whsec_` and base64. Raises ValueError if it is no base64, or empty."""
    text = secret.get_secret_value().removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("the secret has to be `whsec_` followed by base64")
    return key


def signature(key: bytes, message_id: str, moment: str, body: bytes) -> str:
    """The `webhook-signature` header: `v1,` and base64 of HMAC-SHA256 over id, time and body.

    Source: the Standard Webhooks specification, "Webhook Headers".
    """
    signed = b".".join((message_id.encode(), moment.encode(), body))
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()
