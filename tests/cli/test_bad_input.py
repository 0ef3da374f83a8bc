"""Whatever is wrong is said with its place and the next step, and nothing is half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SENTINEL, Project


def broken(project: Project, block: str) -> str:
    """The error of one alert with a bad definition, beside good ones."""
    project.alert(
        "bad",
        "{{\n  config(\n    meta={'sentinel': {\n      "
        + block
        + "\n    }}\n  )\n}}\nselect 1 as a\n",
    )
    ran = project.sentinel("run", "--output", "json")
    assert ran.code == 3
    results = {each["alert"]: each for each in ran.document["results"]}
    assert results["bad"]["outcome"] == "error"
    assert results["revenue"]["outcome"] == "ok"
    return str(results["bad"]["message"])


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("'chanels': ['log']", "unknown key `chanels`; did you mean `channels`?"),
        ("'schedule': '61 * * * *'", "'61' in the minute field is not one of 0-59"),
        ("'schedule': '0 0 30 2 *'", "never comes"),
        ("'timezone': 'Mars/Olympus'", "'Mars/Olympus' is not a time zone"),
        ("'channels': ['logg']", "there is no channel 'logg' in sentinel.yml; did you mean `log`?"),
        ("'timeout': '-5m'", "is not a duration"),
    ],
)
def test_a_bad_definition_is_that_alerts_error(acme: Project, block: str, said: str) -> None:
    message = broken(acme, block)
    assert said in message
    assert message.startswith("models/alerts/bad.sql:4: ")


def test_a_definition_in_yaml_is_named_with_its_line(acme: Project) -> None:
    acme.alert("bad", "select 1 as a\n")
    acme.write(
        "models/alerts/alerts.yml",
        "models:\n  - name: bad\n    config:\n      meta:\n        sentinel:\n          severty: info\n",
    )
    ran = acme.sentinel("validate", "--offline")
    assert ran.code == 2
    assert (
        "bad: models/alerts/alerts.yml:6: unknown key `severty`; did you mean `severity`?"
        in ran.out
    )


def test_two_alerts_with_one_id_are_both_errors(acme: Project) -> None:
    for name in ("one", "two"):
        acme.alert(name, "{{ config(meta={'sentinel': {'id': 'same'}}) }}\nselect 'OK' as status\n")
    ran = acme.sentinel("run", "-s", "one", "--output", "json")
    assert ran.code == 3
    assert "the id 'same' is also that of two" in ran.document["results"][0]["message"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("defaults:\n  schedule: @daily\n", "schedule: '@daily'"),
        ("defaults:\n  schedule: */10 * * * *\n", "schedule: '*/10 * * * *'"),
    ],
)
def test_an_unquoted_schedule_gets_the_hint_to_quote(acme: Project, text: str, hint: str) -> None:
    acme.write("sentinel.yml", text)
    ran = acme.sentinel("run")
    assert ran.code == 2
    assert "sentinel.yml:2: this is not valid YAML" in ran.err
    assert hint in ran.err


def test_a_missing_variable_is_named_before_anything_runs(acme: Project) -> None:
    acme.write(
        "sentinel.yml",
        "defaults: {channels: [hook]}\nchannels:\n  hook:\n    type: webhook\n    url: {env: HOOK_URL}\n",
    )
    ran = acme.sentinel("run")
    assert ran.code == 2
    assert "sentinel.yml:5: `channels.hook.url` needs the environment variable HOOK_URL" in ran.err
    assert acme.query("select count(*) from sentinel_history") == [(0,)]


def test_without_sentinel_yml_init_is_named(acme: Project) -> None:
    (acme.root / "sentinel.yml").unlink()
    ran = acme.sentinel("run")
    assert (ran.code, "sentinel init" in ran.err) == (2, True)


def test_without_profiles_yml_that_is_said(acme: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(acme.root))
    (acme.root / "profiles.yml").unlink()
    ran = acme.sentinel("run")
    assert ran.code == 2
    assert "profiles.yml" in ran.err


def test_outside_of_a_dbt_project_that_is_said(acme: Project) -> None:
    (acme.root / "dbt_project.yml").unlink()
    ran = acme.sentinel("run")
    assert ran.code == 2
    assert "dbt_project.yml" in ran.err


def test_a_selection_of_nothing_is_exit_5(acme: Project) -> None:
    ran = acme.sentinel("run", "-s", "tag:nobody")
    assert ran.code == 5
    assert "no alert matches --select tag:nobody" in ran.err


def test_missing_tables_name_the_command_that_makes_them(acme: Project) -> None:
    acme.query("drop table sentinel_state")
    ran = acme.sentinel("run")
    assert ran.code == 2
    assert "dbt run -s package:sentinel" in ran.err


def test_tables_of_a_newer_sentinel_are_not_touched(acme: Project) -> None:
    acme.query("alter table sentinel_state add column of_the_future varchar")
    ran = acme.sentinel("run")
    assert ran.code == 2
    assert "newer than this Sentinel" in ran.err
    assert "upgrade dbt-sentinel" in ran.err


def test_tables_of_an_older_sentinel_name_the_upgrade(acme: Project) -> None:
    acme.query("alter table sentinel_notifications drop column remote_ref")
    ran = acme.sentinel("run")
    assert ran.code == 2
    assert "older than this Sentinel" in ran.err
    assert "sentinel init --upgrade" in ran.err


def test_a_project_that_does_not_parse_is_told_in_dbts_words(acme: Project) -> None:
    acme.alert("bad", "{{ config(meta={'sentinel': {}}) }}\nselect 1 from {{ ref('nowhere') }}\n")
    ran = acme.sentinel("run")
    assert ran.code == 2
    assert "nowhere" in ran.err


def test_a_locked_database_is_waited_for_and_its_holder_named(acme: Project) -> None:
    acme.sentinel("list")
    acme.write("sentinel.yml", SENTINEL + "store: {lock_timeout: 1s}\n")
    before = acme.query("select count(*) from sentinel_history")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import duckdb, sys\nc = duckdb.connect(sys.argv[1])\n"
            "print('held', flush=True)\nsys.stdin.read()",
            str(acme.root / "acme.duckdb"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        ran = acme.sentinel("run")
    finally:
        holder.communicate(timeout=30)
    assert ran.code == 2
    assert "waiting: the DuckDB file" in ran.err
    assert f"held by process {holder.pid}" in ran.err
    assert acme.query("select count(*) from sentinel_history") == before
    assert acme.sent() == []


def test_an_unknown_command_gets_a_suggestion(acme: Project) -> None:
    ran = acme.sentinel("rum")
    assert ran.code == 2
    assert "did you mean `run`?" in ran.err


def test_a_memory_database_is_refused(acme: Project) -> None:
    acme.write("profiles.yml", "acme:\n  target: dev\n  outputs:\n    dev: {type: duckdb}\n")
    ran = acme.sentinel("run")
    assert ran.code == 2
    assert ":memory:" in ran.err


def test_a_missing_database_names_dbt_build(acme: Project) -> None:
    Path(acme.root / "acme.duckdb").unlink()
    ran = acme.sentinel("run")
    assert ran.code == 2
    assert "dbt build" in ran.err


# -- channels ----------------------------------------------------------------------------------

CHANNELS = """\
defaults: {channels: [console]}
channels:
  console: {type: console}
  unknown: {type: slak}
  file: {type: webhook, url: 'file:///t0ps3cret'}
  malformed: {type: webhook, url: 'https://[::1/t0ps3cret'}
  mail:
    type: email
    host: mail.example.org
    from: a@example.org
    to: "a@example.org\\r\\nBcc: eve@example.org"
  syntax: {type: console, template: syntax.txt}
  dunder: {type: console, template: dunder.txt}
  zero: {type: alertmanager, url: 'https://example.org', ttl: 0s}
  negative: {type: alertmanager, url: 'https://example.org', ttl: -5m}
"""
WRONG = """\
4: the channel `unknown` has the unknown type 'slak'; did you mean `slack`?
5: the channel `file`: `url`: the URL has to begin with https:// or http://
6: the channel `malformed`: `url`: the URL is malformed: its host or its port can't be read
11: the channel `mail`: `to`: an address can't hold a line break or another control character
12: the channel `syntax`: `template`: syntax.txt:2: the template is not Jinja:
13: the channel `dunder`: `template`: dunder.txt:3: a template has no access to `__class__`
14: the channel `zero`: `ttl`: must be longer than 0
15: the channel `negative`: `ttl`: '-5m' is not a duration (it can't be negative); write it
"""


def test_every_wrong_channel_is_named_with_its_line_and_nothing_is_evaluated(acme: Project) -> None:
    acme.write("syntax.txt", "a\n{% if x %}")
    acme.write("dunder.txt", "\n\n{{ first.__class__ }}")
    acme.write("sentinel.yml", CHANNELS)
    ran = acme.sentinel("validate", "--offline")
    assert ran.code == 2
    found = [line for line in ran.out.splitlines() if line.startswith("fault: ")]
    for line, said in zip(found, WRONG.splitlines(), strict=True):
        assert line.startswith(f"fault: sentinel.yml:{said}")
    assert "t0ps3cret" not in ran.out + ran.err
    ran = acme.sentinel("run")
    assert ran.code == 2
    assert ran.err.startswith("error: sentinel.yml:4: the channel `unknown`")
    assert acme.query("select count(*) from sentinel_history") == [(0,)]


def test_durations_and_secrets_that_can_t_be_meant_are_named_with_their_line(acme: Project) -> None:
    wrong = {
        "'for': '-1h'": "`for`: '-1h' is not a duration (it can't be negative)",
        "'repeat_interval': '0s'": "`repeat_interval`: must be longer than 0",
        "'webhook_url': 'https://a.org/t0ps3cret'": "`webhook_url` looks like a secret",
        "'runbook': 'https://me:t0ps3cret@a.org/'": "`runbook` looks like a secret",
        "'channels': ['https://hooks.slack.com/services/t0ps3cret']": "`channels.0` looks like a",
    }
    for number, block in enumerate(wrong):
        sql = f"{{{{ config(\n  meta={{'sentinel': {{\n    {block}\n  }}}}) }}}}\nselect 1\n"
        acme.alert(f"bad_{number}", sql)
    ran = acme.sentinel("validate", "--offline")
    assert ran.code == 2
    for number, said in enumerate(wrong.values()):
        assert f"bad_{number}: models/alerts/bad_{number}.sql:3: {said}" in ran.out
    assert "t0ps3cret" not in ran.out + ran.err
