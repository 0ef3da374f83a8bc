"""`sentinel ack`: acknowledge firing alerts."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from sentinel.app.acknowledge import Acknowledgement, acknowledge_alerts, claimed
from sentinel.app.choose import choose_alerts
from sentinel.app.report import EXIT_OK, EXIT_UNDELIVERABLE
from sentinel.cli.options import (
    DbtCommand,
    dbt_options,
    delivery_option,
    open_installation,
    read_output,
    read_selection,
    selection_options,
)
from sentinel.cli.people import author, author_option, dimension_option
from sentinel.core.errors import NothingSelected, UsageError
from sentinel.core.state import State
from sentinel.core.text import line


@click.command("ack", cls=DbtCommand)
@click.argument("names", nargs=-1, metavar="[ALERT]...")
@click.option("--comment", metavar="TEXT", help="Comment, such as what is being done.")
@author_option
@dimension_option
@delivery_option
@selection_options
@dbt_options
def command(**values: Any) -> int:
    """Acknowledge firing alerts: stops reminders and escalations until they resolve.

    Channels are still notified if the severity rises and when the alert resolves. Exits with 5 if
    none of the alerts fires.

    \b
    Examples:
      sentinel ack daily_revenue --comment "asked the shop"
      sentinel ack --select tag:finance
      sentinel ack late_orders --dimension region=west
    """
    output = read_output(values)
    selection = read_selection(values)
    if not values["names"] and not selection:
        raise UsageError(
            "name alerts or select some", hint="`sentinel status` shows what is firing"
        )
    installation = open_installation(values, output)
    with output.at_work():
        store = installation.store
        store.check(writing=True)
        states = store.snapshot().states
        chosen = choose_alerts(
            installation.project,
            installation.definition_context,
            states,
            values["names"],
            selection,
        )
        deliver = installation.delivery()
        wish = Acknowledgement(author(values), values["comment"], values["dimensions"] or None)
        made = acknowledge_alerts(
            store,
            installation.project.name,
            installation.configuration.routing,
            chosen.alerts,
            wish,
            installation.holder,
        )
        delivered = deliver(
            [row.message_id for row in made.notifications],
            values["delivery_timeout"],
            claimed(made.notifications),
        )
    if not made.now and not made.before:
        raise NothingSelected(
            "none of these alerts is firing", hint="`sentinel status` shows what is"
        )
    for state in made.now:
        output.line(f"{_named(state)}: acknowledged by {line(wish.by)}")
    for state in made.before:
        output.line(f"{_named(state)}: already acknowledged by {line(state.acked_by or '')}")
    rows = (*delivered.waiting, *delivered.dead)
    for row in rows:
        error = delivered.errors.get(row.message_id, "")
        output.line(Text(f"not delivered to {row.channel}: {error}", style="bold red"))
    return EXIT_UNDELIVERABLE if rows else EXIT_OK


def _named(state: State) -> str:
    return line(state.alert + (f" [{state.instance}]" if state.instance else ""))
