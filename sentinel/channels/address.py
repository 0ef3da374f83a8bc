"""Which addresses a channel may reach: the connection goes to the address that was checked."""

from __future__ import annotations

import ipaddress
import re
import socket
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

from sentinel.core.errors import DeliveryError

Address = IPv4Address | IPv6Address

# Where clouds tell a machine about itself, credentials included.
_METADATA = frozenset(
    ipaddress.ip_address(each)
    for each in (
        "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192",
        "fd00:ec2::254", "fd20:ce::254",
    )
)  # fmt: skip
# What stands for an IPv4 address by its last 32 bits: RFC 6052, RFC 8215, RFC 4291 section 2.5.5.1.
_TRANSLATED = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_UNFIT = re.compile(r"[\s\\\x00-\x1f\x7f]")


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


def resolve(host: str, port: int, *, allow_private: bool) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of a host, each one checked; a host with a single refused one is refused.

    Raises DeliveryError: to be tried again if the name doesn't resolve, permanent if an address is
    one that no channel may reach.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise DeliveryError("the URL's host can't be used", permanent=True) from None
    except OSError:
        raise DeliveryError(f"the host {host} can't be resolved") from None
    addresses = list(dict.fromkeys((family, str(place[0])) for family, _, _, _, place in found))
    for _, address in addresses:
        refusal = refused(address, allow_private=allow_private)
        if refusal:
            raise DeliveryError(f"the host {host} is not reached: {refusal}", permanent=True)
    return addresses


def refused(text: str, *, allow_private: bool) -> str:
    """Why an address may not be reached; '' if it may."""
    address = _inner(ipaddress.ip_address(text.partition("%")[0]))
    if address in _METADATA or address.is_link_local:
        return "its address is link-local, or that of a cloud's metadata"
    if address.is_multicast or address.is_unspecified:
        return "its address is not that of a host"
    local = address.is_loopback or address.is_private or address in _SHARED
    if address.is_reserved and not local:
        return "its address is reserved"
    if local and not allow_private:
        return "its address is private; `allow_private: true` of the channel allows that"
    return ""


def literal(host: str) -> str | None:
    """The address that a host is without any resolving, in whatever spelling: 127.1, 0x7f000001."""
    bare = host.rstrip(".")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(bare))
    except OSError:
        return None


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if int(address) > 1 and any(address in each for each in _TRANSLATED):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
