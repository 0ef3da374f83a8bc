"""dbt by its command line, for any engine whose Python is not known, such as dbt v2."""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sentinel import files
from sentinel.core.errors import ProjectError
from sentinel.core.project import Compiled, Selection
from sentinel.dbt.engine import (
    LESSENING,
    Invocation,
    Node,
    chosen,
    clean,
    dbt_failed,
    errors_of,
    selection_words,
)

# What reads a project, and so has to leave the warehouse alone.
_READING = ("parse", "ls", "compile")


class CommandEngine:
    """`dbt parse`, `dbt ls` and `dbt compile` in subprocesses, from the working directory, since
    paths in a profile may be relative to it."""

    def __init__(self, invocation: Invocation, dbt: str) -> None:
        self._invocation = invocation
        self._dbt = dbt

    def parse(self) -> None:
        self._run("parse", [])

    def select(self, selection: Selection) -> frozenset[str]:
        lines = self._run("ls", selection_words(selection))
        return frozenset(_selected(lines))

    def compile(self, nodes: Iterable[Node]) -> Mapping[str, Compiled]:
        """`dbt compile` stops at the first error, so a failing batch is halved until the failing
        models stand alone."""
        batch = list(nodes)
        if not batch:
            return {}
        try:
            # Tests of the selected models would be compiled as well without `empty`.
            words = ["--indirect-selection", "empty", "--select"]
            self._run("compile", [*words, *(f"fqn:{'.'.join(n.fqn)}" for n in batch)])
        except ProjectError as error:
            if len(batch) == 1:
                return errors_of(batch, error.message)
            half = len(batch) // 2
            return {**self.compile(batch[:half]), **self.compile(batch[half:])}
        return self._compiled(batch)

    def run(self, selection: Selection) -> None:
        self._run("run", ["--no-empty", *chosen(selection)])

    def _compiled(self, batch: Sequence[Node]) -> dict[str, Compiled]:
        known = _load(self._invocation.manifest).get("nodes", {})
        found: dict[str, Compiled] = {}
        for node in batch:
            entry = known.get(node.unique_id)
            if entry is None:
                found |= errors_of([node], f"dbt knows no model {node.unique_id}")
            elif entry.get("language", "sql") != "sql":
                found |= errors_of([node], "a Python model has no SQL")
            elif (sql := self._sql(entry)) is None:
                found |= errors_of([node], "dbt compile left no SQL")
            else:
                found[node.unique_id] = Compiled(node.unique_id, sql)
        return found

    def _sql(self, entry: Mapping[str, Any]) -> str | None:
        if entry.get("compiled_code") is not None:
            return str(entry["compiled_code"])
        if not entry.get("compiled_path"):
            return None
        path = self._invocation.options.project_dir / entry["compiled_path"]
        return files.read(path).decode("utf-8") if path.is_file() else None

    def _run(self, command: str, more: list[str]) -> list[str]:
        words = [self._dbt, *self._invocation.words(command, log_format="json"), *more]
        env = {k: v for k, v in os.environ.items() if k not in LESSENING}
        if command in _READING:
            # All that reaches a dbt that is not in this process: PostgreSQL's library reads it. It is
            # no lock: what the project's Jinja sends may set the session to writing again.
            given = env.get("PGOPTIONS", "")
            env["PGOPTIONS"] = f"{given} -c default_transaction_read_only=on".strip()
        try:
            done = subprocess.run(  # noqa: S603 (the dbt the user installed, no shell)
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=env,
                check=False,
            )
        except OSError as error:
            raise ProjectError(f"can't run {self._dbt}: {error.strerror}") from error
        lines = done.stdout.splitlines()
        if done.returncode != 0:
            raise dbt_failed(_complaint(lines) or clean(done.stderr) or clean(done.stdout))
        return lines


def _events(lines: Iterable[str]) -> Iterator[Any]:
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _selected(lines: Iterable[str]) -> Iterator[str]:
    """The ids in the output of `dbt ls`: bare JSON lines, or such lines inside log events."""
    for event in _events(lines):
        if not isinstance(event, dict):
            continue
        if "unique_id" in event:
            yield event["unique_id"]
        elif "info" in event:
            yield from _selected([str(event["info"].get("msg", ""))])


def _complaint(lines: Iterable[str]) -> str:
    """The errors among dbt's log events, as dbt words them."""
    found: list[str] = []
    for event in _events(lines):
        info = event.get("info", {}) if isinstance(event, dict) else {}
        if info.get("level") == "error":
            data = event.get("data") or {}
            message = _unwrapped(clean(data.get("exc") or info.get("msg") or ""))
            if message and message not in found:
                found.append(message)
    return "\n".join(found)


def _unwrapped(message: str) -> str:
    """dbt compile wraps the error of a model in a `Runtime Error` that says nothing more."""
    first, _, rest = message.partition("\n")
    if first == "Runtime Error" and re.match(r" +[A-Z]\w+ Error\b", rest):
        return textwrap.dedent(rest)
    return message


def _load(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(files.read(path))
    except (OSError, ValueError) as error:
        raise ProjectError(f"dbt left no manifest at {path}") from error
    return value if isinstance(value, dict) else {}
