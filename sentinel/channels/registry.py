"""The channels that are installed, found without importing them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from sentinel.channels.contract import ChannelContext, ChannelType, SettingFault, secrets_in
from sentinel.core.alert import explain, suggest
from sentinel.core.errors import ConfigError
from sentinel.core.project import Location
from sentinel.core.routing import ADDRESS, Traits
from sentinel.ports import Channel

GROUP = "sentinel.channels"


def channel_types() -> dict[str, Any]:
    """The known types: name to entry point."""
    return {point.name: point for point in entry_points(group=GROUP)}


def traits_of(kind: str, keys: Collection[str]) -> Traits:
    """The traits of a channel by its type and the keys of its block; of an unknown type, none.

    What is wrong with a block is said where the channel is built.
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
) -> tuple[Channel, list[str]]:
    """A channel and its secrets. `locate` gives the place of a key of the channel.

    Raises ConfigError naming file, line and key.
    """
    known = channel_types()
    if kind not in known:
        near = suggest(kind, known) or f"; known are {', '.join(sorted(known))}"
        words = f"the channel `{name}` has the unknown type {kind!r}{near}"
        raise ConfigError.at([(locate("type"), words)])
    channel_type: ChannelType = known[kind].load()
    try:
        settings = channel_type.Settings.model_validate(dict(values))
    except ValidationError as error:
        keys = channel_type.Settings.model_fields
        raise ConfigError.at(
            [
                (locate(*fault.keys), f"the channel `{name}`: {fault.message}")
                for fault in explain(error, keys, show_input=False)
            ]
        ) from None
    try:
        return channel_type(name, settings, around), list(secrets_in(settings))
    except SettingFault as fault:
        words = f"the channel `{name}`: `{fault.key}`: {fault.message}"
        raise ConfigError.at([(locate(fault.key), words)]) from None


class Addressed(Mapping[str, Channel]):
    """Channels by name, and by name and address: `mail:team@example.org`.

    An address is that of a dbt group's owner, who is told where nobody else is named.
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
