"""`sentinel validate`: check alerts and channels without evaluating alerts."""

from __future__ import annotations

from functools import partial
from typing import Any

import click
from rich import filesize
from rich.text import Text

from sentinel.app.alerts import select_alerts
from sentinel.app.documents import validate_document
from sentinel.app.validate import (
    Finding,
    QueryChecks,
    check_queries,
    find_hidden,
    find_in_definitions,
    find_in_settings,
    find_in_sql,
)
from sentinel.cli.options import (
    DbtCommand,
    dbt_options,
    open_installation,
    output_option,
    read_output,
    read_selection,
    selection_options,
)
from sentinel.cli.output import count


@click.command("validate", cls=DbtCommand)
@selection_options
@click.option(
    "--offline",
    is_flag=True,
    help="Skip checks that need the warehouse, or variables and files that sentinel.yml names.",
)
@output_option
@dbt_options
def command(**values: Any) -> int:
    """Check definitions, channels, SQL and the query contract without evaluating alerts.

    Exits with 2 if there is a fault. Unless --offline is set, the warehouse describes each query.

    \b
    Examples:
      sentinel validate
      sentinel validate --offline --select state:modified --state prod/
    """
    output = read_output(values)
    installation = open_installation(values, output)
    with output.at_work():
        project, context = installation.project, installation.definition_context
        settings = installation.settings
        found = find_in_settings(
            [
                *(partial(installation.channels.check, name) for name in settings.channels),
                lambda: settings.web,
                installation.channels.heartbeat,
            ]
        )
        found += [
            Finding("sentinel.yml", location, words, warning=True)
            for location, words in installation.channels.warnings
        ]
        alerts = select_alerts(project, context, read_selection(values))
        found += find_in_definitions(project, alerts)
        found += find_hidden(project, alerts)
        checked = QueryChecks()
        if not values["offline"]:
            unsound, sql = find_in_sql(project, alerts)
            found += unsound
            checked = check_queries(installation.warehouse, sql, installation.threads)
            found += checked.findings
    faults = sum(not each.warning for each in found)
    if output.json:
        output.print_json(validate_document(found, checked.estimates))
    else:
        for each in found:
            place = f"{each.location}: " if each.location else ""
            word = Text("warning: ", "yellow") if each.warning else Text("fault: ", "bold red")
            # A fault of a file is named by its place alone.
            known = each.location is not None and each.location.path == each.subject
            subject = ("" if known else f"{each.subject}: ", "bold")
            output.line(Text.assemble(word, subject, place, each.message))
        for name, size in sorted(checked.estimates.items()):
            output.line(f"{name} would read {filesize.decimal(size)}")
        sums = [
            f"{count(len(alerts.all), 'alert')} checked",
            count(faults, "fault") if faults else "no faults",
        ]
        sums += [count(len(found) - faults, "warning")] if len(found) > faults else []
        output.line(f"{', '.join(sums)}.")
    return 2 if faults else 0
