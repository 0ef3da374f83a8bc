"""Which alerts a command is about: dbt's selection, and Sentinel's judgement of the definitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sentinel.app.project_health import project_alert_id
from sentinel.core.alert import Alert, BrokenAlert, DefinitionContext, parse_definitions
from sentinel.core.errors import NothingSelected
from sentinel.core.project import AlertSource, Selection
from sentinel.ports import Project


@dataclass(frozen=True)
class Alerts:
    """The selected alerts, by name; disabled ones are left out of all but `disabled`.

    `known` are the ids of all alerts of the project that are switched on (None: the project as a
    whole isn't known), `off` the others, by id.
    """

    valid: tuple[Alert, ...]
    broken: tuple[BrokenAlert, ...]
    disabled: tuple[Alert, ...] = ()
    known: frozenset[str] | None = None
    off: Mapping[str, Alert | BrokenAlert] = field(default_factory=dict)

    @property
    def all(self) -> tuple[Alert | BrokenAlert, ...]:
        return tuple(sorted((*self.valid, *self.broken), key=lambda alert: alert.name))


def select_alerts(
    project: Project, context: DefinitionContext, selection: Selection, *, may_be_none: bool = False
) -> Alerts:
    """The alerts that a selection names.

    Raises NothingSelected if there is none, unless that may be, and ProjectError as the project
    does.
    """
    sources = project.alerts()
    if not sources and not may_be_none:
        raise NothingSelected(
            "the dbt project has no alerts",
            hint="a model becomes an alert by `meta: {sentinel: {}}` in its config; "
            "`sentinel init` writes an example",
        )
    chosen = project.select(selection)
    # Every definition is judged, so that an id is unique in the project and not just in the selection.
    valid, broken = parse_definitions(sources, context)
    off: list[Alert | BrokenAlert] = [a for a in valid if not a.rules.enabled]
    off += [a for a in broken if a.switched_off]
    everything: list[Alert | BrokenAlert] = [*valid, *broken]
    on = [alert for alert in everything if alert not in off]
    found = Alerts(
        valid=tuple(a for a in valid if a.source.unique_id in chosen and a.rules.enabled),
        broken=tuple(a for a in broken if a.source.unique_id in chosen and not a.switched_off),
        disabled=tuple(a for a in valid if a.source.unique_id in chosen and not a.rules.enabled),
        known=_ids(on, sources) | {project_alert_id(project.name)},
        off={alert.id: alert for alert in off},
    )
    if not found.all and not may_be_none:
        raise NothingSelected(
            _nothing(selection, len(found.disabled)), hint="`sentinel list` shows all"
        )
    return found


def _ids(alerts: Sequence[Alert | BrokenAlert], sources: Iterable[AlertSource]) -> frozenset[str]:
    """The ids under which there may be rows of alerts: also from before one had an id, or of twins
    that both say the same one."""
    models = frozenset(alert.source.unique_id for alert in alerts)
    given = {
        str(source.block["id"])
        for source in sources
        if source.unique_id in models and isinstance(source.block, Mapping) and "id" in source.block
    }
    return models.union((alert.id for alert in alerts), given)


def _nothing(selection: Selection, disabled: int) -> str:
    if disabled:
        return f"all {disabled} selected alerts are disabled"
    if not selection:
        return "all alerts of the project are left out by its default selector"
    return f"no alert matches {selection}"
