"""`sentinel notify-test`: send a test message to a channel."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import click

from sentinel.app.report import EXIT_OK, EXIT_UNDELIVERABLE
from sentinel.cli.options import DbtCommand, dbt_options, open_installation, read_output
from sentinel.cli.output import fail
from sentinel.core.definition_errors import suggest
from sentinel.core.errors import DeliveryError, UsageError
from sentinel.core.payload import example_notification
from sentinel.ports import Message


@click.command("notify-test", cls=DbtCommand)
@click.argument("channel")
@dbt_options
def command(**values: Any) -> int:
    """Send a test message to a channel. No alert is evaluated, and nothing is recorded.

    Exits with 4 if the channel does not accept it.

    \b
    Example:
      sentinel notify-test on_call
    """
    output = read_output(values)
    installation = open_installation(values, output)
    name, known = values["channel"], installation.settings.channels
    if name not in known:
        raise UsageError(
            f"there is no channel {name!r} in sentinel.yml{suggest(name, known)}",
            hint=f"the channels are {', '.join(known)}" if known else None,
        )
    channel, _ = installation.channels.build(name)
    installation.show_warnings()
    row = example_notification(installation.project.name, name, uuid.uuid4().hex, datetime.now(UTC))
    try:
        channel.send(Message(row.message_id, name, (row,)))
    except DeliveryError as error:
        again = "" if error.permanent else " (a retry may help)"
        answer = installation.redaction.scrub_received(error.message)
        fail(f"channel {name} did not accept the message{again}: {answer}")
        return EXIT_UNDELIVERABLE
    output.line(f"{name}: accepted")
    return EXIT_OK
