"""Secrets: kept in pydantic's SecretStr, and scrubbed from whatever leaves the process."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, quote_plus

REDACTED = "**********"
# Shorter values would blot out ordinary words ("a", "dbt") and protect nobody.
_SHORTEST = 4


class Scrubber:
    """Takes known secrets out of text, in the spellings in which libraries print them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {
            spelling
            for secret in secrets
            if len(secret) >= _SHORTEST
            for spelling in (secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1])
        }
        # The longest first: a secret may be part of another one.
        self._spellings = sorted(spellings, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for spelling in self._spellings:
            text = text.replace(spelling, REDACTED)
        return text
