"""SQL read as PostgreSQL reads it: the rules of the server's own scanner.

sqlglot's tokens differ from the server's in corners: an operator ends before `/*` and `--`, a line
comment ends at a carriage return, `$` continues a name, and every character beyond ASCII is a letter.
What one of them takes for text, the other may take for SQL.

https://github.com/postgres/postgres/blob/REL_16_STABLE/src/backend/parser/scan.l
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sentinel.core.errors import QueryError

Kind = Literal["name", "quoted name", "text", "symbol"]

# Cursors, settings, prepared statements, notifications, temporary tables, sequences and locks as in
# a new session. `DISCARD ALL` would give back the role too, which is the profile's. The seed of
# `random()` can't be given back, so it becomes one that nobody knows.
FORGET = """close all; reset all; set datestyle to ISO; deallocate all; unlisten *; discard temp;
discard sequences; select pg_advisory_unlock_all(), setseed({seed})"""

_SPACE = re.compile(r"(?:[ \t\n\r\f\v]|--[^\n\r]*)+")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_LETTER = r"A-Za-z_\u0080-\U0010ffff"
_TOKEN = re.compile(
    rf"""
    (?P<escaped_name> [uU]&" )
    | (?P<escaped_text> [eE]'(?:[^'\\]|''|\\.)*' )
    | (?P<text> (?:[bBnNxX]|[uU]&)?'(?:[^']|'')*' )
    | (?P<quoted> "(?:[^"]|"")*" )
    | (?P<dollars> \$(?:[{_LETTER}][{_LETTER}0-9]*)?\$ )
    | (?P<unfinished> /\*|(?:[bBeEnNxX]|[uU]&)?'|" )
    | (?P<name> [{_LETTER}][{_LETTER}0-9$]* )
    | (?P<number> (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)? )
    | (?P<symbol> . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Piece:
    """A token, from `start` up to `end`. A quoted name's `text` has neither quotes nor doubled ones."""

    kind: Kind
    text: str
    start: int
    end: int


def read_pieces(sql: str) -> Iterator[Piece]:
    """The tokens without spaces and comments, in order.

    Raises QueryError for a token without an end, a name with escapes, which only the server can
    resolve, and a text with escapes that goes on in another one.
    """
    at = _skip(sql, 0)
    escaped_until = -1
    while at < len(sql):
        piece = _piece(sql, at)
        if piece.kind == "text":
            if piece.start == escaped_until:
                # The server takes E'a' and 'b' on two lines for one text with escapes: it may end
                # elsewhere, and the statement with it.
                raise QueryError(
                    "the SQL can't be read: a string with escapes continues in another string"
                )
            escaped = sql[at] in "eE"
        else:
            escaped = False
        yield piece
        at = _skip(sql, piece.end)
        escaped_until = at if escaped else -1


def _skip(sql: str, at: int) -> int:
    """The position after spaces and comments, which may lie in one another."""
    while True:
        if space := _SPACE.match(sql, at):
            at = space.end()
        elif sql.startswith("/*", at):
            depth = 0
            for edge in _COMMENT_EDGE.finditer(sql, at):
                depth += 1 if edge.group() == "/*" else -1
                if depth == 0:
                    at = edge.end()
                    break
            else:
                return at
        else:
            return at


def _piece(sql: str, at: int) -> Piece:
    match = _TOKEN.match(sql, at)
    assert match is not None  # the last of its parts is any character
    text = match.group()
    match match.lastgroup:
        case "escaped_name":
            raise QueryError(
                f"the SQL has a name with escapes in line {_line(sql, at)}, {sql[at : at + 20]!r}",
                hint="write the name itself in quotes",
            )
        case "unfinished":
            raise _unfinished(sql, at)
        case "dollars":
            end = sql.find(text, match.end())
            if end < 0:
                raise _unfinished(sql, at)
            return Piece("text", sql[at : end + len(text)], at, end + len(text))
        case "escaped_text" | "text":
            return Piece("text", text, at, match.end())
        case "quoted":
            return Piece("quoted name", text[1:-1].replace('""', '"'), at, match.end())
        case "name":
            return Piece("name", text, at, match.end())
    return Piece("symbol", text, at, match.end())


def _unfinished(sql: str, at: int) -> QueryError:
    return QueryError(
        f"the SQL can't be read: what begins in line {_line(sql, at)} with {sql[at]} never ends"
    )


def _line(sql: str, at: int) -> int:
    return sql.count("\n", 0, at) + 1
