"""The two ways to ask dbt: inside this process (dbt 1.x) or by its command line (any dbt)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sentinel.core.errors import ProjectError
from sentinel.core.project import Compiled, Selection
from sentinel.dbt.options import DbtOptions

# Variables by which dbt reads less, or makes less, than Sentinel asks for. Under DBT_EMPTY every ref
# would be an empty subquery: no alert would ever fire, and a view made with it would stay empty.
LESSENING = frozenset(
    f"{prefix}{name}"
    for name in ("EMPTY", "SAMPLE", "RESOURCE_TYPES", "EXCLUDE_RESOURCE_TYPES")
    for prefix in ("DBT_", "DBT_ENGINE_")
)
# What YAML doesn't take unless it is quoted, as dbt shows the line.
_UNQUOTED = re.compile(r"\|\s+schedule:\s*([@*][^\n#]*)")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


# Opens the handle that dbt's queries go by; it is given what opens dbt's own, and whether the
# project has been parsed.
Opener = Callable[[Callable[[], Any], bool], AbstractContextManager[Any]]


class Engine(Protocol):
    """dbt itself. Each call sees the project's files as they are at the last `parse`, or later."""

    def parse(self) -> None:
        """Read the project; its manifest is at `Invocation.manifest` after. Raises ProjectError."""

    def select(self, selection: Selection) -> frozenset[str]:
        """The unique ids of the selected models. Raises ProjectError."""

    def compile(self, nodes: Iterable[Node]) -> Mapping[str, Compiled]:
        """The SQL of each node, or its error. Raises ProjectError if none can be compiled."""

    def run(self, selection: Selection) -> None:
        """Make the selected models on the warehouse. Raises ProjectError if any fails."""


@dataclass(frozen=True)
class Node:
    """A model as the engines need it: dbt's selection by fqn names it on the command line."""

    unique_id: str
    fqn: tuple[str, ...]


@dataclass(frozen=True)
class Invocation:
    """What every call of dbt has in common. `folder` is `<target-path>/sentinel`.

    dbt works in a folder of its own below it, so that its run_results.json and the rest never
    meet the user's artifacts or ours.
    """

    options: DbtOptions
    profiles_dir: Path
    folder: Path
    # None: dbt has no connection.
    opener: Opener | None = field(default=None, repr=False)
    offline: bool = False

    @property
    def target(self) -> Path:
        return self.folder / "dbt"

    @property
    def manifest(self) -> Path:
        return self.target / "manifest.json"

    def words(self, command: str, *, log_format: str | None = None) -> list[str]:
        """dbt's command line up to what only this command takes.

        `log_format` None keeps dbt silent; otherwise errors and results are printed in it.
        """
        options = self.options
        words = [command, "--quiet", "--no-use-colors", "--no-send-anonymous-usage-stats"]
        words += ["--log-level", "none"] if log_format is None else ["--log-format", log_format]
        words += ["--log-level-file", "none", "--log-path", str(self.target / "logs")]
        words += ["--write-json", "--no-print", "--no-populate-cache"]
        words += ["--project-dir", str(options.project_dir)]
        words += ["--profiles-dir", str(self.profiles_dir), "--target-path", str(self.target)]
        for flag, value in (
            ("--profile", options.profile),
            ("--target", options.target),
            ("--vars", options.vars),
            ("--state", options.state),
        ):
            if value is not None:
                words += [flag, str(value)]
        if options.threads is not None and command != "ls":
            words += ["--threads", str(options.threads)]
        # Spelled out, so that no DBT_* variable says otherwise behind the options' back.
        words += ["--defer" if options.defer else "--no-defer"]
        words += ["--favor-state" if options.favor_state else "--no-favor-state"]
        return words


def selection_words(selection: Selection) -> list[str]:
    """The command line of `dbt ls` for the ids of models; an empty selection is dbt's default."""
    words = ["--resource-type", "model", "--output", "json", "--output-keys", "unique_id"]
    return words + chosen(selection)


def chosen(selection: Selection) -> list[str]:
    """A selection as dbt's flags."""
    words = ["--select", *selection.select] if selection.select else []
    words += ["--exclude", *selection.exclude] if selection.exclude else []
    words += ["--selector", selection.selector] if selection.selector else []
    return words


def clean(message: object) -> str:
    """dbt's message without colours and the space around it."""
    return _ANSI.sub("", str(message)).strip()


def dbt_failed(message: object, command: str = "parse") -> ProjectError:
    """dbt's own words as a ProjectError. A `command` that runs models has an error of the warehouse."""
    words = clean(message)
    unquoted = _UNQUOTED.search(words)
    return ProjectError(
        words or "dbt failed without a message",
        hint=f"quote it: schedule: '{unquoted[1].strip()}'"
        if unquoted
        else f"`dbt {command} -s package:sentinel` shows the same"
        if command in ("run", "build")
        else "`dbt parse` shows the same; correct the project and try again",
    )


def errors_of(nodes: Sequence[Node], message: object) -> dict[str, Compiled]:
    """The same error for every node."""
    text = clean(message)
    return {n.unique_id: Compiled(n.unique_id, None, text) for n in nodes}
