"""Where values of sentinel.yml come from: those of variables and files are never quoted."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from sentinel.core.secret import spellings

SECRET_PREFIX = "DBT_ENV_SECRET_"  # noqa: S105 (the prefix dbt gives to secrets' names)
# Shorter values also occur in other words.
_SHORTEST = 4


@dataclass(frozen=True)
class Origin:
    """What one value is made of besides its own text: variables and files, by their names.

    `values` are all texts that an error would give away: those of the variables and files, and
    what was made of them. They are empty where nothing was looked up (`--offline`).
    """

    variables: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    values: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        named = [f"the environment variable {name}" for name in self.variables]
        named += [f"the file {name}" for name in self.files]
        return " and ".join(named)

    @property
    def known(self) -> bool:
        """Whether the value was looked up."""
        return bool(self.values)

    @property
    def secret(self) -> bool:
        """Whether a variable is one that dbt keeps for secrets."""
        return any(name.startswith(SECRET_PREFIX) for name in self.variables)

    @property
    def label(self) -> str:
        """What an error shows instead of the value."""
        named = [f"env: {name}" for name in self.variables] + [f"file: {n}" for n in self.files]
        return f"{{{', '.join(named)}}}"

    def instead(self, reason: str = "is not valid") -> str:
        """The message about a value that can't be shown."""
        return f"the value from {self} {reason}"


@dataclass(frozen=True)
class Origins:
    """The origins of values, each at the keys that lead to it. Grows as values are looked up."""

    found: dict[tuple[str, ...], Origin] = field(default_factory=dict)
    above: tuple[str, ...] = ()

    def add(self, keys: tuple[str, ...], origin: Origin) -> None:
        self.found[self.above + keys] = origin

    def under(self, *keys: str) -> Origins:
        """Those of one block, by the keys within it."""
        return Origins(self.found, self.above + keys)

    def at(self, *keys: str) -> Origin | None:
        """The origin of a value, or of the value that contains it."""
        path = self.above + keys
        return next(
            (self.found[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.found), None
        )

    def within(self, *keys: str) -> Iterator[tuple[tuple[str, ...], Origin]]:
        """Those of a value and of its parts, with their keys within this block."""
        path = self.above + keys
        for each, origin in list(self.found.items()):
            if each[: len(path)] == path:
                yield each[len(self.above) :], origin

    def withheld(self, text: str, plain: Collection[str] = ()) -> str:
        """A text without the values; `plain` are words that stay, since the file has them too."""
        labels: dict[str, str] = {}
        for _, origin in self.within():
            for value in origin.values:
                for each in (value, *_hosts(value)):
                    if len(each) >= _SHORTEST and each not in plain:
                        labels |= dict.fromkeys(map(str.casefold, spellings(each)), origin.label)
        longest = sorted(labels, key=len, reverse=True)
        return reduce(lambda left, value: _replaced(left, value, labels[value]), longest, text)


def misplaced(origins: Origins, model: type[BaseModel]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The keys of a block whose value comes from a secret variable though they aren't secret: their
    values are shown. Each with what is wrong."""
    for keys, origin in origins.within():
        if origin.secret and not is_secret(model, keys):
            name = next(each for each in origin.variables if each.startswith(SECRET_PREFIX))
            yield keys, refused(keys, name)


def refused(keys: tuple[str, ...], name: str) -> str:
    """The message about a secret variable at a key that isn't secret."""
    return (
        f"`{'.'.join(keys)}` is no place for the secret environment variable {name}: only keys that "
        "are secret may use it"
    )


def is_secret(kind: Any, keys: tuple[str, ...]) -> bool:
    """Whether the value at these keys of a model has a secret type, whose messages never show it."""
    if isinstance(kind, type) and issubclass(kind, SecretStr):
        return True
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field_of = {each.alias or name: each for name, each in kind.model_fields.items()}
        found = field_of.get(keys[0]) if keys else None
        return found is not None and is_secret(found.annotation, keys[1:])
    context, inner = get_origin(kind), get_args(kind)
    if context is Annotated:
        return is_secret(inner[0], keys)
    if context in (Union, UnionType):
        return any(is_secret(each, keys) for each in inner)
    if not inner or not keys or not isinstance(context, type):
        return False
    return is_secret(inner[-1 if issubclass(context, Mapping) else 0], keys[1:])


def _replaced(text: str, value: str, label: str) -> str:
    return re.sub(re.escape(value), lambda _: label, text, flags=re.IGNORECASE)


def _hosts(value: str) -> Iterator[str]:
    """The host of a URL or of an address, which errors of connections name."""
    try:
        parts = urlsplit(value)
        if parts.hostname:
            yield from (parts.netloc, parts.hostname)
    except ValueError:
        return
    if "@" in value:
        yield value.rpartition("@")[2]
