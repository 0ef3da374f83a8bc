"""Alert SQL is one SELECT: whatever else it is gets refused before the warehouse sees it."""

from __future__ import annotations

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError

from sentinel.core.errors import QueryError

_BEGINNINGS = (TokenType.SELECT, TokenType.WITH, TokenType.FROM, TokenType.L_PAREN)
_WRITES = (
    exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.Copy,
    exp.TruncateTable, exp.Into, exp.Set, exp.Use, exp.Attach, exp.Detach, exp.Command, exp.Pragma,
)  # fmt: skip


def one_select(sql: str, dialect: str) -> str:
    """The statement without a closing semicolon.

    Raises QueryError if there is none, more than one, or one that can write. A query that sqlglot
    can't parse is left to the warehouse, whose own message is better and whose session can only
    read; any other statement isn't, for it may write elsewhere (`export database` into files).
    """
    statements = _split(sql, dialect)
    if not statements:
        raise QueryError("the model compiles to no SQL at all")
    if len(statements) > 1:
        raise QueryError(f"the SQL holds {len(statements)} statements; an alert is one SELECT")
    first, statement = statements[0]
    if first.token_type not in _BEGINNINGS:
        raise QueryError(f"the SQL begins with {first.text.upper()}; an alert is one SELECT")
    try:
        tree = sqlglot.parse_one(statement, dialect=dialect)
    except (SqlglotError, RecursionError):
        return statement
    if not isinstance(tree, exp.Query):
        raise QueryError(f"the SQL is a {tree.key.upper()} statement; an alert is one SELECT")
    write = tree.find(*_WRITES)
    if write is not None:
        raise QueryError(f"the SQL holds {write.key.upper()}; an alert only reads")
    return statement


def _split(sql: str, dialect: str) -> list[tuple[Token, str]]:
    """The statements of a script, cut at semicolons that stand outside of strings and comments.

    Each with its first token.
    """
    try:
        tokens = sqlglot.tokenize(sql, dialect=dialect)
    except SqlglotError as error:
        raise QueryError(f"the SQL can't be read: {str(error).splitlines()[0]}") from None
    pieces: list[tuple[Token, str]] = []
    start = 0
    first: Token | None = None
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            if first:
                pieces.append((first, sql[start : token.start]))
            start, first = token.end + 1, None
        else:
            first = first or token
    if first:
        pieces.append((first, sql[start:]))
    return pieces
