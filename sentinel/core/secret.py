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
# As much of a secret as may be left of it where a text was cut.
_PIECE = 6
_SCHEME = re.compile(r"(?:bearer|basic|token)\s+(?P<key>\S+)", re.IGNORECASE)
# What stands where a text was cut, by us or by a library.
_CUT = re.compile(r"…|\.\.\.|\Z")
_CUT_BEFORE = re.compile(r"…|\.\.\.")
_LONGEST_PIECE = 500


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
    if len(secret) < _SHORTEST_PART:
        return
    data = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        start = -(-before * 8 // 6)
        end = (before + len(data)) * 8 // 6
        yield whole[start:end]
        yield whole[start:end].replace("+", "-").replace("/", "_")


def spellings(text: str) -> Iterable[str]:
    """A text as libraries print it: as it is, in a URL, in Python, in JSON."""
    yield text
    yield quote(text, safe="")
    yield quote(text, safe=" +")  # SQLAlchemy's, in the URL of an engine
    yield quote_plus(text)
    yield repr(text)[1:-1]
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]


class Scrubber:
    """Takes known secrets out of text, in the spellings in which libraries print them.

    A text may have been cut before it came here, by us or by anybody, and what is left of a secret
    there is no secret as a whole: so the beginning of one where the text ends goes too, and the end
    of one behind a sign that the text was cut.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        whole = {secret for secret in secrets if len(secret) >= _SHORTEST}
        parts = {part for secret in whole for part in _parts(secret) if len(part) >= _SHORTEST_PART}
        # The longest first: a secret may be part of another one.
        self._spellings = sorted(_spelled(whole | parts), key=len, reverse=True)
        # Most of a URL are words, which stand elsewhere too: of it only its keys count in pieces.
        keys = {each for each in whole | parts if "://" not in each and not each.startswith("/")}
        self._keys = {each for each in _spelled(keys) if len(each) >= _PIECE}
        self._beginnings = {each[:_PIECE] for each in self._keys}
        self._ends = {each[-_PIECE:] for each in self._keys}
        self._pieces = {
            each[at : at + _PIECE]
            for each in map(_squeezed, self._keys)
            for at in range(len(each) - _PIECE + 1)
        }

    def __call__(self, text: str) -> str:
        for spelling in self._spellings:
            text = text.replace(spelling, REDACTED)
        return self._without_end(self._without_beginning(text))

    def thoroughly(self, text: str) -> str:
        """A text of somebody who knows a secret and may show it in any way: cut at both ends, broken
        into lines, in capitals. Six characters that follow each other in a secret are not left. In
        our own words that would blot out more than secrets."""
        text = self(text)
        kept = [at for at, sign in enumerate(text) if not sign.isspace()]
        squeezed = _squeezed(text)
        hidden: list[tuple[int, int]] = []
        for at in range(len(squeezed) - _PIECE + 1):
            if squeezed[at : at + _PIECE] in self._pieces:
                start, end = kept[at], kept[at + _PIECE - 1] + 1
                if hidden and start <= hidden[-1][1]:
                    hidden[-1] = (hidden[-1][0], end)
                else:
                    hidden.append((start, end))
        for start, end in reversed(hidden):
            text = text[:start] + REDACTED + text[end:]
        return text

    def _without_beginning(self, text: str) -> str:
        """Without the beginning of a secret at the end of the text, or before a sign of a cut."""
        for cut in reversed(list(_CUT.finditer(text))):
            end = len(text[: cut.start()].rstrip())
            for at in range(max(0, end - _LONGEST_PIECE), end - _PIECE + 1):
                piece = text[at:end]
                if piece[:_PIECE] in self._beginnings and any(
                    key.startswith(piece) for key in self._keys
                ):
                    text = text[:at] + REDACTED + text[end:]
                    break
        return text

    def _without_end(self, text: str) -> str:
        """Without the end of a secret at the beginning of the text, behind a sign of a cut."""
        cut = _CUT_BEFORE.match(text)
        if cut is None:
            return text
        start = cut.end()
        for end in range(min(len(text), start + _LONGEST_PIECE), start + _PIECE - 1, -1):
            piece = text[start:end]
            if piece[-_PIECE:] in self._ends and any(key.endswith(piece) for key in self._keys):
                return text[:start] + REDACTED + text[end:]
        return text


def _spelled(secrets: Iterable[str]) -> set[str]:
    return {each for secret in secrets for each in (*spellings(secret), *_encoded(secret))}


def _squeezed(text: str) -> str:
    """Without white space, in small letters; each sign stays one sign."""
    signs = (sign for sign in text if not sign.isspace())
    return "".join(low if len(low := sign.lower()) == 1 else sign for sign in signs)
