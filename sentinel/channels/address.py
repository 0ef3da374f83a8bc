"""Which addresses a channel may reach: the connection goes to the address that was checked.

The ranges are IANA's registries of special-purpose addresses as of 2025, with what was deprecated
since, and not those of Python's `ipaddress`, which differ from release to release.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import unquote, urlsplit

from sentinel.channels.deadline import Deadline, DeadlinePassed, Place
from sentinel.core.errors import DeliveryError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


# Where clouds tell a machine about itself, credentials included, and the link-local ranges in which
# most of them do.
_METADATA = _networks(
    "169.254.0.0/16", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "fe80::/10", "fd00:ec2::/32", "fd20:ce::254", "fd00:42::42",
)  # fmt: skip
_PRIVATE = _networks(
    "10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
    "100.64.0.0/10",  # shared by the customers of one provider, RFC 6598
    "198.18.0.0/15",  # benchmarks, RFC 2544; VPNs use it too
    "::1", "fc00::/7",
    "fec0::/10",  # site-local, deprecated by RFC 3879
    "64:ff9b:1::/48",  # NAT64 of one network, RFC 8215
)  # fmt: skip
_NO_HOST = _networks("0.0.0.0/8", "224.0.0.0/4", "255.255.255.255", "::", "ff00::/8")
_RESERVED = _networks(
    "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24",  # documentation, RFC 5737
    "2001:db8::/32", "3fff::/20",  # documentation, RFC 3849 and RFC 9637
    "192.0.0.0/24",  # protocols of the IETF
    "192.88.99.0/24",  # 6to4 relays, deprecated by RFC 7526
    "240.0.0.0/4",
    "2001::/23",  # protocols of the IETF: Teredo, benchmarks, identifiers of hosts
)  # fmt: skip
# Of IPv6 only 2000::/3 is given out as public addresses; the others are IPv4 in another form.
_GIVEN_OUT = _networks("2000::/3", "::ffff:0:0/96", "64:ff9b::/96")
# What stands for an IPv4 address by its last 32 bits: RFC 4291 sections 2.5.5.1 and 2.5.5.2,
# RFC 2765 section 2.1, RFC 6052, RFC 8215.
_MAPPED = _networks("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
_TEREDO, _SIX_TO_FOUR = _networks("2001::/32", "2002::/16")
# The interface identifiers of ISATAP, RFC 5214 section 6.1.
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
_LINK_LOCAL = "its address is link-local, or that of a cloud's metadata"
_NOT_A_HOST = "its address is not that of a host"
_IS_PRIVATE = "its address is private; `allow_private: true` of the channel allows that"
_IS_RESERVED = "its address is reserved: it belongs to no host on the Internet"
_REFUSALS = (_LINK_LOCAL, _NOT_A_HOST, _IS_PRIVATE, _IS_RESERVED)
_UNFIT = re.compile(r"[\s\\\x00-\x1f\x7f]")
_LOCALHOST = re.compile(r"(.*\.)?localhost", re.IGNORECASE)


def check_url(url: str) -> str:
    """A URL as a channel's setting. Raises ValueError, which never shows it: such URLs are secret."""
    if _UNFIT.search(url):
        raise ValueError("the URL holds a space, a backslash or a control character")
    if not url.lower().startswith(("https://", "http://")):
        raise ValueError("the URL has to begin with https:// or http://")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("the URL is malformed: its host or its port can't be read") from None
    if not host:
        raise ValueError("the URL names no host")
    return url


def resolve(host: str, port: int, deadline: Deadline, *, allow_private: bool) -> list[Place]:
    """The addresses of a host, each one checked; a host with a single refused one is refused.

    Raises DeliveryError: retryable if the name doesn't resolve, permanent if an address is
    one that no channel may reach. Raises DeadlinePassed.
    """
    try:
        places = deadline.resolve(host, port)
    except UnicodeError:
        raise DeliveryError("the URL's host can't be used", permanent=True) from None
    except DeadlinePassed:
        raise
    except OSError:
        raise DeliveryError(f"the host {host} can't be resolved") from None
    for _, (address, *_) in places:
        _refuse(host, refused(str(address), allow_private=allow_private))
    return places


def check_unresolved(host: str, *, allow_private: bool) -> None:
    """Check a host that a proxy resolves: an address in any spelling, and the names of loopback.

    Raises DeliveryError.
    """
    plain = unquote(host)
    address = literal(plain)
    if address is None and _LOCALHOST.fullmatch(plain.rstrip(".")):
        address = "127.0.0.1"
    if address is not None:
        _refuse(host, refused(address, allow_private=allow_private))


def _refuse(host: str, refusal: str) -> None:
    if refusal:
        raise DeliveryError(f"the host {host} is not reached: {refusal}", permanent=True)


def refused(text: str, *, allow_private: bool) -> str:
    """Why an address may not be reached; '' if it may."""
    address = ipaddress.ip_address(text.partition("%")[0])
    # An address that stands for others is as good as the worst of them.
    refusals = {_refused(each, allow_private) for each in (*_inner(address), address)}
    return next((each for each in _REFUSALS if each in refusals), "")


def _refused(address: Address, allow_private: bool) -> str:
    if _within(address, _METADATA):
        return _LINK_LOCAL
    if _within(address, _NO_HOST):
        return _NOT_A_HOST
    if _within(address, _PRIVATE):
        return "" if allow_private else _IS_PRIVATE
    public = isinstance(address, IPv4Address) or _within(address, _GIVEN_OUT)
    if not public or _within(address, _RESERVED):
        return _IS_RESERVED
    return ""


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine, without resolving it."""
    address = literal(host)
    if address is None:
        return bool(_LOCALHOST.fullmatch(host.rstrip(".")))
    return ipaddress.ip_address(address).is_loopback


def literal(host: str) -> str | None:
    """The address that a host is without any resolving, in whatever spelling: 127.1, 0x7f000001."""
    bare = host.strip("[]").partition("%")[0]
    # Names are looked up as nameprep (RFC 3491) reads them: with digits and dots of other scripts.
    with suppress(UnicodeError):
        bare = bare.encode("idna").decode("ascii")
    bare = bare.rstrip(".")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(bare))
    except OSError:
        return None


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == each.version and address in each for each in networks)


def _inner(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, IPv4Address) or int(address) <= 1:
        return
    bits = int(address)
    last = IPv4Address(bits & 0xFFFF_FFFF)
    if _within(address, _MAPPED) or (bits >> 32) & 0xFFFF_FFFF in _ISATAP:
        yield last
    if address in _SIX_TO_FOUR:
        yield IPv4Address((bits >> 80) & 0xFFFF_FFFF)
    if address in _TEREDO:
        yield IPv4Address(~bits & 0xFFFF_FFFF)
        yield IPv4Address((bits >> 64) & 0xFFFF_FFFF)
