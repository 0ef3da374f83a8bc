"""The channels that are installed, found without importing them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from sentinel.channels.contract import ChannelContext, ChannelType, SettingFault, secrets_in
from sentinel.core.definition_errors import explain, suggest
from sentinel.core.errors import ConfigError
from sentinel.core.origin import Origins, is_secret, misplaced
from sentinel.core.project import Location
from sentinel.core.routing import ADDRESS, Traits
from sentinel.ports import Channel

GROUP = "sentinel.channels"


def channel_types() -> dict[str, Any]:
    """The known types: name to entry point."""
    return {point.name: point for point in entry_points(group=GROUP)}


def traits_of(kind: str, keys: Collection[str]) -> Traits:
    """The traits of a channel by its type and the keys of its block; of an unknown type, none.

    Errors of a block are reported when the channel is built.
    """
    known = channel_types()
    if kind not in known:
        return Traits()
    channel_type: ChannelType = known[kind].load()
    return channel_type.traits_for(keys)


def build_channel(
    name: str,
    kind: str,
    values: Mapping[str, Any],
    locate: Callable[..., Location],
    around: ChannelContext,
    origins: Origins | None = None,
) -> tuple[Channel, list[str]]:
    """A channel and its secrets. `locate` gives the place of a key of the channel, `origins` are
    those of its values.

    Raises ConfigError naming file, line and key.
    """
    origins = origins or Origins()
    channel_type, settings = _settings(name, kind, values, locate, origins)
    assert settings is not None, "every value is known"
    try:
        return channel_type(name, settings, around), list(secrets_in(settings))
    except SettingFault as fault:
        origin = origins.at(fault.key)
        shown = origin is None or is_secret(channel_type.Settings, (fault.key,))
        words = fault.message if shown or origin is None else origin.instead()
        words = origins.withheld(f"the channel `{name}`: `{fault.key}`: {words}")
        raise ConfigError.at([(locate(fault.key), words)]) from None


def check_channel(
    name: str,
    kind: str,
    values: Mapping[str, Any],
    locate: Callable[..., Location],
    around: ChannelContext,
    origins: Origins,
) -> None:
    """What can be known to be wrong with a channel though some values were not looked up.

    Raises ConfigError naming file, line and key.
    """
    if all(origin.known for _, origin in origins.within()):
        build_channel(name, kind, values, locate, around, origins)
    else:
        _settings(name, kind, values, locate, origins)


def _settings(
    name: str,
    kind: str,
    values: Mapping[str, Any],
    locate: Callable[..., Location],
    origins: Origins,
) -> tuple[ChannelType, Any]:
    """A channel's type and its settings; None where a value that was not looked up is wanting."""
    known = channel_types()
    if kind not in known:
        near = suggest(kind, known) or f"; known are {', '.join(sorted(known))}"
        words = f"the channel `{name}` has the unknown type {kind!r}{near}"
        raise ConfigError.at([(locate("type"), words)])
    channel_type: ChannelType = known[kind].load()
    model = channel_type.Settings
    faults = [(keys, words) for keys, words in misplaced(origins, model)]
    settings = None
    if not faults:
        try:
            settings = model.model_validate(dict(values))
        except ValidationError as error:
            found = explain(
                error, model.model_fields, show_input=False, origins=origins, model=model
            )
            faults = [(fault.keys, fault.message) for fault in found]
    if faults:
        raise ConfigError.at(
            [
                (locate(*keys), origins.withheld(f"the channel `{name}`: {words}"))
                for keys, words in faults
            ]
        )
    return channel_type, settings


class Addressed(Mapping[str, Channel]):
    """Channels by name, and by name and address: `mail:team@example.org`.

    An address is that of a dbt group's owner, who is notified if no other recipient is configured.
    """

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = channels

    def __getitem__(self, name: str) -> Channel:
        if name in self._channels:
            return self._channels[name]
        carrier, _, address = name.partition(ADDRESS)
        channel: Any = self._channels[carrier]
        if not address or channel.traits.addressed_by is None:
            raise KeyError(name)
        addressed: Channel = channel.addressed(address)
        return addressed

    def __iter__(self) -> Iterator[str]:
        return iter(self._channels)

    def __len__(self) -> int:
        return len(self._channels)
