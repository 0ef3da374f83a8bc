"""`sentinel run` against real receivers that fail in every way: who is told what, and what is said."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from werkzeug.wrappers import Response

from tests.channels.receiver import Receiver, receiving
from tests.channels.slack_stub import said, slack
from tests.channels.smtp_server import Mailbox, mail_server

from .conftest import Project, Ran
from .test_silence import conforms

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

LOW = "--vars", "{floor: 500}"
ANN, BOB = "ann@example.org", "bob@example.org"


class Slowly(Response):
    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        time.sleep(0.5)
        return super().__call__(environ, start_response)


class Broken(Response):
    """The connection breaks off, and no answer comes."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        connection: Any = environ["werkzeug.socket"]
        connection.shutdown(socket.SHUT_RDWR)
        return super().__call__(environ, start_response)


def later(when: str) -> Response:
    return Response(status=429, headers={"retry-after": when})


ANSWERS: dict[str, Callable[[], Response]] = {
    "slow": lambda: Slowly(status=204),
    "broken": lambda: Broken(status=204),
    "seconds": lambda: later("1"),
    "date": lambda: later(format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)),
    "decade": lambda: later(str(10 * 365 * 86_400)),
    "flaky": lambda: Response(status=500),
    "moved": lambda: Response(status=302, headers={"location": "http://127.0.0.1:9/elsewhere"}),
}
ARRIVE = {"slow", "broken", "seconds", "date", "flaky", "dropping"}
DEAD = {"slack", "moved", "refusing"}


class Receivers:
    """Every channel of the project has a real receiver of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.hooks = {name: stack.enter_context(receiving()) for name in ANSWERS}
        self.slack = stack.enter_context(slack("xoxb-test"))
        self.mails: dict[str, Mailbox] = {}
        for name in ("refusing", "dropping"):
            (folder / name).mkdir()
            self.mails[name] = stack.enter_context(mail_server(folder / name))
        self.mails["refusing"].refuse[BOB] = "550 no such mailbox"

    def misbehave(self) -> None:
        for name, answer in ANSWERS.items():
            self.hooks[name].answers = [answer()]
        self.slack.answers = [said({"ok": False, "error": "channel_not_found"})]
        self.mails["dropping"].drop_after_data = 1

    def configuration(self) -> dict[str, Any]:
        channels: dict[str, Any] = {"last": {"type": "file", "path": "last.jsonl"}}
        for name, hook in self.hooks.items():
            channels[name] = {"type": "webhook", "url": hook.url, "allow_private": True}
        channels["slack"] = {
            "type": "slack",
            "token": self.slack.token,
            "channel": "#alerts",
            "api_url": self.slack.url,
            "allow_private": True,
        }
        for name, mailbox in self.mails.items():
            channels[name] = {
                "type": "email",
                "host": "127.0.0.1",
                "port": mailbox.port,
                "ca_file": mailbox.ca_file,
                "from": "sentinel@example.org",
                "to": [ANN, BOB],
            }
        return {
            "defaults": {"channels": sorted(name for name in channels if name != "last")},
            "fallback_channel": "last",
            "channels": channels,
        }

    def events(self, name: str) -> list[str]:
        """What a webhook has been sent, each id once."""
        got = {one.headers["webhook-id"]: json.loads(one.body) for one in self.hooks[name].got}
        return [body["data"]["event"] for body in got.values()]


@pytest.fixture
def receivers(acme: Project, tmp_path: Path) -> Iterator[Receivers]:
    with ExitStack() as stack:
        made = Receivers(tmp_path, stack)
        acme.write("sentinel.yml", yaml.safe_dump(made.configuration()))
        yield made


def run(acme: Project, *args: str) -> Ran:
    more = "-s", "revenue", "--output", "json", "--delivery-timeout", "20s"
    return acme.sentinel("run", *more, *args)


def last(acme: Project) -> list[tuple[str, str]]:
    """(event, channel that could not be told) of what the fallback has been told."""
    lines = (acme.root / "last.jsonl").read_text().splitlines()
    sent = [json.loads(line) for line in lines]
    return [(each["event"], (each.get("undeliverable") or {}).get("channel", "")) for each in sent]


def ids(receiver: Receiver) -> set[str]:
    return {got.headers["webhook-id"] for got in receiver.got}


def test_everybody_is_told_once_however_their_receivers_fail(
    acme: Project, receivers: Receivers
) -> None:
    receivers.misbehave()
    ran = run(acme, *LOW)
    [result] = conforms("run", ran.document)["results"]
    assert ran.code == 4
    assert set(result["notified"]) == ARRIVE
    assert result["suppressed"] == {
        "decade": "not_delivered_yet",
        **dict.fromkeys(sorted(DEAD), "undeliverable"),
    }
    for name in ("slow", "broken", "seconds", "date", "flaky"):
        assert receivers.events(name) == ["firing"], name
        assert len({got.body for got in receivers.hooks[name].got}) == 1, "tried again as it was"
        assert len(receivers.hooks[name].got) == (1 if name == "slow" else 2), name
    twice = receivers.mails["dropping"].mails
    assert [sorted(to) for to, _ in twice] == [[ANN, BOB]] * 2
    assert len({mail["message-id"] for _, mail in twice}) == 1
    assert [to for to, _ in receivers.mails["refusing"].mails] == [[ANN]]
    assert len(receivers.hooks["decade"].got) == len(receivers.hooks["moved"].got) == 1
    assert sorted(last(acme)) == [("firing", name) for name in sorted(DEAD)]

    shown = acme.sentinel("status").out
    assert "undeliverable: firing of revenue to slack, 1 attempt: " in shown
    assert "channel_not_found" in shown
    assert "undeliverable: firing of revenue to moved, 1 attempt: " in shown
    assert "302" in shown
    assert "undeliverable: firing of revenue to refusing, 1 attempt: " in shown
    assert "550 no such mailbox" in shown
    assert "not delivered yet: firing of revenue to decade, 1 attempt: " in shown
    document = conforms("status", acme.sentinel("status", "--output", "json").document)
    assert {each["channel"] for each in document["undelivered"]} == {"decade", *DEAD}
    [(hours,)] = acme.query(
        "select round(epoch(not_before - created_at) / 3600) from sentinel_notifications "
        "where channel = 'decade'"
    )
    assert hours == 1, "an hour at the most, whatever the receiver asks for"

    again = run(acme, *LOW)
    assert (again.code, again.document["results"][0]["notified"]) == (4, [])
    assert len(last(acme)) == len(DEAD)

    receivers.mails["refusing"].refuse.clear()
    over = run(acme)
    assert over.code == 0, over.out
    assert set(over.document["results"][0]["notified"]) == {*ARRIVE, "decade", *DEAD, "last"}
    assert receivers.events("flaky") == ["firing", "resolved"]
    assert receivers.events("decade")[-1] == "resolved"
    assert json.loads(receivers.hooks["decade"].got[-1].body)["data"]["reason"] == (
        "fired_and_resolved"
    )
    assert sorted(receivers.mails["refusing"].mails[-1][0]) == [ANN, BOB]
    assert last(acme)[len(DEAD) :] == [("resolved", "")]
    assert "undeliverable" not in acme.sentinel("status").out


def test_an_end_that_nobody_can_be_told_is_told_on_the_fallback_once(
    acme: Project, receivers: Receivers
) -> None:
    broken = {
        "last": {"type": "file", "path": "last.jsonl"},
        "moved": receivers.configuration()["channels"]["moved"],
    }
    acme.write(
        "sentinel.yml",
        yaml.safe_dump(
            {
                "channels": broken,
                "defaults": {"channels": ["moved"]},
                "fallback_channel": "last",
            }
        ),
    )
    receivers.misbehave()
    assert run(acme, *LOW).code == 4
    receivers.misbehave()
    assert run(acme).code == 4
    assert last(acme) == [("firing", "moved"), ("resolved", "")]
    stuck = acme.sentinel("status", "--output", "json").document["undelivered"]
    assert [(each["event"], each["channel"]) for each in stuck] == [("resolved", "moved")]
    assert len(ids(receivers.hooks["moved"])) == 2
    assert acme.sentinel("deliver", "--retry-dead").code == 0
