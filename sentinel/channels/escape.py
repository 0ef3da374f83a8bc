"""Values of the warehouse are data: one function a format, so that they only show there."""

from __future__ import annotations

import html as _html
import re

from sentinel.core.values import cut

__all__ = ["cut", "html", "line", "markdown", "mrkdwn", "plain"]

# Terminal escapes and other control characters, line separators, and what turns text around.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$&:])")
_SPACES = re.compile(r"\s+")


def plain(value: object) -> str:
    """Text that a terminal, a log or a mail only shows: no escapes, no control characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))


def line(value: object) -> str:
    """The same on one line: a mail header, a title."""
    return plain(_SPACES.sub(" ", str(value))).strip()


def html(value: object) -> str:
    """Text within an HTML element or a quoted attribute."""
    return _html.escape(plain(value), quote=True)


def mrkdwn(value: object) -> str:
    """Text within Slack's mrkdwn: no mentions, links or formatting come of it.

    Source: Slack's documentation, "Formatting text for app surfaces": `&`, `<` and `>` are
    escaped; a zero-width space keeps the signs of formatting from being taken for such.
    """
    text = plain(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([*_~`])", "\N{ZERO WIDTH SPACE}\\1", text)


def markdown(value: object) -> str:
    """Text within Markdown: a backslash before every sign (CommonMark, "Backslash escapes")."""
    return _MARKDOWN.sub(r"\\\1", plain(value))
