"""`sentinel doctor`: diagnose this installation."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

import click
from rich.text import Text

from sentinel import __version__
from sentinel.cli.options import (
    DbtCommand,
    dbt_options,
    open_installation,
    output_option,
    read_output,
)
from sentinel.cli.output import Output, count
from sentinel.core.alert import parse_definitions
from sentinel.core.documents.checks import CheckDocument, DoctorDocument
from sentinel.core.errors import SentinelError

if TYPE_CHECKING:
    from sentinel.bootstrap import Installation


@click.command("doctor", cls=DbtCommand)
@output_option
@dbt_options
def command(**values: Any) -> int:
    """Diagnose this installation: check each part, and find privileges that Sentinel doesn't need.

    Exits with 2 if a part doesn't work; warnings don't change the exit code.

    \b
    Example:
      sentinel doctor
    """
    output = read_output(values)
    installation = open_installation(values, output)
    with output.at_work():
        checks = [_result(name, check) for name, check in _checks(installation)]
    if output.json:
        document: DoctorDocument = {"checks": checks}
        output.print_json(document)
    else:
        _print(output, checks)
    return 0 if all(each["ok"] for each in checks) else 2


def _result(name: str, check: Callable[[], str | Advice]) -> CheckDocument:
    try:
        result = check()
    except SentinelError as error:
        return _check(name, "fault", error.message, error.hint)
    if isinstance(result, Advice):
        return _check(name, "warning", result.detail, result.hint)
    return _check(name, "ok", result)


def _check(
    name: str, level: Literal["ok", "warning", "fault"], detail: str, hint: str | None = None
) -> CheckDocument:
    return {"check": name, "ok": level != "fault", "level": level, "detail": detail, "hint": hint}


def _print(output: Output, checks: Sequence[CheckDocument]) -> None:
    width = max(len(each["check"]) for each in checks)
    for each in checks:
        name = (f"{each['check']:<{width}}  ", "bold")
        output.line(Text.assemble(_MARKS[each["level"]], name, each["detail"]))
        if each["hint"]:
            first, *more = each["hint"].splitlines()
            output.line(Text.assemble(" " * (width + 7), ("hint: ", "bold"), first))
            for line in more:  # at the margin, to be copied
                output.line(line)


_MARKS = {
    "ok": Text("ok   ", style="green"),
    "warning": Text("warn ", style="yellow"),
    "fault": Text("FAIL ", style="bold red"),
}


@dataclass(frozen=True)
class Advice:
    """A part that works and should be improved."""

    detail: str
    hint: str | None = None


def _checks(installation: Installation) -> Iterator[tuple[str, Callable[[], str | Advice]]]:
    yield "versions", _versions
    yield (
        "dbt project",
        lambda: f"{installation.project.name} in {installation.options.project_dir}",
    )
    yield "dbt profile", lambda: _profile(installation)
    yield "dbt parses", lambda: count(len(installation.project.alerts()), "alert")
    yield "dbt package", lambda: _package(installation)
    yield "sentinel.yml", lambda: count(len(installation.settings.channels), "channel")
    if not _readable(installation):
        return  # all that follows would say the same again
    for name in installation.settings.channels:
        yield f"channel {name}", partial(_channel, installation, name)
    yield "definitions", lambda: _definitions(installation)
    yield "warehouse", lambda: _warehouse(installation)
    yield "rights", lambda: _rights(installation)
    yield "tables", lambda: _tables(installation)


def _readable(installation: Installation) -> bool:
    try:
        return bool(installation.settings)
    except SentinelError:
        return False


def _versions() -> str:
    found = [f"dbt-sentinel {__version__}", f"Python {platform.python_version()}"]
    for name in ("dbt-core", "dbt-duckdb", "duckdb", "dbt-postgres", "dbt-bigquery"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _profile(installation: Installation) -> str:
    profile = installation.profile
    return f"{profile.name}, target {profile.target} ({profile.type}), {count(profile.threads, 'thread')}"


def _channel(installation: Installation, name: str) -> str:
    installation.channels.build(name)
    return installation.settings.channels[name].type


def _definitions(installation: Installation) -> str:
    valid, broken = parse_definitions(
        installation.project.alerts(), installation.definition_context
    )
    if broken:
        names = ", ".join(alert.name for alert in broken)
        raise SentinelError(f"wrong definitions: {names}", hint="`sentinel validate` says what")
    return f"{count(len(valid), 'alert')}, no fault"


def _package(installation: Installation) -> str:
    tables = installation.project.tables()
    if not tables.relations:
        raise SentinelError(
            "the dbt package `sentinel` isn't installed in the project",
            hint="`sentinel init` installs it",
        )
    if tables.version != __version__:
        raise SentinelError(
            f"the dbt package is of version {tables.version}, this is Sentinel {__version__}",
            hint="`sentinel init --upgrade`, then `dbt run -s package:sentinel`",
        )
    return f"version {tables.version}"


def _warehouse(installation: Installation) -> str:
    with installation.warehouse.open():
        return f"{installation.profile.type} answers"


def _rights(installation: Installation) -> str | Advice:
    watched, own = installation.project.relations()
    shared = installation.configuration.shares_target
    found = installation.warehouse.rights(watched, own if shared else ())
    if found.unchecked:
        return f"not checked: {found.unchecked}"
    if not found.beyond_reading:
        return "reads what it watches, and no more"
    target = installation.profile.target
    advice = [f"what target {target!r} may do is all that holds Sentinel's queries in the end"]
    if found.remedy:
        advice[0] += "; to take the rights away:"
        advice += found.remedy
    if shared and found.new_user:
        advice.append(
            "Then give that user to the target that Sentinel runs with, and name the present one in "
            "`store: {target: ...}` of sentinel.yml, since Sentinel's tables have to be written."
        )
    return Advice("; ".join(found.beyond_reading), "\n".join(advice))


def _tables(installation: Installation) -> str:
    installation.store.check(writing=True)
    states = installation.store.snapshot().states
    return f"in use, state of {count(len({state.alert_id for state in states}), 'alert')}"
