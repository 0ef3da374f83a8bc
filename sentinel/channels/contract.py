"""What a channel is built from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, SecretStr

from sentinel.core.routing import Traits
from sentinel.core.secret_scan import SecretPatterns
from sentinel.ports import Channel


class SettingFault(ValueError):
    """An invalid value of a channel's key, found while the channel is built."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key
        self.message = message


class ChannelSettings(BaseModel):
    """The keys of a channel in sentinel.yml; what is secret has the type SecretStr."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _ignore(key: str, words: str) -> None:
    """No one reads warnings."""


@dataclass(frozen=True)
class ChannelContext:
    """What a channel may need besides its settings: the project's directory, and the terminal.

    `warn` takes a key of the channel, and what is likely not meant about its value.
    """

    project_dir: Path
    say: Callable[[str], None]
    warn: Callable[[str, str], None] = _ignore


class ChannelType(Protocol):
    """The class of a channel. Each subclass of its Settings documents its keys.

    `secret_patterns` match its secrets where the general patterns of core/secret_scan.py don't. A
    definition with a match is refused.
    """

    Settings: type[ChannelSettings]
    secret_patterns: SecretPatterns

    def __call__(self, name: str, settings: Any, around: ChannelContext) -> Channel: ...

    def traits_for(self, keys: Collection[str]) -> Traits:
        """Its traits, as far as the keys of its block tell: they may differ by what is given.

        A class method: asked before any value of the block is known.
        """

    # A channel whose traits have `addressed_by` also has the method
    #     def addressed(self, address: str) -> Channel
    # which gives the same channel for this recipient instead of those of its settings.


class BaseChannel:
    """A channel with a name, and with traits that don't depend on its keys."""

    traits: Traits = Traits()
    secret_patterns: SecretPatterns = SecretPatterns()

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def traits_for(cls, keys: Collection[str]) -> Traits:
        """As `ChannelType.traits_for`."""
        return cls.traits


def secrets_in(value: Any) -> Iterator[str]:
    """Every secret in a model, at any depth."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from secrets_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secrets_in(item)
