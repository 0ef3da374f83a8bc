"""A YAML file that remembers its lines, and whose values may come from the environment.

Any value may be Jinja with `env_var()`, as in profiles.yml, or `{env: NAME}`, or `{file: PATH}`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, UndefinedError
from jinja2.sandbox import SandboxedEnvironment
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sentinel.core.errors import ConfigError
from sentinel.core.project import Location

# What people write unquoted though YAML gives these characters a meaning of their own.
_NEEDS_QUOTES = re.compile(
    r"(?P<key>\w+)\s*:\s*(?P<value>@\S+?|\*[^\s#{}\[\],]*(?:\s+[^\s#{}\[\]]+){0,4}?)"
    r"\s*(?:[,}\]].*|#.*)?$"
)


@dataclass(frozen=True)
class Document:
    """A parsed file: `root` is its mapping, `shown` the path as people know it."""

    path: Path
    shown: str
    root: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, shown: str) -> Document:
        """Read a YAML mapping. Raises ConfigError with the line of whatever is wrong."""
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ConfigError(f"{shown} is not UTF-8 text") from None
        except OSError as error:
            raise ConfigError(f"{shown} can't be read: {error.strerror}") from None
        try:
            root = YAML(typ="rt").load(text)
        except YAMLError as error:
            raise _broken(error, text, shown) from None
        except ValueError:
            # Not its words: they hold the value.
            raise ConfigError(f"{shown}: a date or a number in it can't be read") from None
        if root is None:
            root = CommentedMap()
        if not isinstance(root, CommentedMap):
            raise ConfigError(f"{shown}:1: the file has to be a mapping of keys")
        odd = next((key for key in root if not isinstance(key, str)), None)
        if odd is not None:
            line = root.lc.key(odd)[0] + 1
            raise ConfigError(f"{Location(shown, line)}: the key {odd!r} has to be text")
        return cls(path, shown, root)

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

    def files(self) -> frozenset[Path]:
        """The files that values come from: `{file: PATH}`."""
        return frozenset(
            self.path.parent / Path(name).expanduser() for name in _named_files(self.root)
        )

    def render(self, *keys: str) -> Any:
        """The value of a key with everything from the environment filled in, as plain Python.

        Raises ConfigError naming the key's line and the variable or file that is missing.
        """
        node: Any = self.root
        for key in keys:
            node = node[key]
        return self._render(node, keys)

    def _render(self, value: Any, keys: tuple[str, ...]) -> Any:
        if isinstance(value, Mapping):
            if set(value) == {"env"}:
                return self._env(str(value["env"]), None, keys)
            if set(value) == {"file"}:
                return self._file(str(value["file"]), keys)
            return {str(k): self._render(v, (*keys, str(k))) for k, v in value.items()}
        if isinstance(value, str):
            return self._jinja(str(value), keys) if "{{" in value or "{%" in value else str(value)
        if isinstance(value, Sequence):
            return [self._render(item, (*keys, str(n))) for n, item in enumerate(value)]
        return value

    def _jinja(self, text: str, keys: tuple[str, ...]) -> str:
        environment = SandboxedEnvironment(undefined=StrictUndefined)
        environment.globals = {"env_var": lambda name, default=None: self._env(name, default, keys)}
        try:
            return environment.from_string(text).render()
        except UndefinedError as error:
            wrong = str(error)
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError):
            # Not its words: they quote the template, which may hold a secret beside the Jinja.
            wrong = "its Jinja can't be rendered"
        raise ConfigError.at([(self.location(*keys), f"`{'.'.join(keys)}`: {wrong}")])

    def _env(self, name: str, default: str | None, keys: tuple[str, ...]) -> str:
        value = os.environ.get(name, default)
        if value is None:
            words = f"`{'.'.join(keys)}` needs the environment variable {name}, which is not set"
            raise ConfigError.at([(self.location(*keys), words)])
        return value

    def _file(self, name: str, keys: tuple[str, ...]) -> str:
        try:
            return (self.path.parent / Path(name).expanduser()).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            words = f"`{'.'.join(keys)}` needs the file {name}: {reason}"
            raise ConfigError.at([(self.location(*keys), words)]) from None


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
