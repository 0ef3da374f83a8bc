"""Which alerts a person means: by name, or by dbt's selection, or those that are only in the state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sentinel.core.alert import Alert, BrokenAlert, DefinitionContext, parse_definitions
from sentinel.core.definition_errors import suggest
from sentinel.core.errors import NothingSelected, UsageError
from sentinel.core.project import Selection
from sentinel.core.removal import gone
from sentinel.core.state import State
from sentinel.ports import Project


@dataclass(frozen=True)
class AlertSelection:
    """The alerts that were meant; `everything` says that these are all of the project."""

    alerts: tuple[Alert | BrokenAlert, ...]
    everything: bool = False

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(alert.id for alert in self.alerts)


def choose_alerts(
    project: Project,
    context: DefinitionContext,
    states: Sequence[State],
    names: Sequence[str],
    selection: Selection,
) -> AlertSelection:
    """The alerts of these names, and of this selection; with neither, all of them.

    `states` are all rows of the state; they identify alerts that were removed from the project.
    Raises UsageError for a name that nothing has, NothingSelected if the selection matches no alert.
    """
    valid, broken = parse_definitions(project.alerts(), context)
    there: tuple[Alert | BrokenAlert, ...] = (*valid, *broken)
    known = {alert.name: alert for alert in there}
    for state in states:
        known.setdefault(state.alert, gone(state))
    if not names and not selection:
        return AlertSelection(there, everything=True)
    found: dict[str, Alert | BrokenAlert] = {}
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no alert {name!r}{suggest(name, known)}",
                hint="`sentinel list` shows all",
            )
        found[name] = known[name]
    if selection:
        ids = project.select(selection)
        found |= {alert.name: alert for alert in there if alert.source.unique_id in ids}
    if not found:
        raise NothingSelected(f"no alert matches {selection}", hint="`sentinel list` shows all")
    return AlertSelection(
        tuple(found.values()), len(there) > 1 and {a.name for a in there} <= set(found)
    )
