"""`teams`: Adaptive Cards to a channel of Microsoft Teams, by a Workflows webhook."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from sentinel.channels.contract import BaseChannel, ChannelContext
from sentinel.channels.escape import cut, markdown
from sentinel.channels.http import (
    Acceptance,
    Answer,
    Transport,
    UrlSettings,
    refusal,
    warn_of_plain_http,
)
from sentinel.channels.template import Template
from sentinel.channels.text import EACH, brief, details, fitted, link, title
from sentinel.core.routing import Traits
from sentinel.core.secret_scan import SecretPatterns
from sentinel.core.state import Event
from sentinel.core.text import line
from sentinel.ports import Message, Receipt

# Teams takes 28 KB, the card and what is around it.
_WHOLE = 27_000
_LINE = 280
_FIELD = 1_500
_TEMPLATE = 20_000
# The worst first.
_COLORS = {"critical": "attention", "warning": "warning", "info": "accent"}
_FAILED = re.compile(
    r"webhook message delivery failed with error.*?HTTP error (?P<status>\d{3})",
    re.IGNORECASE | re.DOTALL,
)
_OVER = (Event.RESOLVED, Event.ERROR_RESOLVED)


class TeamsChannel(BaseChannel):
    """Posts one card a message: of one notification all that is known, of several a line each."""

    class Settings(UrlSettings):
        """The keys of a channel of the type `teams`."""

        template: str | None = Field(
            None, description="A template of the project for the text, in Markdown."
        )

    traits = Traits(per_second=1)
    secret_patterns = SecretPatterns(values=(r"logic\.azure\.com/", r"webhook\.office\.com/"))

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        super().__init__(name)
        self._url = settings.url
        self._transport = Transport.load(settings, around, allow_private=settings.allow_private)
        warn_of_plain_http(settings.url.get_secret_value(), "its secret URL", "url", around.warn)
        path = settings.template
        self._template = Template.load("template", path, around, markdown) if path else None

    def send(self, message: Message) -> Receipt:
        payloads = [row.payload for row in message.notifications]
        if self._template:
            text, head = self._template.render(message), _head(payloads)
            body = fitted(
                lambda length: _body([head, _block(cut(text, length))]), len, _WHOLE, _TEMPLATE
            )
        elif len(payloads) > 1:
            body = fitted(lambda length: _body(_many(payloads, length)), len, _WHOLE, _LINE)
        else:
            url = link(payloads[0])
            body = fitted(lambda length: _body(_one(payloads[0], length), url), len, _WHOLE, _FIELD)
        with self._transport.delivery() as requests:
            requests.post(
                self._url.get_secret_value(),
                body,
                {"content-type": "application/json; charset=utf-8"},
                _ACCEPTANCE,
            )
        return Receipt()


def _accepts(answer: Answer) -> bool:
    """202 from Workflows, `1` from the older connectors, which report failures in a 200.

    Source: Microsoft's documentation of Teams, "Create and send messages", "Rate limiting".
    """
    if failed := _FAILED.search(answer.text):
        # What Teams answered to the connector, with 412 too when it is busy.
        error = refusal(replace(answer, status=int(failed["status"])))
        error.permanent &= failed["status"].startswith("4") and failed["status"] != "412"
        raise error
    text = answer.text.strip()
    if answer.status == 202:
        return not text or isinstance(answer.document, dict)
    return answer.status == 200 and text == "1"


_ACCEPTANCE = Acceptance("Teams", _accepts)


def _body(blocks: Sequence[Any], url: str | None = None) -> bytes:
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": blocks,
    }
    if url:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Runbook", "url": url}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    # Not as ASCII: escapes of other signs would take up to three times the room.
    return json.dumps({"type": "message", "attachments": [attachment]}, ensure_ascii=False).encode()


def _head(payloads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    over = all(each["event"] in _OVER for each in payloads)
    worst = next((each for each in _COLORS if any(p["severity"] == each for p in payloads)), "")
    color = "good" if over else _COLORS.get(worst, "default")
    words = cut(line(title(payloads)), _LINE)
    return _text(words, weight="bolder", size="medium", color=color)


def _one(payload: Mapping[str, Any], length: int) -> list[dict[str, Any]]:
    facts = [
        # One line break alone is none in Markdown.
        {"title": label, "value": markdown(cut(text, length)).replace("\n", "\n\n")}
        for label, text in details(payload)
    ]
    return [_head([payload]), {"type": "FactSet", "facts": facts}]


def _many(payloads: Sequence[Mapping[str, Any]], length: int) -> list[dict[str, Any]]:
    lines = (_text(cut(line(brief(each)), length), spacing="small") for each in payloads)
    return [_head(payloads), *lines, {**_text(EACH), "isSubtle": True, "size": "small"}]


def _text(text: str, **look: str) -> dict[str, Any]:
    return _block(markdown(text), **look)


def _block(text: str, **look: str) -> dict[str, Any]:
    return {"type": "TextBlock", "text": text, "wrap": True, **look}
