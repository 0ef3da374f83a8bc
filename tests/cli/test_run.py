"""`sentinel run`: evaluate, record, tell once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sentinel.channels.registry import channel_types
from tests.cli.conftest import Project

RICH = "update orders set amount = 1000 where id = 1"


def states(project: Project) -> dict[str, str]:
    rows = project.query(
        "select alert, instance, phase from sentinel_state where phase is not null"
    )
    return {f"{alert}|{instance}": phase for alert, instance, phase in rows}


def test_what_fires_is_recorded_and_told_once(acme: Project) -> None:
    acme.query("update orders set amount = amount / 10")
    first = acme.sentinel("run", "--select", "tag:finance", "--output", "json")
    again = acme.sentinel("run", "--select", "tag:finance", "--output", "json")

    assert (first.code, again.code) == (1, 1)
    revenue = first.document["results"][0]
    assert (revenue["alert"], revenue["phase"], revenue["previous_phase"]) == (
        "revenue",
        "firing",
        "ok",
    )
    assert (revenue["actual_value"], revenue["threshold"]) == (20, 100)
    assert (revenue["notified"], revenue["suppressed"]) == (["log"], {})
    second = again.document["results"][0]
    assert (second["notified"], second["suppressed"]) == ([], {"log": "already_notified"})
    assert [(sent["event"], sent["alert"]) for sent in acme.sent()] == [("firing", "revenue")]
    assert acme.query(
        "select count(*), min(status) from sentinel_notifications where alert_id like '%revenue'"
    ) == [(1, "sent")]


def test_what_recovers_is_told_as_resolved(acme: Project) -> None:
    acme.query("update orders set amount = amount / 10")
    acme.sentinel("run", "-s", "revenue")
    acme.query(RICH)
    ran = acme.sentinel("run", "-s", "revenue", "--output", "json")

    assert ran.code == 0
    assert [sent["event"] for sent in acme.sent()] == ["firing", "resolved"]
    assert acme.sent()[0]["episode_id"] == acme.sent()[1]["episode_id"]
    assert states(acme)["revenue|"] == "ok"
    assert acme.query(
        "select phase_before, phase_after, events from sentinel_history order by recorded_at"
    ) == [("ok", "firing", '["firing"]'), ("firing", "ok", '["resolved"]')]


def test_dimensions_give_one_state_each(acme: Project) -> None:
    ran = acme.sentinel("run", "-s", "by_region", "--output", "json")
    phases = {each["instance"]: each["phase"] for each in ran.document["results"]}
    assert phases == {"region=north": "ok", "region=south": "firing"}
    assert states(acme) == {"by_region|region=north": "ok", "by_region|region=south": "firing"}


def test_violating_rows_are_counted_and_sampled_when_they_fire(acme: Project) -> None:
    acme.query("insert into orders select 100 + range, 'west', -1 from range(5)")
    result = acme.sentinel("run", "-s", "negative", "--output", "json").document["results"][0]
    assert (result["failures"], result["severity"]) == (5, "critical")
    assert len(result["context"]["samples"]) == 2
    again = acme.sentinel("run", "-s", "negative", "--output", "json").document["results"][0]
    assert again["context"] == {}


def test_the_document_is_also_kept_beside_the_artifacts(acme: Project) -> None:
    ran = acme.sentinel("run", "--output", "json")
    kept = acme.root / "target/sentinel/run_results.json"
    assert json.loads(kept.read_text()) == ran.document
    assert kept.stat().st_mode & 0o077 == 0


def test_a_dry_run_neither_records_nor_tells_but_judges(acme: Project) -> None:
    acme.query("update orders set amount = 1")
    ran = acme.sentinel("run", "-s", "revenue", "--dry-run", "--output", "json")
    assert ran.code == 1
    assert ran.document["results"][0]["phase"] == "firing"
    assert ran.document["results"][0]["suppressed"] == {"log": "dry_run"}
    assert acme.query("select count(*) from sentinel_history") == [(0,)]
    assert acme.sent() == []


@pytest.mark.parametrize(
    ("fail_on", "code"), [("info", 1), ("warning", 1), ("critical", 0), ("never", 0)]
)
def test_fail_on_says_which_severity_counts(acme: Project, fail_on: str, code: int) -> None:
    assert acme.sentinel("run", "-s", "by_region", "--fail-on", fail_on).code == code


def test_one_broken_query_is_that_alerts_outcome_only(acme: Project) -> None:
    acme.alert(
        "typo", "{{ config(meta={'sentinel': {}}) }}\nselect nope from {{ ref('orders') }}\n"
    )
    ran = acme.sentinel("run", "--output", "json")
    outcomes = {each["alert"]: each["outcome"] for each in ran.document["results"]}
    assert ran.code == 3
    assert (outcomes["typo"], outcomes["revenue"]) == ("error", "ok")
    assert [sent["alert"] for sent in acme.sent() if sent["event"] == "error"] == ["typo"]
    acme.sentinel("run", "-s", "typo")
    assert len([sent for sent in acme.sent() if sent["event"] == "error"]) == 1


def test_fail_fast_starts_nothing_more(acme: Project) -> None:
    acme.alert("aaa", "{{ config(meta={'sentinel': {}}) }}\nselect 'ALERT' as status\n")
    for number in range(6):
        acme.alert(
            f"slow_{number}",
            "{{ config(meta={'sentinel': {}}) }}\n"
            "select 'OK' as status from range(3000000) as t (i) having sum(i % 7) > 0\n",
        )
    ran = acme.sentinel("run", "-x", "--threads", "1", "--output", "json")
    outcomes = [each["outcome"] for each in ran.document["results"]]
    assert "skipped" in outcomes
    assert acme.query("select count(*) from sentinel_history where outcome = 'skipped'") == [
        (outcomes.count("skipped"),)
    ]


def test_selection_is_dbts(acme: Project) -> None:
    def selected(*args: str) -> set[str]:
        document = acme.sentinel("run", "--dry-run", "--output", "json", *args).document
        return {each["alert"] for each in document["results"]}

    everything = selected()
    assert {"revenue", "by_region", "negative"} <= everything
    assert selected("--select", "tag:finance") == {"revenue", "negative"}
    assert selected("--select", "revenue", "by_region") == {"revenue", "by_region"}
    assert selected("-s", "orders+", "--exclude", "tag:operations") == {"revenue", "negative"}
    acme.write(
        "selectors.yml",
        "selectors:\n  - name: money\n    definition: {method: tag, value: finance}\n",
    )
    assert selected("--selector", "money") == {"revenue", "negative"}


def test_vars_reach_the_sql(acme: Project) -> None:
    high = acme.sentinel("run", "-s", "revenue", "--vars", "{floor: 5000}", "--output", "json")
    assert high.document["results"][0]["threshold"] == 5000


def test_another_target_has_another_state(acme: Project) -> None:
    acme.write(
        "profiles.yml",
        (acme.root / "profiles.yml").read_text()
        + "    other: {type: duckdb, path: other.duckdb, threads: 1}\n",
    )
    ran = acme.sentinel("run", "-t", "other")
    assert ran.code == 2
    assert "other.duckdb" in ran.err
    assert not (acme.root / "other.duckdb").exists()


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and "sentinel" not in path.relative_to(root).parts
    }


def dbt(root: Path, *args: str) -> str:
    command = Path(sys.executable).with_name("dbt")
    done = subprocess.run(
        [str(command), *args, "--no-send-anonymous-usage-stats"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_users_dbt_artifacts_stay_as_they_are(acme: Project) -> None:
    acme.query("drop table orders")
    dbt(acme.root, "build")
    before = digests(acme.root / "target") | digests(acme.root / "logs")
    acme.write(
        "models/alerts/more.sql", "{{ config(meta={'sentinel': {}}) }}\nselect 'OK' as status\n"
    )
    assert acme.sentinel("run").code == 1
    assert acme.sentinel("validate").code == 0
    after = digests(acme.root / "target") | digests(acme.root / "logs")
    assert after == before
    dbt(acme.root, "build")
    dbt(acme.root, "build", "--full-refresh")
    assert acme.query("select count(*) > 0 from sentinel_history") == [(True,)]


def modules_after(project: Project, *command: str) -> set[str]:
    """The modules that a command imports in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\nfrom sentinel.cli.main import main\n"
            "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
            "print(*sys.modules, file=sys.stderr)",
            *command,
        ],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.strip().splitlines()[-1].split())


def test_a_run_whose_sql_is_current_does_not_import_dbt(acme: Project) -> None:
    acme.sentinel("run")
    for command in (["run"], ["status"], ["history"], ["list"]):
        modules = modules_after(acme, *command)
        assert "sentinel.cli.main" in modules
        assert not {name for name in modules if name.split(".")[0] == "dbt"}, command


def test_a_warm_run_imports_only_the_channel_types_that_are_configured(acme: Project) -> None:
    acme.query("update orders set amount = amount / 10")  # so that a channel is used
    acme.sentinel("list")
    modules = modules_after(acme, "run")
    types = {point.value.partition(":")[0] for point in channel_types().values()}
    assert modules & types == {"sentinel.channels.console", "sentinel.channels.file"}


def test_a_literal_secret_is_refused_cold_and_warm(acme: Project) -> None:
    config = (
        "{{ config(meta={'sentinel': {'runbook': 'https://hooks.slack.com/services/T0/B0/x'}}) }}"
    )
    acme.alert("leaky", f"{config}\nselect 'OK' as status")
    for _ in range(2):
        ran = acme.sentinel("validate", "--offline", "--select", "leaky", "--output", "json")
        assert ran.code == 2
        [finding] = ran.document["findings"]
        assert "looks like a secret" in finding["message"]
        assert "T0/B0" not in ran.out + ran.err


def test_two_runs_at_once_tell_once(acme: Project) -> None:
    acme.query("update orders set amount = 1")
    acme.sentinel("list")
    command = [
        str(Path(sys.executable).with_name("sentinel")),
        "run",
        "-s",
        "revenue",
        "--output",
        "json",
    ]
    runs = [subprocess.Popen(command, cwd=acme.root, stdout=subprocess.PIPE) for _ in range(3)]
    documents = [json.loads(run.communicate(timeout=180)[0]) for run in runs]
    assert [run.returncode for run in runs] == [1, 1, 1]
    assert len(acme.sent()) == 1
    assert acme.query("select count(*) from sentinel_history where alert = 'revenue'") == [(3,)]
    notified = [each["notified"] for document in documents for each in document["results"]]
    assert sorted(notified) == [[], [], ["log"]]


def test_the_table_puts_what_fires_first_and_names_who_was_told(acme: Project) -> None:
    ran = acme.sentinel("run")
    lines = ran.out.splitlines()
    assert lines[0].split()[:2] == ["state", "alert"]
    assert lines[1].startswith("firing warning  by_region [region=south]")
    assert "log" in lines[1].split()
    assert "1 firing" in ran.out
    assert "\x1b[" not in ran.out


def test_what_was_given_up_names_the_command_that_sends_it_again(acme: Project) -> None:
    acme.write(
        "sentinel.yml",
        "defaults: {channels: [hook]}\nchannels: {hook: {type: webhook, url: 'http://127.0.0.1:9/'}}\n",
    )
    ran = acme.sentinel("run", "-s", "by_region")
    assert ran.code == 4
    assert "its address is private" in ran.out
    last = ran.out.splitlines()[-1]
    assert last == "`sentinel deliver --retry-dead` retries undeliverable notifications."
    assert "`sentinel deliver` retries" not in ran.out
