from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentinel.core.state import Event
from sentinel.core.values import instance_name
from tests.fakes import message, notification, payload

from .by_http import PostUnderTest, many
from .contract import ODD, WORST, RemoteChannelContract, build
from .examples import DELIVERED, RETRY, VAGUE, HttpExample
from .receiver import Receiver, closed_port

PROGRAM = "prometheus-alertmanager"


EXAMPLE = HttpExample(
    name="alertmanager",
    settings=lambda url: {"url": url, "allow_private": True},
    accepts=(200, "", ""),
    verdicts={
        RETRY: {name: answer for name, answer in VAGUE.items() if name != "200 without a body"},
        DELIVERED: {
            "200 without a body": (200, "", ""),
            "version 1": (200, "application/json", '{"status": "success"}'),
        },
    },
)


class AlertmanagerUnderTest(PostUnderTest):
    example = EXAMPLE

    def arrived(self) -> list[str]:
        return [
            json.dumps(alert["annotations"], ensure_ascii=False)
            for body in self.bodies
            for alert in body
        ]


def manager(tmp_path: Path, receiver: Receiver) -> AlertmanagerUnderTest:
    return AlertmanagerUnderTest(tmp_path, receiver=receiver)


class TestAlertmanager(RemoteChannelContract):
    example = EXAMPLE

    @pytest.fixture
    def it(self, tmp_path: Path, receiver: Receiver) -> AlertmanagerUnderTest:
        return manager(tmp_path, receiver)


@pytest.fixture
def it(tmp_path: Path, receiver: Receiver) -> AlertmanagerUnderTest:
    return manager(tmp_path, receiver)


def alert_of(it: AlertmanagerUnderTest, event: Event, **sent: Any) -> Any:
    row = notification(event=event, payload=payload(event=str(event), **sent))
    it.build().send(message(row))
    return it.bodies[-1][0]


def test_an_alert_keeps_its_labels_from_firing_to_resolved(it: AlertmanagerUnderTest) -> None:
    where = {"Region of sale": 'no"rth', "0": 1}
    firing = alert_of(it, Event.FIRING, severity="warning", dimensions=where)
    worse = alert_of(it, Event.SEVERITY, severity="critical", dimensions=where)
    over = alert_of(it, Event.RESOLVED, severity="critical", dimensions=where)
    assert firing["labels"] == worse["labels"] == over["labels"]
    assert firing["labels"]["dimension_Region_of_sale"] == 'no"rth'
    assert all(re.fullmatch(r"[a-zA-Z_]\w*", name) for name in firing["labels"])


def test_an_alert_that_fires_ends_in_the_future_and_one_that_is_over_has_ended(
    it: AlertmanagerUnderTest,
) -> None:
    firing, over = alert_of(it, Event.FIRING), alert_of(it, Event.RESOLVED)
    assert firing["endsAt"] > over["endsAt"] > over["startsAt"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"größe": 1}, {"grüße": 1}),
        ({"a": "x" * 5_000 + "1"}, {"a": "x" * 5_000 + "2"}),
        ({"a": "\x01"}, {"a": "\x02"}),
        ({"a": "\u202d"}, {"a": "\u202e"}),
        ({"a": None}, {"a": "null"}),
        ({"a": True}, {"a": "true"}),
        ({"a": ""}, {"a": " "}),
    ],
)
def test_instances_are_never_one_alert(
    it: AlertmanagerUnderTest, one: dict[str, Any], other: dict[str, Any]
) -> None:
    labels = [
        alert_of(it, Event.FIRING, dimensions=each, instance=instance_name(each))["labels"]
        for each in (one, other)
    ]
    assert labels[0] != labels[1]


def test_its_errors_are_an_alert_of_their_own(it: AlertmanagerUnderTest) -> None:
    assert alert_of(it, Event.FIRING)["labels"] != alert_of(it, Event.ERROR)["labels"]
    error, healed = alert_of(it, Event.ERROR), alert_of(it, Event.ERROR_RESOLVED)
    assert error["labels"] == healed["labels"]


def test_many_go_in_one_request(it: AlertmanagerUnderTest) -> None:
    it.build().send(message(*many(50)))
    assert [len(body) for body in it.bodies] == [50]


# -- the real one ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which(PROGRAM)
    if program is None:
        pytest.skip(f"{PROGRAM} is not installed")
    folder = tmp_path_factory.mktemp("alertmanager")
    config = folder / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    port = closed_port()
    process = subprocess.Popen(
        [
            program,
            f"--config.file={config}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def known(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/api/v2/alerts") as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def test_the_real_alertmanager_takes_an_alert_and_its_end(
    alertmanager: str, tmp_path: Path
) -> None:
    values = {"url": alertmanager, "allow_private": True}
    channel, _ = build("alertmanager", values, tmp_path)
    where = {"region": 'no"rth\n', "1 odd name": "\x00x"}
    channel.send(message(notification(payload=payload(dimensions=where))))
    [alert] = known(alertmanager)
    assert alert["labels"]["alertname"] == "revenue"
    assert alert["annotations"]["value"] == "8,120 (threshold 10,000)"
    assert alert["status"]["state"] in ("active", "unprocessed")
    sent = payload(event="resolved", dimensions=where)
    channel.send(message(notification(event=Event.RESOLVED, payload=sent)))
    assert known(alertmanager) == []


def test_the_real_alertmanager_takes_the_worst_values(alertmanager: str, tmp_path: Path) -> None:
    channel, _ = build("alertmanager", {"url": alertmanager, "allow_private": True}, tmp_path)
    before = len(known(alertmanager))
    for place, worst in enumerate((*WORST, ODD, "\ud800\x00\u202e")):
        texts = dict.fromkeys(["message", "description", "owner", "runbook"], worst)
        sent = payload(alert=f"worst_{place}", dimensions={"a": worst}, instance=worst, **texts)
        channel.send(message(notification(payload=sent)))
    assert len(known(alertmanager)) == before + 6


def test_the_real_alertmanager_knows_fifty_that_come_together(
    alertmanager: str, tmp_path: Path
) -> None:
    channel, _ = build("alertmanager", {"url": alertmanager, "allow_private": True}, tmp_path)
    channel.send(message(*many(50)))
    names = {alert["labels"]["alertname"] for alert in known(alertmanager)}
    assert {f"alert_{place:04}" for place in range(50)} <= names
