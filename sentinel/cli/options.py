"""Options that commands share: dbt's flags, selection, output and delivery."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sentinel.cli.output import Output
from sentinel.core.duration import parse_duration
from sentinel.core.errors import SentinelError
from sentinel.core.project import Selection
from sentinel.dbt.options import DbtOptions

if TYPE_CHECKING:
    from sentinel.bootstrap import Installation

Function = TypeVar("Function", bound=Callable[..., Any])

_FOLDER = click.Path(file_okay=False, path_type=Path)
# dbt takes several values after these flags: `--select a b`.
_MANY = frozenset({"-s", "--select", "-m", "--models", "--exclude"})


class DbtCommand(click.Command):
    """A command whose selection flags take several values, as dbt's do.

    Its errors never contain a value that sentinel.yml reads from a variable or a file.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SentinelError as error:
            if (withhold := ctx.obj) is not None:
                error.message = withhold(error.message)
                error.hint = error.hint and withhold(error.hint)
            raise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args))


def spread(args: list[str]) -> list[str]:
    """`--select a b` as `--select a --select b`, which is what click understands."""
    found: list[str] = []
    flag: str | None = None
    first = False
    for arg in args:
        if arg.startswith("-"):
            flag, first = (arg, True) if arg in _MANY else (None, False)
            found.append(arg)
        elif flag and not first:
            found += [flag, arg]
        else:
            first = False
            found.append(arg)
    return found


def _apply(options: list[Callable[[Function], Function]], function: Function) -> Function:
    for option in reversed(options):
        function = option(function)
    return function


def dbt_options(function: Function) -> Function:
    """Flags for the dbt project, profile and target, and for diagnostics."""
    return _apply(
        [
            click.option("--project-dir", type=_FOLDER, help="Directory of dbt_project.yml."),
            click.option("--profiles-dir", type=_FOLDER, help="Directory of profiles.yml."),
            click.option("--profile", help="Profile to use."),
            click.option("-t", "--target", help="Target to use."),
            click.option(
                "--target-path",
                type=_FOLDER,
                help="Directory for artifacts (default: target).",
            ),
            click.option("--vars", "vars_", metavar="YAML", help="Variables for the project."),
            click.option(
                "--threads",
                type=click.IntRange(1),
                help="Number of concurrent queries (default: the profile's threads).",
            ),
            click.option(
                "--log-format",
                type=click.Choice(["text", "json"]),
                default="text",
                show_default=True,
                help="Format of diagnostics on standard error.",
            ),
            click.option("-q", "--quiet", is_flag=True, help="Show only errors on standard error."),
        ],
        function,
    )


def selection_options(function: Function) -> Function:
    """dbt's node selection."""
    return _apply(
        [
            click.option(
                "-s", "--select", "-m", "--models", "select", multiple=True, metavar="SELECTOR...",
                help="Alerts to include, in dbt's selection syntax: tag:finance, path:models/alerts.",
            ),
            click.option(
                "--exclude", multiple=True, metavar="SELECTOR...", help="Alerts to exclude."
            ),
            click.option("--selector", metavar="NAME", help="Selector from selectors.yml."),
            click.option("--state", type=_FOLDER, help="Artifacts to compare with, for state:modified."),
            click.option(
                "--defer/--no-defer", default=None, help="Resolve models that aren't selected from --state."
            ),
            click.option(
                "--favor-state/--no-favor-state", default=None,
                help="Prefer relations from --state when deferring."
            ),
        ],
        function,
    )  # fmt: skip


def output_option(function: Function) -> Function:
    """`--output text|json`."""
    return click.option(
        "--output",
        "output_format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Output format; json prints a single document.",
    )(function)


def delivery_option(function: Function) -> Function:
    """`--delivery-timeout`."""
    return click.option(
        "--delivery-timeout",
        metavar="DURATION",
        callback=read_duration,
        default="1m",
        show_default=True,
        help="How long to retry failed deliveries before leaving them pending.",
    )(function)


def read_duration(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> timedelta | None:
    """A duration as an option's value: 30s, 15m, 2h, 1d."""
    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def read_dbt_options(values: dict[str, Any]) -> DbtOptions:
    """dbt's flags, completed from DBT_* variables. Raises UsageError."""
    return DbtOptions.from_environment(
        os.environ,
        Path.cwd(),
        project_dir=values.get("project_dir"),
        profiles_dir=values.get("profiles_dir"),
        profile=values.get("profile"),
        target=values.get("target"),
        target_path=values.get("target_path"),
        vars=values.get("vars_"),
        threads=values.get("threads"),
        state=values.get("state"),
        defer=values.get("defer"),
        favor_state=values.get("favor_state"),
    )


def read_selection(values: dict[str, Any]) -> Selection:
    """The selection flags."""
    return Selection(
        tuple(values.get("select") or ()),
        tuple(values.get("exclude") or ()),
        values.get("selector"),
    )


def read_output(values: dict[str, Any]) -> Output:
    """Where this command writes its output."""
    return Output(
        json=values.get("output_format") == "json",
        json_logs=values.get("log_format") == "json",
        quiet=bool(values.get("quiet")),
        terminal=sys.stderr.isatty(),
    )


def open_installation(values: dict[str, Any], output: Output) -> Installation:
    """Sentinel in the dbt project that the flags name; imported late, so that help is fast."""
    from sentinel.bootstrap import Installation

    installation = Installation(
        read_dbt_options(values), output.progress_reporter(), offline=bool(values.get("offline"))
    )
    if context := click.get_current_context(silent=True):
        context.obj = installation.redaction.withheld
    return installation
