"""`sentinel status`: show recorded states without evaluating alerts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from rich.text import Text

from sentinel.app.documents import ordered, status_document
from sentinel.cli.options import (
    DbtCommand,
    dbt_options,
    open_installation,
    output_option,
    read_output,
)
from sentinel.cli.output import Output, ago, count, shown_time
from sentinel.core.evaluation import Outcome
from sentinel.core.notification import Notification, Status
from sentinel.core.numbers import amount
from sentinel.core.state import Health, Phase, State
from sentinel.core.text import plain as clean
from sentinel.ports import HistoryQuery, HistoryReader, Snapshot

_STYLES = {Phase.FIRING: "bold red", Phase.RECOVERING: "yellow", Phase.PENDING: "yellow"}


@click.command("status", cls=DbtCommand)
@click.option("--all", "everything", is_flag=True, help="Include alerts that are OK.")
@output_option
@dbt_options
def command(**values: Any) -> int:
    """Show alerts that are firing, pending or failing, and undelivered notifications.

    \b
    Examples:
      sentinel status
      sentinel status --all
      sentinel status --output json
    """
    output = read_output(values)
    installation = open_installation(values, output)
    with output.at_work():
        store = installation.store
        store.check()
        snapshot = store.snapshot()
        stuck = store.notifications([Status.PENDING, Status.CLAIMED, Status.DEAD])
        errors = _errors(store, snapshot)
    if output.json:
        output.print_json(status_document(snapshot, stuck))
    else:
        _print(output, snapshot, stuck, errors, everything=values["everything"])
    return 0


def _errors(store: HistoryReader, snapshot: Snapshot) -> dict[str, str]:
    """The last error of each failing alert, by alert id."""
    failing = [state for state in snapshot.states if state.error_count > 0]
    if not failing:
        return {}
    query = HistoryQuery(
        alert_ids=frozenset(state.alert_id for state in failing),
        outcomes=frozenset(str(each) for each in Outcome if each.traits.failed),
        limit=len(failing) * 20,
    )
    # Newest first, reversed: the newest error overwrites older ones.
    return {row.alert_id: row.error or "" for row in reversed(store.history(query))}


def _print(
    output: Output,
    snapshot: Snapshot,
    stuck: Sequence[Notification],
    errors: Mapping[str, str],
    *,
    everything: bool,
) -> None:
    rows = []
    calm = 0
    for state in ordered(snapshot.states):
        loud = state.phase not in (None, Phase.OK) or state.error_count > 0
        if loud or (everything and state.phase is not None):
            rows += _rows(state, snapshot, errors.get(state.alert_id, ""))
        elif state.is_head:
            calm += 1
    if rows:
        output.table(["state", "alert", "value", "threshold", "for", "evaluated", "message"], rows)
        output.line()
    if not snapshot.states:
        output.line("No alert has been evaluated yet: `sentinel run`.")
    elif not everything and (calm or not rows):
        output.line(_sum(calm, others=bool(rows)))
    for row in stuck:
        word = "undeliverable" if row.status is Status.DEAD else "not delivered yet"
        name = row.payload["alert"] + (f" [{row.instance}]" if row.instance else "")
        attempts = count(row.attempts, "attempt")
        words = f"{row.event} of {name} to {row.channel}, {attempts}: {row.last_error or 'not attempted'}"
        output.line(Text(clean(f"{word}: {words}"), style="bold red"))
    if any(row.status is Status.DEAD for row in stuck):
        output.line("`sentinel deliver --retry-dead` retries undeliverable notifications.")
    if snapshot.silences:
        number = count(len(snapshot.silences), "silence")
        output.line(f"{number} in force: `sentinel silence --list`.")


def _rows(state: State, snapshot: Snapshot, error: str) -> list[list[str | Text]]:
    now = snapshot.now
    name = state.alert + (f" [{clean(state.instance)}]" if state.instance else "")
    value = "" if state.actual_value is None else amount(state.actual_value)
    threshold = "" if state.threshold is None else amount(state.threshold)
    evaluated = f"{ago(state.last_as_of, now)} ago" if state.last_as_of else "never"
    found: list[list[str | Text]] = []
    if state.error_count > 0:
        word = Text(_trouble(state), style="bold magenta")
        reason = clean(error).strip().splitlines()[:1]
        since = ago(state.health_since, now)
        found.append([word, name, "", "", since, evaluated, *(reason or [""])])
    if state.phase is not None and (state.phase is not Phase.OK or not found):
        severity = f" {state.severity}" if state.severity else ""
        word = Text(f"{state.phase}{severity}", style=_STYLES.get(state.phase, "green"))
        message = clean(state.message or "").strip().splitlines()
        first = message[0] if message and state.phase is not Phase.OK else ""
        since = ago(state.phase_since, now)
        notes = ", ".join((*_notes(state, snapshot), *([first] if first else [])))
        found.append([word, name, value, threshold, since, evaluated, notes])
    return found


def _notes(state: State, snapshot: Snapshot) -> Iterator[str]:
    """The silence and the acknowledgement that stop notifications."""
    silence = snapshot.silence_of(state)
    if silence:
        yield f"[silenced until {shown_time(silence.ends_at)} UTC by {clean(silence.author)}]"
    if state.acked_at:
        yield f"[acknowledged by {clean(state.acked_by or '')}]"


def _sum(calm: int, *, others: bool) -> str:
    if others:
        return f"{count(calm, 'other alert')} ok."
    return f"All alerts are ok ({calm})."


def _trouble(state: State) -> str:
    """`failing` once `error_after` is reached; before it, an alert in error isn't ok either."""
    return "failing" if state.health is Health.FAILING else "error"
