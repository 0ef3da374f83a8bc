"""The SQL of alerts, and how errors that belong to one alert are worded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sentinel.core.alert import Alert, BrokenAlert
from sentinel.core.errors import SentinelError
from sentinel.core.project import Compiled
from sentinel.ports import Project


def compile_alerts(
    project: Project,
    alerts: Sequence[Alert],
    on_fault: Callable[[str, Exception], None] = lambda _alert, _error: None,
) -> Mapping[str, Compiled]:
    """The SQL of each alert; an unexpected error is the one of the alert that causes it.

    Raises ProjectError as `Project.compile` does.
    """
    try:
        return project.compile(alert.source.unique_id for alert in alerts)
    except SentinelError:
        raise
    except Exception as error:  # noqa: BLE001 - the edge of one alert: the others go on
        if len(alerts) != 1:
            parts = [compile_alerts(project, [alert], on_fault) for alert in alerts]
            return {key: each for part in parts for key, each in part.items()}
        (alert,) = alerts
        on_fault(alert.name, error)
        unique_id = alert.source.unique_id
        return {unique_id: Compiled(unique_id, None, describe_fault(error))}


def describe_definition_faults(project: Project, alert: BrokenAlert) -> str:
    """The faults of a definition, each with its place, one a line."""
    return "\n".join(
        f"{project.locate(alert.source, *fault.keys)}: {fault.message}" for fault in alert.faults
    )


def describe_fault(error: Exception) -> str:
    """An unforeseen error, worded as the error of one alert."""
    if isinstance(error, RecursionError):
        return "a value or an expression is nested too deeply to be read"
    if isinstance(error, MemoryError):
        return "there is not enough memory to read the result"
    words = " ".join(str(error).split()) if not isinstance(error, KeyError) else ""
    return f"unexpected {type(error).__name__}" + (f": {words}" if words else "")
