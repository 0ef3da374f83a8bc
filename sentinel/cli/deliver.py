"""`sentinel deliver`: send what is pending in the outbox."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from sentinel.app.report import EXIT_OK, EXIT_UNDELIVERABLE
from sentinel.cli.options import (
    DbtCommand,
    dbt_options,
    delivery_option,
    open_installation,
    read_output,
)


@click.command("deliver", cls=DbtCommand)
@delivery_option
@dbt_options
def command(**values: Any) -> int:
    """Send what is pending in the outbox.

    `sentinel run` delivers its own messages; this sends what earlier runs could not. What isn't
    accepted in time stays pending, and the exit code is 4.

    \b
    Example:
      sentinel deliver
    """
    output = read_output(values)
    installation = open_installation(values, output)
    with output.at_work():
        delivery = installation.delivery()
        installation.store.check()
        delivered = delivery(patience=values["delivery_timeout"])
    output.line(
        f"{len(delivered.sent)} sent, {len(delivered.waiting)} waiting, {len(delivered.dead)} dead"
    )
    for row in (*delivered.waiting, *delivered.dead):
        error = delivered.errors.get(row.message_id, "")
        output.line(
            Text(f"not delivered: {row.payload['alert']} to {row.channel}: {error}", "bold red")
        )
    return EXIT_OK if delivered.complete else EXIT_UNDELIVERABLE
