"""`discord`: embeds to a channel of Discord, by a webhook.

Source of all limits: Discord's documentation, "Execute Webhook" and "Embed Limits".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field

from sentinel.channels.contract import BaseChannel, ChannelContext
from sentinel.channels.escape import cut, markdown, unpinged
from sentinel.channels.http import (
    Acceptance,
    Answer,
    Transport,
    UrlSettings,
    warn_of_plain_http,
)
from sentinel.channels.template import Template
from sentinel.channels.text import EACH, brief, details, fitted, link, title
from sentinel.core.routing import Traits
from sentinel.core.secret_scan import SecretPatterns
from sentinel.core.state import Event
from sentinel.core.text import line
from sentinel.ports import Message, Receipt

_LONGEST_CONTENT = 2_000
_LONGEST_TITLE = 256
_LONGEST_DESCRIPTION = 4_096
_LONGEST_VALUE = 1_024
# Of all texts of all embeds of a message.
_WHOLE = 6_000
_LINE = 280
# Short enough to stand side by side.
_INLINE = ("value", "since", "owner")
# The worst first.
_COLORS = {"critical": 0xD92D20, "warning": 0xF79009, "info": 0x2E90FA}
_GREEN = 0x12B76A
_OVER = (Event.RESOLVED, Event.ERROR_RESOLVED)

Embed = dict[str, Any]


class DiscordChannel(BaseChannel):
    """Posts one message: of one notification an embed with all details, of several a line each."""

    class Settings(UrlSettings):
        """The keys of a channel of the type `discord`."""

        template: str | None = Field(
            None, description="A template of the project for the text, in Markdown."
        )

    # Discord takes 30 messages a minute.
    traits = Traits(per_second=0.5)
    secret_patterns = SecretPatterns(values=(r"discord(app)?\.com/api/(v\d+/)?webhooks/",))

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        super().__init__(name)
        self._url = settings.url
        self._transport = Transport.load(settings, around, allow_private=settings.allow_private)
        warn_of_plain_http(settings.url.get_secret_value(), "its secret URL", "url", around.warn)
        path = settings.template
        self._template = Template.load("template", path, around, _escaped) if path else None

    def send(self, message: Message) -> Receipt:
        payloads = [row.payload for row in message.notifications]
        body: dict[str, Any] = {"allowed_mentions": {"parse": []}}
        if self._template:
            text = self._template.render(message)
            body["content"] = fitted(
                lambda length: cut(text, length), _units, _LONGEST_CONTENT, _LONGEST_CONTENT
            )
            body["embeds"] = [_head(payloads)]
        elif len(payloads) > 1:
            body["embeds"] = fitted(lambda length: _many(payloads, length), _size, _WHOLE, _LINE)
        else:
            body["embeds"] = fitted(
                lambda length: _one(payloads[0], length), _size, _WHOLE, _LONGEST_VALUE
            )
        with self._transport.delivery() as requests:
            requests.post(
                _waiting(self._url.get_secret_value()),
                json.dumps(body, ensure_ascii=False).encode(),
                {"content-type": "application/json; charset=utf-8"},
                _ACCEPTANCE,
            )
        return Receipt()


def _accepts(answer: Answer) -> bool:
    """The message itself, which Discord gives when it is asked to wait."""
    document = answer.document
    return isinstance(document, dict) and "id" in document and "channel_id" in document


_ACCEPTANCE = Acceptance("Discord", _accepts)


def _waiting(url: str) -> str:
    """The URL that answers once the message is posted, not once it is queued."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, "wait=true")))))


def _one(payload: Mapping[str, Any], length: int) -> list[Embed]:
    fields = []
    description = ""
    for label, text in details(payload):
        if label == "message":
            description = _escaped_within(_LONGEST_DESCRIPTION, text, length)
        else:
            value = _escaped_within(_LONGEST_VALUE, text, length)
            fields.append({"name": label, "value": value, "inline": label in _INLINE})
    return [{**_head([payload]), "description": description, "fields": fields}]


def _many(payloads: Sequence[Mapping[str, Any]], length: int) -> list[Embed]:
    """One list, in as many embeds as it takes."""
    first, *others = _descriptions([_escaped(cut(line(brief(each)), length)) for each in payloads])
    head = _head(payloads)
    embeds = [{**head, "description": first}]
    embeds += [{"color": head["color"], "description": each} for each in others]
    embeds[-1]["footer"] = {"text": EACH}
    return embeds


def _descriptions(lines: Sequence[str]) -> Iterator[str]:
    """Lines joined to texts that each fit in an embed."""
    text = ""
    for each in lines:
        if text and _units(f"{text}\n{each}") > _LONGEST_DESCRIPTION:
            yield text
            text = each
        else:
            text = f"{text}\n{each}" if text else each
    yield text


def _head(payloads: Sequence[Mapping[str, Any]]) -> Embed:
    over = all(each["event"] in _OVER for each in payloads)
    worst = next((each for each in _COLORS if any(p["severity"] == each for p in payloads)), "info")
    embed: Embed = {
        "title": _escaped_within(_LONGEST_TITLE, line(title(payloads)), _LONGEST_TITLE),
        "color": _GREEN if over else _COLORS[worst],
        "timestamp": payloads[0]["as_of"],
    }
    url = link(payloads[0]) if len(payloads) == 1 else None
    return embed | {"url": url} if url else embed


def _escaped(value: object) -> str:
    return markdown(unpinged(value))


def _escaped_within(most: int, text: str, length: int) -> str:
    """Text cut at `length`, or shorter where its escapes would pass the limit."""
    return fitted(lambda each: _escaped(cut(text, each)), _units, most, min(length, most))


def _units(text: str) -> int:
    """The length of a text as JavaScript counts it: in units of UTF-16, the stricter way."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _size(embeds: Sequence[Embed]) -> int:
    """What counts of embeds."""
    return sum(
        _units(embed.get("title", ""))
        + _units(embed.get("description", ""))
        + _units(embed.get("footer", {}).get("text", ""))
        + sum(_units(each["name"]) + _units(each["value"]) for each in embed.get("fields", ()))
        for embed in embeds
    )
