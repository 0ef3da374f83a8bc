"""`sentinel silence`: mute notifications for selected alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from sentinel.app.choose import AlertSelection, choose_alerts
from sentinel.app.documents import silences_document
from sentinel.app.silences import SilenceRequest, short, silence
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
from sentinel.cli.output import Output, ago, count, shown_time
from sentinel.cli.people import author, author_option, dimension_option, os_user, read_moment
from sentinel.core.errors import UsageError
from sentinel.core.silence import Silence
from sentinel.core.text import line


@click.command("silence", cls=DbtCommand)
@click.argument("names", nargs=-1, metavar="[ALERT]...")
@click.option(
    "--for", "length", metavar="DURATION", callback=read_duration, help="Duration: 2h, 1d."
)
@click.option("--until", metavar="TIME", help="End time in ISO 8601.")
@click.option("--starts", metavar="TIME", help="Start time in ISO 8601 (default: now).")
@click.option("--comment", metavar="TEXT", help="Reason; required.")
@author_option
@dimension_option
@click.option("--list", "listing", is_flag=True, help="List the silences in force.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Silence all alerts; with --list, include past silences.",
)
@output_option
@selection_options
@dbt_options
def command(**values: Any) -> int:
    """Mute notifications for selected alerts; they are still evaluated and recorded.

    Name alerts, or select them as dbt selects models. Alerts that still fire when the silence ends
    notify their channels then. A channel that was notified of a firing is notified when it resolves,
    even during a silence.

    \b
    Examples:
      sentinel silence daily_revenue --for 2h --comment "late load"
      sentinel silence --select tag:finance --until 2026-02-01T08:00 --comment "month end"
      sentinel silence late_orders --dimension region=west --for 1d --comment "strike"
      sentinel silence --list
    """
    output = read_output(values)
    if not values["listing"]:
        _check(values)
    installation = open_installation(values, output)
    with output.at_work():
        store = installation.store
        store.check(writing=not values["listing"])
        snapshot = store.snapshot()
        now = snapshot.now
        names = {state.alert_id: state.alert for state in snapshot.states}
        if values["listing"]:
            known = store.silences()
            shown = known if values["everything"] else [s for s in known if s.in_force(now)]
        else:
            wanted = read_selection(values)
            context = installation.definition_context
            chosen = choose_alerts(
                installation.project, context, snapshot.states, values["names"], wanted
            )
            _check_all(chosen, everything=values["everything"], narrowed=bool(values["dimensions"]))
            names |= {alert.id: alert.name for alert in chosen.alerts}
            wish = _wish(values, chosen, str(wanted), context.timezone, now)
            known = shown = [silence(store, installation.project.name, wish, now)]
    if output.json:
        output.print_json(silences_document(shown, names, now))
    elif not values["listing"]:
        _say(output, shown[0], names)
    elif shown:
        _print(output, shown, known, names, now)
    else:
        output.line("No alert is silenced.")
    return 0


def _check(values: Mapping[str, Any]) -> None:
    if (values["length"] is None) == (values["until"] is None):
        raise UsageError("a silence needs an end: give either --for or --until")
    if values["length"] is not None and values["length"] <= timedelta():
        raise UsageError("--for must be longer than 0")
    if not (values["comment"] or "").strip():
        raise UsageError("a silence needs a --comment that says why")


def _check_all(chosen: AlertSelection, *, everything: bool, narrowed: bool) -> None:
    if chosen.everything and not everything and not narrowed:
        raise UsageError(
            f"this would silence all {len(chosen.alerts)} alerts in the project",
            hint="name alerts, select some, or use --all to silence every alert",
        )


def _wish(
    values: Mapping[str, Any], chosen: AlertSelection, selection: str, zone: str, now: datetime
) -> SilenceRequest:
    starts = read_moment(values["starts"], zone) if values["starts"] else None
    try:
        ends = read_moment(values["until"], zone) if values["until"] else (
            (starts or now) + values["length"]
        )  # fmt: skip
    except OverflowError:
        raise UsageError("--for is too long") from None
    return SilenceRequest(
        alert_ids=chosen.ids,
        selector=" ".join([*values["names"], *([selection] if selection else [])]) or None,
        dimensions=values["dimensions"] or None,
        comment=values["comment"].strip(),
        author=author(dict(values)),
        os_user=os_user(),
        starts_at=starts,
        ends_at=ends,
    )


def _say(output: Output, silence: Silence, names: Mapping[str, str]) -> None:
    output.line(
        f"{covered(silence, names)} silenced until {shown_time(silence.ends_at)} UTC: "
        f"{short(silence, [silence])}"
    )
    output.line(f"`sentinel unsilence {short(silence, [silence])}` ends it.")


def covered(silence: Silence, names: Mapping[str, str]) -> str:
    """What a silence covers, in a few words."""
    found = [names.get(each, each) for each in silence.alert_ids]
    words = ", ".join(found) if len(found) <= 3 else count(len(found), "alert")
    where = ", ".join(f"{name}={value}" for name, value in (silence.dimensions or {}).items())
    return line(words + (f" [{where}]" if where else ""))


def _print(
    output: Output,
    shown: Sequence[Silence],
    known: Sequence[Silence],
    names: Mapping[str, str],
    now: datetime,
) -> None:
    rows = [
        [
            short(each, known),
            covered(each, names),
            _until(each, now),
            line(each.author),
            line(each.comment or ""),
        ]
        for each in shown
    ]
    output.table(["id", "alerts", "until (UTC)", "author", "comment"], rows)


def _until(silence: Silence, now: datetime) -> str:
    if silence.ended_at:
        return f"ended {shown_time(silence.ended_at)} by {line(silence.ended_by or '')}"
    if silence.ends_at <= now:
        return f"ended {shown_time(silence.ends_at)}"
    until = f"{shown_time(silence.ends_at)} (in {ago(now, silence.ends_at)})"
    return f"{until}, from {shown_time(silence.starts_at)}" if silence.starts_at > now else until
