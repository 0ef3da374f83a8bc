"""Values of the warehouse are data: one function a format, so that they only show there."""

from __future__ import annotations

import html as _html
import re

from sentinel.core.text import line, plain
from sentinel.core.values import cut

__all__ = ["code", "cut", "cut_escaped", "html", "markdown", "mrkdwn", "unpinged"]

_EMPTY = "\N{ZERO WIDTH SPACE}"
# Signs of mrkdwn where they may begin or end something; within a word, as in late_orders, they
# don't, and a name has to stay as it is for those who copy it.
_SIGN = re.compile(r"`|(?<![^\W_])[*_~]|[*_~](?![^\W_])|^(?=&gt;)", re.MULTILINE)
_GRAVE = "\N{MODIFIER LETTER GRAVE ACCENT}"
_ENTITY = re.compile(r"&(?:#?\w{0,6})?$")
# An address of a mailbox, which stays as it is. Not one from which a chat may read a name or a number
# of somebody: those of everybody, digits, or one that stands in a chat's brackets.
_MAILBOX = (
    r"(?<![\w.+%@/\\-])[A-Za-z0-9](?:[A-Za-z0-9._+%-]*[A-Za-z0-9])?"
    r"@(?!(?i:all|any|channel|every|group|here|member|moderator|admin|online|present|role|room|team|user))"
    r"[A-Za-z][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)+"
    r"(?![\w@/-]|:\w|[^\s|>\uff5c\uff1e]{0,300}[ \t]*[|>\uff5c\uff1e])"
)
# With their forms in Unicode, as a service may fold them. The first four call somebody in one chat or
# another, whatever follows; the others where they begin one of a chat's own marks: `<users/all>`,
# `<!here>` and `!here>`, `[x](tg://user?id=1)`, `[~name]`, `(met)all(met)`, `=?utf-8?q?...?=`, `u/name`.
_MARKS = (
    r"[@\uff20\ufe6b]"
    r"|[<\uff1c\ufe64](?![\s\d=]|[<>-]\s)"
    r"|[!\uff01\ufe57](?![\s=])"
    r"|[\]\uff3d](?=[(\[:\uff08]|\Z)"
    r"|[\[\uff3b](?=[~\[!^#]|[A-Za-z]+:|\Z)"
    r"|[(\uff08](?=[A-Za-z]{2,4}[)\uff09]|\Z)"
    r"|[&\uff06](?=#|[A-Za-z0-9]+;|\Z)"
    r"|=(?=\?|\Z)"
    r"|\\(?=x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|N\{|[0-7]{2}|\Z)"
    r"|(?<![A-Za-z0-9/])/?u/"
)
_MENTION = re.compile(r"[@\uff20\ufe6b]\S*\Z")
_LONGEST_MENTION = 300
_CALL = re.compile(rf"(?P<mailbox>{_MAILBOX})|{_MARKS}")
# What may be a link with another text, as some chats write it: `<https://example.com|text>`.
_TITLED = re.compile(r"(?<![^\s|])([^\s|]++[ \t]*+)\|")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$&:])")


def html(value: object) -> str:
    """Text within an HTML element or a quoted attribute."""
    return _html.escape(plain(value), quote=True)


def mrkdwn(value: object) -> str:
    """Text within Slack's mrkdwn: no mentions, links or formatting come of it.

    Source: Slack's documentation, "Formatting text for app surfaces": `&`, `<` and `>` are
    escaped; a zero-width space keeps the signs of formatting from being taken for such.
    """
    return _SIGN.sub(lambda sign: _EMPTY + sign[0], _entities(value))


def code(value: object) -> str:
    """Text as code of mrkdwn, which people can copy as it is."""
    return f"`{_entities(line(value)).replace('`', _GRAVE)}`"


def _entities(value: object) -> str:
    return plain(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut_escaped(text: str, most: int) -> tuple[str, str]:
    """The first `most` characters of escaped text and its rest, no entity taken apart."""
    head = text[:most]
    if len(text) > most:
        head = _ENTITY.sub("", head) or head
    return head, text[len(head) :]


def unpinged(value: object) -> str:
    """Text for a service whose format is not known: it calls nobody and hides no link.

    A zero-width space after each mark that may begin a mention keeps it from being one, in whatever
    format it is read. Addresses of mailboxes stay as they are.
    """
    return _CALL.sub(_unmark, _TITLED.sub(_untitled, plain(value)))


def _unmark(mark: re.Match[str]) -> str:
    """A mark with the zero-width space after it; the address of a mailbox as it is.

    What follows another mention without a space is no mailbox: `@jane:example.org@jane` is two.
    """
    if not mark["mailbox"]:
        return mark[0] + _EMPTY
    begin = max(0, mark.start() - _LONGEST_MENTION)
    if _MENTION.search(mark.string, begin, mark.start()):
        return mark[0].replace("@", f"@{_EMPTY}")
    return mark[0]


def _untitled(found: re.Match[str]) -> str:
    return f"{found[1]} {_EMPTY}|" if "://" in found[1] else found[0]


def markdown(value: object) -> str:
    """Text within Markdown: a backslash before every sign (CommonMark, "Backslash escapes")."""
    return _MARKDOWN.sub(r"\\\1", plain(value))
