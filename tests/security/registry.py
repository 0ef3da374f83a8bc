"""Every registered warehouse, store and channel: a new one can't escape the attacks.

Tests parametrize over these names. `test_registry.py` fails while a registered channel has no
settings here, or a registered warehouse has no place in `tests/places`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

Settings = dict[str, Any]


def registered(group: str) -> tuple[str, ...]:
    """The names of an entry point group: `warehouses`, `stores` or `channels`."""
    return tuple(sorted(entry_points(group=f"sentinel.{group}").names))


WAREHOUSES = registered("warehouses")
STORES = registered("stores")
CHANNELS = registered("channels")

# Settings for a receiver at a URL on loopback, by a name that begins with the channel's type.
HTTP_CHANNELS: Mapping[str, Callable[[str], Settings]] = {
    "webhook": lambda url: {"url": url, "allow_private": True},
    "teams": lambda url: {"url": url, "allow_private": True},
    "pagerduty": lambda url: {"url": url, "allow_private": True, "routing_key": "key"},
    "alertmanager": lambda url: {"url": url, "allow_private": True},
    "slack by webhook": lambda url: {"webhook_url": url, "allow_private": True},
    "slack by token": lambda url: {
        "token": "token",
        "channel": "#c",
        "api_url": url,
        "allow_private": True,
    },
    "apprise": lambda url: {"urls": [url.replace("http", "json", 1).split("?")[0]]},
}

# Settings for a mail server at a port on loopback.
SMTP_CHANNELS: Mapping[str, Callable[[int], Settings]] = {
    "email": lambda port: {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "from": "a@example.org",
        "to": "b@example.org",
    },
}

# Settings of channels that write on this machine.
LOCAL_CHANNELS: Mapping[str, Settings] = {"console": {}, "file": {"path": "alerts.jsonl"}}


def channel_type(name: str) -> str:
    """The registered type of a name above: `slack` of `slack by token`."""
    return name.split()[0]
