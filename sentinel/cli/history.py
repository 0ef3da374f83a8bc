"""`sentinel history`: show past evaluations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from rich.text import Text

from sentinel.app.documents import history_document
from sentinel.cli.options import (
    DbtCommand,
    dbt_options,
    open_installation,
    output_option,
    read_duration,
    read_output,
    read_selection,
    selection_options,
)
from sentinel.cli.output import shown_time
from sentinel.core.alert import Alert, BrokenAlert, parse_definitions
from sentinel.core.evaluation import Outcome
from sentinel.core.history import HistoryRow
from sentinel.core.numbers import amount
from sentinel.core.project import Selection
from sentinel.core.text import plain as clean
from sentinel.ports import HistoryQuery


@click.command("history", cls=DbtCommand)
@selection_options
@click.option(
    "--since",
    metavar="DURATION",
    callback=read_duration,
    help="Only evaluations since then: 2h, 7d.",
)
@click.option(
    "--outcome",
    multiple=True,
    type=click.Choice([str(outcome) for outcome in Outcome]),
    help="Only evaluations with this outcome; can be repeated.",
)
@click.option("--changes", is_flag=True, help="Only evaluations that changed something.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True,
    help="Maximum number of rows, newest first.",
)  # fmt: skip
@output_option
@dbt_options
def command(**values: Any) -> int:
    """Show past evaluations, newest first.

    \b
    Examples:
      sentinel history --since 1d
      sentinel history --select daily_revenue --changes
      sentinel history --outcome error --output json
    """
    output = read_output(values)
    installation = open_installation(values, output)
    since = datetime.now(UTC) - values["since"] if values["since"] else None
    with output.at_work():
        selection = read_selection(values)
        query = HistoryQuery(
            alert_ids=_ids(installation, selection) if selection else None,
            since=since,
            outcomes=frozenset(values["outcome"]),
            changes_only=values["changes"],
            limit=values["limit"],
        )
        store = installation.store
        store.check()
        rows = store.history(query)
    if output.json:
        output.print_json(history_document(rows))
        return 0
    if not rows:
        output.line("No matching evaluations are recorded.")
        return 0
    columns = [
        "as of (UTC)",
        "alert",
        "outcome",
        "phase",
        "value",
        "threshold",
        "events",
        "notified",
    ]
    output.table([*columns, "message"], [_row(row) for row in rows])
    return 0


def _ids(installation: Any, selection: Selection) -> frozenset[str]:
    """The ids of the selected alerts, broken and disabled ones included."""
    chosen = installation.project.select(selection)
    valid, broken = parse_definitions(
        installation.project.alerts(), installation.definition_context
    )
    alerts: list[Alert | BrokenAlert] = [*valid, *broken]
    return frozenset(alert.id for alert in alerts if alert.source.unique_id in chosen)


def _row(row: HistoryRow) -> list[str | Text]:
    name = row.alert + (f" [{clean(row.instance)}]" if row.instance else "")
    moved = row.phase_before != row.phase_after
    phase = f"{row.phase_before} → {row.phase_after}" if moved else row.phase_after or ""
    notified = dict.fromkeys(
        str(each["channel"]) if each["notified"] else str(each["reason"]).replace("_", " ")
        for each in row.reasons
    )
    words = clean(row.error or row.message or "").strip().splitlines()
    return [
        shown_time(row.as_of),
        name,
        Text(
            str(row.outcome or row.kind), style=row.outcome.traits.style if row.outcome else "dim"
        ),
        phase,
        "" if row.actual_value is None else amount(row.actual_value),
        "" if row.threshold is None else amount(row.threshold),
        ", ".join(row.events),
        ", ".join(notified),
        words[0] if words and row.outcome is not Outcome.OK else "",
    ]
