"""How commands speak: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
import sys
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

from sentinel.channels.escape import in_json
from sentinel.channels.escape import plain as clean
from sentinel.core.duration import format_duration
from sentinel.core.values import plain

if TYPE_CHECKING:
    from sentinel.bootstrap import Voice

_LEVELS = {"quiet": logging.ERROR, "script": logging.WARNING, "terminal": logging.INFO}


def fail(message: str, hint: str | None = None) -> None:
    """An error on standard error, with its next step on a line of its own."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), clean(message)))
    if hint:
        console.print(Text.assemble(("hint: ", "bold"), clean(hint)))


def shown(words: str | Text) -> Text:
    """Text as a terminal only shows it: values of the warehouse, and names, are data."""
    if isinstance(words, str):
        return Text(clean(words))
    safe = words.copy()
    safe.plain = clean(words.plain)  # as many characters: styles stay where they are
    return safe


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
    def log(self) -> Any:
        """The logger of diagnostics."""
        step = _json_step() if self._json_logs else _dated_step() if self._service else _plain_line
        return _logger(self.stderr, step, _LEVELS[self._level], self._scrub)

    def voice(self) -> Voice:
        """The parts' way to speak up."""
        from sentinel.bootstrap import Voice

        return Voice(self._working, self._waiting, self._say, self._advance, warn=self._warn)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While this lasts, a terminal shows what is going on."""
        try:
            yield
        finally:
            self._still()

    def print_json(self, document: Mapping[str, Any]) -> None:
        """The one document of `--output json`."""
        text = json.dumps(document, indent=2, ensure_ascii=False, default=plain)
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
        self._still()
        if self._json_logs:
            self.log.warning("console message", text=text)
            return
        self.stderr.print(shown(text))

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


class _Lines:
    """structlog's last step: one line on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def msg(self, line: str) -> None:
        self._console.print(shown(line))

    debug = info = warning = error = critical = msg


def _logger(console: Console, step: Any, level: int, scrub: Callable[[str], str]) -> Any:
    import structlog

    return structlog.wrap_logger(
        _Lines(console),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            step,
            # Last, so that nothing is left out: what a library says may hold a secret.
            lambda _logger, _name, line: scrub(str(line)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


def _json_step() -> Any:
    import structlog

    return structlog.processors.JSONRenderer(ensure_ascii=False, default=plain)


def _dated_step() -> Any:
    def step(_logger: Any, _name: str, event: dict[str, Any]) -> str:
        moment = event.pop("timestamp")
        return f"{moment[:19].replace('T', ' ')} {_plain_line(_logger, _name, event)}"

    return step


def _plain_line(_logger: Any, _name: str, event: dict[str, Any]) -> str:
    event.pop("timestamp", None)
    level, words, trace = event.pop("level"), event.pop("event"), event.pop("exception", None)
    extra = " ".join(
        f"{key}={value}" for key, value in event.items() if value not in (None, [], {})
    )
    line = " ".join(part for part in (f"{level}:", str(words), extra) if part)
    return f"{line}\n{trace}" if trace else line


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
