"""Texts without the secrets of an installation."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from urllib.request import getproxies_environment

from sentinel.bootstrap.channels import ConfiguredChannels
from sentinel.bootstrap.configuration import Configuration
from sentinel.channels.contract import secrets_in
from sentinel.core.errors import ConfigError
from sentinel.core.secret import Scrubber


class Redaction:
    """Takes out of texts the secrets of channels, settings, profiles and proxies.

    `scrub` and `scrub_received` raise ConfigError for a configuration that can't be read.
    """

    def __init__(self, configuration: Configuration, channels: ConfiguredChannels) -> None:
        self._configuration = configuration
        self._channels = channels

    def scrub(self, text: str) -> str:
        """The text without secrets, and without values of sentinel.yml that come from variables
        and files."""
        configuration = self._configuration
        clean = configuration.store_profile.scrub(self._scrubber(text))
        return configuration.settings.withheld(configuration.profile.scrub(clean))

    def scrub_received(self, text: str) -> str:
        """The same for a receiver's answer: a receiver knows a secret and may show any part of it."""
        return self.scrub(self._scrubber.thoroughly(text))

    def withheld(self, text: str) -> str:
        """The text without values of variables and files of sentinel.yml that were used so far."""
        settings = self._configuration.loaded_settings
        return settings.withheld(text) if settings else text

    @cached_property
    def _scrubber(self) -> Scrubber:
        configuration = self._configuration
        secrets = [*self._channels.secrets, *self._daemon_secrets()]
        # The passwords of proxies, which sentinel.yml doesn't know.
        proxies = (each for each in getproxies_environment().values() if "@" in each)
        secrets += [each if "://" in each else f"http://{each}" for each in proxies]
        profiles = (configuration.profile, configuration.store_profile)
        return Scrubber([*secrets, *(secret for each in profiles for secret in each.secrets)])

    def _daemon_secrets(self) -> list[str]:
        """Those of the blocks that only the daemon needs; none of a block that can't be read."""
        secrets: list[str] = []
        for block in ("web", "heartbeat"):
            with suppress(ConfigError):
                secrets += secrets_in(getattr(self._configuration.settings, block))
        return secrets
