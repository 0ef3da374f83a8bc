"""`sentinel run`: evaluate alerts, record the results and send notifications."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from sentinel import files
from sentinel.app.alerts import select_alerts
from sentinel.app.documents import run_document
from sentinel.app.report import InstanceResult, Report, title
from sentinel.app.run import Choice, RunRequest
from sentinel.app.slots import Shard
from sentinel.cli.options import (
    DbtCommand,
    dbt_options,
    delivery_option,
    open_installation,
    output_option,
    read_output,
    read_selection,
    selection_options,
)
from sentinel.cli.output import Output, ago
from sentinel.cli.people import read_moment
from sentinel.core.errors import ConfigError, UsageError
from sentinel.core.evaluation import Outcome
from sentinel.core.numbers import amount
from sentinel.core.severity import Severity
from sentinel.core.state import Phase
from sentinel.core.text import plain as clean
from sentinel.dbt.files import private_dir, write_private

RUN_RESULTS = "run_results.json"
_STYLES = {
    "firing": "bold red",
    "recovering": "yellow",
    "pending": "yellow",
    # Those that hide the phase first: it is also the order of the sums.
    **{str(each): each.traits.style for each in Outcome if each.traits.hides_phase != "never"},
    **{str(each): each.traits.style for each in Outcome if each.traits.hides_phase == "never"},
    "resolved": "bold green",
}


def _read_shard(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Shard | None:
    try:
        return None if value is None else Shard.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _read_slot(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    return None if value is None else read_moment(value, "UTC")


@click.command("run", cls=DbtCommand)
@selection_options
@click.option("--dry-run", is_flag=True, help="Evaluate without recording or notifying.")
@click.option("--due", is_flag=True, help="Evaluate only alerts that are due.")
@click.option(
    "--slot",
    metavar="TIME",
    callback=_read_slot,
    help="Evaluate for this slot: 2026-01-31T08:00Z. Each slot is recorded once.",
)
@click.option(
    "--shard",
    metavar="N/M",
    callback=_read_shard,
    help="Evaluate one shard of the alerts: 2/5 is the second of five.",
)
@click.option(
    "--fail-on",
    type=click.Choice([*map(str, Severity), "never"]),
    default="warning",
    show_default=True,
    help="Exit with 1 if an alert of this severity or above fires.",
)
@click.option(
    "-x", "--fail-fast", is_flag=True, help="Stop at the first alert that fires or fails."
)
@delivery_option
@output_option
@dbt_options
def command(**values: Any) -> int:
    """Evaluate alerts, record the results and send notifications.

    \b
    Examples:
      sentinel run
      sentinel run --select tag:finance
      sentinel run -s path:models/alerts --exclude stock_below_minimum
      sentinel run --dry-run --output json
      sentinel run --due
      sentinel run --slot 2026-01-31T08:00Z --shard 2/5
    """
    started = time.perf_counter()
    if values["due"] and values["slot"] is not None:
        raise UsageError("--due and --slot can't be used together: --due determines the slots")
    output = read_output(values)
    installation = open_installation(values, output)
    folder = installation.project.folder
    with output.at_work():
        context = installation.definition_context
        selected = select_alerts(installation.project, context, read_selection(values))
        run = installation.run(lambda: time.perf_counter() - started)
        request = RunRequest(
            threads=installation.threads,
            holder=installation.holder,
            dry_run=values["dry_run"],
            fail_fast=values["fail_fast"],
            due=values["due"],
            slot=values["slot"],
            shard=values["shard"],
            delivery_timeout=values["delivery_timeout"],
        )
        result = run(selected, request)
    report, choice = result.report, result.choice
    document = run_document(report)
    if not request.dry_run:
        _keep(folder / RUN_RESULTS, document, output)
    if output.json:
        output.print_json(document)
    else:
        print_report(output, report, "" if choice.alerts.all else _why_nothing(choice, request))
    fail_on = None if values["fail_on"] == "never" else Severity(values["fail_on"])
    return report.exit_code(fail_on)


def _keep(path: Path, document: Mapping[str, Any], output: Output) -> None:
    """Write the document next to dbt's artifacts; the run succeeds even if that fails."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    try:
        private_dir(path.parent)  # `dbt clean` may have removed it meanwhile
        write_private(path, text.encode())
    except ConfigError as error:
        with suppress(OSError):  # nobody should take an earlier run's results for this one's
            files.remove(path)
        output.log.warning(f"{error.message}; the run is recorded in the tables")


def _why_nothing(choice: Choice, request: RunRequest) -> str:
    """Why no selected alert was evaluated."""
    if not choice.share.all:
        return f"None of the selected alerts is in shard {request.shard}."
    if all(alert.cron is None for alert in choice.share.valid):
        return "No alert is due: none of the selected alerts has a schedule."
    return "No alert is due."


def print_report(output: Output, report: Report, nothing: str = "") -> None:
    """Print the results as a table with a summary, or why there are none (`nothing`); then the
    notifications of alerts that were not evaluated, and those that were not delivered."""
    dry = " Dry run: nothing was recorded, nobody was notified." if report.dry_run else ""
    if nothing:
        output.line(f"{nothing}{dry}")
    else:
        rows = [_row(result, report) for result in report.results]
        output.table(["state", "alert", "value", "threshold", "for", "notified", "message"], rows)
        output.line()
        words = Counter(_word(result) for result in report.results)
        sums = ", ".join(f"{words[word]} {word}" for word in _STYLES if words[word])
        output.line(f"{sums} in {report.elapsed_s:.1f} s.{dry}")
    for row in report.sent_of_others:
        output.line(f"notified {row.channel}: {clean(title(row))}")
    for what, error in report.undelivered.items():
        output.line(Text(f"not delivered: {what}: {error}", style="bold red"))
    if len(report.undelivered) > report.given_up:
        output.line("`sentinel deliver` retries.")
    if report.given_up:
        output.line("`sentinel deliver --retry-dead` retries undeliverable notifications.")


def _row(result: InstanceResult, report: Report) -> list[str | Text]:
    word = _word(result)
    name = result.alert + (f" [{clean(result.instance)}]" if result.instance else "")
    severity = f" {result.severity}" if result.firing and result.severity else ""
    shown_for = result.phase in (Phase.FIRING, Phase.RECOVERING, Phase.PENDING)
    message = clean(result.message or "").strip().splitlines()
    return [
        Text(word + severity, style=_STYLES.get(word, "")),
        name,
        "" if result.actual_value is None else amount(result.actual_value),
        "" if result.threshold is None else amount(result.threshold),
        ago(result.since, report.started_at) if shown_for else "",
        _notified(result),
        message[0] if message and word != "ok" else "",
    ]


def _word(result: InstanceResult) -> str:
    hides_phase = result.outcome.traits.hides_phase
    if hides_phase == "always" or (hides_phase == "unless firing" and not result.firing):
        return str(result.outcome)
    if "resolved" in result.events:
        return "resolved"
    return str(result.phase or result.outcome)


def _notified(result: InstanceResult) -> str:
    """The channels notified in this run, otherwise the reasons why none was."""
    if result.notified:
        return ", ".join(result.notified)
    reasons = dict.fromkeys(result.suppressed.values())
    return ", ".join(reason.replace("_", " ") for reason in reasons)
