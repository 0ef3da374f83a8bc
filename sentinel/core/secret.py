"""Secrets: kept in pydantic's SecretStr, and scrubbed from whatever leaves the process."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

REDACTED = "**********"
# Shorter values would blot out ordinary words ("a", "dbt") and protect nobody.
_SHORTEST = 4
# Parts of a secret that are shorter may be words: /services, Bearer, v2.
_SHORTEST_PART = 8
_SCHEME = re.compile(r"(?:bearer|basic|token)\s+(?P<key>\S+)", re.IGNORECASE)


def _parts(secret: str) -> Iterator[str]:
    """What a library may print of a secret instead of the whole: a URL's path, the key in a header."""
    if header := _SCHEME.fullmatch(secret.strip()):
        yield header["key"]
    if "://" not in secret:
        return
    try:
        url = urlsplit(secret)
        password = unquote(url.password or "")
    except ValueError:
        return
    if url.password:
        yield password
        user = unquote(url.username or "")
        yield base64.b64encode(f"{user}:{password}".encode()).decode()
    where = url.path + (f"?{url.query}" if url.query else "")
    values = (value for _, value in parse_qsl(url.query))
    yield from filter(_keylike, (where, url.path, *url.path.split("/"), *values))


def _keylike(part: str) -> bool:
    """Whether a part of a URL is no word that stands elsewhere too."""
    return len(part) >= 2 * _SHORTEST_PART or any(sign.isdigit() for sign in part)


def _encoded(secret: str) -> Iterator[str]:
    """What base64 makes of it wherever it stands: what doesn't depend on its neighbours."""
    data = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        start = -(-before * 8 // 6)
        end = (before + len(data)) * 8 // 6
        yield whole[start:end]
        yield whole[start:end].replace("+", "-").replace("/", "_")


def _spellings(secret: str) -> Iterable[str]:
    yield secret
    yield quote(secret, safe="")
    yield quote(secret, safe=" +")  # SQLAlchemy's, in the URL of an engine
    yield quote_plus(secret)
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    if len(secret) >= _SHORTEST_PART:
        yield from _encoded(secret)


class Scrubber:
    """Takes known secrets out of text, in the spellings in which libraries print them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        whole = {secret for secret in secrets if len(secret) >= _SHORTEST}
        parts = {part for secret in whole for part in _parts(secret) if len(part) >= _SHORTEST_PART}
        spellings = {spelling for secret in whole | parts for spelling in _spellings(secret)}
        # The longest first: a secret may be part of another one.
        self._spellings = sorted(spellings, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for spelling in self._spellings:
            text = text.replace(spelling, REDACTED)
        return text
