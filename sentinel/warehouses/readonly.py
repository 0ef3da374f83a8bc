"""Alert SQL is one SELECT: whatever else it is gets refused before the warehouse sees it."""

from __future__ import annotations

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.errors import SqlglotError

from sentinel.core.errors import QueryError

_WRITES = (
    exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.Copy,
    exp.TruncateTable, exp.Into, exp.Set, exp.Use, exp.Attach, exp.Detach, exp.Command, exp.Pragma,
)  # fmt: skip


def one_select(sql: str, dialect: str) -> str:
    """The statement without a closing semicolon.

    Raises QueryError if there is none, more than one, or one that can write. What sqlglot can't
    parse is left to the warehouse, whose own message is better and whose session can only read.
    """
    statements = _split(sql, dialect)
    if not statements:
        raise QueryError("the model compiles to no SQL at all")
    if len(statements) > 1:
        raise QueryError(f"the SQL holds {len(statements)} statements; an alert is one SELECT")
    try:
        tree = sqlglot.parse_one(statements[0], dialect=dialect)
    except (SqlglotError, RecursionError):
        return statements[0]
    if not isinstance(tree, exp.Query):
        raise QueryError(f"the SQL is a {tree.key.upper()} statement; an alert is one SELECT")
    write = tree.find(*_WRITES)
    if write is not None:
        raise QueryError(f"the SQL holds {write.key.upper()}; an alert only reads")
    return statements[0]


def _split(sql: str, dialect: str) -> list[str]:
    """The statements of a script, cut at semicolons that stand outside of strings and comments."""
    try:
        tokens = sqlglot.tokenize(sql, dialect=dialect)
    except SqlglotError:
        return [sql]
    pieces: list[str] = []
    start = 0
    empty = True
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            if not empty:
                pieces.append(sql[start : token.start])
            start, empty = token.end + 1, True
        else:
            empty = False
    if not empty:
        pieces.append(sql[start:])
    return pieces
