"""Silences and acknowledgements, as a person on call uses them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from .conftest import Project


def conforms(name: str, document: Any) -> Any:
    schema = json.loads((files("sentinel") / "schemas" / f"{name}.json").read_text())
    jsonschema.validate(document, schema)
    return document


def fires(acme: Project) -> None:
    acme.query("update orders set amount = 10")
    assert acme.sentinel("run", "-s", "revenue").code == 1


def resolves(acme: Project) -> None:
    acme.query("update orders set amount = 90")
    assert acme.sentinel("run", "-s", "revenue").code == 0


def hush(acme: Project, *args: str) -> str:
    """Silence; gives the id."""
    ran = acme.sentinel("silence", *args, "--comment", "known", "--output", "json")
    assert ran.code == 0, ran.err
    [made] = conforms("silence", ran.document)["silences"]
    return str(made["silence_id"])


def events(acme: Project) -> list[str]:
    return [each["event"] for each in acme.sent()]


# -- silences ----------------------------------------------------------------------------------


def test_a_silenced_alert_is_recorded_and_told_to_nobody_until_the_silence_ends(
    acme: Project,
) -> None:
    silence_id = hush(acme, "revenue", "--for", "2h")
    acme.query("update orders set amount = 10")
    ran = acme.sentinel("run", "-s", "revenue", "--output", "json")
    assert ran.code == 1, "it fires, silenced or not"
    assert ran.document["results"][0]["suppressed"] == {"log": "silenced"}
    assert acme.sent() == []
    assert "silenced until" in acme.sentinel("status").out
    document = conforms("status", acme.sentinel("status", "--output", "json").document)
    assert document["alerts"][0]["silenced_until"] is not None
    ended = acme.sentinel("unsilence", silence_id[:8])
    assert ended.out.startswith("revenue: no longer silenced")
    fires(acme)
    [sent] = acme.sent()
    assert (sent["event"], sent["reason"]) == ("firing", "not_notified_yet")


def test_who_was_told_of_firing_is_told_of_its_end_in_a_silence(acme: Project) -> None:
    fires(acme)
    hush(acme, "revenue", "--for", "2h")
    resolves(acme)
    assert events(acme) == ["firing", "resolved"]


def test_an_episode_within_a_silence_is_told_to_nobody(acme: Project) -> None:
    hush(acme, "-s", "tag:finance", "--for", "2h")
    fires(acme)
    resolves(acme)
    assert acme.sent() == []
    reasons = acme.query("select reasons from sentinel_history order by recorded_at")
    assert [json.loads(row[0])[0]["reason"] for row in reasons] == ["silenced", "silenced"]


def test_only_the_instances_meant_are_silenced(acme: Project) -> None:
    hush(acme, "by_region", "--dimension", "region=south", "--for", "2h")
    ran = acme.sentinel("run", "-s", "by_region", "--output", "json")
    sent = {
        row["instance"]: (row["notified"], row["suppressed"]) for row in ran.document["results"]
    }
    assert sent["region=south"] == ([], {"log": "silenced"})


def test_silences_are_listed(acme: Project) -> None:
    assert "No alert is silenced." in acme.sentinel("silence", "--list").out
    hush(acme, "revenue", "--for", "2h", "--author", "ann")
    over = hush(acme, "by_region", "--for", "1h")
    acme.sentinel("unsilence", "by_region")
    listed = acme.sentinel("silence", "--list").out
    assert "revenue" in listed
    assert "ann" in listed
    assert "by_region" not in listed
    every = acme.sentinel("silence", "--list", "--all", "--output", "json")
    found = {each["silence_id"]: each for each in conforms("silence", every.document)["silences"]}
    assert found[over]["in_force"] is False


def test_a_time_without_a_zone_is_the_project_s(acme: Project) -> None:
    acme.write("sentinel.yml", "timezone: Asia/Tokyo\n" + (acme.root / "sentinel.yml").read_text())
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    ran = acme.sentinel(
        "silence", "revenue", "--until", f"{tomorrow}T18:00", "--comment", "x", "--output", "json"
    )
    assert ran.document["silences"][0]["ends_at"] == f"{tomorrow}T09:00:00Z"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["revenue", "--comment", "x"], "either --for or --until"),
        (["revenue", "--for", "1h", "--until", "2999-01-01", "--comment", "x"], "either --for"),
        (["revenue", "--for", "1h"], "needs a --comment"),
        (["revenue", "--for", "1h", "--comment", " "], "needs a --comment"),
        (["revenue", "--for", "0s", "--comment", "x"], "longer than 0"),
        (["revenue", "--for", "-1h", "--comment", "x"], "-1h"),
        (["revenue", "--until", "2020-01-01", "--comment", "x"], "would end before it starts"),
        (
            ["revenue", "--until", "2998-01-01", "--starts", "2999-01-01", "--comment", "x"],
            "would end before it starts",
        ),
        (["revenue", "--until", "tomorrow", "--comment", "x"], "'tomorrow' is not a time"),
        (["--for", "1h", "--comment", "x"], "would silence all 3 alerts"),
        (["-s", "*", "--for", "1h", "--comment", "x"], "would silence all 3 alerts"),
        (["revenu", "--for", "1h", "--comment", "x"], "did you mean `revenue`?"),
        (["revenue", "--dimension", "north", "--for", "1h", "--comment", "x"], "NAME=VALUE"),
    ],
)
def test_what_makes_no_sense_is_refused(acme: Project, args: list[str], words: str) -> None:
    ran = acme.sentinel("silence", *args)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert acme.query("select * from sentinel_silences") == []


def test_all_alerts_are_silenced_if_that_is_said(acme: Project) -> None:
    hush(acme, "--all", "--for", "1h")
    [(ids,)] = acme.query("select alert_ids from sentinel_silences")
    assert len(json.loads(ids)) == 3


def test_what_is_not_silenced_can_t_be_unsilenced(acme: Project) -> None:
    ran = acme.sentinel("unsilence", "revenue")
    assert ran.code == 2
    assert "no silence has the id 'revenue' or is of an alert of that name" in ran.err
    hush(acme, "--all", "--for", "1h")
    assert "silenced together with other alerts" in acme.sentinel("unsilence", "revenue").err


def test_a_silence_of_one_process_is_kept_by_another(acme: Project) -> None:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-c", "from sentinel.cli.main import main; main()", *args]
        return subprocess.run(program, cwd=acme.root, capture_output=True, text=True, check=False)

    done = run("silence", "revenue", "--for", "1h", "--comment", "known")
    assert done.returncode == 0, done.stderr
    acme.query("update orders set amount = 10")
    assert run("run", "-s", "revenue").returncode == 1
    assert acme.sent() == []


def test_silencing_by_name_needs_no_dbt_while_its_answers_are_current(acme: Project) -> None:
    acme.sentinel("run")
    script = (
        "import sys\nfrom sentinel.cli.main import main\n"
        "try:\n    main(['silence', 'revenue', '--for', '1h', '--comment', 'x'])\n"
        "except SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "assert 'dbt.cli.main' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=acme.root, check=True, capture_output=True)


# -- acknowledgements --------------------------------------------------------------------------


def test_an_acknowledged_alert_reminds_nobody_and_its_end_is_told(acme: Project) -> None:
    acme.write(
        "sentinel.yml",
        (acme.root / "sentinel.yml")
        .read_text()
        .replace("channels: [log]", "channels: [log]\n  repeat_interval: 1s"),
    )
    fires(acme)
    acme.query("update sentinel_notifications set created_at = created_at - interval 1 hour")
    acked = acme.sentinel("ack", "revenue", "--comment", "on it", "--author", "ann")
    assert (acked.code, acked.out) == (0, "revenue: acknowledged by ann\n")
    acme.query("update sentinel_notifications set created_at = created_at - interval 1 hour")
    fires(acme)
    assert events(acme) == ["firing"]
    assert "acknowledged by ann" in acme.sentinel("status").out
    again = acme.sentinel("ack", "revenue")
    assert "already acknowledged by ann" in again.out
    resolves(acme)
    assert events(acme) == ["firing", "resolved"]
    assert acme.sent()[1]["acknowledged"]["by"] == "ann"
    [(kind, message)] = acme.query(
        "select kind, reasons from sentinel_history where kind = 'acknowledgement'"
    )
    assert (kind, json.loads(message)[0]["reason"]) == ("acknowledgement", "acknowledged")


def test_what_does_not_fire_can_t_be_acknowledged(acme: Project) -> None:
    resolves(acme)
    ran = acme.sentinel("ack", "revenue")
    assert (ran.code, "none of these alerts is firing" in ran.err) == (5, True)
    assert acme.sentinel("ack").code == 2


# -- explain -----------------------------------------------------------------------------------


def test_an_alert_is_explained(acme: Project) -> None:
    hush(acme, "revenue", "--for", "2h")
    fires(acme)
    said = acme.sentinel("explain", "revenue").out
    assert "firing critical" in said
    assert "30 (threshold 100)" in said
    assert "log: firing not notified: a silence was in force" in said
    assert "notifies: log, by default" in said
    document = conforms("explain", acme.sentinel("explain", "revenue", "--output", "json").document)
    assert document["channels_from"] == "default"
    assert document["evaluations"][0]["reasons"][0]["means"] == "a silence was in force"


def test_an_alert_that_is_gone_is_explained(acme: Project) -> None:
    fires(acme)
    (acme.root / "models/alerts/revenue.sql").unlink()
    said = acme.sentinel("explain", "revenue")
    assert said.code == 0, said.err
    assert "it is no longer in the project" in said.out


def test_an_unknown_alert_is_suggested(acme: Project) -> None:
    ran = acme.sentinel("explain", "revenu")
    assert (ran.code, "did you mean `revenue`?" in ran.err) == (2, True)


# -- notify-test, deliver ----------------------------------------------------------------------


def test_a_channel_can_be_tried(acme: Project) -> None:
    ran = acme.sentinel("notify-test", "log")
    assert (ran.code, ran.out) == (0, "log: accepted\n")
    [sent] = acme.sent()
    assert sent["event"] == "test"
    assert acme.query("select * from sentinel_notifications") == []


def test_a_channel_that_does_not_accept_is_said(acme: Project) -> None:
    acme.write("sentinel.yml", "channels: {log: {type: file, path: orders.d/told.jsonl}}\n")
    acme.write("orders.d", "a file where a folder should be")
    ran = acme.sentinel("notify-test", "log")
    assert ran.code == 4
    assert "channel log did not accept the message" in ran.err
    unknown = acme.sentinel("notify-test", "lgo")
    assert (unknown.code, "did you mean `log`?" in unknown.err) == (2, True)


def test_what_was_given_up_is_tried_again_when_asked(acme: Project) -> None:
    valid = (acme.root / "sentinel.yml").read_text()
    acme.write(
        "sentinel.yml",
        valid.replace(
            "type: file\n    path: told.jsonl", "type: webhook\n    url: http://127.0.0.1:9/"
        ),
    )
    acme.query("update orders set amount = 10")
    assert acme.sentinel("run", "-s", "revenue").code == 4
    stuck = acme.sentinel("status").out
    assert "undeliverable: firing of revenue to log" in stuck
    assert "allow_private" in stuck
    assert acme.sentinel("deliver").code == 4
    acme.write("sentinel.yml", valid)
    assert "1 undeliverable notification from earlier runs" in acme.sentinel("deliver").out
    retried = acme.sentinel("deliver", "--retry-dead")
    assert (retried.code, retried.out) == (0, "1 sent, 0 pending, 0 undeliverable\n")
    assert events(acme) == ["firing"]
