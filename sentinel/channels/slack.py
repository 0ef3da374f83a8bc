"""`slack`: Block Kit to a channel of Slack, by an incoming webhook or a bot's token."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import Field, SecretStr, field_validator, model_validator

from sentinel.channels.address import check_url
from sentinel.channels.contract import ChannelContext, ChannelSettings
from sentinel.channels.escape import code, cut, cut_escaped, line, mrkdwn
from sentinel.channels.http import exchange, post, retried, retry_after
from sentinel.channels.template import Template
from sentinel.channels.text import EACH, brief, details, fitted, link, title
from sentinel.core.errors import DeliveryError
from sentinel.core.routing import Traits
from sentinel.ports import Message, Receipt

if TYPE_CHECKING:
    from slack_sdk import WebClient

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


class SlackChannel:
    """Posts one message; with a token, what follows of an episode goes into its thread."""

    class Settings(ChannelSettings):
        """The keys of a channel of the type `slack`: `webhook_url`, or `token` and `channel`."""

        webhook_url: SecretStr | None = Field(None, description="An incoming webhook.")
        token: SecretStr | None = Field(
            None, description="A bot's token, with the scope chat:write; needs `channel`."
        )
        channel: str | None = Field(
            None, min_length=1, description="The channel's id or name, for a token."
        )
        api_url: str = Field(_API, description="The Web API; GovSlack has its own.")
        allow_private: bool = Field(
            False, description="true allows loopback and private addresses as well."
        )
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

    @classmethod
    def traits_for(cls, keys: Collection[str]) -> Traits:
        if "token" not in keys:
            return Traits(per_second=1)
        return Traits(per_second=1, acknowledges=True, follows=True, addressed_by="slack")

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        self.name = name
        self.traits = self.traits_for(["token"] if settings.token else [])
        self._settings = settings
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
        if self._settings.webhook_url:
            answer = post(
                self._settings.webhook_url.get_secret_value(),
                json.dumps(content).encode("ascii"),
                {"content-type": "application/json"},
                allow_private=self._settings.allow_private,
            )
            if (said := _denied(answer.text)) is not None:
                raise _refusal(answer.status, said, answer.headers)
            return Receipt()
        return self._by_token(message, content)

    # -- with a token ------------------------------------------------------------------------------

    def _by_token(self, message: Message, content: Mapping[str, Any]) -> Receipt:
        client = _client(self._settings)
        refs = {message.earlier.get(row.episode_id) for row in message.notifications}
        ref = refs.pop() if len(refs) == 1 else None
        if ref is None:
            said = _call(client, "chat.postMessage", {"channel": self._channel, **content})
            grouped = _GROUPED if len(message.notifications) > 1 else ""
            return Receipt(f"{said['channel']}:{said['ts']}{grouped}")
        channel, ts = ref.removesuffix(_GROUPED).split(":", 1)
        if not ref.endswith(_GROUPED) and len(message.notifications) == 1:
            # Before the reply: a second try then edits again, and doesn't reply twice.
            self._edit(client, {"channel": channel, "ts": ts, **content})
        _call(client, "chat.postMessage", {"channel": channel, "thread_ts": ts, **content})
        return Receipt(ref)

    def _edit(self, client: WebClient, content: Mapping[str, Any]) -> None:
        """The first message shows how things stand now."""
        try:
            _call(client, "chat.update", content)
        except DeliveryError as error:
            # A message that somebody has deleted, or that is too old to edit: the reply tells it.
            if not error.permanent:
                raise

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
    """What a template makes, as far as a message holds it; what is left out is said."""
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


def _client(settings: SlackChannel.Settings) -> WebClient:
    """Slack's own client, on our way to the network: to a checked address, and no redirects."""
    from slack_sdk import WebClient

    class Client(WebClient):
        def _perform_urllib_http_request(
            self, *, url: str, args: dict[str, dict[str, Any]]
        ) -> dict[str, Any]:
            answer = exchange(
                url,
                json.dumps(args["json"]).encode("ascii"),
                {**args["headers"], "content-type": "application/json;charset=utf-8"},
                allow_private=settings.allow_private,
                most=_READ,
            )
            return {"status": answer.status, "headers": answer.headers, "body": answer.text}

    # It logs answers that are no JSON; here they are errors.
    silent = logging.Logger("slack", logging.CRITICAL + 1)
    token = settings.token.get_secret_value() if settings.token else None
    # `retry_handlers`: the outbox tries again.
    return Client(token, base_url=settings.api_url, logger=silent, retry_handlers=[])


def _call(client: WebClient, method: str, content: Mapping[str, Any]) -> Any:
    """One call of the Web API. Raises DeliveryError."""
    from slack_sdk.errors import SlackApiError, SlackClientError

    try:
        return client.api_call(method, json=dict(content)).data
    except SlackApiError as error:
        response: Any = error.response
        status, known = response.status_code, isinstance(response.data, dict)
        said = response.get("error") if known else None
        if isinstance(said, str) and said.startswith("Received a response in a non-JSON format"):
            said = None
        raise _refusal(status, said, response.headers or {}) from None
    except SlackClientError as error:
        words = f"Slack can't be reached: {type(error).__name__}"
        raise DeliveryError(words) from None


def _denied(text: str) -> str | None:
    """Why an answer says `ok: false`; None if it doesn't."""
    try:
        said = json.loads(text)
    except ValueError:
        return None
    if isinstance(said, dict) and said.get("ok") is False:
        return str(said.get("error") or "it answered `ok: false`")
    return None


def _refusal(status: int, said: str | None, headers: Mapping[str, str]) -> DeliveryError:
    """For ever, unless Slack is busy, has trouble of its own, or it wasn't Slack that answered."""
    passing = said in _PASSING or retried(status) or (said is None and 200 <= status < 300)
    return DeliveryError(
        f"Slack refused it: {cut(line(said or f'it answered {status}'), 200)}",
        permanent=not passing,
        retry_after=retry_after(headers.get("retry-after"), datetime.now(UTC)),
    )
