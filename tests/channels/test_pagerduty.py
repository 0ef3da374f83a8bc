from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sentinel.core.state import Event
from sentinel.ports import Message
from tests.fakes import message, notification, payload

from .by_http import PostUnderTest, many
from .contract import SECRET, RemoteChannelContract
from .examples import RETRY, VAGUE, HttpExample
from .receiver import Receiver

EXAMPLE = HttpExample(
    name="pagerduty",
    settings=lambda url: {"url": url, "allow_private": True, "routing_key": "key"},
    accepts=(
        202,
        "application/json",
        '{"status": "success", "message": "Event processed", "dedup_key": "k"}',
    ),
    verdicts={
        RETRY: {
            **VAGUE,
            "202 without a body": (202, "", ""),
            "invalid in a 202": (202, "application/json", '{"status": "invalid event"}'),
        },
    },
)


class PagerdutyUnderTest(PostUnderTest):
    example = EXAMPLE

    def arrived(self) -> list[str]:
        """A test message opens an incident and closes it: one of the two is shown."""
        found = []
        for body in self.bodies:
            sent = body.get("payload")
            if sent and len(sent["custom_details"]) and "1" in sent["custom_details"]:
                found += list(sent["custom_details"].values())
            elif sent:
                found.append(f"{sent['summary']} {sent['custom_details']}")
            elif (
                not found
                or body["dedup_key"] != self.bodies[0]["dedup_key"]
                or len(self.bodies) == 1
            ):
                found.append(body["event_action"])
        return found

    @property
    def did(self) -> list[tuple[str, str]]:
        return [(body["event_action"], body["dedup_key"]) for body in self.bodies]


def pager(tmp_path: Path, receiver: Receiver) -> PagerdutyUnderTest:
    values: dict[str, Any] = {"routing_key": SECRET}
    return PagerdutyUnderTest(tmp_path, values=values, receiver=receiver)


class TestPagerduty(RemoteChannelContract):
    example = EXAMPLE

    @pytest.fixture
    def it(self, tmp_path: Path, receiver: Receiver) -> PagerdutyUnderTest:
        return pager(tmp_path, receiver)


@pytest.fixture
def it(tmp_path: Path, receiver: Receiver) -> PagerdutyUnderTest:
    return pager(tmp_path, receiver)


@pytest.mark.parametrize(
    ("event", "actions"),
    [
        (Event.FIRING, ["trigger"]),
        (Event.SEVERITY, ["trigger"]),
        (Event.REMINDER, ["trigger"]),
        (Event.ESCALATION, ["trigger"]),
        (Event.ERROR, ["trigger"]),
        (Event.ACKNOWLEDGED, ["acknowledge"]),
        (Event.RESOLVED, ["resolve"]),
        (Event.ERROR_RESOLVED, ["resolve"]),
        (Event.TEST, ["trigger", "resolve"]),
    ],
)
def test_each_event_does_what_an_incident_needs(
    it: PagerdutyUnderTest, event: Event, actions: list[str]
) -> None:
    row = notification("e", event=event, payload=payload(event=str(event)))
    receipt = it.build().send(message(row))
    assert it.did == [(action, "e") for action in actions]
    assert receipt.remote_ref == "e"


def test_what_fired_and_is_over_is_shown_and_closed(it: PagerdutyUnderTest) -> None:
    sent = payload(event="resolved", reason="fired_and_resolved")
    row = notification("e", event=Event.RESOLVED, reason="fired_and_resolved", payload=sent)
    it.build().send(message(row))
    assert it.did == [("trigger", "e"), ("resolve", "e")]
    assert it.bodies[0]["payload"]["severity"] == "info"


def test_a_lost_warehouse_is_one_incident_that_the_first_recovery_closes(
    it: PagerdutyUnderTest,
) -> None:
    rows = many(30, event="error")
    receipt = it.build().send(message(*rows))
    assert it.did == [("trigger", "together")]
    assert len(it.bodies[0]["payload"]["custom_details"]) == 30
    ref = receipt.remote_ref or ""
    over = notification(rows[0].episode_id, event=Event.ERROR_RESOLVED)
    it.build().send(Message("later", "it", (over,), {rows[0].episode_id: ref}))
    assert it.did[-1] == ("resolve", "together")


def test_the_summary_is_one_line_that_pagerduty_takes(it: PagerdutyUnderTest) -> None:
    it.build().send(message(notification(payload=payload(alert="x\r\n" * 2_000))))
    summary = it.bodies[0]["payload"]["summary"]
    assert len(summary) <= 1_024
    assert "\n" not in summary


def test_the_key_goes_to_pagerduty_and_nowhere_else(it: PagerdutyUnderTest) -> None:
    it.build().send(message())
    assert it.bodies[0]["routing_key"] == SECRET
    assert SECRET not in str(it.bodies[0]["payload"])
