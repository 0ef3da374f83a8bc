"""The channels of sentinel.yml, and the heartbeat that is sent the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

from sentinel.bootstrap.configuration import Configuration
from sentinel.channels.contract import ChannelContext, SettingFault
from sentinel.channels.registry import Addressed, build_channel, check_channel
from sentinel.config.settings import ChannelBlock
from sentinel.core.errors import ConfigError
from sentinel.core.project import Location
from sentinel.ports import Channel


class ConfiguredChannels:
    """Builds the channels of a configuration.

    `say` shows the console channel's messages. `warnings` has likely mistakes in sentinel.yml, found
    while channels are built.
    """

    def __init__(self, configuration: Configuration, say: Callable[[str], None]) -> None:
        self._configuration = configuration
        self._say = say
        self.warnings: list[tuple[Location, str]] = []

    @cached_property
    def by_name(self) -> Mapping[str, Channel]:
        """All channels of sentinel.yml, and those of owners by address. Raises ConfigError."""
        names = self._configuration.settings.channels
        return Addressed({name: self._built[name][0] for name in names})

    @property
    def secrets(self) -> list[str]:
        """The secrets of all channels. Raises ConfigError."""
        return [secret for _, secrets in self._built.values() for secret in secrets]

    def build(self, name: str) -> tuple[Channel, list[str]]:
        """One channel, and its secrets. Raises ConfigError."""
        block, context = self._block(name)
        values = block.render()
        return build_channel(name, block.type, values, block.locate, context, block.origins)

    def check(self, name: str) -> None:
        """Check a channel's settings, except values that are not available. Raises ConfigError."""
        block, context = self._block(name)
        values = block.render()
        check_channel(name, block.type, values, block.locate, context, block.origins)

    def heartbeat(self) -> Callable[[], None] | None:
        """Posts to the URL of `heartbeat`, and raises DeliveryError. Raises ConfigError."""
        from sentinel.channels.address import check_url
        from sentinel.channels.http import Transport, warn_of_plain_http

        settings = self._configuration.settings.heartbeat
        if settings is None:
            return None
        document = self._configuration.settings.document
        assert document is not None

        def warn(key: str, words: str) -> None:
            self._warn(document.location("heartbeat", key), f"`heartbeat.{key}`: {words}")

        context = ChannelContext(self._configuration.options.project_dir, self._say, warn)
        url = settings.url.get_secret_value()
        try:
            transport = Transport.load(settings, context, allow_private=settings.allow_private)
            check_url(url)
        except (SettingFault, ValueError) as error:
            key, words = getattr(error, "key", "url"), getattr(error, "message", str(error))
            origin = document.origins.at("heartbeat", key)
            if origin and not origin.known:
                return None
            where = document.location("heartbeat", key)
            raise ConfigError.at([(where, f"`heartbeat.{key}`: {words}")]) from None
        warn_of_plain_http(url, "its secret URL", "url", warn)

        def beat() -> None:
            with transport.delivery() as requests:
                requests.post(url, b"", {})

        return beat

    @cached_property
    def _built(self) -> dict[str, tuple[Channel, list[str]]]:
        return {name: self.build(name) for name in self._configuration.settings.channels}

    def _block(self, name: str) -> tuple[ChannelBlock, ChannelContext]:
        block = self._configuration.settings.channels[name]

        def warn(key: str, words: str) -> None:
            self._warn(block.locate(key), f"the channel `{name}`: `{key}`: {words}")

        return block, ChannelContext(self._configuration.options.project_dir, self._say, warn)

    def _warn(self, location: Location, words: str) -> None:
        self.warnings.append((location, self._configuration.settings.withheld(words)))
