"""Options for authors, instances and times."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Any

import click

from sentinel.cli.options import Function
from sentinel.core.schedule import time_zone


def author_option(function: Function) -> Function:
    """`--author`."""
    return click.option("--author", metavar="NAME", help="Author (default: the current user).")(
        function
    )


def dimension_option(function: Function) -> Function:
    """`--dimension`."""
    return click.option(
        "--dimension", "dimensions", multiple=True, metavar="NAME=VALUE", callback=_read_dimensions,
        help="Only instances with this value; can be repeated.",
    )(function)  # fmt: skip


def _read_dimensions(
    _ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]
) -> dict[str, str]:
    found = {}
    for each in value:
        name, sign, wanted = each.partition("=")
        if not sign or not name.strip():
            raise click.BadParameter(f"{each!r} is not NAME=VALUE, such as region=north")
        found[name.strip().lower()] = wanted
    return found


def os_user() -> str | None:
    """The process's user; None if the system has no name for it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None


def author(values: dict[str, Any]) -> str:
    """`--author`, or the user."""
    return str(values["author"] or os_user() or "somebody")


def read_moment(text: str, zone: str) -> datetime:
    """A time in ISO 8601, by default in the project's time zone. Raises BadParameter."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a time; write it as 2026-01-31T18:00 or 2026-01-31T18:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=time_zone(zone))
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise click.BadParameter(f"{text!r} is out of range") from None
