"""`sentinel doctor`: what is wrong with this installation."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

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
from sentinel.cli.output import count
from sentinel.core.alert import judge
from sentinel.core.errors import SentinelError

if TYPE_CHECKING:
    from sentinel.bootstrap import Installation


@click.command("doctor", cls=DbtCommand)
@output_option
@dbt_options
def command(**values: Any) -> int:
    """What is wrong with this installation: each part is tried in turn.

    Exits with 2 if any part doesn't work.

    \b
    Example:
      sentinel doctor
    """
    output = read_output(values)
    installation = open_installation(values, output)
    results: list[tuple[str, bool, str, str | None]] = []
    with output.at_work():
        for name, check in _checks(installation):
            try:
                results.append((name, True, check(), None))
            except SentinelError as error:
                results.append((name, False, error.message, error.hint))
    if output.json:
        keys = ("check", "ok", "detail", "hint")
        output.print_json({"checks": [dict(zip(keys, each, strict=True)) for each in results]})
    else:
        width = max(len(name) for name, *_ in results)
        for name, works, detail, hint in results:
            mark = Text("ok   ", style="green") if works else Text("FAIL ", style="bold red")
            output.line(Text.assemble(mark, (f"{name:<{width}}  ", "bold"), detail))
            if hint:
                output.line(Text.assemble(" " * (width + 7), ("hint: ", "bold"), hint))
    return 0 if all(works for _, works, *_ in results) else 2


def _checks(installation: Installation) -> Iterator[tuple[str, Callable[[], str]]]:
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
    installation.build_channel(name)
    return installation.settings.channels[name].type


def _definitions(installation: Installation) -> str:
    good, broken = judge(installation.project.alerts(), installation.surroundings)
    if broken:
        names = ", ".join(alert.name for alert in broken)
        raise SentinelError(f"wrong definitions: {names}", hint="`sentinel validate` says what")
    return f"{count(len(good), 'alert')}, no fault"


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


def _tables(installation: Installation) -> str:
    installation.store.check(writing=True)
    states = installation.store.snapshot().states
    return f"in use, state of {count(len({state.alert_id for state in states}), 'alert')}"
