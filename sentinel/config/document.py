"""A YAML file that remembers its lines, and whose values may come from the environment.

Any value may be Jinja with `env_var()`, as in profiles.yml, or `{env: NAME}`, or `{file: PATH}`. No
error quotes such a value; which ones they are is in `Document.origins`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, UndefinedError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.parser import RoundTripParser

from sentinel import files
from sentinel.core.errors import ConfigError
from sentinel.core.jinja import FAILURES, BoundedEnvironment, work
from sentinel.core.jinja_work import TooMuch
from sentinel.core.origin import SECRET_PREFIX, Origin, Origins, refused
from sentinel.core.project import Location
from sentinel.core.yaml import Count, TooMuchYaml

# It is read in each command, and ruamel.yaml takes a second for half a million characters.
_LARGEST = 200_000
# A value that comes from a file: a key, a certificate.
_LARGEST_VALUE = 100_000
# Values that people write unquoted although these characters have a meaning in YAML.
_NEEDS_QUOTES = re.compile(
    r"(?P<key>\w+)\s*:\s*(?P<value>@\S+?|\*[^\s#{}\[\],]*(?:\s+[^\s#{}\[\]]+){0,4}?)"
    r"\s*(?:[,}\]].*|#.*)?$"
)


class _CountingParser(RoundTripParser):
    """Ends where a document holds too much, before anything is made of it."""

    def __init__(self, loader: Any) -> None:
        super().__init__(loader)
        self._count = Count()

    def get_event(self) -> Any:
        event = super().get_event()
        self._count.see(event)
        return event


# What a value is that was not looked up.
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Document:
    """A parsed file: `root` is its mapping, `shown` the path as people know it.

    `origins` are those of the values that were rendered so far. Where `offline`, no variable and no
    file is looked up; a text takes the place of its value, and its origin is not `known`.
    """

    path: Path
    shown: str
    root: Mapping[str, Any]
    offline: bool = False
    origins: Origins = field(default_factory=Origins)

    @classmethod
    def read(cls, path: Path, shown: str, *, offline: bool = False) -> Document:
        """Read a YAML mapping. Raises ConfigError with the line of whatever is wrong."""
        try:
            text = files.read(path, most=_LARGEST).decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigError(f"{shown} is not UTF-8 text") from None
        except OSError as error:
            raise ConfigError(f"{shown} can't be read: {error.strerror}") from None
        try:
            yaml = YAML(typ="rt")
            yaml.Parser = _CountingParser
            root = yaml.load(text)
        except TooMuchYaml as error:
            raise ConfigError(f"{Location(shown, error.line)}: {error}") from None
        except RecursionError:
            raise ConfigError(f"{shown}: it is nested too deeply") from None
        except YAMLError as error:
            raise _broken(error, text, shown) from None
        except ValueError:
            # Not its words: they hold the value.
            raise ConfigError(f"{shown}: a date or a number in it can't be read") from None
        if root is None:
            root = CommentedMap()
        if not isinstance(root, CommentedMap):
            raise ConfigError(f"{shown}:1: the file must be a mapping of keys")
        odd = next((key for key in root if not isinstance(key, str)), None)
        if odd is not None:
            line = root.lc.key(odd)[0] + 1
            raise ConfigError(f"{Location(shown, line)}: the key {odd!r} must be text")
        return cls(path, shown, root, offline)

    def location(self, *keys: str) -> Location:
        """The line of a key, or of the nearest one above it."""
        node: Any = self.root
        line: int | None = None
        for key in keys:
            try:
                if isinstance(node, CommentedMap):
                    line, node = node.lc.key(key)[0] + 1, node[key]
                elif isinstance(node, CommentedSeq):
                    line, node = node.lc.item(int(key))[0] + 1, node[int(key)]
                else:
                    break
            except (KeyError, IndexError, ValueError, TypeError):
                break
        return Location(self.shown, line)

    def value_files(self) -> frozenset[Path]:
        """The files that values come from: `{file: PATH}`."""
        return frozenset(
            self.path.parent / Path(name).expanduser() for name in _named_files(self.root)
        )

    def render(self, *keys: str, secrets: bool = False) -> Any:
        """The value of a key with everything from the environment filled in, as plain Python.

        Only with `secrets` may it use variables that dbt keeps for secrets; where they went is in
        `origins`. Raises ConfigError naming the key's line and the variable or file that is missing.
        """
        node: Any = self.root
        for key in keys:
            node = node[key]
        return self._render(node, _Place(self, keys, secrets))

    def _render(self, value: Any, place: _Place) -> Any:
        if isinstance(value, Mapping):
            if set(value) == {"env"}:
                return place.looked_up(lambda: place.variable(str(value["env"]), None))
            if set(value) == {"file"}:
                return place.looked_up(lambda: place.file(str(value["file"])))
            return {str(k): self._render(v, place.below(str(k))) for k, v in value.items()}
        if isinstance(value, str):
            if "{{" not in value and "{%" not in value:
                return str(value)
            return place.looked_up(lambda: place.jinja(str(value)))
        if isinstance(value, Sequence):
            return [self._render(item, place.below(str(n))) for n, item in enumerate(value)]
        return value


@dataclass
class _Place:
    """One value that is rendered: at which keys, and which variables and files it has used."""

    document: Document
    keys: tuple[str, ...]
    secrets: bool
    variables: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)

    def below(self, key: str) -> _Place:
        return _Place(self.document, (*self.keys, key), self.secrets)

    def looked_up(self, render: Callable[[], str]) -> str:
        value = render()
        if self.variables or self.files:
            values = () if self.document.offline else (*self.values, value)
            origin = Origin(tuple(self.variables), tuple(self.files), values)
            self.document.origins.add(self.keys, origin)
        return value

    def jinja(self, text: str) -> str:
        environment = BoundedEnvironment(undefined=StrictUndefined)
        environment.globals = {"env_var": self.variable}
        try:
            return environment.from_string(text).render(**work())
        except TooMuch as error:
            wrong = f"its Jinja can't be rendered: {error}"
        except UndefinedError as error:
            wrong = "its Jinja can't be rendered" if self.variables else str(error)
        except (TemplateError, *FAILURES):
            # Not its message, which quotes the template and possibly a secret next to the Jinja.
            wrong = "its Jinja can't be rendered"
        if self.document.offline and self.variables:
            return _UNKNOWN  # what it makes of the variable's value can't be known
        raise self._fault(f"`{'.'.join(self.keys)}`: {wrong}")

    def variable(self, name: str, default: str | None = None) -> str:
        if not isinstance(name, str):
            raise TypeError("the name of a variable must be text")
        if name.startswith(SECRET_PREFIX) and not self.secrets:
            raise self._fault(refused(self.keys, name))
        if self.document.offline:
            self.variables.append(name)
            return _UNKNOWN
        value = os.environ.get(name)
        if value is not None:
            self.variables.append(name)
            self.values.append(value)
            return value
        if default is None:
            raise self._fault(
                f"`{'.'.join(self.keys)}` needs the environment variable {name}, which is not set"
            )
        return default

    def file(self, name: str) -> str:
        self.files.append(name)
        if self.document.offline:
            return _UNKNOWN
        try:
            path = self.document.path.parent / Path(name).expanduser()
            text = files.read(path, most=_LARGEST_VALUE).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            words = f"`{'.'.join(self.keys)}` needs the file {name}: {reason}"
            raise self._fault(words) from None
        self.values.append(text)
        return text

    def _fault(self, words: str) -> ConfigError:
        return ConfigError.at([(self.document.location(*self.keys), words)])


def _named_files(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if set(value) == {"file"}:
            yield str(value["file"])
        for item in value.values():
            yield from _named_files(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _named_files(item)


def _broken(error: YAMLError, text: str, shown: str) -> ConfigError:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    line = mark.line + 1 if mark else None
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    what = what.partition(" with value ")[0]  # of a duplicate key; it may be a secret
    return ConfigError(
        f"{Location(shown, line)}: this is not valid YAML: {what}", hint=quoting_hint(text, line)
    )


def quoting_hint(text: str, line: int | None) -> str | None:
    """Advice to quote a schedule, if that is what YAML stumbled over."""
    lines = text.splitlines()
    near = range(max(0, (line or 1) - 2), min(len(lines), (line or 1) + 1))
    for number in near:
        match = _NEEDS_QUOTES.search(lines[number])
        if match and match["key"] == "schedule":
            return f"quote it: schedule: '{match['value']}'"
        if match:
            return f"quote the value of `{match['key']}`"  # which may be a secret
    return None
