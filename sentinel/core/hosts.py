"""Host names of HTTP: what a Host header names, and which names are expected."""

from __future__ import annotations

import ipaddress
import re

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ANY = "*"
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HEADER = re.compile(
    r"(?P<host>\[[0-9a-f:.]+\]|[^\[\]:]+)(?::(?P<port>[0-9]{0,5}))?", re.IGNORECASE
)


def host_pattern(text: str) -> str:
    """An expected host as it is compared: a name, an address, `*.example.com`, or `*`.

    Raises ValueError.
    """
    if text == ANY:
        return ANY
    wild = text.startswith("*.")
    bare = text[2:] if wild else text
    name = normal_host(bare[1:-1] if bare.startswith("[") and bare.endswith("]") else bare)
    if name is None or (wild and _address(name)):
        raise ValueError(
            f"{text!r} is no host: write a name or an address without scheme and port, "
            "*.example.com for all below a domain, or * for any"
        )
    return f"*.{name}" if wild else name


def read_host(header: str) -> str | None:
    """The host of a Host header as it is compared, without its port; None if it isn't valid."""
    found = _HEADER.fullmatch(header)
    if found is None or int(found["port"] or 0) > 65_535:
        return None
    host = found["host"]
    if host.startswith("["):
        return normal_host(host[1:-1]) if ":" in host else None
    return normal_host(host)


def normal_host(host: str) -> str | None:
    """A name in lower case, or an address in its shortest form; None for what is neither."""
    address = _address(host)
    if address is not None:
        return address
    name = host.lower().removesuffix(".")
    return name if len(name) <= 253 and _NAME.fullmatch(name) else None


def matches_host(host: str, pattern: str) -> bool:
    """Whether a host, as `read_host` gives it, is one that a pattern expects."""
    if pattern == ANY:
        return True
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _address(host: str) -> str | None:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
