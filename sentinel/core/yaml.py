"""YAML that ends: how much a document holds is counted before anything is made of it.

An alias stands for all that its anchor holds, so nine lines can hold a thousand million values.
Works on the events of PyYAML and of ruamel.yaml, which have the same names and attributes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

LARGEST_FILE = 1_000_000
_MOST_NODES = 100_000
_MOST_CHARACTERS = 5_000_000
_DEEPEST = 60


class TooMuchYaml(ValueError):
    """A document holds more than is allowed. The message quotes nothing of it."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class _Open:
    """A list or mapping whose end hasn't come yet."""

    anchor: str | None
    nodes: int = 1
    characters: int = 0
    depth: int = 1


@dataclass
class Count:
    """What a document holds so far, by its events."""

    _open: list[_Open] = field(default_factory=lambda: [_Open(None)])
    _anchors: dict[str, _Open | None] = field(default_factory=dict)

    def see(self, event: Any) -> None:
        """The next event. Raises TooMuchYaml, before anything is made of the event."""
        kind = type(event).__name__
        if kind == "ScalarEvent":
            self._add(_Open(event.anchor, characters=len(event.value)), event)
        elif kind == "AliasEvent":
            found = self._anchors.get(event.anchor, _Open(None))
            if found is None:
                raise TooMuchYaml("an alias stands within its own anchor", _line(event))
            self._add(_Open(None, found.nodes, found.characters, found.depth), event)
        elif kind in ("SequenceStartEvent", "MappingStartEvent"):
            if len(self._open) > _DEEPEST:
                raise TooMuchYaml("it is nested too deeply", _line(event))
            if event.anchor:
                self._anchors[event.anchor] = None
            self._open.append(_Open(event.anchor))
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            self._add(self._open.pop(), event)

    def _add(self, given: _Open, event: Any) -> None:
        """One more value within the list or mapping that is open."""
        context = self._open[-1]
        context.nodes += given.nodes
        context.characters += given.characters
        context.depth = max(context.depth, given.depth + 1)
        if context.nodes > _MOST_NODES or context.characters > _MOST_CHARACTERS:
            raise TooMuchYaml("with its aliases it holds too many values", _line(event))
        if len(self._open) + given.depth > _DEEPEST:
            raise TooMuchYaml("it is nested too deeply", _line(event))
        if given.anchor:
            self._anchors[given.anchor] = given


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def check(events: Iterable[Any]) -> None:
    """Raises TooMuchYaml with the line where a document holds too much; else what the parser does."""
    count = Count()
    for event in events:
        count.see(event)
