"""The other commands: list, validate, status, history, deliver, doctor, init."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files

import jsonschema
import pytest

from sentinel.cli.main import COMMANDS
from tests.cli.conftest import PROFILES, PROJECT, Project


def validate(name: str, document: object) -> None:
    schema = json.loads((files("sentinel") / "schemas" / f"{name}.json").read_text())
    jsonschema.validate(document, schema, jsonschema.Draft202012Validator)


def test_every_json_document_keeps_its_schema(acme: Project) -> None:
    acme.query("update orders set amount = -1")
    acme.alert("typo", "{{ config(meta={'sentinel': {}}) }}\nselect nope\n")
    for name in ("run", "list", "status", "history", "validate", "doctor"):
        ran = acme.sentinel(name, "--output", "json")
        validate(name, ran.document)
        assert ran.out.startswith("{"), name


def test_list_shows_when_an_alert_is_next_due(acme: Project) -> None:
    acme.alert(
        "timed",
        "{{ config(meta={'sentinel': {'schedule': '0 6 * * *', 'timezone': 'Europe/Paris'}}) }}\n"
        "select 'OK' as status\n",
    )
    found = {
        each["alert"]: each for each in acme.sentinel("list", "--output", "json").document["alerts"]
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT0[45]:00:00Z", found["timed"]["next_slot"])
    assert found["revenue"]["next_slot"] is None
    assert found["revenue"]["channels"] == ["log"]
    shown = acme.sentinel("list").out
    assert "manual" in shown
    assert "0 6 * * * Europe/Paris" in shown


def test_a_disabled_alert_is_named_but_never_runs(acme: Project) -> None:
    acme.alert(
        "off", "{{ config(meta={'sentinel': {'enabled': false}}) }}\nselect 'ALERT' as status\n"
    )
    assert "disabled: off" in acme.sentinel("list").out
    results = acme.sentinel("run", "--output", "json").document["results"]
    assert "off" not in {each["alert"] for each in results}


def test_validate_finds_everything_at_once(acme: Project) -> None:
    acme.write(
        "sentinel.yml",
        "defaults: {channels: [log]}\nchannels:\n  log: {type: file, path: told.jsonl}\n"
        "  odd: {type: carrier_pigeon}\n  hook: {type: webhook, url: 'ftp://x', tries: 3}\n",
    )
    acme.alert(
        "key", "{{ config(meta={'sentinel': {'severty': 'info'}}) }}\nselect 'OK' as status\n"
    )
    acme.alert("sql", "{{ config(meta={'sentinel': {}}) }}\nselect nope from {{ ref('orders') }}\n")
    acme.alert("two", "{{ config(meta={'sentinel': {}}) }}\nselect 1 as a; select 2 as a\n")
    acme.alert("value", "{{ config(meta={'sentinel': {}}) }}\nselect 1 as actual_value\n")
    acme.alert(
        "jinja",
        "{{ config(meta={'sentinel': {}}) }}\nselect {% if execute %}{{ 1 / 0 }}{% endif %}\n",
    )
    ran = acme.sentinel("validate", "--output", "json")
    assert ran.code == 2
    messages = {each["subject"]: each["message"] for each in ran.document["findings"]}
    assert "did you mean `severity`" in messages["key"]
    assert "nope" in messages["sql"]
    assert "2 statements" in messages["two"]
    assert "none named status" in messages["value"]
    assert "division by zero" in messages["jinja"]
    sent = " ".join(each["message"] for each in ran.document["findings"])
    assert "carrier_pigeon" in sent
    assert "unknown key `tries`" in sent
    assert "https://" in sent
    assert acme.query("select count(*) from sentinel_history") == [(0,)]


def test_validate_offline_needs_no_warehouse(acme: Project) -> None:
    (acme.root / "acme.duckdb").unlink()
    assert acme.sentinel("validate", "--offline").code == 0
    assert acme.sentinel("validate").code == 2


def test_status_shows_what_fires_what_fails_and_what_is_calm(acme: Project) -> None:
    assert "No alert has been evaluated yet" in acme.sentinel("status").out
    acme.alert("typo", "{{ config(meta={'sentinel': {}}) }}\nselect nope\n")
    acme.sentinel("run")
    lines = acme.sentinel("status").out.splitlines()
    assert lines[1].startswith("firing warning  by_region [region=south]")
    assert lines[2].startswith("failing")
    assert "other alerts ok" in lines[-1]
    assert "revenue" in acme.sentinel("status", "--all").out


def test_an_alert_in_error_is_not_calm_before_it_is_failing(acme: Project) -> None:
    acme.alert("typo", "{{ config(meta={'sentinel': {'error_after': 3}}) }}\nselect nope\n")
    acme.sentinel("run", "-s", "typo")
    shown = acme.sentinel("status").out
    assert shown.splitlines()[1].startswith("error  typo")
    assert "nope" in shown
    assert "ok" not in shown


def test_a_disabled_alert_may_be_wrong(acme: Project) -> None:
    acme.alert("off", "{{ config(meta={'sentinel': {'enabled': false, 'odd': 1}}) }}\nselect 1\n")
    assert acme.sentinel("run", "-s", "by_region", "off").code == 1


def test_history_can_be_narrowed(acme: Project) -> None:
    acme.sentinel("run")
    acme.sentinel("run")

    def found(*args: str) -> list[dict[str, object]]:
        document = acme.sentinel("history", "--output", "json", *args).document
        evaluations: list[dict[str, object]] = document["evaluations"]
        return evaluations

    assert {row["alert"] for row in found("-s", "tag:finance")} == {"revenue", "negative"}
    assert [row["instance"] for row in found("--changes")] == ["region=south"]
    assert {row["outcome"] for row in found("--outcome", "alert")} == {"alert"}
    assert len(found("-n", "3")) == 3
    assert found("--since", "1h") == found()
    assert acme.sentinel("history", "--since", "yesterday").code == 2
    assert "ok → firing" in acme.sentinel("history").out


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers as its server's `answer` says, and remembers what it got."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(json.loads(body))  # type: ignore[attr-defined] # set by the fixture
        self.send_response(self.server.answer)  # type: ignore[attr-defined] # set by the fixture
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.got = []  # type: ignore[attr-defined] # read by the handler
    server.answer = 200  # type: ignore[attr-defined] # read by the handler
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_what_could_not_be_delivered_is_told_later_and_seen_until_then(
    acme: Project, receiver: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{receiver.server_port}/secret-path")
    acme.write(
        "sentinel.yml",
        "defaults: {channels: [hook, log]}\nchannels:\n  log: {type: file, path: told.jsonl}\n"
        "  hook:\n    type: webhook\n    url: {env: HOOK}\n    allow_private: true\n",
    )
    receiver.answer = 503  # type: ignore[attr-defined] # set by the fixture
    ran = acme.sentinel("run", "-s", "by_region", "--delivery-timeout", "1s", "--output", "json")
    assert ran.code == 4
    south = ran.document["results"][0]
    assert (south["notified"], south["suppressed"]) == (["log"], {"hook": "not_delivered_yet"})
    assert "the receiver answered 503" in acme.sentinel("status").out
    assert "secret-path" not in ran.out + ran.err + acme.sentinel("status").out

    receiver.answer = 200  # type: ignore[attr-defined] # set by the fixture
    tries = len(receiver.got)  # type: ignore[attr-defined] # set by the fixture
    acme.query("update sentinel_notifications set not_before = created_at")
    assert acme.sentinel("deliver").code == 0
    assert len(receiver.got) == tries + 1  # type: ignore[attr-defined] # set by the fixture
    assert acme.sentinel("deliver").out == "0 sent, 0 pending, 0 undeliverable\n"
    assert [sent["event"] for sent in acme.sent()] == ["firing"]


def test_what_can_never_be_delivered_is_undeliverable(
    acme: Project, receiver: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.write(
        "sentinel.yml",
        "defaults: {channels: [hook]}\nchannels:\n  hook:\n    type: webhook\n"
        f"    url: 'http://127.0.0.1:{receiver.server_port}'\n    allow_private: true\n",
    )
    receiver.answer = 410  # type: ignore[attr-defined] # set by the fixture
    ran = acme.sentinel("run", "-s", "by_region")
    assert ran.code == 4
    assert "the receiver answered 410" in ran.out
    sent = "undeliverable: firing of by_region [region=south] to hook, 1 attempt: the receiver"
    assert sent in acme.sentinel("status").out
    document = acme.sentinel("status", "--output", "json").document
    assert [each["status"] for each in document["undelivered"]] == ["dead"]


def test_doctor_says_what_works_and_what_does_not(acme: Project) -> None:
    fine = acme.sentinel("doctor")
    assert fine.code == 0, fine.out
    assert "FAIL" not in fine.out
    assert "warn" not in fine.out
    (acme.root / "acme.duckdb").chmod(0o666)
    warned = acme.sentinel("doctor", "--output", "json")
    assert warned.code == 0
    (rights,) = (each for each in warned.document["checks"] if each["level"] != "ok")
    assert (rights["check"], rights["level"], rights["ok"]) == ("rights", "warning", True)
    assert "every user of this machine can change" in rights["detail"]
    assert f"chmod o-w '{acme.root / 'acme.duckdb'}'" in rights["hint"]
    assert "warn rights" in acme.sentinel("doctor").out
    (acme.root / "acme.duckdb").chmod(0o644)
    acme.query("drop table sentinel_history")
    (acme.root / "dbt_sentinel/dbt_project.yml").write_text(
        (acme.root / "dbt_sentinel/dbt_project.yml").read_text().replace('"0.1.0"', '"0.0.9"')
    )
    ill = acme.sentinel("doctor", "--output", "json")
    assert ill.code == 2
    failed = {each["check"] for each in ill.document["checks"] if not each["ok"]}
    assert failed == {"dbt package", "tables"}


def test_init_is_enough_for_a_project_of_another_style(
    new_project: Callable[[str], Project],
) -> None:
    other = new_project("other")
    other.write("dbt_project.yml", PROJECT.replace("[models]", "[transform]"))
    other.write("profiles.yml", PROFILES)
    other.write("transform/core/orders.sql", "select 1 as id, 5 as amount")
    ran = other.sentinel("init")
    assert ran.code == 0, ran.err
    assert "Sentinel's tables" in ran.out
    other.write(
        "transform/alerts/daily_revenue.sql",
        "{{ config(tags=['finance'], meta={'sentinel': {'severity': 'critical'}}) }}\n"
        "select 'ALERT' as status, 5 as actual_value, 10 as threshold\n",
    )
    sent = other.sentinel("run", "--select", "tag:finance")
    assert sent.code == 1
    assert "FIRING daily_revenue (critical)" in sent.err
    again = other.sentinel("init")
    assert (again.code, "created" in again.out, "updated" in again.out) == (0, False, False)


def test_help_has_examples_for_every_command(acme: Project) -> None:
    shown = acme.sentinel("--help").out
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", shown, re.MULTILINE), name
        page = acme.sentinel(name, "--help")
        assert page.code == 0
        assert f"sentinel {name}" in page.out.split("Options:")[0].split("\n", 1)[1], name


def test_diagnostics_can_be_json_lines(acme: Project) -> None:
    acme.write("models/extra.sql", "select 1 as a")
    ran = acme.sentinel("run", "--log-format", "json", "--output", "json")
    lines = [json.loads(line) for line in ran.err.splitlines()]
    assert {"event", "level", "timestamp"} <= set(lines[0])
    assert any("pars" in line["event"] for line in lines)


def test_quiet_says_only_what_was_asked_for(acme: Project) -> None:
    acme.write("models/extra.sql", "select 1 as a")
    ran = acme.sentinel("run", "-q")
    assert ran.err == ""
    assert "by_region" in ran.out
