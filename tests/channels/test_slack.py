from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.wrappers import Response

from sentinel.core.errors import ConfigError, DeliveryError
from sentinel.core.state import Event
from sentinel.ports import Message
from tests.fakes import message, notification, payload

from .by_http import PostUnderTest, many
from .contract import SECRET, RemoteChannelContract, RemoteUnderTest, build
from .examples import DELIVERED, PERMANENT, RETRY, VAGUE, HttpExample
from .receiver import Receiver, closed_port, rebinding
from .slack_stub import SlackStub, said, slack


def lines_of(content: Any) -> list[str]:
    """What a message tells, one text for each notification. Slack takes it, as far as we know."""
    head, *rest = content["blocks"]
    assert len(content["blocks"]) <= 50
    assert 0 < len(head["text"]["text"]) <= 150
    assert len(content["text"]) < 40_000
    texts = [block["text"]["text"] for block in rest if block["type"] == "section"]
    assert all(0 < len(text) <= 3_000 for text in texts)
    assert sum(map(len, texts)) <= 12_000, "msg_blocks_too_long"
    assert not [text for text in texts if re.search(r"&(?!(amp|lt|gt);)", text)]
    if re.match(r"\d", head["text"]["text"]) and "," in head["text"]["text"] + ",":
        return [line for text in texts for line in text.splitlines()]
    return ["\n".join([head["text"]["text"], *texts])]


def seen(text: str) -> str:
    return html.unescape(text.replace("\u200b", ""))


def is_slack_text(document: Any) -> None:
    """Slack takes mentions in angle brackets only, unless it is asked to find names, and none in
    plain text.

    Source: its documentation, "Formatting text for app surfaces" and "Text object".
    """
    assert not {"parse", "link_names"} & set(document)
    assert "<" not in document["text"]
    for block in document["blocks"]:
        for text in (block["text"],) if "text" in block else block["elements"]:
            if text["type"] == "mrkdwn":
                assert text["verbatim"] is True
                assert not re.search(r"<(?!https://example\.com/runbook\|)", text["text"])
            else:
                assert text["type"] == "plain_text"


BY_WEBHOOK = HttpExample(
    name="slack by webhook",
    settings=lambda url: {"webhook_url": url, "allow_private": True},
    accepts=(200, "text/html", "ok"),
    verdicts={
        RETRY: VAGUE,
        PERMANENT: {"denied": (200, "application/json", '{"ok": false, "error": "no_service"}')},
        DELIVERED: {"JSON": (200, "application/json", '{"ok": true}')},
    },
    check_mentions=is_slack_text,
)


BY_TOKEN = HttpExample(
    name="slack by token",
    settings=lambda url: {
        "token": "token",
        "channel": "#c",
        "api_url": url,
        "allow_private": True,
    },
    accepts=(200, "application/json", '{"ok": true, "channel": "C1", "ts": "1.2"}'),
    verdicts={
        RETRY: {
            **VAGUE,
            "the webhook's": (200, "text/html", "ok"),
            "no message": (200, "application/json", '{"ok": true}'),
            "busy": (200, "application/json", '{"ok": false, "error": "ratelimited"}'),
        },
        PERMANENT: {
            "denied": (200, "application/json", '{"ok": false, "error": "invalid_auth"}'),
        },
    },
    check_mentions=is_slack_text,
)


class ByWebhook(PostUnderTest):
    example = BY_WEBHOOK
    key = "webhook_url"

    def read(self, text: str) -> str:
        return seen(text)

    def arrived(self) -> list[str]:
        return [line for body in self.bodies for line in lines_of(body)]


@dataclass
class ByToken(RemoteUnderTest):
    stub: SlackStub = field(default_factory=SlackStub)

    def __post_init__(self) -> None:
        self.kind = "slack"
        self.values = {
            "token": SECRET,
            "channel": "#data",
            "api_url": self.stub.url,
            "allow_private": True,
        }

    def arrived(self) -> list[str]:
        return [line for _, content in self.stub.calls for line in lines_of(content)]

    def read(self, text: str) -> str:
        return seen(text)

    def break_down(self) -> None:
        self.values["api_url"] = f"http://127.0.0.1:{closed_port()}/"


@pytest.fixture
def stub() -> Iterator[SlackStub]:
    with slack(SECRET) as stub:
        yield stub


class TestSlackByWebhook(RemoteChannelContract):
    example = BY_WEBHOOK

    @pytest.fixture
    def it(self, tmp_path: Path, receiver: Receiver) -> RemoteUnderTest:
        return ByWebhook(tmp_path, receiver=receiver, key="webhook_url")


class TestSlackByToken(RemoteChannelContract):
    example = BY_TOKEN

    @pytest.fixture
    def it(self, tmp_path: Path, stub: SlackStub) -> RemoteUnderTest:
        return ByToken(tmp_path, stub=stub)


@pytest.fixture
def bot(tmp_path: Path, stub: SlackStub) -> ByToken:
    return ByToken(tmp_path, stub=stub)


# -- what a message holds ----------------------------------------------------------------------


def test_a_message_of_many_holds_them_all_within_what_slack_takes(bot: ByToken) -> None:
    bot.build().send(message(*many(50, message="<!channel> *x* & " * 200)))
    [(_, content)] = bot.stub.calls
    assert [
        f"alert_{n:04}" in text.replace("\u200b", "") for n, text in enumerate(lines_of(content))
    ] == [True] * 50
    assert content["blocks"][0]["text"]["text"] == (
        "50 firing: alert_0000, alert_0001, alert_0002 and 47 more (critical)"
    )
    assert "sentinel silence ALERT" in content["blocks"][-1]["elements"][0]["text"]


def test_values_ping_nobody_and_make_no_links(bot: ByToken) -> None:
    evil = "<!channel> <@U1> <https://evil|x> & @here *b* `c`"
    bot.build().send(message(notification(payload=payload(message=evil, instance=evil))))
    [(_, content)] = bot.stub.calls
    for text in (content["text"], *(block["text"]["text"] for block in content["blocks"][1:-1])):
        assert "<" not in text
    assert "&lt;!channel&gt;" in content["blocks"][1]["text"]["text"]
    assert content["blocks"][1]["text"]["verbatim"] is True


def test_the_runbook_is_a_link_if_it_is_one(bot: ByToken) -> None:
    bot.build().send(message(notification(payload=payload(runbook="https://x.org/a|b>c"))))
    bot.build().send(message(notification(payload=payload(runbook="javascript:alert(1)"))))
    linked, bare = (content["blocks"][-1]["text"]["text"] for _, content in bot.stub.calls)
    assert linked == "<https://x.org/a%7Cb%3Ec|Runbook>"
    assert "Runbook" not in bare


def test_a_template_of_the_project_makes_the_text(tmp_path: Path, bot: ByToken) -> None:
    (tmp_path / "slack.txt").write_text("*{{ first.alert }}*: {{ first.message }}")
    bot.values["template"] = "slack.txt"
    bot.build().send(message(notification(payload=payload(message="<low>"))))
    assert bot.stub.calls[0][1]["blocks"][1]["text"]["text"] == "*revenue*: &lt;low&gt;"


def test_a_template_that_makes_more_than_slack_takes_is_cut_and_says_so(
    tmp_path: Path, bot: ByToken
) -> None:
    (tmp_path / "slack.txt").write_text("{% for i in range(30000) %}{{ i }}&amp;\n{% endfor %}")
    bot.values["template"] = "slack.txt"
    bot.build().send(message())
    [text] = bot.arrived()
    assert "0&amp;\n1&amp;" in text
    assert text.endswith("characters, cut)")


def test_names_and_the_command_to_silence_can_be_copied(bot: ByToken) -> None:
    sent = payload(alert="late_orders", dimensions={"shop": "a_b*c <&> `d`"})
    bot.build().send(message(notification(payload=sent)))
    text = bot.arrived()[0]
    command = "sentinel silence late_orders --dimension 'shop=a_b*c &lt;&amp;&gt; \u02cbd\u02cb'"
    assert f"*silence*: `{command} --for 2h --comment '...'`" in text
    assert "models/alerts/revenue.sql" in text


# -- episodes ----------------------------------------------------------------------------------


def followed(episode: str, ref: str | None, event: Event = Event.RESOLVED) -> Message:
    row = notification(episode, event=event, payload=payload(event=str(event)))
    return Message(row.message_id, "it", (row,), {episode: ref} if ref else {})


def test_what_follows_goes_into_the_thread_and_the_first_message_shows_it(bot: ByToken) -> None:
    channel = bot.build()
    first = channel.send(message(notification("e")))
    second = channel.send(followed("e", first.remote_ref))
    assert bot.stub.methods() == ["chat.postMessage", "chat.update", "chat.postMessage"]
    _, edited, reply = (content for _, content in bot.stub.calls)
    ts = (first.remote_ref or "").split(":")[1]
    assert (edited["channel"], edited["ts"], reply["thread_ts"]) == ("C0123", ts, ts)
    assert edited["blocks"][0]["text"]["text"] == "RESOLVED revenue (critical)"
    assert second.remote_ref == first.remote_ref


def test_a_first_message_of_many_is_not_edited(bot: ByToken) -> None:
    channel = bot.build()
    first = channel.send(message(*many(3)))
    channel.send(followed("episode 1", first.remote_ref))
    assert bot.stub.methods() == ["chat.postMessage", "chat.postMessage"]
    assert "thread_ts" in bot.stub.calls[1][1]


def test_many_of_different_threads_make_one_message(bot: ByToken) -> None:
    rows = tuple(many(3, event="resolved"))
    earlier = {row.episode_id: f"C0123:{place}" for place, row in enumerate(rows)}
    bot.build().send(Message("together", "it", rows, earlier))
    assert bot.stub.methods() == ["chat.postMessage"]
    assert "thread_ts" not in bot.stub.calls[0][1]


def test_a_first_message_that_is_gone_keeps_nobody_from_being_told(bot: ByToken) -> None:
    bot.stub.answers = [said({"ok": False, "error": "message_not_found"})]
    bot.build().send(followed("e", "C0123:1.2"))
    assert bot.stub.methods() == ["chat.update", "chat.postMessage"]


def test_an_edit_that_may_work_later_is_tried_before_anything_is_posted(bot: ByToken) -> None:
    bot.stub.answers = [said({"ok": False, "error": "internal_error"})]
    with pytest.raises(DeliveryError) as caught:
        bot.build().send(followed("e", "C0123:1.2"))
    assert not caught.value.permanent
    assert bot.stub.methods() == ["chat.update"]


def test_an_owner_is_told_in_the_owner_s_channel(bot: ByToken) -> None:
    channel: Any = bot.build()
    channel.addressed("#finance").send(message())
    channel.send(message())
    assert [content["channel"] for _, content in bot.stub.calls] == ["#finance", "#data"]


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "permanent", "pause"),
    [
        (lambda: said({"ok": False, "error": "channel_not_found"}), True, None),
        (lambda: said({"ok": False, "error": "is_archived"}), True, None),
        (lambda: said({"ok": False, "error": "internal_error"}), False, None),
        (
            lambda: said({"ok": False, "error": "ratelimited"}, 429, **{"Retry-After": "30"}),
            False,
            timedelta(seconds=30),
        ),
        (lambda: said({}, 500), False, None),
        (lambda: said({}, 404), True, None),
        (lambda: Response("<html>bad gateway</html>", 502), False, None),
        (lambda: Response("<html>log in</html>", 200), False, None),
        (lambda: Response("", 302, {"Location": "https://example.org"}), True, None),
    ],
)
def test_what_slack_refuses_is_for_ever_unless_it_is_its_own_trouble(
    bot: ByToken, answer: Any, permanent: bool, pause: timedelta | None
) -> None:
    bot.stub.answers = [answer()]
    with pytest.raises(DeliveryError) as caught:
        bot.build().send(message())
    assert (caught.value.permanent, caught.value.retry_after) == (permanent, pause)
    assert len(bot.stub.calls) == 1, "it is the outbox that tries again"


def test_a_wrong_token_is_refused_without_being_shown(bot: ByToken) -> None:
    bot.values["token"] = SECRET + "x"
    with pytest.raises(DeliveryError) as caught:
        bot.build().send(message())
    assert caught.value.message == "Slack refused it: invalid_auth"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "either `webhook_url` or `token`"),
        ({"webhook_url": "https://x.org", "token": SECRET}, "either `webhook_url` or `token`"),
        ({"token": SECRET}, "`token` and `channel` go together"),
        ({"webhook_url": f"file:///{SECRET}"}, "has to begin with https:// or http://"),
    ],
)
def test_what_is_wrong_is_said_without_secrets(
    tmp_path: Path, values: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build("slack", values, tmp_path)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_web_api_is_not_reached_at_a_private_address_unasked(bot: ByToken) -> None:
    bot.values["allow_private"] = False
    with pytest.raises(DeliveryError, match="allow_private"):
        bot.build().send(message())
    assert bot.stub.calls == []


def test_the_token_follows_no_redirect(bot: ByToken) -> None:
    """urllib, which Slack's client uses by itself, would send it along."""
    location = {"Location": bot.stub.url + "chat.postMessage"}
    bot.stub.answers = [Response("", 307, location), Response("", 302, location)]
    for _ in range(2):
        with pytest.raises(DeliveryError) as caught:
            bot.build().send(message())
        assert caught.value.permanent
    assert len(bot.stub.calls) == 2


def test_the_web_api_is_reached_at_the_address_that_was_checked(
    bot: ByToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = rebinding(monkeypatch, "127.0.0.1", "169.254.169.254")
    bot.values["api_url"] = bot.stub.url.replace("127.0.0.1", "slack.example.org")
    bot.build().send(message())
    assert (asked, len(bot.stub.calls)) == (["slack.example.org"], 1)


def test_a_webhook_that_says_no_in_its_answer_has_refused(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answers = [said({"ok": False, "error": "no_service"}), said({"ok": True})]
    channel = ByWebhook(tmp_path, receiver=receiver, key="webhook_url").build()
    with pytest.raises(DeliveryError) as caught:
        channel.send(message())
    assert (caught.value.permanent, caught.value.message) == (True, "Slack refused it: no_service")
    channel.send(message())


def test_an_answer_as_long_as_the_message_is_read(bot: ByToken) -> None:
    bot.stub.answers = [said({"message": "x" * 30_000, "ok": True, "channel": "C1", "ts": "1.2"})]
    assert bot.build().send(message()).remote_ref == "C1:1.2"
