"""`sentinel unsilence`: end silences."""

from __future__ import annotations

from typing import Any

import click

from sentinel.app.silences import short, unsilence
from sentinel.cli.options import DbtCommand, dbt_options, open_installation, read_output
from sentinel.cli.people import author, author_option
from sentinel.cli.silence import covered


@click.command("unsilence", cls=DbtCommand)
@click.argument("silences", nargs=-1, required=True, metavar="ID|ALERT...")
@author_option
@dbt_options
def command(**values: Any) -> int:
    """End silences now. The next run sends notifications for alerts that still fire.

    Name a silence by its id, the id's first characters, or the alert that it mutes.

    \b
    Examples:
      sentinel unsilence 5f3a91c2
      sentinel unsilence daily_revenue
    """
    output = read_output(values)
    installation = open_installation(values, output)
    with output.at_work():
        store = installation.store
        store.check(writing=True)
        names = {state.alert_id: state.alert for state in store.snapshot().states}
        names |= {source.unique_id: source.name for source in installation.project.alerts()}
        known = store.silences()
        done = unsilence(store, values["silences"], names, author(values))
    for each in done.ended:
        output.line(f"{covered(each, names)}: no longer silenced ({short(each, known)})")
    for each in done.over:
        output.line(f"{covered(each, names)}: had already ended ({short(each, known)})")
    return 0
