from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import message, notification, payload

from .by_http import PostUnderTest, many
from .contract import RemoteChannelContract, build
from .examples import DELIVERED, PERMANENT, RETRY, VAGUE, HttpExample, strings_in
from .receiver import Receiver


def is_teams_text(document: Any) -> None:
    """Teams takes `<at>` only with an entity of the card.

    Source: its documentation, "Format cards in Teams", "Mention support within Adaptive Cards".
    """
    texts = list(strings_in(document))
    assert "entities" not in texts
    assert not [text for text in texts if re.search("(?<!\\\\)<", text)]


EXAMPLE = HttpExample(
    name="teams",
    settings=lambda url: {"url": url, "allow_private": True},
    accepts=(202, "", ""),
    verdicts={
        RETRY: {
            **VAGUE,
            "busy": (
                200,
                "text/plain",
                "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP "
                "error 429 with ContextId tcid=0,server=X",
            ),
            "busy in another way": (
                200,
                "text/plain",
                "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP "
                "error 412 with ContextId tcid=0",
            ),
            "an error without a number": (
                200,
                "text/plain",
                "Webhook message delivery failed with error: unknown",
            ),
        },
        PERMANENT: {
            "too large": (
                200,
                "text/plain",
                "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP "
                "error 413 with ContextId tcid=0",
            ),
            "gone, in a 200": (
                200,
                "text/plain",
                "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP "
                "error 410 with ContextId tcid=0",
            ),
        },
        DELIVERED: {
            "of a connector": (200, "text/plain", "1"),
            "of a flow": (202, "", ""),
            "of a flow, with JSON": (202, "application/json", "{}"),
        },
    },
    check_mentions=is_teams_text,
)


class TeamsUnderTest(PostUnderTest):
    example = EXAMPLE

    def arrived(self) -> list[str]:
        found = []
        assert all(len(got.body) <= 28_000 for got in self.receiver.got)
        for body in self.bodies:
            head, *rest = card(body)["body"]
            rest = [block for block in rest if not block.get("isSubtle")]
            if any(block["type"] == "FactSet" for block in rest):
                facts = [f"{each['title']} {each['value']}" for each in rest[0]["facts"]]
                found.append("\n".join([head["text"], *facts]))
            elif rest:
                found += [block["text"] for block in rest]
            else:
                found.append(head["text"])
        return found

    def read(self, text: str) -> str:
        return re.sub(r"\\(.)", r"\1", text)


def card(body: Any) -> Any:
    [attachment] = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    return attachment["content"]


class TestTeams(RemoteChannelContract):
    example = EXAMPLE

    @pytest.fixture
    def it(self, tmp_path: Path, receiver: Receiver) -> TeamsUnderTest:
        return TeamsUnderTest(tmp_path, receiver=receiver)


@pytest.fixture
def it(tmp_path: Path, receiver: Receiver) -> TeamsUnderTest:
    return TeamsUnderTest(tmp_path, receiver=receiver)


def test_a_message_of_many_holds_them_all_within_what_teams_takes(it: TeamsUnderTest) -> None:
    it.build().send(message(*many(50, message="<b>*x*</b>" * 200)))
    assert [f"alert\\_{n:04}" in text for n, text in enumerate(it.arrived())] == [True] * 50
    assert "sentinel silence ALERT" in card(it.bodies[0])["body"][-1]["text"]


def test_markdown_in_values_is_only_shown(it: TeamsUnderTest) -> None:
    it.build().send(message(notification(payload=payload(message="[x](http://evil) **b**"))))
    [text] = it.arrived()
    assert "\\[x\\]\\(http\\://evil\\) \\*\\*b\\*\\*" in text


@pytest.mark.parametrize(
    ("runbook", "shown"),
    [("https://example.org/a", True), ("javascript:alert(1)", False), (None, False)],
)
def test_only_a_link_becomes_one(it: TeamsUnderTest, runbook: str | None, shown: bool) -> None:
    it.build().send(message(notification(payload=payload(runbook=runbook))))
    assert ("actions" in card(it.bodies[0])) is shown


def test_a_template_of_the_project_makes_the_text(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "card.md").write_text("**{{ first.alert }}** {{ first.message }}")
    receiver.accepts = EXAMPLE.accepts
    values = {"url": receiver.url, "allow_private": True, "template": "card.md"}
    channel, _ = build("teams", values, tmp_path)
    channel.send(message(notification(payload=payload(message="*low*"))))
    it = TeamsUnderTest(tmp_path, receiver=receiver)
    assert card(it.bodies[0])["body"][1]["text"] == "**revenue** \\*low\\*"


def test_a_template_that_makes_more_than_teams_takes_is_cut_and_says_so(
    tmp_path: Path, it: TeamsUnderTest
) -> None:
    (tmp_path / "card.md").write_text("{% for i in range(30000) %}\u0142{% endfor %}")
    it.values["template"] = "card.md"
    it.build().send(message())
    assert it.arrived() == [card(it.bodies[0])["body"][1]["text"]]
    assert it.arrived()[0].endswith("… (30,000 characters, cut)")


def test_lines_stay_apart(it: TeamsUnderTest) -> None:
    it.build().send(message(notification(payload=payload(message="one\ntwo"))))
    assert "message one\n\ntwo" in it.arrived()[0]
