"""`sentinel deliver`: send pending notifications."""

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
@click.option("--retry-dead", is_flag=True, help="Also retry undeliverable notifications.")
@delivery_option
@dbt_options
def command(**values: Any) -> int:
    """Send pending notifications.

    `sentinel run` sends its own notifications; this command sends those that earlier runs could not
    deliver. Exits with 4 if some are still not delivered; they stay pending.

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
        f"{len(delivered.sent)} sent, {len(delivered.waiting)} pending, {len(delivered.dead)} undeliverable"
    )
    for row in (*delivered.waiting, *delivered.dead):
        error = delivered.errors.get(row.message_id, "")
        output.line(
            Text(clean(f"not delivered: {title(row)} to {row.channel}: {error}"), "bold red")
        )
    if dead:
        output.line(
            f"{count(len(dead), 'undeliverable notification')} from earlier runs: --retry-dead retries"
        )
    return EXIT_OK if delivered.complete and not dead else EXIT_UNDELIVERABLE
