from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from werkzeug.wrappers import Response

from sentinel.core.errors import DeliveryError
from sentinel.core.state import Event
from tests.fakes import message, notification, payload

from .by_http import PostUnderTest, many
from .contract import WORST, RemoteChannelContract
from .examples import DELIVERED, PERMANENT, RETRY, VAGUE, HttpExample
from .receiver import Receiver

JSON = "application/json"
POSTED = '{"id": "1", "channel_id": "2", "content": ""}'
EXAMPLE = HttpExample(
    name="discord",
    settings=lambda url: {"url": url, "allow_private": True},
    accepts=(200, JSON, POSTED),
    verdicts={
        RETRY: {
            **VAGUE,
            "ok": (200, "text/plain", "ok"),
            "too many in JSON": (429, JSON, '{"message": "rate limited", "retry_after": 0.65}'),
        },
        PERMANENT: {
            "no such webhook": (404, JSON, '{"message": "Unknown Webhook", "code": 10015}'),
            "a wrong token": (401, JSON, '{"message": "Invalid Webhook Token", "code": 50027}'),
            "a wrong form": (400, JSON, '{"message": "Invalid Form Body", "code": 50035}'),
        },
        DELIVERED: {"posted": (200, JSON, POSTED)},
    },
)


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def embeds_of(body: Any) -> list[Any]:
    """The embeds of a message that Discord takes."""
    assert body["allowed_mentions"] == {"parse": []}
    assert units(body.get("content", "")) <= 2_000
    embeds: list[Any] = body["embeds"]
    assert 1 <= len(embeds) <= 10
    whole = 0
    for embed in embeds:
        fields, footer = embed.get("fields", []), embed.get("footer", {"text": ""})["text"]
        title, description = embed.get("title", ""), embed.get("description", "")
        assert units(title) <= 256
        assert units(description) <= 4_096
        assert len(fields) <= 25
        assert all(0 < units(each["name"]) <= 256 for each in fields)
        assert all(0 < units(each["value"]) <= 1_024 for each in fields)
        assert units(footer) <= 2_048
        texts = [title, description, footer]
        texts += [text for each in fields for text in (each["name"], each["value"])]
        whole += sum(map(units, texts))
    assert whole <= 6_000
    return embeds


class DiscordUnderTest(PostUnderTest):
    example = EXAMPLE

    def arrived(self) -> list[str]:
        found = []
        for body in self.bodies:
            embeds = embeds_of(body)
            if "footer" in embeds[-1]:  # a list
                found += "\n".join(each["description"] for each in embeds).split("\n")
            else:
                [embed] = embeds
                fields = [f"{each['name']} {each['value']}" for each in embed.get("fields", [])]
                found.append("\n".join([embed["title"], embed.get("description", ""), *fields]))
        return found

    def read(self, text: str) -> str:
        return re.sub(r"\\(.)", r"\1", text.replace("\u200b", ""))


class TestDiscord(RemoteChannelContract):
    example = EXAMPLE

    @pytest.fixture
    def it(self, tmp_path: Path, receiver: Receiver) -> DiscordUnderTest:
        return DiscordUnderTest(tmp_path, receiver=receiver)


@pytest.fixture
def it(tmp_path: Path, receiver: Receiver) -> DiscordUnderTest:
    return DiscordUnderTest(tmp_path, receiver=receiver)


def embed_of(it: DiscordUnderTest, **others: Any) -> Any:
    it.build().send(message(notification(payload=payload(**others))))
    [embed] = embeds_of(it.bodies[-1])
    return embed


def test_one_alert_is_an_embed_with_its_details(it: DiscordUnderTest) -> None:
    embed = embed_of(it, runbook="https://example.org/a", exposures=["board"])
    assert it.read(embed["title"]) == "FIRING revenue (critical)"
    assert embed["url"] == "https://example.org/a"
    assert embed["description"] == "revenue is low"
    assert embed["timestamp"] == "2026-01-02T09:00:00Z"
    fields = {each["name"]: (it.read(each["value"]), each["inline"]) for each in embed["fields"]}
    assert fields["value"] == ("8,120 (threshold 10,000)", True)
    assert fields["affects"] == ("board", False)
    assert "silence" in fields


@pytest.mark.parametrize(
    ("event", "severity", "color"),
    [
        (Event.FIRING, "critical", 0xD92D20),
        (Event.FIRING, "warning", 0xF79009),
        (Event.FIRING, "info", 0x2E90FA),
        (Event.ERROR, "critical", 0xD92D20),
        (Event.RESOLVED, "critical", 0x12B76A),
        (Event.ERROR_RESOLVED, "warning", 0x12B76A),
    ],
)
def test_the_color_is_the_severity_s_until_it_resolves(
    it: DiscordUnderTest, event: Event, severity: str, color: int
) -> None:
    assert embed_of(it, event=str(event), severity=severity)["color"] == color


def test_a_list_has_the_color_of_its_worst_alert(it: DiscordUnderTest) -> None:
    rows = many(1, severity="info") + many(2, severity="warning")
    it.build().send(message(*rows))
    assert embeds_of(it.bodies[0])[0]["color"] == 0xF79009


def test_a_message_of_many_holds_them_all_within_what_discord_takes(it: DiscordUnderTest) -> None:
    it.build().send(message(*many(50, message="@everyone **x** " * 200)))
    arrived = [it.read(text) for text in it.arrived()]
    assert [f"alert_{n:04}" in text for n, text in enumerate(arrived)] == [True] * 50
    assert "sentinel silence ALERT" in embeds_of(it.bodies[0])[-1]["footer"]["text"]


def test_a_long_list_goes_on_in_another_embed(it: DiscordUnderTest) -> None:
    it.build().send(message(*many(50, message="x" * 20)))
    assert len(embeds_of(it.bodies[0])) == 2
    assert len(it.arrived()) == 50


@pytest.mark.parametrize("worst", WORST, ids=["mixed", "escaped", "bytes", "quoted"])
def test_a_template_makes_the_content(it: DiscordUnderTest, worst: str) -> None:
    (it.folder / "text.md").write_text("**{{ first.alert }}** {{ first.message }}")
    it.values["template"] = "text.md"
    embed = embed_of(it, message=worst)
    content = it.bodies[0]["content"]
    assert content.startswith("**revenue** ")
    assert content.endswith("characters, cut)")
    assert it.read(embed["title"]) == "FIRING revenue (critical)"
    assert "fields" not in embed


@pytest.mark.parametrize("query", ["", "?thread_id=7"])
def test_discord_answers_once_the_message_is_posted(it: DiscordUnderTest, query: str) -> None:
    it.values["url"] = it.receiver.url.split("?")[0] + query
    it.build().send(message())
    assert it.receiver.got[0].path == "/hook?" + "&".join([*filter(None, [query[1:]]), "wait=true"])


def test_it_waits_as_long_as_discord_asks_for(it: DiscordUnderTest) -> None:
    body = json.dumps({"message": "You are being rate limited.", "retry_after": 64.57})
    it.receiver.answers = [
        Response(body, status=429, content_type=JSON, headers={"Retry-After": "65"})
    ]
    with pytest.raises(DeliveryError) as caught:
        it.build().send(message())
    assert not caught.value.permanent
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 65


def test_markdown_and_mentions_in_values_are_only_shown(it: DiscordUnderTest) -> None:
    embed = embed_of(it, message="[x](http://evil) **b** <@123> @everyone")
    assert "](http" not in embed["description"]
    assert "**b" not in embed["description"]
    assert "<@" not in embed["description"]
    assert it.read(embed["description"]) == "[x](http://evil) **b** <@123> @everyone"
