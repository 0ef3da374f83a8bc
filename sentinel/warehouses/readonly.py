"""Alert SQL is one SELECT: whatever else it is gets refused before the warehouse sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError

from sentinel.core.errors import QueryError

_BEGINNINGS = (TokenType.SELECT, TokenType.WITH, TokenType.FROM, TokenType.L_PAREN)
_WRITES = (
    exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.Copy,
    exp.TruncateTable, exp.Into, exp.Set, exp.Use, exp.Attach, exp.Detach, exp.Command, exp.Pragma,
)  # fmt: skip
# Functions that reach beyond the tables although a reading transaction may call them, by dialect:
# files, other servers, the server itself, and SQL in a text, which nobody has looked at.
_BEYOND: Mapping[str, re.Pattern[str]] = {
    "duckdb": re.compile(
        r"query|json_execute_serialized_sql|(enable|disable)_(logging|profiling)|write_log"
        r"|truncate_duckdb_logs|(force_)?checkpoint|\w+_external_resource(_type)?"
        r"|arrow_scan\w*|pandas_scan|python_\w+",
        re.IGNORECASE,
    ),
    "postgres": re.compile(
        r"pg_(read|ls|file|logdir)_\w+|pg_stat_file|pg_(hba|ident)_file_\w+|pg_show_all_file_settings"
        r"|lo_(import|export|creat|create|from_bytea|open|put|truncate|truncate64|unlink)|lowrite"
        r"|dblink\w*|query_export_to_s3|table_import_from_s3|query_to_xml\w*"
        r"|pg_(cancel|terminate)_backend|pg_reload_conf|pg_rotate_logfile\w*|pg_promote"
        r"|pg_(create|drop|copy|backup|log|replication)_\w+|pg_(start|stop)_backup|pg_switch_wal"
        r"|pg_wal_replay_(pause|resume)|pg_logical_(emit|slot_get)_\w+|pg_sync_replication_slots"
        r"|pg_stat_reset\w*|pg_stat_statements_reset|pg_import_system_collations",
        re.IGNORECASE,
    ),
}


def one_select(sql: str, dialect: str) -> str:
    """The statement without a closing semicolon.

    Raises QueryError if there is none, more than one, or one that can write or do more than read
    tables. A query that sqlglot can't parse is left to the warehouse, whose own message is better and
    whose session can only read; any other statement isn't, for it may write elsewhere
    (`export database` into files).
    """
    tokens = _tokens(sql, dialect)
    statements = _split(sql, tokens)
    if not statements:
        raise QueryError("the model compiles to no SQL at all")
    if len(statements) > 1:
        raise QueryError(f"the SQL holds {len(statements)} statements; an alert is one SELECT")
    first, statement = statements[0]
    if first.token_type not in _BEGINNINGS:
        raise QueryError(f"the SQL begins with {first.text.upper()}; an alert is one SELECT")
    beyond = _called_beyond(tokens, dialect)
    if beyond is not None:
        raise QueryError(f"the SQL calls {beyond}, which does more than read tables")
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


def _tokens(sql: str, dialect: str) -> Sequence[Token]:
    try:
        tokens = sqlglot.tokenize(sql, dialect=dialect)
    except SqlglotError as error:
        raise QueryError(f"the SQL can't be read: {str(error).splitlines()[0]}") from None
    for one, next_ in pairwise(tokens):
        if (one.token_type, next_.token_type) == (TokenType.BYTE_STRING, TokenType.STRING):
            # PostgreSQL takes E'a' and 'b' on two lines for one text, and reads the backslashes of
            # both: it may end elsewhere, and the statement with it.
            raise QueryError("the SQL can't be read: a text with escapes goes on in another text")
    return tokens


def _split(sql: str, tokens: Sequence[Token]) -> list[tuple[Token, str]]:
    """The statements of a script, cut at semicolons that stand outside of strings and comments.

    Each with its first token.
    """
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


def _called_beyond(tokens: Sequence[Token], dialect: str) -> str | None:
    """The first function called that reaches beyond the tables.

    Found among the tokens, since some SQL can't be parsed here and yet runs there. A call is a name
    before a bracket, or after a dot: `(x).f` is `f(x)` on PostgreSQL.
    """
    beyond = _BEYOND.get(dialect)
    if beyond is None:
        return None
    for one, next_ in pairwise(tokens):
        if next_.token_type is TokenType.L_PAREN and beyond.fullmatch(one.text):
            return one.text
        if one.token_type is TokenType.DOT and beyond.fullmatch(next_.text):
            return next_.text
    return None
