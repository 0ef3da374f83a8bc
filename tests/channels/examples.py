"""Examples of channels, on which the suites over all channels run.

Each contract-test class has an `example`; `tests/security/registry.py` collects them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]
# Status, content type and body of an HTTP response.
Reply = tuple[int, str, str]
Replies = Mapping[str, Reply]
Check = Callable[[Any], None]

DELIVERED, RETRY, PERMANENT = "delivered", "retry", "permanent"
# What a receiver of webhooks may mean as acceptance; others accept in their own way.
VAGUE: Replies = {
    "200 without a body": (200, "", ""),
    "204": (204, "", ""),
    "201": (201, "application/json", "{}"),
    "an error in JSON": (200, "application/json", '{"error": "no such tenant"}'),
    "a failure in JSON": (200, "application/json", '{"status": "error", "message": "no"}'),
    "JSON that breaks off": (200, "application/json", '{"status": "succ'),
    "another text": (200, "text/plain", "accepted"),
    "a number": (200, "application/json", "42"),
    "a list": (200, "application/json", '["ok"]'),
    "comments without a page": (200, "text/html", "<!---->" * 580),
    "JSON that nests deep": (200, "application/json", "[" * 4_000),
}


@dataclass(frozen=True, kw_only=True)
class Example:
    """A channel's type and settings.

    `name` is the type, and what tells apart several examples of one type: `slack by token`.
    `mentions_allowed` is why values may hold mentions; empty where they may not.
    """

    name: str
    mentions_allowed: str = ""

    @property
    def kind(self) -> str:
        return self.name.split()[0]


@dataclass(frozen=True, kw_only=True)
class HttpExample(Example):
    """A channel that posts to a receiver on loopback.

    `settings` takes the receiver's URL. `accepts` is the receiver's acceptance; `verdicts` are the
    channel's verdicts on other replies of 2xx, and on those of its own receiver. `check_mentions` raises
    AssertionError if a document holds a mention; without it, none of any service may be there.
    """

    settings: Callable[[str], Settings]
    accepts: Reply
    verdicts: Mapping[str, Replies] = field(default_factory=lambda: {RETRY: VAGUE})
    check_mentions: Check | None = None


@dataclass(frozen=True, kw_only=True)
class SmtpExample(Example):
    """A channel that sends to a mail server on loopback; `settings` takes its port."""

    settings: Callable[[int], Settings]


@dataclass(frozen=True, kw_only=True)
class LocalExample(Example):
    """A channel that writes on this machine."""

    settings: Settings


def strings_in(document: Any) -> Iterator[str]:
    """Every text of a JSON document, keys included."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from strings_in(value)
    elif isinstance(document, list):
        for each in document:
            yield from strings_in(each)
