"""Literal secrets in alert definitions, which dbt writes into its manifest and shows in its docs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sentinel.core.project import AlertSource

Keys = tuple[str, ...]


@dataclass(frozen=True)
class SecretPatterns:
    """What secrets look like: regular expressions, searched for in any letter case.

    `values` match secret texts, `keys` match the names of keys whose values are secret.
    """

    values: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


# Secrets of no channel: a password or a key in a URL, and the keys of AWS, GitHub and TLS.
GENERAL = SecretPatterns(
    values=(
        r"://[^/\s:@]*:[^/\s@]+@",
        r"[?&](token|key|sig|signature|secret|password|api_?key|access_token)=[^&\s]{12}",
        r"\bAKIA[0-9A-Z]{16}",
        r"\bgh[a-z]_\w{20,}",
        r"-----BEGIN",
    ),
    keys=(r"(token|secret|passw(or)?d|api_?key|webhook(_url)?|credentials?)$",),
)


class SecretScan(Protocol):
    """Finds secrets in the keys of a definition."""

    @property
    def version(self) -> str:
        """Changes whenever the same block might be read differently. Imports no channel."""

    @property
    def problems(self) -> Sequence[str]:
        """Which secrets `find` can't recognise, and why."""

    def find(self, block: Mapping[str, Any]) -> Iterable[Keys]:
        """The keys that lead to secrets."""


class PatternScan:
    """Finds secrets by the general patterns and the given ones.

    Raises re.error for a pattern that is no regular expression.
    """

    version = ""
    problems: Sequence[str] = ()

    def __init__(self, patterns: Iterable[SecretPatterns] = ()) -> None:
        every = (GENERAL, *patterns)
        self._values = [_compile(each) for kind in every for each in kind.values]
        self._keys = [_compile(each) for kind in every for each in kind.keys]

    def find(self, block: Mapping[str, Any]) -> Iterator[Keys]:
        return self._find(block, ())

    def _find(self, value: Any, keys: Keys) -> Iterator[Keys]:
        if isinstance(value, Mapping):
            for key, item in value.items():
                if isinstance(key, str) and item is not None and _matches(self._keys, key):
                    yield (*keys, key)
                else:
                    yield from self._find(item, (*keys, str(key)))
        elif isinstance(value, list | tuple):
            for place, item in enumerate(value):
                yield from self._find(item, (*keys, str(place)))
        elif isinstance(value, str) and _matches(self._values, value):
            yield keys


def scan_source(source: AlertSource, scan: SecretScan) -> AlertSource:
    """Add the keys of the literal secrets in a source and in its folder's defaults."""
    own: dict[str, Any] = {}
    for block in (source.folder_defaults, source.block):
        if isinstance(block, Mapping):
            own.update(block)
    return replace(source, secrets=tuple(scan.find(own)))


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _matches(patterns: Iterable[re.Pattern[str]], text: str) -> bool:
    return any(pattern.search(text) for pattern in patterns)
