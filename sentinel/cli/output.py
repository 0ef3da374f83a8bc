"""How commands speak: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from sentinel.cli import streams
from sentinel.cli.logs import Log, Step, dated_step, json_step, plain_step
from sentinel.core.duration import format_duration
from sentinel.core.text import in_json
from sentinel.core.text import plain as clean
from sentinel.core.values import plain

if TYPE_CHECKING:
    from sentinel.bootstrap import ProgressReporter

_FLAT = {ord("\n"): " ", ord("\t"): " "}
_LEVELS = {"quiet": logging.ERROR, "script": logging.WARNING, "terminal": logging.INFO}


def fail(message: str, hint: str | None = None) -> None:
    """Print an error on standard error, with its next step on a separate line.

    Further lines of the message are marked, so that none looks like another error.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(_marked("error: ", message, "bold red"))
    if hint:
        console.print(_marked("hint: ", hint, "bold"))


def _marked(label: str, message: str, style: str) -> Text:
    text = "\n  | ".join(map(clean, message.split("\n")))
    return Text.assemble((label, style), text, no_wrap=True, overflow="ignore")


def shown(words: str | Text) -> Text:
    """Text on one line, as a terminal only shows it: values of the warehouse, and names, are data."""
    if isinstance(words, str):
        return Text(_flat(words))
    safe = words.copy()
    safe.plain = _flat(words.plain)  # as many characters: styles stay where they are
    return safe


def _trace(_alert: str, error: Exception) -> None:
    """Where an unexpected error in the evaluation of one alert happened, for those who look for it."""
    if os.environ.get("SENTINEL_DEBUG"):
        traceback.print_exception(error)


def _flat(text: str) -> str:
    return clean(text).translate(_FLAT)


class Output:
    """Where a command's words go. A terminal gets colour, bars and passing phrases; a script none."""

    def __init__(
        self,
        *,
        json: bool,
        json_logs: bool,
        quiet: bool,
        terminal: bool,
        scrub: Callable[[str], str] = str,
        service: bool = False,
    ) -> None:
        self.json = json
        self._scrub = scrub
        self._service = service
        self.stdout = Console(highlight=False)
        self.stderr = Console(stderr=True, highlight=False, soft_wrap=True)
        self._lively = terminal and not quiet and not json_logs and not service
        self._status: Status | None = None
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._json_logs = json_logs
        told = terminal or json_logs or service
        self._level = "quiet" if quiet else "terminal" if told else "script"

    @cached_property
    def log(self) -> Log:
        """The logger of diagnostics."""
        return self._logger(self._write, _LEVELS[self._level])

    @cached_property
    def _messages(self) -> Log:
        """The logger of the console channel's messages, which are never filtered."""
        return self._logger(lambda line: streams.deliver(f"{line}\n"), logging.DEBUG)

    def _logger(self, write: Callable[[str], None], level: int) -> Log:
        step: Step = plain_step
        if self._json_logs:
            step = json_step()
        elif self._service:
            step = dated_step
        return Log(write, step, level, self._scrub)

    def _write(self, line: str) -> None:
        """A line of diagnostics, all of it in one write."""
        if self._lively:
            self.stderr.print(Text(line))
        elif sys.stderr is not None:
            sys.stderr.write(f"{line}\n")

    def progress_reporter(self) -> ProgressReporter:
        """The parts' way to speak up."""
        from sentinel.bootstrap import ProgressReporter

        return ProgressReporter(
            self._working, self._waiting, self._say, self._advance, self._warn, _trace
        )

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While this lasts, a terminal shows what is going on."""
        try:
            yield
        finally:
            self._still()

    def print_json(self, document: Mapping[str, Any]) -> None:
        """The one document of `--output json`."""
        unicode = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
        text = json.dumps(document, indent=2, ensure_ascii=not unicode, default=plain)
        sys.stdout.write(in_json(text) + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
        """A readable table; not on a terminal, whole lines instead of folded ones."""
        table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
        for name in columns:
            right = name in ("value", "threshold")
            table.add_column(name, justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(shown, row))
        if self.stdout.is_terminal:
            self.stdout.print(table)
        else:
            plain = Console(file=StringIO(), highlight=False, width=10_000, no_color=True)
            plain.print(table)
            for line in plain.file.getvalue().splitlines():  # type: ignore[attr-defined]  # StringIO
                sys.stdout.write(line.rstrip() + "\n")

    def line(self, text: str | Text = "") -> None:
        """A line of the result."""
        self.stdout.print(shown(text), soft_wrap=True)

    def _working(self, phrase: str) -> None:
        if self._service:
            self.log.debug("working", detail=phrase)
        elif not self._lively:
            self.log.info(phrase)
        elif self._status is None:
            self._status = self.stderr.status(phrase)
            self._status.start()
        else:
            self._status.update(phrase)

    def _waiting(self, phrase: str) -> None:
        if self._service:
            self.log.warning("waiting", detail=phrase)
        else:
            self.log.warning(phrase)

    def _warn(self, phrase: str) -> None:
        if self._service:
            self.log.warning("configuration", detail=phrase)
        else:
            self.log.warning(phrase)

    def _say(self, text: str) -> None:
        """A message of a `console` channel. Raises OSError if it can't be written."""
        self._still()
        if self._json_logs or self._service:
            self._messages.say("warning", "console message", text=text)
        else:
            streams.deliver(f"{clean(text)}\n")

    def _advance(self, done: int, total: int, name: str) -> None:
        if not self._lively:
            return
        if self._progress is None:
            self._still()
            self._progress = Progress(
                TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.description}"), console=self.stderr, transient=True,
            )  # fmt: skip
            self._progress.start()
            self._task = self._progress.add_task("", total=total)
        assert self._task is not None
        self._progress.update(self._task, completed=done, description=name)
        if done == total:
            self._still()

    def _still(self) -> None:
        for live in (self._status, self._progress):
            if live is not None:
                live.stop()
        self._status = self._progress = None


def count(number: int, noun: str, nouns: str | None = None) -> str:
    """`1 alert`, `2 alerts`."""
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago: `2h 5m`; '' for never."""
    if moment is None:
        return ""
    return format_duration((now or datetime.now(UTC)) - moment)


def shown_time(moment: datetime | None) -> str:
    """A time for people, in UTC to the second."""
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
