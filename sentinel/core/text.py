"""Texts for terminals, logs and JSON: no escapes, no control characters, and one line where one is meant."""

from __future__ import annotations

import re

# Terminal escapes and other control characters, line separators, all that Unicode counts as
# Bidi_Control, and halves of characters.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


_SURROGATE = re.compile(r"[\ud800-\udfff]")


_SPACES = re.compile(r"\s+")


def plain(value: object) -> str:
    """Text that a terminal, a log or a mail only shows: no escapes, no control characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))


def line(value: object) -> str:
    """The same on one line: a mail header, a title."""
    return plain(_SPACES.sub(" ", str(value))).strip()


def in_json(text: str) -> str:
    """A JSON document for a terminal: control characters within its texts are escaped.

    Half a character becomes the replacement character: many parsers refuse it as an escape too.
    """
    whole = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    return _CONTROL.sub(lambda sign: f"\\u{ord(sign[0]):04x}", whole)


def visible(value: object) -> str:
    """Text on one line: whatever Unicode doesn't count as printable is written as an escape."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )


def field(value: object) -> str:
    """The value of `key=value` in a log line: quoted where it would not end at its own end."""
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    return '"' + visible(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'
