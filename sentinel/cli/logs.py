"""Log entries: one line each, their fields as logfmt or as JSON, without secrets.

Whatever a field holds, it starts no line and forges no other field. A log call never raises: what
can't be logged must not break off what it is about.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from sentinel.core.text import field, in_json, visible
from sentinel.core.values import cut, plain

Step = Callable[[Any, str, MutableMapping[str, Any]], str]
_LONGEST = 10_000
_LONGEST_TRACE = 50_000
_HEAD = ("timestamp", "level", "event")
# Fields of several lines, which follow the entry.
_BLOCKS = ("exception", "text")


class Log:
    """A structured logger. Each method takes an event and its fields, from any thread."""

    def __init__(
        self,
        write: Callable[[str], None],
        step: Step,
        level: int = logging.DEBUG,
        scrub: Callable[[str], str] = str,
    ) -> None:
        import structlog

        self._write = write
        self._step = step
        self._logger = structlog.wrap_logger(
            _Lines(write),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.format_exc_info,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                lambda _logger, _name, event: _scrubbed(event, scrub),
                step,
                # Again, since a secret may be spread over fields.
                lambda _logger, _name, line: scrub(str(line)),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            cache_logger_on_first_use=True,
        )

    def debug(self, event: str, **fields: Any) -> None:
        self._say("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._say("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._say("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._say("error", event, fields)

    def say(self, level: str, event: str, **fields: Any) -> None:
        """Write an entry. Raises what writing raises."""
        getattr(self._logger, level)(event, **fields)

    def entry(self, level: str, event: str, **fields: Any) -> str:
        """One that names no secret, as a line."""
        moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return self._step(
            None, level, {**fields, "level": level, "event": event, "timestamp": moment}
        )

    def _say(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        try:
            getattr(self._logger, level)(event, **fields)
        except Exception as error:  # noqa: BLE001 - see above
            with suppress(Exception):  # not with the fields: nobody knows what they hold
                kind = type(error).__name__
                self._write(self.entry("error", "log entry lost", detail=kind))


class _Lines:
    """structlog's last step."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.debug = self.info = self.warning = self.error = write


def json_step() -> Step:
    """Entries as JSON objects."""
    import structlog

    render = structlog.processors.JSONRenderer(ensure_ascii=False, default=plain)

    def step(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
        return in_json(str(render(logger, name, event)))

    return step


def dated_step(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> str:
    """Entries as text that begins with the time."""
    moment = str(event["timestamp"])[:19].replace("T", " ")
    return f"{moment} {plain_step(_logger, _name, event)}"


def plain_step(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> str:
    """Entries as text: the level, the event and its fields; lines of a block are marked by `|`."""
    rest = {key: value for key, value in event.items() if key not in _HEAD}
    blocks = [str(rest.pop(key)) for key in _BLOCKS if rest.get(key)]
    words = [f"{event['level']}:", visible(event["event"])]
    words += [f"{key}={field(_short(value))}" for key, value in rest.items() if _says(value)]
    marked = [f"  | {visible(line)}" for block in blocks for line in block.splitlines()]
    return "\n".join([" ".join(words), *marked])


def _says(value: Any) -> bool:
    return value is not None and value != [] and value != {}


def _short(value: Any) -> str:
    """A value of a field: members of lists and mappings with commas between."""
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{each}" for key, each in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(str, value))
    return str(value)


def _scrubbed(event: MutableMapping[str, Any], scrub: Callable[[str], str]) -> dict[str, Any]:
    """An event whose texts hold no secret: before they are escaped, and before they are cut."""

    def clean(value: Any, longest: int) -> Any:
        if isinstance(value, str):
            return cut(scrub(value), longest)
        if isinstance(value, Mapping):
            return {key: clean(each, longest) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [clean(each, longest) for each in value]
        return value

    return {
        key: clean(value, _LONGEST_TRACE if key in _BLOCKS else _LONGEST)
        for key, value in event.items()
    }
