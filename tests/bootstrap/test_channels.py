"""Channels are built from their blocks in sentinel.yml."""

from __future__ import annotations

import pytest

from sentinel.bootstrap.channels import ConfiguredChannels
from sentinel.core.errors import ConfigError

from .conftest import Configure


def test_channels_are_built_once_and_found_by_name(configure: Configure) -> None:
    channels = ConfiguredChannels(configure("channels: {log: {type: console}}\n"), print)
    assert list(channels.by_name) == ["log"]
    assert channels.by_name["log"] is channels.by_name["log"]


def test_the_console_channel_writes_by_say(configure: Configure) -> None:
    said: list[str] = []
    channels = ConfiguredChannels(configure("channels: {log: {type: console}}\n"), said.append)
    from tests.fakes import message, notification

    channels.build("log")[0].send(message(notification()))
    assert len(said) == 1


def test_secrets_are_those_of_all_channels(configure: Configure) -> None:
    text = (
        "channels:\n"
        "  ops: {type: teams, url: 'https://example.com/ops-secret'}\n"
        "  dev: {type: teams, url: 'https://example.com/dev-secret'}\n"
    )
    channels = ConfiguredChannels(configure(text), print)
    assert {"https://example.com/ops-secret", "https://example.com/dev-secret"} <= set(
        channels.secrets
    )


def test_a_wrong_channel_is_named_with_its_line(configure: Configure) -> None:
    channels = ConfiguredChannels(configure("channels:\n  log: {type: file}\n"), print)
    with pytest.raises(ConfigError, match=r"sentinel\.yml:2"):
        channels.check("log")


def test_a_likely_mistake_is_a_warning_with_its_place(configure: Configure) -> None:
    text = "channels:\n  hook:\n    type: webhook\n    url: http://example.com/hook\n"
    channels = ConfiguredChannels(configure(text), print)
    channels.build("hook")
    ((location, words),) = channels.warnings
    assert str(location) == "sentinel.yml:4"
    assert "the channel `hook`: `url`" in words


def test_without_a_heartbeat_there_is_nothing_to_post(configure: Configure) -> None:
    assert ConfiguredChannels(configure("channels: {}\n"), print).heartbeat() is None
