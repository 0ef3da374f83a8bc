"""`sentinel explain`: explain an alert's state and its notifications."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
from rich.text import Text

from sentinel.app.choose import choose_alerts
from sentinel.app.documents import explain_document
from sentinel.app.explain import Explanation, explain_alert, sentence
from sentinel.cli.options import (
    DbtCommand,
    dbt_options,
    open_installation,
    output_option,
    read_output,
)
from sentinel.cli.output import Output, ago, count, shown_time
from sentinel.core.alert import Alert
from sentinel.core.history import HistoryRow
from sentinel.core.notification import Status
from sentinel.core.numbers import amount, measured
from sentinel.core.project import Selection
from sentinel.core.state import Health, Phase, State
from sentinel.core.text import line

_FROM = {
    "own": "its own",
    "route": "by route",
    "default": "by default",
    "owner": "its group's owner",
    "nobody": "nobody",
}


@click.command("explain", cls=DbtCommand)
@click.argument("alert")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 1_000), default=10, show_default=True,
    help="Number of evaluations, newest first.",
)  # fmt: skip
@output_option
@dbt_options
def command(**values: Any) -> int:
    """Explain an alert's state: its last evaluations, and why each channel was or wasn't notified.

    \b
    Examples:
      sentinel explain daily_revenue
      sentinel explain daily_revenue --limit 50 --output json
    """
    output = read_output(values)
    installation = open_installation(values, output)
    with output.at_work():
        store = installation.store
        store.check()
        states = store.snapshot().states
        context = installation.definition_context
        chosen = choose_alerts(
            installation.project, context, states, [values["alert"]], Selection()
        )
        found = explain_alert(store, context, chosen.alerts[0], values["limit"])
    if output.json:
        output.print_json(explain_document(found))
    else:
        _print(output, found)
    return 0


def _print(output: Output, found: Explanation) -> None:
    for each in _definition(found):
        output.line(each)
    for state in found.instances:
        output.line()
        for text in _instance(found, state):
            output.line(text)
    if not found.instances:
        output.line("It has no evaluations yet, or none succeeded.")
    output.line()
    for row in found.history:
        for text in _evaluation(row):
            output.line(text)
    for each_row in found.undelivered:
        word = "undeliverable" if each_row.status is Status.DEAD else "not delivered yet"
        said = line(each_row.last_error or "not attempted")
        where = f" [{line(each_row.instance)}]" if each_row.instance else ""
        tries = count(each_row.attempts, "attempt")
        words = f"{word}: {each_row.event}{where} to {each_row.channel}, {tries}: {said}"
        output.line(Text(words, style="bold red"))


def _definition(found: Explanation) -> Iterator[str | Text]:
    alert, head = found.alert, found.head
    yield Text(line(alert.name), style="bold")
    valid = alert if isinstance(alert, Alert) else None
    if valid is None:
        gone = not alert.source.path
        yield (
            "  it is no longer in the project"
            if gone
            else "  its definition is invalid: `sentinel validate` says why"
        )
    elif valid.cron:
        next_slot = valid.cron.next_after(datetime.now(UTC))
        yield f"  schedule: {valid.cron.text}, next {shown_time(next_slot)} UTC"
    channels = ", ".join(line(name) for name in alert.channels)
    yield f"  notifies: {channels + ', ' if channels else ''}{_FROM[found.recipients]}"
    if head and head.health is Health.FAILING:
        since = ago(head.health_since, found.snapshot.now)
        yield Text(
            f"  failing:  for {since}, {count(head.error_count, 'error')}", style="bold magenta"
        )


def _instance(found: Explanation, state: State) -> Iterator[str | Text]:
    now = found.snapshot.now
    name = f" [{line(state.instance)}]" if state.instance else ""
    severity = f" {state.severity}" if state.severity else ""
    style = "bold red" if state.phase is Phase.FIRING else ""
    yield Text(f"{state.phase}{severity}{name} for {ago(state.phase_since, now)}", style=style)
    value = measured(state.actual_value, state.threshold)
    if value:
        yield f"  value:    {value}"
    if state.message and state.phase is not Phase.OK:
        yield f"  message:  {line(state.message)}"
    if state.acked_at:
        comment = f": {line(state.ack_comment)}" if state.ack_comment else ""
        yield f"  acked:    {ago(state.acked_at, now)} ago by {line(state.acked_by or '')}{comment}"
    if silence := found.snapshot.silence_of(state):
        yield (
            f"  silenced: until {shown_time(silence.ends_at)} UTC by {line(silence.author)}: "
            f"{line(silence.comment or '')}"
        )


def _evaluation(row: HistoryRow) -> Iterator[str | Text]:
    name = f" [{line(row.instance)}]" if row.instance else ""
    moved = row.phase_before != row.phase_after
    phase = f", {row.phase_before or 'new'} → {row.phase_after}" if moved else ""
    value = "" if row.actual_value is None else f", value {amount(row.actual_value)}"
    yield f"{shown_time(row.as_of)} {row.outcome or row.kind}{name}{value}{phase}"
    if row.error:
        yield f"    {line(row.error)}"
    for each in row.reasons:
        verb = "notified" if each["notified"] else "not notified"
        yield f"    {each['channel']}: {each['event']} {verb}: {sentence(each)}"
