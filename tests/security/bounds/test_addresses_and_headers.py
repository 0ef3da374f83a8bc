"""Addresses that no channel reaches, and headers that nobody can set.

The ranges are IANA's registries of special-purpose addresses; Python's own knowledge of them differs
from release to release, so each is written here.
"""

from __future__ import annotations

import ipaddress
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.channels.address import refused
from sentinel.channels.http import Transport
from sentinel.core.errors import ConfigError, DeliveryError
from tests.channels.contract import build
from tests.channels.receiver import receiving
from tests.fakes import message

from ..registry import HTTP_CHANNELS, acceptance, channel_type

# Reached by no channel, whatever its settings.
NEVER = (
    # this network, and none at all
    "0.0.0.0/8", "::/128",
    # link-local, multicast, broadcast
    "169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32",
    # documentation
    "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20",
    # protocols, relays, discarding, identifiers, segment routing, future use
    "192.0.0.0/24", "192.88.99.0/24", "100::/64", "100:0:0:1::/64", "2001::/32", "2001:2::/48",
    "2001:10::/28", "5f00::/16", "240.0.0.0/4",
    # what nobody has been given
    "4000::/3", "6000::/3", "8000::/3", "a000::/3", "c000::/3", "fe00::/9", "::ffff:0:0:0/96",
    # metadata of clouds
    "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::/32",
    "fd20:ce::254/128", "fd00:42::42/128",
)  # fmt: skip
# Reached with `allow_private: true` only.
PRIVATE = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "100.64.0.0/10",
    "198.18.0.0/15", "::1/128", "fd12:3456::/32", "fec0::/10", "64:ff9b:1::808:808/128",
)  # fmt: skip
PUBLIC = ("1.1.1.1", "93.184.215.14", "8.8.8.8", "2606:2800:220:1::1", "2a00:1450::1")


def ends(network: str) -> list[str]:
    """The first and the last address of a network, and one between."""
    range_ = ipaddress.ip_network(network)
    return [str(range_[0]), str(range_[-1]), str(range_[range_.num_addresses // 2])]


@pytest.mark.parametrize("network", NEVER)
def test_addresses_that_are_no_host_s_are_refused_always(network: str) -> None:
    for address in ends(network):
        for allow_private in (False, True):
            assert refused(address, allow_private=allow_private), address


@pytest.mark.parametrize("network", PRIVATE)
def test_private_addresses_are_refused_unless_they_are_allowed(network: str) -> None:
    for address in ends(network):
        assert "allow_private" in refused(address, allow_private=False), address
        assert refused(address, allow_private=True) == "", address


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached(address: str) -> None:
    assert refused(address, allow_private=False) == ""


def embeddings(address: str) -> dict[str, str]:
    """The IPv6 addresses that stand for one of IPv4."""
    bits = int(ipaddress.IPv4Address(address))
    dotted = ipaddress.IPv6Address

    def made(prefix: str, shift: int, of: int = bits) -> str:
        return str(dotted(int(dotted(prefix)) | of << shift))

    return {
        "mapped": made("::ffff:0:0", 0),
        "compatible": made("::", 0),
        "translated": made("::ffff:0:0:0", 0),
        "NAT64": made("64:ff9b::", 0),
        "NAT64 of one network": made("64:ff9b:1::", 0),
        "6to4": made("2002::", 80),
        "Teredo's server": made("2001::", 64),
        "Teredo's client": made("2001::", 0, ~bits & 0xFFFF_FFFF),
        "ISATAP": made("2a00:1450::5efe:0:0", 0),
        "ISATAP, globally unique": made("2a00:1450::200:5efe:0:0", 0),
    }


@pytest.mark.parametrize("address", ["169.254.169.254", "168.63.129.16", "0.0.0.0", "224.0.0.1"])
@pytest.mark.parametrize("form", embeddings("1.1.1.1"))
def test_an_address_that_stands_for_a_refused_one_is_refused(address: str, form: str) -> None:
    assert refused(embeddings(address)[form], allow_private=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "192.168.1.1"])
@pytest.mark.parametrize("form", embeddings("1.1.1.1"))
def test_an_address_that_stands_for_a_private_one_is_private(address: str, form: str) -> None:
    assert refused(embeddings(address)[form], allow_private=False)


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_no_form_of_an_ipv4_address_reaches_more_than_the_address(
    address: ipaddress.IPv4Address,
) -> None:
    if refused(str(address), allow_private=False):
        for form in embeddings(str(address)).values():
            assert refused(form, allow_private=False), form


@settings(deadline=None)
@given(st.ip_addresses(v=6))
def test_what_nobody_has_been_given_is_refused(address: ipaddress.IPv6Address) -> None:
    given_out = address in ipaddress.ip_network("2000::/3")
    translated = address in ipaddress.ip_network("64:ff9b::/96") or address.ipv4_mapped
    assert refused(str(address), allow_private=False) or given_out or translated


@pytest.mark.parametrize("zone", ["eth0", "1", "25eth0", ""])
def test_a_zone_makes_no_other_address(zone: str) -> None:
    assert "link-local" in refused(f"fe80::1%{zone}", allow_private=True)
    assert "private" in refused(f"::1%{zone}", allow_private=False)


# -- spellings, on their way to a real receiver -----------------------------------------------

LOOPBACK = (
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0X7F.1", "0177.0.0.1", "017700000001",
    "127.0.0.1.", "localhost", "localhost.", "LOCALHOST", "foo.localhost",
    "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]",
    "１２７.0.0.1", "127。0。0。1", "①②⑦.0.0.1", "ｌｏｃａｌｈｏｓｔ", "%31%32%37.0.0.1",
    "user:pw@127.0.0.1", "example.org@127.0.0.1",
)  # fmt: skip
UNSPECIFIED = ("0", "0.0.0.0", "00", "0x0", "[::]", "[::ffff:0.0.0.0]")


@pytest.mark.parametrize("behind", ["", "a proxy"])
@pytest.mark.parametrize("host", [*LOOPBACK, *UNSPECIFIED])
def test_however_this_machine_is_spelled_it_is_not_reached(
    host: str, behind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as receiver:
        port = receiver.url.rsplit(":", 1)[1].split("/")[0]
        for name in ("no_proxy", "NO_PROXY", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        if behind:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        with (
            Transport(timedelta(seconds=10)).delivery() as requests,
            pytest.raises(DeliveryError),
        ):
            requests.post(f"http://{host}:{port}/", b"{}", {})
        assert receiver.got == []


@pytest.mark.parametrize("channel", [name for name in HTTP_CHANNELS if name != "apprise"])
@pytest.mark.parametrize("address", ["169.254.169.254", "192.0.2.1", "fec0::1", "0.0.0.0"])
def test_every_channel_checks_the_addresses_of_names(
    channel: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apprise makes connections of its own, which the documentation says."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def answer(*_: Any, **__: Any) -> Any:
        return [(family, socket.SOCK_STREAM, 6, "", (address, 80))]

    values = {**HTTP_CHANNELS[channel]("http://name.example.org/hook")}
    values["allow_private"] = address != "fec0::1"
    built, _ = build(channel_type(channel), values, tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with pytest.raises(DeliveryError, match="is not reached") as caught:
        built.send(message())
    assert caught.value.permanent


# -- headers -----------------------------------------------------------------------------------

FORBIDDEN = (
    "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Content-Encoding",
    "Expect", "TE", "Trailer", "Upgrade", "Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host",
    "Proxy-Authorization", "Proxy-Connection", "Proxy-Authenticate", "HTTP2-Settings",
    "Max-Forwards", "webhook-id", "webhook-timestamp", "webhook-signature",
)  # fmt: skip
WITH_HEADERS = ("webhook", "alertmanager")


def test_every_channel_with_headers_is_tried(tmp_path: Path) -> None:
    for channel in HTTP_CHANNELS:
        values = {**HTTP_CHANNELS[channel]("https://example.org/hook"), "headers": {"X-Team": "a"}}
        if channel in WITH_HEADERS:
            build(channel, values, tmp_path)
        else:
            with pytest.raises(ConfigError, match="unknown key `headers`"):
                build(channel_type(channel), values, tmp_path)


@pytest.mark.parametrize("channel", WITH_HEADERS)
@pytest.mark.parametrize("name", FORBIDDEN)
def test_headers_of_the_connection_can_t_be_set(channel: str, name: str, tmp_path: Path) -> None:
    for spelled in {name, name.lower(), name.upper(), name.swapcase(), name.replace("-", "_")}:
        values = {**HTTP_CHANNELS[channel]("https://example.org"), "headers": {spelled: "s3cret"}}
        with pytest.raises(ConfigError) as caught:
            build(channel, values, tmp_path)
        assert f"the header {spelled!r} can't be set" in str(caught.value)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("channel", WITH_HEADERS)
@pytest.mark.parametrize("second", ["x-team", "X-TEAM", "X_Team"])
def test_a_header_can_t_be_set_twice(channel: str, second: str, tmp_path: Path) -> None:
    headers = {"X-Team": "a", second: "b"}
    values = {**HTTP_CHANNELS[channel]("https://example.org"), "headers": headers}
    with pytest.raises(ConfigError, match="is set twice"):
        build(channel, values, tmp_path)


@pytest.mark.parametrize("channel", WITH_HEADERS)
def test_other_headers_arrive(channel: str, tmp_path: Path) -> None:
    headers = {
        "Authorization": "Bearer abc",
        "X-Scope-OrgID": "tenant",
        "Content-Type": "text/plain",
    }
    with receiving() as receiver:
        receiver.answers = [acceptance(channel)]
        values = {**HTTP_CHANNELS[channel](receiver.url.split("?")[0]), "headers": headers}
        build(channel, values, tmp_path)[0].send(message())
        [got] = receiver.got
    assert {name: got.headers[name.lower()] for name in headers} == headers
