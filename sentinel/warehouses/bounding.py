"""Statements that read an excerpt of a query: long values are cut by the warehouse itself.

For each column whose values may be long the statement has two: the value where it is short enough,
as the warehouse gives it, else NULL; and of a value that is too long its length and beginning.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlglot

from sentinel.core.errors import QueryError
from sentinel.core.evaluation import Excerpt, QueryDescription
from sentinel.core.values import MOST_NESTED, Truncated, shortened

# The most bytes of a character in UTF-8.
BYTES = 4
# Everything in JSON but its brackets.
_ALL_BUT_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[^\[\]{}"]+', re.DOTALL)
# What becomes the column in an expression that sqlglot writes.
_COLUMN = "sentinel_column"


@dataclass(frozen=True)
class Cell:
    """SQL of one column: the complete value if it is short, and the excerpt if it is long.

    `cut` is NULL or a text: the length of the value, what it counts, a colon, and its beginning. `c`
    counts the characters of a text, `b` the bytes of a blob, and `t` the bytes of a text; of these the
    beginning is in hexadecimal digits. `decode` makes the value of the text that the driver gives, and raises
    ValueError; `check` raises it at the beginning of a value that no reader could take whole.
    """

    value: str
    cut: str | None = None
    decode: Callable[[str], Any] | None = None
    check: Callable[[str], None] = field(default=lambda _: None)


@dataclass(frozen=True)
class Bounded:
    """A statement that reads an excerpt, and how its rows become the excerpt's.

    Without `cells` it is the query as it was, whose rows have all columns.
    """

    sql: str
    excerpt: Excerpt
    cells: Mapping[int, Cell] = field(default_factory=dict)

    def read(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """The values of a row. Raises QueryError, naming the column."""
        if not self.cells:
            return tuple(shortened(row[n], most) for n, most in self.excerpt.longest.items())
        cuts = iter(row[len(self.excerpt.longest) :])
        return tuple(
            self._value(position, longest, value, next(cuts) if self._is_cut(position) else None)
            for (position, longest), value in zip(self.excerpt.longest.items(), row, strict=False)
        )

    def _is_cut(self, position: int) -> bool:
        return self.cells[position].cut is not None

    def _value(self, position: int, longest: int, value: Any, cut: str | None) -> Any:
        cell = self.cells[position]
        try:
            if cut is not None:
                size, _, beginning = cut.partition(":")
                cell.check(beginning)
                return _cut(int(size[:-1]), size[-1], beginning, longest)
            if cell.decode is None or value is None:
                return shortened(value, longest)
            return cell.decode(value)
        except (MemoryError, RecursionError, ValueError) as error:
            raise unreadable(error, [self.excerpt.described.columns[position]]) from None


def _cut(size: int, unit: str, beginning: str, longest: int) -> Truncated:
    if unit == "c":
        return Truncated(beginning, size)
    if unit == "t":
        beginning = bytes.fromhex(beginning).decode(errors="replace")
    return Truncated(beginning[:longest], size, "bytes")


class Cells(ABC):
    """How one warehouse bounds values in its SQL."""

    @abstractmethod
    def may_be_long(self, kind: Any) -> bool:
        """Whether the values of a type have no natural length."""

    def may_be_unreadable(self, kind: Any) -> bool:
        """Whether a driver may fail at a value of this type."""
        return self.may_be_long(kind)

    @abstractmethod
    def cell(self, column: str, kind: Any, longest: int) -> Cell:
        """A column whose values may be long. `column` is its name in SQL."""

    @abstractmethod
    def bound(self, sql: str, excerpt: Excerpt, limit: int) -> Bounded:
        """The statement. `sql` is one SELECT without a semicolon."""

    def described(self, columns: Sequence[str], kinds: Sequence[Any]) -> QueryDescription:
        """What is known of a query from its columns and their types."""
        return QueryDescription(
            tuple(columns), types=tuple(kinds), lengthy=tuple(map(self.may_be_long, kinds))
        )

    def unreadable(self, error: Exception, excerpt: Excerpt | None) -> QueryError:
        """An error of the driver while it reads rows, with the columns it can be about."""
        if excerpt is None:
            return unreadable(error, ())
        described = excerpt.described
        suspects = [
            described.columns[n]
            for n in excerpt.longest
            if not described.types or self.may_be_unreadable(described.types[n])
        ]
        return unreadable(error, suspects)

    def _cells(self, excerpt: Excerpt, names: Sequence[str]) -> dict[int, Cell]:
        """The cells of an excerpt whose columns have these names in SQL."""
        described = excerpt.described
        kinds = described.types or (None,) * len(described.columns)
        return {
            n: self.cell(names[n], kinds[n], longest)
            if described.may_be_long(n)
            else Cell(names[n])
            for n, longest in excerpt.longest.items()
        }


class RenamingCells(Cells):
    """For warehouses that give the columns of a subquery new names: theirs may be odd, or the same.

    The limit is inside as well: otherwise an expression of the query is computed for each time that
    its column is named.
    """

    def bound(self, sql: str, excerpt: Excerpt, limit: int) -> Bounded:
        names = [f"c{n}" for n in range(len(excerpt.described.columns))]
        cells = self._cells(excerpt, names)
        listed = ", ".join(selected(cells, excerpt)) or "1"
        renamed = f"({', '.join(names)})" if names else ""
        # The first line stays the first: the server's errors name lines.
        return Bounded(
            f"select {listed} from (select * from ({sql}\n) as whole limit {limit}) "
            f"as fetched{renamed}",
            excerpt,
            cells,
        )


class PortableCells(Cells):
    """For any warehouse: texts are bounded, where the driver says which columns are texts.

    A statement is left as it is where nothing in it can be long, or where its columns can't be told
    apart by their names.
    """

    def __init__(
        self, dialect: str, quote: Callable[[str], str], is_text: Callable[[Any], bool]
    ) -> None:
        self._dialect = dialect
        self._quote = quote
        self._is_text = is_text

    def may_be_long(self, kind: Any) -> bool:
        return self._is_text(kind)

    def may_be_unreadable(self, kind: Any) -> bool:
        return not self._is_text(kind)

    def cell(self, column: str, kind: Any, longest: int) -> Cell:
        length = f"length({_COLUMN})"
        value = f"case when {length} <= {longest} then {_COLUMN} end"
        cut = (
            f"case when {length} > {longest} then concat(cast({length} as varchar(20)), 'c:', "
            f"substring({_COLUMN}, 1, {longest})) end"
        )
        return Cell(self._sql(value, column), self._sql(cut, column))

    def _sql(self, expression: str, column: str) -> str:
        (written,) = sqlglot.transpile(expression, write=self._dialect or None)
        return written.replace(_COLUMN, column)

    def bound(self, sql: str, excerpt: Excerpt, limit: int) -> Bounded:
        described = excerpt.described
        names = [name.lower() for name in described.columns]
        long = any(described.types and described.may_be_long(n) for n in excerpt.longest)
        if len(set(names)) < len(names) or not (long or excerpt.left_out):
            return Bounded(sql, excerpt)
        quoted = list(map(self._quote, described.columns))
        cells = self._cells(excerpt, quoted)
        listed = ", ".join(selected(cells, excerpt)) or "1"
        return Bounded(f"select {listed} from ({sql}\n) as fetched", excerpt, cells)


def selected(cells: Mapping[int, Cell], excerpt: Excerpt) -> list[str]:
    """A statement's columns: the values, then the excerpts of truncated ones."""
    return [
        *(cells[n].value for n in excerpt.longest),
        *(cut for n in excerpt.longest if (cut := cells[n].cut) is not None),
    ]


def json_cell(value: str, cut: str) -> Cell:
    """A cell of JSON, read as its text: a driver that parses it can't say which column is wrong."""
    return Cell(value, cut, json.loads, _check_nesting)


def _check_nesting(beginning: str) -> None:
    depth = deepest = 0
    for bracket in _ALL_BUT_BRACKETS.sub("", beginning):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > MOST_NESTED:
        raise ValueError(f"it is nested more than {MOST_NESTED} levels deep")


def unreadable(error: BaseException, columns: Sequence[str]) -> QueryError:
    """A value that the driver or Python has no room for."""
    words = str(error).strip() or type(error).__name__
    if isinstance(error, RecursionError):
        words = "it is nested too deeply"
    elif isinstance(error, MemoryError):
        words = "it takes more memory than there is"
    named = ", ".join(map(repr, columns[:5])) + (", …" if len(columns) > 5 else "")
    where = f"the column {named}" if len(columns) == 1 else f"one of the columns {named}"
    return QueryError(f"a value of {where if columns else 'the result'} can't be read: {words}")
