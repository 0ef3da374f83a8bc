"""A distinctive value in every secret is found nowhere: not in a file, a table, a message, an error."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import pytest
import yaml
from werkzeug.wrappers import Response

from tests.channels.receiver import Receiver, closed_port, receiving
from tests.channels.smtp_server import Mailbox, mail_server
from tests.places.place import Place, profile
from tests.places.postgres import PostgresPlace

from .conftest import Project

MARK = "c4n4ryb1rd"
TABLES = ("state", "history", "notifications", "silences", "leases")
LOW = "--vars", "{floor: 500}"


@dataclass
class Echoing(list[Response]):
    """Refuses for ever, in words that repeat all it was sent."""

    receiver: Receiver

    def __bool__(self) -> bool:
        return True

    def pop(self, index: SupportsIndex = -1) -> Response:
        got = self.receiver.got[-1]
        return Response(f"no: {got.path} {got.headers} {got.body.decode()}", status=400)


class Secrets:
    """Each is given by another of the four ways; each holds the mark."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.patch = root, monkeypatch
        self.values: list[str] = []

    def __call__(self, text: str) -> Any:
        place = len(self.values)
        self.values.append(text)
        name = f"KEPT_{place}"
        match place % 4:
            case 0:
                self.patch.setenv(name, text)
                return {"env": name}
            case 1:
                file = self.root.parent / name
                file.write_text(f"{text}\n")
                return {"file": str(file)}
            case 2:
                self.patch.setenv(name, text)
                return f"{{{{ env_var('{name}') }}}}"
            case _:
                return text


def channels(
    secret: Secrets, place: Callable[[], str], mailbox: Mailbox, suffix: str
) -> dict[str, Any]:
    """One channel of each type, all of whose secrets are secret; `place` gives host and port."""
    key = base64.b64encode(f"{MARK}-signing-{suffix}-0123456789abcdef".encode()).decode()
    found: dict[str, Any] = {
        "webhook": {
            "url": secret(f"http://me:{MARK}-pw@{place()}/{MARK}/hook?token={MARK}"),
            "secret": secret(f"whsec_{key}"),
            "headers": {"Authorization": secret(f"Bearer {MARK}-header")},
        },
        "slack": {"webhook_url": secret(f"http://{place()}/services/{MARK}/B0/{MARK}")},
        "slack_token": {
            "type": "slack",
            "token": secret(f"xoxb-{MARK}-token"),
            "channel": "#ops",
            "api_url": f"http://{place()}/api/",
        },
        "teams": {"url": secret(f"http://{place()}/workflows?sig={MARK}")},
        "pagerduty": {"routing_key": secret(f"{MARK}routing"), "url": f"http://{place()}/enqueue"},
        "alertmanager": {
            "url": secret(f"http://{place()}/{MARK}/"),
            "headers": {"X-Scope": secret(f"{MARK}-scope")},
        },
        "email": {
            "host": "127.0.0.1",
            "port": mailbox.port,
            "ca_file": mailbox.ca_file,
            "username": "sentinel",
            "password": secret(f"{MARK}-password"),
            "from": "sentinel@example.org",
            "to": ["ann@example.org"],
        },
    }
    for name, block in found.items():
        block.setdefault("type", name)
        if name != "email":
            block["allow_private"] = True
    found["apprise"] = {"type": "apprise", "urls": [secret(f"json://me:{MARK}@{place()}/{MARK}")]}
    return {f"{name}_{suffix}": block for name, block in found.items()}


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    with mail_server(tmp_path, sentinel="another password") as mailbox:
        yield mailbox


def everything(*commands: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [
        ("run", *LOW, "--delivery-timeout", "0s"),
        ("run", *LOW, "--delivery-timeout", "0s", "--output", "json"),
        ("status",),
        ("status", "--output", "json"),
        ("explain", "revenue"),
        ("explain", "revenue", "--output", "json"),
        ("history", "--output", "json"),
        ("list", "--output", "json"),
        ("validate",),
        ("doctor",),
        ("silence", "by_region", "--for", "1h", "--comment", "x"),
        ("ack", "revenue", "--delivery-timeout", "0s"),
        ("deliver", "--retry-dead", "--delivery-timeout", "0s", "--log-format", "json"),
        *commands,
    ]


def nowhere(text: str, what: str, marks: list[str]) -> None:
    for mark in marks:
        assert mark not in text, f"{what}: ...{text[max(0, text.find(mark) - 120) :][:300]}"


def look_everywhere(project: Project, marks: list[str], commands: list[tuple[str, ...]]) -> None:
    """Run commands, and look for the marks in what they say and in what they leave behind."""
    ours = {"sentinel.yml", "profiles.yml"}
    for command in commands:
        ran = project.sentinel(*command)
        nowhere(ran.out + ran.err, " ".join(command), marks)
    for path in project.root.rglob("*"):
        if path.is_file() and path.name not in ours and ".git" not in path.parts:
            nowhere(path.read_bytes().decode("utf-8", "replace"), str(path), marks)


def test_a_secret_of_a_channel_is_found_nowhere(
    acme: Project,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = Secrets(acme.root, monkeypatch)
    with ExitStack() as stack:
        refusing = stack.enter_context(receiving())
        refusing.answers = Echoing(refusing)
        host = refusing.url.split("/")[2]
        blocks = channels(secret, lambda: host, mailbox, "refused")
        blocks |= channels(secret, lambda: f"127.0.0.1:{closed_port()}", mailbox, "down")
        blocks["log"] = {"type": "file", "path": "told.jsonl"}
        blocks["console"] = {"type": "console"}
        configuration = {
            "channels": blocks,
            "defaults": {"channels": sorted(set(blocks) - {"log"})},
            "fallback_channel": "log",
        }
        acme.write("sentinel.yml", yaml.safe_dump(configuration))
        assert {place % 4 for place in range(len(secret.values))} == {0, 1, 2, 3}
        marks = [MARK, *(value[6:] for value in secret.values if value.startswith("whsec_"))]
        tests = [("notify-test", name) for name in blocks]
        look_everywhere(acme, marks, everything(*tests))
        for table in TABLES:
            rows = acme.query(f"select * from sentinel_{table}")
            nowhere(repr(rows), table, marks)
        nowhere(caplog.text, "the logs of libraries", marks)
        for got in refusing.got:
            if got.path.endswith("/enqueue"):
                continue  # PagerDuty's key is part of the body
            nowhere(got.body.decode(), got.path.split("?")[0], marks)
    sent = acme.sent()
    assert {each["undeliverable"]["channel"] for each in sent if each.get("undeliverable")} >= {
        name for name in blocks if name.endswith("_refused") and "apprise" not in name
    }
    [(failed,)] = acme.query(
        "select count(*) from sentinel_notifications where last_error is not null and channel "
        "not in ('log', 'console')"
    )
    assert failed >= 16, "the errors that were looked through are there"


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
@pytest.mark.parametrize("way", ["DBT_ENV_SECRET_PASSWORD", "PGPASS"])
def test_a_password_of_the_profile_is_found_nowhere(
    place: Place, way: str, new_project: Callable[[str], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(place, PostgresPlace)
    for name in [name for name in os.environ if name.startswith(("DBT_", "SENTINEL_"))]:
        monkeypatch.delenv(name)
    project = new_project("bank")
    project.write("dbt_project.yml", "name: bank\nprofile: shop\nmodel-paths: [models]\n")
    project.alert("revenue", "{{ config(meta={'sentinel': {}}) }}\nselect 'ALERT' as status\n")
    output = profile(place)
    monkeypatch.setenv(way, place.password)
    output["shop"]["outputs"]["dev"]["password"] = f"{{{{ env_var('{way}') }}}}"
    project.write("profiles.yml", yaml.safe_dump(output))
    marks = [place.password]
    commands: list[tuple[str, ...]] = [("doctor",), ("run",)]
    if way == "DBT_ENV_SECRET_PASSWORD":
        commands += [("explain", "revenue", "--output", "json"), ("validate",), ("status",)]
        look_everywhere(project, marks, [("init",), *commands])
        for table in TABLES:
            rows = place.execute(f"select * from {place.schema}.sentinel_{table}")
            nowhere(json.dumps(rows, default=str), table, marks)
    for wrong in ({"port": closed_port()}, {"dbname": "nowhere"}):
        output["shop"]["outputs"]["dev"] = place.output | {
            "password": output["shop"]["outputs"]["dev"]["password"],
            **wrong,
        }
        project.write("profiles.yml", yaml.safe_dump(output))
        look_everywhere(project, marks, commands)
