"""Alert SQL is one SELECT: whatever else it is gets refused before the warehouse sees it.

This is the second guard. The warehouse's own parser decides first wherever it can be asked; two
parsers never agree on everything, so what they could read differently is refused here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import sqlglot
from sqlglot import Dialect, Token, TokenType, exp
from sqlglot.errors import SqlglotError

from sentinel.core.errors import QueryError
from sentinel.warehouses.postgres_tokens import Piece, read_pieces

_BEGINNINGS = (TokenType.SELECT, TokenType.WITH, TokenType.FROM, TokenType.L_PAREN)
_WRITES = (
    exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.Copy,
    exp.TruncateTable, exp.Into, exp.Set, exp.Use, exp.Attach, exp.Detach, exp.Command, exp.Pragma,
)  # fmt: skip
# Warehouses whose scanner is PostgreSQL's.
_LIKE_POSTGRES = ("postgres", "redshift")
# Texts and quoted names, which may hold any character.
_LITERALS = {
    TokenType.BIT_STRING, TokenType.BYTE_STRING, TokenType.HEREDOC_STRING, TokenType.HEX_STRING,
    TokenType.IDENTIFIER, TokenType.NATIONAL_STRING, TokenType.RAW_STRING, TokenType.STRING,
    TokenType.UNICODE_STRING,
}  # fmt: skip
# Letters, the marks that belong to them, and digits. Everything else beyond ASCII is a space to one
# parser, and part of a name to another.
_IN_NAMES = ("L", "M", "N")
# What names something, among PostgreSQL's tokens.
_NAMED = ("name", "quoted name")
_COMMENT = re.compile(r"--|#|//|/\*")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
# What ends a line for one parser and not for another. Line feed ends it for all.
_LINE_ENDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
# Nothing else needs a closer look: these, and comments of Jinja, which sqlglot skips.
_SUSPICIOUS = re.compile(r"[^\t\n\r -~]|\r(?!\n)|\{[#%{]")
# A comment that MySQL and MariaDB run.
_RUN_COMMENT = re.compile(r"/\*M?!")
# Words that begin a statement which does more than read, in any SQL.
_STATEMENTS = frozenset({
    "alter", "begin", "bulk", "call", "copy", "create", "dbcc", "delete", "deny", "drop", "exec",
    "execute", "export", "grant", "insert", "into", "kill", "load", "merge", "put", "reconfigure",
    "rename", "replace", "restore", "revoke", "shutdown", "truncate", "undrop", "unload", "update",
    "vacuum",
})  # fmt: skip
# Functions that reach beyond the tables although a reading transaction may call them, by dialect:
# files, other servers, the server itself, and SQL in a text, which nobody has looked at. Found in the
# catalogs of real servers: tests/security/read_only/test_functions.py tries every function that is there.
_BEYOND: Mapping[str, re.Pattern[str]] = {
    "bigquery": re.compile(r"external_query", re.IGNORECASE),
    "duckdb": re.compile(
        r"query|json_execute_serialized_sql|(enable|disable)_(logging|profiling)|write_log"
        r"|truncate_duckdb_logs|(force_)?checkpoint|\w+_external_resource(_type)?"
        r"|arrow_scan\w*|pandas_scan|python_\w+",
        re.IGNORECASE,
    ),
    "postgres": re.compile(
        # Files and large objects.
        r"pg_(read|ls|file|logdir)_\w+|pg_stat_file|pg_(hba|ident)_file_\w+|pg_show_all_file_settings"
        r"|lo_(import|export|creat|create|from_bytea|open|put|truncate|truncate64|unlink)|lowrite"
        # SQL in a text, and other servers; those of extensions by their documentation.
        r"|query_to_xml\w*|cursor_to_xml\w*|ts_stat|ts_rewrite"
        r"|dblink\w*|crosstab\w*|connectby|xpath_table|query_export_to_s3|table_import_from_s3"
        # The server, its indexes, its log and its statistics.
        r"|pg_(cancel|terminate)_backend|pg_reload_conf|pg_rotate_logfile\w*|pg_promote"
        r"|pg_(create|drop|copy|backup|log|replication)_\w+|pg_(start|stop)_backup|pg_switch_wal"
        r"|pg_wal_replay_(pause|resume)|pg_logical_(emit|slot_get|slot_peek)_\w+"
        r"|pg_sync_replication_slots|pg_export_snapshot|pg_import_system_collations|pg_nextoid"
        r"|pg_stat_reset\w*|pg_stat_statements_reset|pg_(clear|restore)_\w+_stats"
        r"|brin_(de)?summarize_\w+|gin_clean_pending_list|pg_truncate_visibility_map|heap_force_\w+"
        r"|binary_upgrade_\w+|pg_stop_making_pinned_objects",
        re.IGNORECASE,
    ),
}


def one_select(sql: str, dialect: str) -> str:
    """The statement without a closing semicolon.

    Raises QueryError if there is none, more than one, one that can write or do more than read
    tables, or one that parsers could read differently. A query that sqlglot can't parse is left to
    the warehouse, whose own parser decides and whose message is better; any other statement isn't,
    for it may write elsewhere (`export database` into files).
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
    _refuse_odd_characters(sql, tokens, dialect)
    _refuse_open_brackets(sql, [(token.text, token.start) for token in tokens if _symbol(token)])
    if dialect in _LIKE_POSTGRES:
        _refuse_as_postgres_reads_it(sql)
    beyond = _called_beyond(tokens, dialect)
    if beyond is not None:
        raise _reaches_beyond(beyond)
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


def refuse_writing(sql: str, dialect: str) -> None:
    """The guard of a warehouse that nobody can ask what a text is.

    Raises QueryError for a comment that the warehouse could run, and for a query that sqlglot can't
    parse and that has a word which begins another statement: SQL Server needs no semicolon before it.
    """
    tokens = _tokens(sql, dialect)
    _refuse_comments_that_run(sql, tokens)
    try:
        sqlglot.parse_one(sql, dialect=dialect)
    except (SqlglotError, RecursionError):
        refuse_statements(tokens)


def refuse_statements(tokens: Sequence[Token]) -> None:
    """Raises QueryError for a word that begins a statement which does more than read.

    Not after a dot or before a bracket, where it is the name of a column or a function.
    """
    for before, token, after in zip((None, *tokens), tokens, (*tokens[1:], None), strict=False):
        named = before is not None and before.token_type is TokenType.DOT
        called = after is not None and after.token_type is TokenType.L_PAREN
        if token.token_type in _LITERALS or named or (called and token.text.lower() != "into"):
            continue
        if token.text.lower() in _STATEMENTS:
            raise QueryError(
                f"the SQL can't be parsed, and holds {token.text.upper()}; an alert only reads",
                hint="put the name of a column in quotes",
            )


def _refuse_comments_that_run(sql: str, tokens: Sequence[Token]) -> None:
    edges = [0, *(edge for token in tokens for edge in (token.start, token.end + 1)), len(sql)]
    for at, end in zip(edges[::2], edges[1::2], strict=True):
        if found := _RUN_COMMENT.search(sql, at, end):
            line = sql.count("\n", 0, found.start()) + 1
            raise QueryError(
                f"the SQL has a comment that begins with {found.group()} in line {line}; some "
                "databases run its text",
                hint="put a space after `/*`",
            )


def refuse_calls(
    names: Sequence[str], dialect: str, reserved: Collection[str] = frozenset()
) -> None:
    """Raises QueryError if one of the functions reaches beyond the tables.

    `reserved` are further ones that the server keeps from ordinary users.
    """
    beyond = _BEYOND[dialect]
    for name in names:
        if beyond.fullmatch(name) or name.lower() in reserved:
            raise _reaches_beyond(name)


def refuse_reserved(sql: str, functions: Collection[str], views: Collection[str]) -> None:
    """Raises QueryError if SQL in PostgreSQL's tokens calls or reads one of these."""
    lowered = sql.lower()
    if not any(name in lowered for name in (*functions, *views)):
        return
    pieces = tuple(read_pieces(sql))
    refuse_calls([piece.text for piece in _called(pieces)], "postgres", functions)
    for piece in pieces:
        if piece.kind in _NAMED and piece.text.lower() in views:
            raise QueryError(f"the SQL reads {piece.text}, which does more than read tables")


def views_beyond(definitions: Mapping[str, str], functions: Collection[str]) -> frozenset[str]:
    """Which views of PostgreSQL would be refused if an alert had their text, by their definitions."""

    def refused(definition: str) -> bool:
        try:
            _refuse_as_postgres_reads_it(definition)
            refuse_reserved(definition, functions, ())
        except QueryError:
            return True
        return False

    return frozenset(name for name, text in definitions.items() if refused(text))


def _reaches_beyond(name: str) -> QueryError:
    return QueryError(f"the SQL calls {name}, which does more than read tables")


def _tokens(sql: str, dialect: str) -> Sequence[Token]:
    if "\0" in sql:
        raise _odd(sql, sql.index("\0"))
    try:
        tokens = sqlglot.tokenize(sql, dialect=dialect)
    except SqlglotError as error:
        raise QueryError(f"the SQL can't be read: {str(error).splitlines()[0]}") from None
    for one, next_ in pairwise(tokens):
        if (one.token_type, next_.token_type) == (TokenType.BYTE_STRING, TokenType.STRING):
            # PostgreSQL takes E'a' and 'b' on two lines for one text, and reads the backslashes of
            # both: it may end elsewhere, and the statement with it.
            raise QueryError(
                "the SQL can't be read: a string with escapes continues in another string"
            )
    return tokens


# -- characters on which parsers disagree ------------------------------------------------------


def _refuse_odd_characters(sql: str, tokens: Sequence[Token], dialect: str) -> None:
    """Raises QueryError for a character that is a space to one parser and a letter to another.

    Outside of texts and quoted names there are the characters of ASCII without the control
    characters, and letters; comments may hold more, but nothing that could end them.
    """
    if not _SUSPICIOUS.search(sql):
        return
    nested = bool(Dialect.get_or_raise(dialect).tokenizer_class.NESTED_COMMENTS)
    at = 0
    for token in tokens:
        _check_gap(sql, at, token.start, nested)
        if token.token_type not in _LITERALS:
            _check_code(sql, token.start, token.end + 1)
        at = token.end + 1
    _check_gap(sql, at, len(sql), nested)


def _check_gap(sql: str, at: int, end: int, nested: bool) -> None:
    """What lies between two tokens is white space and comments."""
    while at < end:
        if not _COMMENT.match(sql, at, end):
            if sql[at] not in " \t\n\r;":
                raise _odd(sql, at)
            at += 1
            continue
        closed = _end_of_comment(sql, at, end, nested)
        if found := _LINE_ENDS.search(sql.replace("\r\n", "\n\n"), at, closed):
            raise _odd(sql, found.start())
        at = closed


def _end_of_comment(sql: str, at: int, end: int, nested: bool) -> int:
    if not sql.startswith("/*", at):
        newline = sql.find("\n", at, end)
        return end if newline < 0 else newline
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, at, end):
        if edge.group() == "*/":
            depth -= 1
        elif nested or depth == 0:
            depth += 1
        if depth == 0:
            return edge.end()
    return end


def _check_code(sql: str, at: int, end: int) -> None:
    for position in range(at, end):
        character = sql[position]
        if not (" " <= character <= "~" or character in "\t\n\r") and (
            character.isascii() or unicodedata.category(character)[0] not in _IN_NAMES
        ):
            raise _odd(sql, position)


def _odd(sql: str, at: int) -> QueryError:
    name = unicodedata.name(sql[at], "control character")
    line = sql.count("\n", 0, at) + 1
    return QueryError(
        f"the SQL has the character U+{ord(sql[at]):04X} ({name}) in line {line}; outside of text "
        "and quoted names it means different things to different parsers",
        hint="replace it with a plain space, or quote the name that it is part of",
    )


def _refuse_open_brackets(sql: str, symbols: Sequence[tuple[str, int]]) -> None:
    """Raises QueryError for a bracket without its partner.

    It could close the bracket of the query that Sentinel makes around the statement.
    """
    depth = 0
    for text, at in symbols:
        depth += {"(": 1, ")": -1}[text]
        if depth < 0:
            line = sql.count("\n", 0, at) + 1
            raise QueryError(f"the SQL closes a bracket in line {line} that it hasn't opened")
    if depth:
        raise QueryError("the SQL opens a bracket that it doesn't close")


def _symbol(token: Token) -> bool:
    return token.token_type in (TokenType.L_PAREN, TokenType.R_PAREN)


# -- PostgreSQL's own rules --------------------------------------------------------------------


def _refuse_as_postgres_reads_it(sql: str) -> None:
    pieces = tuple(read_pieces(sql))
    for piece in pieces:
        if piece.kind == "name":
            _check_code(sql, piece.start, piece.end)
    symbols = [(each.text, each.start) for each in pieces if each.kind == "symbol"]
    ended = next((at for text, at in symbols if text == ";"), len(sql))
    if any(piece.start > ended and piece.text != ";" for piece in pieces):
        raise QueryError("the SQL holds several statements; an alert is one SELECT")
    _refuse_open_brackets(sql, [each for each in symbols if each[0] in "()"])
    refuse_calls([piece.text for piece in _called(pieces)], "postgres")


def _called(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """Names before a bracket or after a dot: `(x).f` is `f(x)`."""
    return [
        *(one for one, next_ in pairwise(pieces) if one.kind in _NAMED and next_.text == "("),
        *(next_ for one, next_ in pairwise(pieces) if one.text == "." and next_.kind in _NAMED),
    ]


# -- sqlglot's ---------------------------------------------------------------------------------


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

    Found among the tokens, since some SQL can't be parsed here and yet runs there.
    """
    beyond = _BEYOND.get(dialect)
    if beyond is None:
        return None
    for one, next_ in pairwise(tokens):
        if next_.token_type is TokenType.L_PAREN and beyond.fullmatch(one.text):
            return one.text
    return None
