"""A warehouse that gives prepared answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sentinel.core.errors import (
    QueryError,
    WarehouseError,
)
from sentinel.core.evaluation import Excerpt, QueryResult
from sentinel.ports import (
    Query,
    QueryDescription,
    Session,
)

Answer = QueryResult | Exception | Callable[[], QueryResult]


@dataclass
class FakeWarehouse:
    """Answers each query (by its text) as told, and remembers what it was asked.

    `answers` may hold (method, sql) or sql; of a query it doesn't know it says `status` OK.
    """

    answers: dict[Any, Any] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    unreachable: WarehouseError | None = None
    sessions: int = 0
    exclusive: bool = False
    most_at_once: int = 0
    _running: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def open(self) -> Iterator[Session]:
        if self.unreachable:
            raise self.unreachable
        with self._lock:
            self.sessions += 1
        try:
            yield self
        finally:
            with self._lock:
                self.sessions -= 1

    @property
    def is_open(self) -> bool:
        return self.sessions > 0

    def timestamp_literal(self, moment: datetime) -> str:
        return f"at('{moment:%Y-%m-%d %H:%M}')"

    def describe(self, query: Query) -> QueryDescription:
        answer = self._answer("describe", query)
        return QueryDescription(answer.columns, answer.bytes_billed)

    def fetch(self, query: Query, limit: int, excerpt: Excerpt | None = None) -> QueryResult:
        return self._answer("fetch", query)

    def count(
        self,
        query: Query,
        dimensions: Sequence[str],
        limit: int,
        excerpt: Excerpt | None = None,
    ) -> QueryResult:
        return self._answer("count", query)

    def sample(
        self,
        query: Query,
        dimensions: Sequence[str],
        size: int,
        excerpt: Excerpt | None = None,
    ) -> QueryResult:
        return self._answer("sample", query)

    def asked_for(self, method: str) -> list[str]:
        return [sql for how, sql in self.asked if how == method]

    def _answer(self, method: str, query: Query) -> QueryResult:
        assert self.is_open, "a query on a closed session"
        sql = query.sql
        with self._lock:
            self.asked.append((method, sql))
            self.queries.append(query)
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            known = self.answers.get(sql, status("OK"))
            answer: Answer = self.answers.get((method, sql), known)
            if callable(answer):
                return answer()
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            with self._lock:
                self._running -= 1


def status(word: str, **columns: Any) -> QueryResult:
    """The one row of a status query."""
    return QueryResult(("status", *columns), ((word, *columns.values()),))


def counted(number: int) -> QueryResult:
    """The answer to a count without dimensions."""
    return QueryResult(("failures",), ((number,),))


def refused(words: str) -> QueryError:
    return QueryError(words)
