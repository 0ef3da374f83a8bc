"""Where a key of an alert's definition is written, to the line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from sentinel import files
from sentinel.core.project import AlertSource, Location
from sentinel.core.yaml import LARGEST_FILE, check
from sentinel.dbt.rendering import LOADER

_CONFIG = re.compile(r"\{[{%][-+]?\s*(?:do\s+)?config\s*\(")
_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[\w.]+|\S", re.DOTALL)
_CLOSES = {"{": "}", "[": "]", "(": ")"}
_ENDS = {",", *_CLOSES.values()}


@dataclass
class _Written:
    """A value in a file: its line, and the values within it by key, or by number in a list."""

    line: int
    parts: dict[str, _Written] = field(default_factory=dict)

    def follow(self, keys: Sequence[str]) -> tuple[int, int]:
        """How many of the keys are written one below the other, and the line of the last."""
        at = self
        for depth, key in enumerate(keys):
            if key not in at.parts:
                return depth, at.line
            at = at.parts[key]
        return len(keys), at.line


def locate(root: Path, source: AlertSource, keys: Sequence[str]) -> Location:
    """The line of `meta.sentinel.<keys...>`, or of the nearest part of that path that is written.

    A block in the SQL file replaces the one in YAML, as dbt merges meta; so it is looked for first.
    """
    call = _read_sql(root / source.path)
    if call is not None:
        depth, line = call.follow(["meta", "sentinel", *keys])
        if depth >= 2:
            return Location(source.path, line)
    if source.patch_path is not None:
        model = _read_yaml(root / source.patch_path, source.name)
        if model is None:
            return Location(source.patch_path)
        ways = (["config", "meta", "sentinel", *keys], ["meta", "sentinel", *keys])
        left = min((len(way) - model.follow(way)[0], model.follow(way)[1]) for way in ways)
        return Location(source.patch_path, left[1])
    return Location(source.path, None if call is None else call.line)


def hidden_block(root: Path, source: AlertSource) -> Location | None:
    """Where `meta.sentinel` is written in YAML, if the SQL file has one too."""
    call = _read_sql(root / source.path)
    if call is None or source.patch_path is None or call.follow(["meta", "sentinel"])[0] < 2:
        return None
    model = _read_yaml(root / source.patch_path, source.name)
    for way in (["config", "meta", "sentinel"], ["meta", "sentinel"]):
        depth, line = model.follow(way) if model else (0, 0)
        if depth == len(way):
            return Location(source.patch_path, line)
    return None


def _read_yaml(path: Path, name: str) -> _Written | None:
    """The entry of a model in a properties file."""
    try:
        text = files.read(path, most=LARGEST_FILE).decode("utf-8")
        check(yaml.parse(text, Loader=LOADER))  # a line isn't worth what aliases may stand for
        document = YAML(typ="rt").load(text)
    except (OSError, YAMLError, yaml.YAMLError, ValueError, RecursionError):
        return None
    models = document.get("models") if isinstance(document, CommentedMap) else None
    for index, model in enumerate(models if isinstance(models, CommentedSeq) else ()):
        if isinstance(model, CommentedMap) and model.get("name") == name:
            return _from_yaml(model, _line(models, index))
    return None


def _from_yaml(value: Any, line: int) -> _Written:
    written = _Written(line)
    if isinstance(value, CommentedMap):
        for key, part in value.items():
            written.parts[str(key)] = _from_yaml(part, _line(value, key))
    elif isinstance(value, CommentedSeq):
        for index, part in enumerate(value):
            written.parts[str(index)] = _from_yaml(part, _line(value, index))
    return written


def _line(parent: Any, key: Any) -> int:
    """The line of a key or an item; keys merged with `<<` have none."""
    lines = (parent.lc.data or {}).get(key)
    return int(lines[0] if lines else parent.lc.line) + 1


def _read_sql(path: Path) -> _Written | None:
    """The arguments of the config(...) call that sets `meta`, else of the first such call."""
    try:
        text = files.read(path, most=LARGEST_FILE).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    calls = [_Tokens(text, call.end() - 1).value() for call in _CONFIG.finditer(text)]
    return next((c for c in calls if "meta" in c.parts), calls[0] if calls else None)


class _Tokens:
    """Reads the literals of a config(...) call, from its opening bracket."""

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._tokens = [(m.group(), m.start()) for m in _TOKEN.finditer(text, start)]
        self._index = 0

    def value(self) -> _Written:
        """One value, with whatever follows it up to the comma or bracket that ends it."""
        written = _Written(self._line())
        while (token := self._peek()) and token not in _ENDS:
            if token in _CLOSES:
                self._index += 1
                written.parts |= self._within(token)
            self._index += 1
        return written

    def _within(self, bracket: str) -> dict[str, _Written]:
        return self._items() if bracket == "[" else self._entries(_CLOSES[bracket])

    def _items(self) -> dict[str, _Written]:
        parts: dict[str, _Written] = {}
        while self._peek() not in {"]", ""}:
            parts[str(len(parts))] = self.value()
            self._skip_to_next("]")
        return parts

    def _entries(self, close: str) -> dict[str, _Written]:
        """The entries of `{key: value}` or `(key=value)`."""
        parts: dict[str, _Written] = {}
        while self._peek() not in {close, ""}:
            line, key = self._line(), self._peek()
            if self._peek(1) in {":", "="}:
                self._index += 2
                parts[key.strip("'\"")] = self.value()
                parts[key.strip("'\"")].line = line
            else:
                parts |= self.value().parts  # config({...}), dict({...})
            self._skip_to_next(close)
        return parts

    def _skip_to_next(self, close: str) -> None:
        """Over the comma; a bracket of another kind is the author's mistake, stepped over too."""
        if self._peek() != close:
            self._index += 1

    def _peek(self, ahead: int = 0) -> str:
        at = self._index + ahead
        return self._tokens[at][0] if at < len(self._tokens) else ""

    def _line(self) -> int:
        at = self._tokens[self._index][1] if self._index < len(self._tokens) else len(self._text)
        return self._text.count("\n", 0, at) + 1
