"""`slack`: Block Kit to a channel of Slack, by an incoming webhook or a bot's token."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from typing import Any

from pydantic import Field, SecretStr, field_validator, model_validator

from sentinel import __version__
from sentinel.channels.address import check_url
from sentinel.channels.contract import BaseChannel, ChannelContext
from sentinel.channels.escape import code, cut, cut_escaped, mrkdwn
from sentinel.channels.http import (
    Acceptance,
    Answer,
    HttpSettings,
    Requests,
    Transport,
    refusal,
    rejection,
    retried,
    stranger,
    warn_of_plain_http,
)
from sentinel.channels.template import Template
from sentinel.channels.text import EACH, brief, details, fitted, link, title
from sentinel.core.errors import DeliveryError
from sentinel.core.routing import Traits
from sentinel.core.secret_scan import SecretPatterns
from sentinel.core.text import line
from sentinel.ports import Message, Receipt

_API = "https://slack.com/api/"
_HEADER = 150
_SECTION = 2_900
# Of all blocks together: Slack answers `msg_blocks_too_long` from about 12,000 characters on, which
# its documentation doesn't say (slackapi/bolt-js, issues 2509 and 2867).
_WHOLE = 10_000
_LINE = 280
_DETAIL = 1_200
# Of an answer, which quotes the message: all of it has to be read.
_READ = 1_000_000
_GROUPED = ":grouped"
# What Slack calls its own trouble, in an answer that has arrived (`ok: false`).
_PASSING = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable",
     "request_timeout", "team_added_to_org"}
)  # fmt: skip
_SYMBOLS = {
    "firing": ":red_circle:", "severity": ":red_circle:", "reminder": ":red_circle:",
    "escalation": ":rotating_light:", "acknowledged": ":eyes:", "error": ":warning:",
    "resolved": ":large_green_circle:", "error_resolved": ":large_green_circle:",
}  # fmt: skip


class SlackChannel(BaseChannel):
    """Posts one message; with a token, what follows of an episode goes into its thread."""

    class Settings(HttpSettings):
        """The keys of a channel of the type `slack`: `webhook_url`, or `token` and `channel`."""

        webhook_url: SecretStr | None = Field(None, description="An incoming webhook.")
        token: SecretStr | None = Field(
            None, description="A bot's token, with the scope chat:write; needs `channel`."
        )
        channel: str | None = Field(
            None, min_length=1, description="The channel's id or name, for a token."
        )
        api_url: str = Field(_API, description="The Web API; GovSlack has its own.")
        template: str | None = Field(
            None, description="A template of the project for the text, in Slack's mrkdwn."
        )

        @field_validator("webhook_url")
        @classmethod
        def _fit(cls, url: SecretStr | None) -> SecretStr | None:
            if url is not None:
                check_url(url.get_secret_value())
            return url

        @field_validator("api_url")
        @classmethod
        def _fit_too(cls, url: str) -> str:
            return check_url(url.rstrip("/") + "/")

        @model_validator(mode="after")
        def _one_way(self) -> SlackChannel.Settings:
            if (self.webhook_url is None) == (self.token is None):
                raise ValueError("it needs either `webhook_url` or `token`")
            if (self.token is None) != (self.channel is None):
                raise ValueError("`token` and `channel` go together")
            return self

    secret_patterns = SecretPatterns(
        values=(r"hooks\.slack\.com/(services|workflows|triggers)/", r"\bxox[a-z]-")
    )

    @classmethod
    def traits_for(cls, keys: Collection[str]) -> Traits:
        if "token" not in keys:
            return Traits(per_second=1)
        return Traits(per_second=1, acknowledges=True, follows=True, addressed_by="slack")

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        super().__init__(name)
        self.traits = self.traits_for(["token"] if settings.token else [])
        self._settings = settings
        self._transport = Transport.load(settings, around, allow_private=settings.allow_private)
        if settings.webhook_url:
            url = settings.webhook_url.get_secret_value()
            warn_of_plain_http(url, "its secret URL", "webhook_url", around.warn)
        else:
            warn_of_plain_http(settings.api_url, "the token", "api_url", around.warn)
        self._channel = settings.channel
        path = settings.template
        self._template = Template.load("template", path, around, mrkdwn) if path else None

    def addressed(self, address: str) -> SlackChannel:
        """The same workspace and bot, another channel."""
        other = copy(self)
        other._channel = address
        other.name = f"{self.name}:{address}"
        return other

    def send(self, message: Message) -> Receipt:
        payloads = [row.payload for row in message.notifications]
        content = {
            "text": mrkdwn(cut(line(title(payloads)), _SECTION)),
            "blocks": self._blocks(message, payloads),
            "unfurl_links": False,
            "unfurl_media": False,
        }
        with self._transport.delivery() as requests:
            if self._settings.webhook_url is None:
                return self._by_token(requests, message, content)
            requests.post(
                self._settings.webhook_url.get_secret_value(),
                json.dumps(content).encode("ascii"),
                {"content-type": "application/json"},
                _ACCEPTANCE,
            )
        return Receipt()

    # -- with a token ------------------------------------------------------------------------------

    def _by_token(
        self, requests: Requests, message: Message, content: Mapping[str, Any]
    ) -> Receipt:
        refs = {message.earlier.get(row.episode_id) for row in message.notifications}
        ref = refs.pop() if len(refs) == 1 else None
        if ref is None:
            where = self._call(requests, "chat.postMessage", {"channel": self._channel, **content})
            grouped = _GROUPED if len(message.notifications) > 1 else ""
            return Receipt(f"{where}{grouped}")
        channel, ts = ref.removesuffix(_GROUPED).split(":", 1)
        if not ref.endswith(_GROUPED) and len(message.notifications) == 1:
            # Before the reply: a second try then edits again, and doesn't reply twice.
            self._edit(requests, {"channel": channel, "ts": ts, **content})
        reply = {"channel": channel, "thread_ts": ts, **content}
        self._call(requests, "chat.postMessage", reply)
        return Receipt(ref)

    def _edit(self, requests: Requests, content: Mapping[str, Any]) -> None:
        """The first message shows the current state."""
        try:
            self._call(requests, "chat.update", content)
        except DeliveryError as error:
            # A message that somebody has deleted, or that is too old to edit: the reply shows it.
            if not error.permanent:
                raise

    def _call(self, requests: Requests, method: str, content: Mapping[str, Any]) -> str:
        """One call of the Web API: gives `channel:ts` of the message. Raises DeliveryError.

        By our own request, and not by Slack's client, which has no deadline for the whole of it and
        connects to addresses that nobody has checked.
        """
        token = self._settings.token.get_secret_value() if self._settings.token else ""
        answer = requests.exchange(
            self._settings.api_url + method,
            json.dumps(content).encode("ascii"),
            {
                "authorization": f"Bearer {token}",
                "content-type": "application/json; charset=utf-8",
                "user-agent": f"dbt-sentinel/{__version__}",
            },
            _READ,
        )
        document = answer.document if answer.complete else None
        if not isinstance(document, dict) or not isinstance(document.get("ok"), bool):
            raise rejection(answer, "Slack")
        if not document["ok"]:
            raise _refusal(answer, document)
        channel, ts = document.get("channel"), document.get("ts")
        if not 200 <= answer.status < 300 or not all(
            isinstance(x, str) and x for x in (channel, ts)
        ):
            raise stranger(answer, "Slack")
        return f"{channel}:{ts}"

    # -- content -----------------------------------------------------------------------------------

    def _blocks(self, message: Message, payloads: Sequence[Mapping[str, Any]]) -> list[Any]:
        from slack_sdk.models.blocks import HeaderBlock, PlainTextObject

        words = cut(line(title(payloads)), _HEADER)
        head = HeaderBlock(text=PlainTextObject(text=words, emoji=False)).to_dict()
        if self._template:
            return [head, *_sections(_bounded(self._template.render(message)))]
        many = len(payloads) > 1

        def body(length: int) -> list[str]:
            if many:
                return [_listed(each, length) for each in payloads]
            return [_told(label, text, length) for label, text in details(payloads[0])]

        lines = fitted(body, _size, _WHOLE, _LINE if many else _DETAIL)
        blocks = [head, *_sections(lines)]
        if many:
            return [*blocks, _aside(EACH)]
        if url := link(payloads[0]):
            blocks.append(_section(f"<{_target(url)}|Runbook>"))
        return blocks


def _listed(payload: Mapping[str, Any], length: int) -> str:
    """One of many, on a line."""
    symbol = _SYMBOLS.get(payload["event"], "")
    return f"{symbol} {mrkdwn(cut(line(brief(payload)), length))}".strip()


def _told(label: str, text: str, length: int) -> str:
    if label == "silence":
        return f"*{label}*: {code(cut(text, length))}"
    shown = mrkdwn(cut(text, length))
    return f"*{label}*:\n{shown}" if "\n" in shown else f"*{label}*: {shown}"


def _size(lines: Sequence[str]) -> int:
    return sum(len(each) + 1 for each in lines)


def _bounded(text: str) -> list[str]:
    """A template's output, truncated with a mark if it exceeds the message."""
    head, rest = cut_escaped(text, _WHOLE)
    return [*head.splitlines(), *([f"… ({len(text):,} characters, cut)"] if rest else [])]


def _sections(lines: Sequence[str]) -> Iterator[Any]:
    return (_section(text) for text in _pieces(lines))


def _aside(text: str) -> Any:
    return {
        "type": "context",
        "elements": [{"type": "mrkdwn", "text": mrkdwn(text), "verbatim": True}],
    }


def _section(text: str) -> Any:
    from slack_sdk.models.blocks import MarkdownTextObject, SectionBlock

    # `verbatim`: names and channels in the text make no links.
    return SectionBlock(text=MarkdownTextObject(text=text or " ", verbatim=True)).to_dict()


def _pieces(lines: Sequence[str]) -> list[str]:
    """Lines as texts that a section takes, nothing left out."""
    texts: list[str] = [""]
    for each in lines:
        rest = each
        while True:
            part, rest = cut_escaped(rest, _SECTION)
            if not texts[-1]:
                texts[-1] = part
            elif len(texts[-1]) + 1 + len(part) <= _SECTION:
                texts[-1] += f"\n{part}"
            else:
                texts.append(part)
            if not rest:
                break
    return texts


def _target(url: str) -> str:
    """A URL within `<...|...>`."""
    safe = {"&": "&amp;", "<": "%3C", ">": "%3E", "|": "%7C"}
    return "".join(safe.get(each, each) for each in url)


def _accepts(answer: Answer) -> bool:
    """`ok` as text, or in JSON; Rocket.Chat, whose webhooks take the same messages, answers
    `{"success": true}`. Source: Slack's documentation, "Sending messages using incoming webhooks",
    "Handling errors"."""
    document = answer.document
    if isinstance(document, dict) and document.get("ok") is False:
        raise _refusal(answer, document)
    return answer.text.strip() == "ok" or (
        isinstance(document, dict) and (document.get("ok") or document.get("success")) is True
    )


_ACCEPTANCE = Acceptance("Slack", _accepts)


def _refusal(answer: Answer, document: Mapping[str, Any]) -> DeliveryError:
    """Slack's error in an answer: permanent unless Slack is busy or has a problem."""
    name = document.get("error")
    error = refusal(answer)
    error.permanent = name not in _PASSING and not retried(answer.status)
    words = cut(line(name or "it answered `ok: false`"), 200)
    error.message = f"Slack refused it: {words}"
    error.args = (error.message,)
    return error
