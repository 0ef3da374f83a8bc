"""`slack`: Block Kit to a channel of Slack, by an incoming webhook or a bot's token."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from sentinel.channels.address import check_url, resolve
from sentinel.channels.contract import ChannelContext, ChannelSettings
from sentinel.channels.escape import cut, line, mrkdwn, plain
from sentinel.channels.http import TIMEOUT, post, retried, retry_after
from sentinel.channels.template import Template
from sentinel.channels.text import brief, details, link, title
from sentinel.core.errors import DeliveryError
from sentinel.core.routing import Traits
from sentinel.ports import Message, Receipt

if TYPE_CHECKING:
    from slack_sdk import WebClient
    from slack_sdk.errors import SlackApiError

_API = "https://slack.com/api/"
_HEADER = 150
_SECTION = 2_900
_LINE = 280
_DETAIL = 1_200
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
        }
        if self._settings.webhook_url:
            post(
                self._settings.webhook_url.get_secret_value(),
                json.dumps(content).encode("ascii"),
                {"content-type": "application/json"},
                allow_private=self._settings.allow_private,
            )
            return Receipt()
        return self._by_token(message, content)

    # -- with a token ------------------------------------------------------------------------------

    def _by_token(self, message: Message, content: Mapping[str, Any]) -> Receipt:
        from slack_sdk import WebClient

        assert self._settings.token
        if self._settings.api_url != _API:
            parts = urlsplit(self._settings.api_url)
            resolve(
                parts.hostname or "", parts.port or 443, allow_private=self._settings.allow_private
            )
        client = WebClient(
            self._settings.token.get_secret_value(),
            base_url=self._settings.api_url,
            timeout=int(TIMEOUT.total_seconds()),
            retry_handlers=[],  # the outbox tries again
        )
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
        from slack_sdk.models.blocks import HeaderBlock, PlainTextObject, SectionBlock

        head = HeaderBlock(text=PlainTextObject(text=cut(plain(line(title(payloads))), _HEADER)))
        if self._template:
            texts = _pieces(self._template.render(message).splitlines() or [""])
            return [head.to_dict(), *(_section(text) for text in texts[:40])]
        if len(payloads) > 1:
            lines = [
                f"{_SYMBOLS.get(each['event'], '')} {mrkdwn(cut(line(brief(each)), _LINE))}".strip()
                for each in payloads
            ]
            return [head.to_dict(), *(_section(text) for text in _pieces(lines))]
        first = payloads[0]
        lines = []
        for label, text in details(first):
            shown = mrkdwn(cut(text, _DETAIL))
            lines.append(f"*{label}*: {shown}" if "\n" not in shown else f"*{label}*:\n{shown}")
        blocks = [head.to_dict(), *(_section(text) for text in _pieces(lines))]
        if url := link(first):
            button = SectionBlock(text=f"<{_target(url)}|Runbook>")
            blocks.append(button.to_dict())
        return blocks


def _section(text: str) -> Any:
    from slack_sdk.models.blocks import MarkdownTextObject, SectionBlock

    # `verbatim`: names and channels in the text make no links.
    return SectionBlock(text=MarkdownTextObject(text=text or " ", verbatim=True)).to_dict()


def _pieces(lines: Sequence[str]) -> list[str]:
    """Lines as texts that a section takes, nothing left out."""
    texts: list[str] = []
    for each in lines:
        for start in range(0, max(1, len(each)), _SECTION):
            part = each[start : start + _SECTION]
            if texts and len(texts[-1]) + 1 + len(part) <= _SECTION:
                texts[-1] += f"\n{part}"
            else:
                texts.append(part)
    return texts


def _target(url: str) -> str:
    """A URL within `<...|...>`."""
    safe = {"&": "&amp;", "<": "%3C", ">": "%3E", "|": "%7C"}
    return "".join(safe.get(each, each) for each in url)


def _call(client: WebClient, method: str, content: Mapping[str, Any]) -> Any:
    """One call of the Web API. Raises DeliveryError."""
    from slack_sdk.errors import SlackApiError, SlackClientError

    try:
        return client.api_call(method, json=dict(content)).data
    except SlackApiError as error:
        raise _refusal(error) from None
    except SlackClientError as error:
        words = f"Slack can't be reached: {type(error).__name__}"
        raise DeliveryError(words) from None
    except OSError as error:
        words = getattr(error, "reason", None) or type(error).__name__
        raise DeliveryError(f"Slack can't be reached: {line(words)}") from None


def _refusal(error: SlackApiError) -> DeliveryError:
    response: Any = error.response
    status = response.status_code
    said = response.get("error") if isinstance(response.data, dict) else None
    headers = {str(name).lower(): value for name, value in (response.headers or {}).items()}
    passing = said in _PASSING or (said is None and retried(status)) or status == 429
    return DeliveryError(
        f"Slack refused it: {line(said or f'it answered {status}')}",
        permanent=not passing,
        retry_after=retry_after(headers.get("retry-after"), datetime.now(UTC)),
    )
