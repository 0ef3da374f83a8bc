"""`sentinel run` for somebody else's clock: --due, --slot, --shard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.conftest import Project, Ran
from tests.places.place import ROOT
from tests.places.postgres import PostgresPlace

SLOT = "2026-01-31T08:00Z"
LATER = "2026-01-31T09:00Z"
ALERTS = 20
POOR = "update orders set amount = amount / 10"


def alert(project: Project, name: str, sql: str = "select 'OK' as status", **keys: Any) -> None:
    meta = json.dumps({"sentinel": keys}).replace("true", "True").replace("false", "False")
    project.alert(name, f"{{{{ config(meta={meta}) }}}}\n{sql}\n")


@pytest.fixture
def clocked(acme: Project) -> Project:
    """Acme with one alert on a schedule whose slots are far apart."""
    alert(
        acme,
        "stock",
        "select case when sum(amount) < 100 then 'ALERT' else 'OK' end as status from "
        "{{ ref('orders') }}",
        schedule="yearly",
        repeat_interval="1d",
        escalations=[{"after": "1000d", "channels": ["log"]}],
    )
    return acme


def run(project: Project, *args: str) -> Ran:
    return project.sentinel("run", "--output", "json", *args)


def outcomes(ran: Ran) -> dict[str, str]:
    schema = json.loads((ROOT / "sentinel/schemas/run.json").read_text())
    jsonschema.validate(ran.document, schema)
    return {each["alert"]: each["outcome"] for each in ran.document["results"]}


def slots(project: Project, columns: str = "slot, attempt, outcome") -> list[tuple[Any, ...]]:
    return project.query(
        f"select {columns} from sentinel_history where kind = 'evaluation' and instance = '' "
        "order by recorded_at, attempt"
    )


def days_pass(project: Project, days: int) -> None:
    """All that happened lies further back."""
    for table, columns in {
        "sentinel_notifications": ("created_at", "not_before", "sent_at"),
        "sentinel_state": ("phase_since", "episode_started", "last_as_of"),
        "sentinel_history": ("as_of", "recorded_at"),
        "sentinel_silences": ("created_at", "starts_at", "ends_at"),
    }.items():
        moved = ", ".join(f"{each} = {each} - interval {days} days" for each in columns)
        project.query(f"update {table} set {moved}")


def events(project: Project) -> list[str]:
    return [sent["event"] for sent in project.sent()]


# -- --due -------------------------------------------------------------------------------------


def test_what_is_due_is_evaluated_once(clocked: Project) -> None:
    first, second = run(clocked, "--due"), run(clocked, "--due")
    assert (first.code, outcomes(first)) == (0, {"stock": "ok"})
    assert (second.code, outcomes(second)) == (0, {})
    newest = datetime(datetime.now(UTC).year, 1, 1)  # noqa: DTZ001 - as the table has it
    assert slots(clocked, "slot, triggered_by, missed_slots") == [(newest, "schedule", 0)]


def test_when_nothing_is_due_a_line_says_so(clocked: Project) -> None:
    clocked.sentinel("run", "--due")
    assert clocked.sentinel("run", "--due").out == "No alert is due.\n"
    none = clocked.sentinel("run", "--due", "-s", "revenue")
    assert (none.code, none.out) == (
        0,
        "No alert is due: none of the selected alerts has a schedule.\n",
    )
    dry = clocked.sentinel("run", "--due", "--dry-run")
    assert dry.out.startswith("No alert is due. Dry run:")


def test_a_dry_run_uses_nothing_up(clocked: Project) -> None:
    assert outcomes(run(clocked, "--due", "--dry-run")) == {"stock": "ok"}
    assert outcomes(run(clocked, "--due", "--dry-run")) == {"stock": "ok"}
    assert slots(clocked) == []


def test_an_exit_code_is_of_what_was_due(clocked: Project) -> None:
    clocked.query(POOR)
    assert run(clocked, "--due").code == 1
    assert run(clocked, "--due").code == 0
    assert events(clocked) == ["firing"]


def test_a_wrong_definition_is_due_until_its_error_is_recorded(acme: Project) -> None:
    alert(acme, "wrong", schedule="never")
    first, second = run(acme, "--due"), run(acme, "--due")
    assert (first.code, outcomes(first)) == (3, {"wrong": "error"})
    assert (second.code, outcomes(second)) == (0, {})
    assert slots(acme, "slot, triggered_by") == [(None, "schedule")]


def test_reminders_come_without_a_query(clocked: Project) -> None:
    clocked.query(POOR)
    run(clocked, "--due")
    days_pass(clocked, 1)
    clocked.query("drop table orders")
    ran = run(clocked, "--due")
    assert (ran.code, outcomes(ran)) == (0, {})
    assert ran.document["notifications"] == [
        {"alert": "stock", "instance": "", "event": "reminder", "channel": "log"}
    ]
    assert events(clocked) == ["firing", "reminder"]
    days_pass(clocked, 1000)
    shown = clocked.sentinel("run", "--due").out
    assert shown.splitlines()[0] == "No alert is due."
    assert "notified log: stock (escalation)" in shown
    assert clocked.sentinel("run", "--due").out == "No alert is due.\n"


def test_the_end_of_a_silence_comes_without_a_query(clocked: Project) -> None:
    clocked.query(POOR)
    clocked.sentinel("silence", "stock", "--for", "1h", "--comment", "known")
    run(clocked, "--due")
    assert events(clocked) == []
    days_pass(clocked, 1)
    assert run(clocked, "--due").document["notifications"][0]["event"] == "firing"
    assert events(clocked) == ["firing"]


def test_what_could_not_be_sent_is_sent_by_the_next_run_that_looks_for_what_is_due(
    clocked: Project,
) -> None:
    clocked.query(POOR)
    (clocked.root / "told.jsonl").mkdir()
    assert run(clocked, "--due", "--delivery-timeout", "1s").code in (3, 4)
    (clocked.root / "told.jsonl").rmdir()
    clocked.query("update sentinel_notifications set status = 'pending', not_before = created_at")
    ran = run(clocked, "--due")
    assert (ran.code, events(clocked)) == (0, ["firing"])


def test_a_dry_run_reminds_nobody(clocked: Project) -> None:
    clocked.query(POOR)
    run(clocked, "--due")
    days_pass(clocked, 1)
    assert run(clocked, "--due", "--dry-run").document["notifications"] == []
    assert events(clocked) == ["firing"]


def test_the_variable_of_an_option_has_its_name(
    clocked: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTINEL_RUN_DUE", "1")
    assert outcomes(run(clocked)) == {"stock": "ok"}
    assert outcomes(run(clocked)) == {}


def test_without_tables_it_is_said_what_makes_them(clocked: Project) -> None:
    clocked.query("drop table sentinel_state")
    for flags in (["--due"], ["--slot", SLOT]):
        ran = clocked.sentinel("run", *flags)
        assert (ran.code, ran.out) == (2, "")
        assert "sentinel_state" in ran.err


# -- --slot ------------------------------------------------------------------------------------


def test_a_slot_is_recorded_and_told_once(acme: Project) -> None:
    acme.query(POOR)
    first = run(acme, "-s", "revenue", "--slot", SLOT)
    acme.query("update orders set amount = 1000")
    again = run(acme, "-s", "revenue", "--slot", "2026-01-31 09:00:00+01:00")
    assert (first.code, again.code) == (1, 1)
    [result] = again.document["results"]
    assert (result["outcome"], result["phase"]) == ("skipped", "firing")
    assert (result["message"], result["notified"]) == ("its slot was recorded before", [])
    assert slots(acme, "slot, as_of, outcome, triggered_by") == [
        (datetime(2026, 1, 31, 8), datetime(2026, 1, 31, 8), "alert", "schedule")  # noqa: DTZ001
    ]
    assert events(acme) == ["firing"]
    assert run(acme, "-s", "revenue", "--slot", SLOT, "--fail-on", "never").code == 0
    shown = acme.sentinel("run", "-s", "revenue", "--slot", SLOT).out
    assert "its slot was recorded before" in shown


def test_a_query_speaks_for_its_slot(acme: Project) -> None:
    alert(
        acme, "clock", "select 'ALERT' as status, cast({{ sentinel.as_of() }} as text) as message"
    )
    [result] = run(acme, "-s", "clock", "--slot", SLOT).document["results"]
    assert result["message"].startswith("2026-01-31 08:00:00")


def test_a_slot_that_ended_in_an_error_is_tried_again(acme: Project) -> None:
    acme.query("alter table orders rename to gone")
    assert run(acme, "-s", "revenue", "--slot", SLOT).code == 3
    acme.query("alter table gone rename to orders")
    assert outcomes(run(acme, "-s", "revenue", "--slot", SLOT)) == {"revenue": "ok"}
    assert outcomes(run(acme, "-s", "revenue", "--slot", SLOT)) == {"revenue": "skipped"}
    assert slots(acme, "attempt, outcome") == [(1, "error"), (2, "ok")]
    assert events(acme) == ["error", "error_resolved"]


def test_an_older_slot_goes_into_history_only(acme: Project) -> None:
    run(acme, "-s", "revenue", "--slot", LATER)
    acme.query(POOR)
    older = run(acme, "-s", "revenue", "--slot", SLOT)
    assert (older.code, outcomes(older)) == (0, {"revenue": "alert"})
    assert older.document["results"][0]["phase"] == "ok"
    assert len(slots(acme)) == 2
    assert events(acme) == []
    run(acme, "-s", "revenue", "--slot", SLOT)
    assert len(slots(acme)) == 2


def test_a_count_counts_slots(acme: Project) -> None:
    alert(acme, "twice", "select 'ALERT' as status", **{"for": 2})
    for slot, phase in ((SLOT, "pending"), (SLOT, "pending"), (LATER, "firing")):
        [result] = run(acme, "-s", "twice", "--slot", slot).document["results"]
        assert result["phase"] == phase


def test_a_slot_in_the_future_is_refused(acme: Project) -> None:
    ran = acme.sentinel("run", "--slot", "2999-01-01T00:00Z")
    assert (ran.code, ran.out) == (2, "")
    assert "lies in the future" in ran.err
    assert slots(acme) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--due", "--slot", SLOT], "can't be used together"),
        (["--slot", "tomorrow"], "is not a time"),
        (["--slot", ""], "is not a time"),
        (["--shard", "6/5"], "is not a shard"),
        (["--shard", "two"], "is not a shard"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_project_is_looked_for(
    new_project: Callable[[str], Project], flags: list[str], words: str
) -> None:
    ran = new_project("nothing").sentinel("run", *flags)
    assert (ran.code, ran.out) == (2, "")
    assert words in " ".join(ran.err.split())


# -- --shard -----------------------------------------------------------------------------------


def test_each_alert_is_in_one_share(acme: Project) -> None:
    whole = set(outcomes(run(acme, "--dry-run")))
    shares = [set(outcomes(run(acme, "--dry-run", "--shard", f"{n}/3"))) for n in (1, 2, 3)]
    assert sorted(name for share in shares for name in share) == sorted(whole)


def test_an_empty_share_is_no_failure(acme: Project) -> None:
    shares = [run(acme, "-s", "revenue", "--slot", SLOT, "--shard", f"{n}/2") for n in (1, 2)]
    assert sorted(len(share.document["results"]) for share in shares) == [0, 1]
    assert {share.code for share in shares} == {0}
    empty = next(n for n, share in enumerate(shares, 1) if not share.document["results"])
    for flags in ([], ["--due"], ["--slot", LATER]):
        ran = acme.sentinel("run", "-s", "revenue", "--shard", f"{empty}/2", *flags)
        assert (ran.code, ran.out) == (
            0,
            f"None of the selected alerts is in shard {empty}/2.\n",
        )


@pytest.fixture(params=["duckdb", "postgres"])
def shop(request: pytest.FixtureRequest, acme: Project) -> Iterator[Project]:
    """Acme with twenty alerts, half of which fire, on each store."""
    for number in range(ALERTS):
        word = "ALERT" if number % 2 else "OK"
        alert(acme, f"a{number:02}", f"select '{word}' as status", schedule="yearly")
    if request.param == "postgres":
        place: PostgresPlace = request.getfixturevalue("postgres")
        profile = {"acme": {"target": "dev", "outputs": {"dev": place.output}}}
        acme.write("profiles.yml", json.dumps(profile))
        place.execute("create table orders (id int, region text, amount int)")
        made = acme.sentinel("init")
        assert made.code == 0, made.err
    yield acme


def at_once(project: Project, *calls: list[str]) -> list[dict[str, Any]]:
    """Real processes on one project and one store."""
    command = Path(sys.executable).with_name("sentinel")

    def call(args: list[str]) -> dict[str, Any]:
        flags = ["--output", "json", "--fail-on", "never"]
        done = subprocess.run(
            [command, "run", *flags, "-s", "path:models/alerts/a*", *args],
            cwd=project.root,
            env=os.environ | {"NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def test_runs_at_once_lose_nothing_and_do_nothing_twice(shop: Project) -> None:
    firing = [f"a{number:02}" for number in range(1, ALERTS, 2)]
    halves = at_once(shop, ["--slot", SLOT, "--shard", "1/2"], ["--slot", SLOT, "--shard", "2/2"])
    done = [each["alert"] for half in halves for each in half["results"]]
    assert sorted(done) == [f"a{number:02}" for number in range(ALERTS)]
    assert {each["outcome"] for half in halves for each in half["results"]} == {"ok", "alert"}
    assert sorted(sent["alert"] for sent in shop.sent()) == firing

    both = at_once(shop, ["--slot", LATER], ["--slot", LATER, "--threads", "2"])
    found = [each["outcome"] for one in both for each in one["results"]]
    assert (len(found), found.count("skipped")) == (2 * ALERTS, ALERTS)
    assert sorted(sent["alert"] for sent in shop.sent()) == firing


def test_what_is_due_at_once_is_recorded_and_told_once(shop: Project) -> None:
    at_once(shop, ["--due"], ["--due", "--threads", "2"])
    assert sorted(sent["alert"] for sent in shop.sent()) == [
        f"a{n:02}" for n in range(1, ALERTS, 2)
    ]
    history = shop.sentinel("history", "--output", "json", "--limit", "1000").document
    recorded = [
        each["alert"]
        for each in history["evaluations"]
        if each["outcome"] != "skipped" and each["kind"] == "evaluation"
    ]
    assert sorted(recorded) == [f"a{number:02}" for number in range(ALERTS)]
