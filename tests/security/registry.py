"""Every registered warehouse, store and channel: a new one can't escape the attacks.

Tests parametrize over these names. `test_registry.py` fails while a registered channel has no contract
tests with an example, or a registered warehouse has no place in `tests/places`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec

from werkzeug.wrappers import Response

from tests.channels.contract import ChannelContract
from tests.channels.examples import Example, HttpExample, LocalExample, Settings, SmtpExample
from tests.channels.receiver import response


def registered(group: str) -> tuple[str, ...]:
    """The names of an entry point group: `warehouses`, `stores` or `channels`."""
    return tuple(sorted(entry_points(group=f"sentinel.{group}").names))


WAREHOUSES = registered("warehouses")
STORES = registered("stores")
CHANNELS = registered("channels")


def examples_of(kind: str) -> Iterator[Example]:
    """The examples in the contract tests of a channel type, which are in tests/channels/test_<type>.py."""
    module = f"tests.channels.test_{kind}"
    if find_spec(module) is None:
        return
    for name, value in vars(import_module(module)).items():
        is_contract = isinstance(value, type) and issubclass(value, ChannelContract)
        if name.startswith("Test") and is_contract and value.example.kind == kind:
            yield value.example


EXAMPLES: Mapping[str, Example] = {
    example.name: example for kind in CHANNELS for example in examples_of(kind)
}
HTTP_EXAMPLES: Mapping[str, HttpExample] = {
    name: example for name, example in EXAMPLES.items() if isinstance(example, HttpExample)
}

# Settings by the example's name: for a receiver's URL, for a mail server's port, and as they are.
HTTP_CHANNELS: Mapping[str, Callable[[str], Settings]] = {
    name: example.settings for name, example in HTTP_EXAMPLES.items()
}
SMTP_CHANNELS: Mapping[str, Callable[[int], Settings]] = {
    name: example.settings for name, example in EXAMPLES.items() if isinstance(example, SmtpExample)
}
LOCAL_CHANNELS: Mapping[str, Settings] = {
    name: example.settings
    for name, example in EXAMPLES.items()
    if isinstance(example, LocalExample)
}


def channel_type(name: str) -> str:
    """The registered type that a name begins with: `slack` of `slack by token`."""
    return name.split()[0]


def acceptance(name: str) -> Response:
    """The response of a channel's receiver when it accepts."""
    return response(HTTP_EXAMPLES[name].accepts)
