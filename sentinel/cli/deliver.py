"""`sentinel deliver`: send what is pending in the outbox."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from sentinel.app.report import EXIT_OK, EXIT_UNDELIVERABLE, title
from sentinel.cli.options import (
    DbtCommand,
    dbt_options,
    delivery_option,
    open_installation,
    read_output,
)
from sentinel.cli.output import count
from sentinel.core.notification import Status
from sentinel.core.text import plain as clean
from sentinel.ports import Batch, Decision

_MOST = 10_000


@click.command("deliver", cls=DbtCommand)
@click.option("--retry-dead", is_flag=True, help="Try again what was given up.")
@delivery_option
@dbt_options
def command(**values: Any) -> int:
    """Send what is pending in the outbox.

    `sentinel run` delivers its own messages; this sends what earlier runs could not. What isn't
    accepted in time stays pending, and the exit code is 4.

    \b
    Examples:
      sentinel deliver
      sentinel deliver --retry-dead
    """
    output = read_output(values)
    installation = open_installation(values, output)
    with output.at_work():
        delivery = installation.delivery()
        store = installation.store
        store.check(writing=True)
        dead = store.notifications([Status.DEAD], limit=_MOST)
        if values["retry_dead"] and dead:
            revived = tuple(row.notification_id for row in dead)
            store.commit((), lambda _: Decision(Batch(revived=revived), None))
            dead = []
        delivered = delivery(timeout=values["delivery_timeout"])
    output.line(
        f"{len(delivered.sent)} sent, {len(delivered.waiting)} waiting, {len(delivered.dead)} dead"
    )
    for row in (*delivered.waiting, *delivered.dead):
        error = delivered.errors.get(row.message_id, "")
        output.line(
            Text(clean(f"not delivered: {title(row)} to {row.channel}: {error}"), "bold red")
        )
    if dead:
        output.line(f"{count(len(dead), 'notification')} given up before: --retry-dead tries again")
    return EXIT_OK if delivered.complete and not dead else EXIT_UNDELIVERABLE
