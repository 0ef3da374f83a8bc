"""`sentinel list`: list the selected alerts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from rich.text import Text

from sentinel.app.alerts import select_alerts
from sentinel.app.documents import list_document
from sentinel.cli.options import (
    DbtCommand,
    dbt_options,
    open_installation,
    output_option,
    read_output,
    read_selection,
    selection_options,
)
from sentinel.cli.output import count, shown_time
from sentinel.core.alert import Alert, BrokenAlert


@click.command("list", cls=DbtCommand)
@selection_options
@output_option
@dbt_options
def command(**values: Any) -> int:
    """List the selected alerts with schedule, next slot, severity, owner and channels.

    \b
    Examples:
      sentinel list
      sentinel list --select tag:finance
      sentinel list --output json
    """
    output = read_output(values)
    installation = open_installation(values, output)
    with output.at_work():
        found = select_alerts(
            installation.project, installation.definition_context, read_selection(values)
        )
    now = datetime.now(UTC)
    if output.json:
        output.print_json(list_document(found.all, now))
        return 0
    rows = [_row(alert, now) for alert in found.all]
    output.table(["alert", "schedule", "next slot (UTC)", "severity", "owner", "channels"], rows)
    if found.broken:
        output.line(
            f"{count(len(found.broken), 'invalid definition')}: `sentinel validate` says why"
        )
    if found.disabled:
        output.line(f"disabled: {', '.join(alert.name for alert in found.disabled)}")
    return 0


def _row(alert: Alert | BrokenAlert, now: datetime) -> list[str | Text]:
    if isinstance(alert, BrokenAlert):
        return [alert.name, Text("invalid", style="bold magenta"), "", "", "", ""]
    return [
        alert.name,
        _schedule(alert),
        shown_time(alert.cron.next_after(now)) if alert.cron else "",
        str(alert.rules.severity),
        alert.owner or "",
        ", ".join(alert.channels),
    ]


def _schedule(alert: Alert) -> str:
    if alert.cron is None:
        return "manual"
    return alert.cron.text + (f" {alert.cron.zone}" if alert.cron.zone != "UTC" else "")
