"""`teams`: Adaptive Cards to a channel of Microsoft Teams, by a Workflows webhook."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from pydantic import Field

from sentinel.channels.contract import ChannelContext
from sentinel.channels.escape import cut, line, markdown
from sentinel.channels.http import HttpSettings, post
from sentinel.channels.template import Template
from sentinel.channels.text import brief, details, link, title
from sentinel.core.routing import Traits
from sentinel.ports import Message, Receipt

# A card may have 28 KB. Fifty lines of at most this many characters fit, escapes included.
_LINE = 200
_FIELD = 1_500


class TeamsChannel:
    """Posts one card a message: of one notification all that is known, of several a line each."""

    class Settings(HttpSettings):
        """The keys of a channel of the type `teams`."""

        template: str | None = Field(
            None, description="A template of the project for the text, in Markdown."
        )

    traits = Traits(per_second=1)

    @classmethod
    def traits_for(cls, keys: Collection[str]) -> Traits:
        return cls.traits

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        self.name = name
        self._settings = settings
        path = settings.template
        self._template = Template.load("template", path, around, markdown) if path else None

    def send(self, message: Message) -> Receipt:
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "msteams": {"width": "Full"},
            **self._content(message),
        }
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
        body = json.dumps({"type": "message", "attachments": [attachment]}).encode("ascii")
        post(
            self._settings.url.get_secret_value(),
            body,
            {"content-type": "application/json"},
            allow_private=self._settings.allow_private,
        )
        return Receipt()

    def _content(self, message: Message) -> dict[str, Any]:
        payloads = [row.payload for row in message.notifications]
        head = _text(cut(line(title(payloads)), _LINE), weight="bolder", size="medium")
        if self._template:
            return {"body": [head, _block(cut(self._template.render(message), 20_000))]}
        if len(payloads) > 1:
            return {"body": [head, *(_text(cut(line(brief(each)), _LINE)) for each in payloads)]}
        facts = [
            {"title": label, "value": markdown(cut(text, _FIELD))}
            for label, text in details(payloads[0])
        ]
        content: dict[str, Any] = {"body": [head, {"type": "FactSet", "facts": facts}]}
        if url := link(payloads[0]):
            content["actions"] = [{"type": "Action.OpenUrl", "title": "Runbook", "url": url}]
        return content


def _text(text: str, **look: str) -> dict[str, Any]:
    return _block(markdown(text), **look)


def _block(text: str, **look: str) -> dict[str, Any]:
    return {"type": "TextBlock", "text": text, "wrap": True, **look}
