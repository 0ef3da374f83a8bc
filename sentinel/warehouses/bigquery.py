"""BigQuery, by Google's client: every query is a job with labels, bounds and a price.

The keys of a dbt-bigquery profile are honoured as dbt-bigquery does: method and its secrets,
impersonate_service_account, project, execution_project, quota_project, location, priority,
reservation, maximum_bytes_billed, job_retries, job_retry_deadline_seconds,
job_creation_timeout_seconds, job_execution_timeout_seconds, api_endpoint, scopes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from google.api_core.exceptions import GoogleAPIError
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from requests.exceptions import RequestException
from sqlalchemy import Engine, create_engine

from sentinel.core.errors import ConfigError, QueryError, SentinelError, WarehouseError
from sentinel.core.evaluation import Excerpt, QueryResult
from sentinel.ports import Query, QueryDescription, Relation, Rights, Session
from sentinel.warehouses.bigquery_client import (
    METHODS,
    REQUEST_TIMEOUT_S,
    bounded_retry,
    first_words,
    make_client,
    priority,
)
from sentinel.warehouses.bigquery_requests import DIALECT, allow_only_reading
from sentinel.warehouses.bounding import BYTES, Bounded, Cell, Cells, json_cell
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.introspection import ByDbt
from sentinel.warehouses.readonly import one_select
from sentinel.warehouses.session import Wrapping, too_slow

_ALIASES = {
    "project": "database",
    "dataset": "schema",
    "retries": "job_retries",
    "timeout_seconds": "job_execution_timeout_seconds",
}
_UNREACHABLE = (GoogleAPIError, GoogleAuthError, RequestException)
# Google's table of errors says of these that the same job may succeed when it is run again.
_PASSING = {
    "backendError",
    "internalError",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "rateLimitExceeded",
}
_NOT_IN_LABELS = re.compile(r"[^\w-]", re.ASCII)
_LONGEST_LABEL = 63
# Types whose values have a natural length, by both of their names.
_SHORT = {
    "INTEGER", "INT64", "FLOAT", "FLOAT64", "NUMERIC", "BIGNUMERIC", "BOOLEAN", "BOOL", "DATE",
    "DATETIME", "TIME", "TIMESTAMP", "INTERVAL", "RANGE",
}  # fmt: skip
_UNNAMED = re.compile(r"f\d+_")

Done = TypeVar("Done")


class BigQuery:
    """The project of one dbt target. Queries are dry-run first, so that only a SELECT runs.

    The context's `notify` gets a phrase while the service can't be reached.
    """

    lock_file: Path | None = None
    exclusive: bool = False

    def __init__(self, credentials: Mapping[str, Any], context: WarehouseContext) -> None:
        self._keys = {_ALIASES.get(key, key): value for key, value in credentials.items()}
        method = self._keys.get("method")
        if method not in METHODS:
            raise ConfigError(
                f"the BigQuery profile has the method {method!r}, which Sentinel can't use; "
                f"it knows {', '.join(METHODS)}"
            )
        self._project_dir = context.project_dir
        self._notify = context.notify

    @contextmanager
    def open(self) -> Iterator[Session]:
        session = BigQuerySession(self.client, self._keys)
        with self._reached():
            session.dry_run("select 1", {}, self._patient)
        yield session

    def timestamp_literal(self, moment: datetime) -> str:
        text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        return f"timestamp '{text}+00'"

    @contextmanager
    def engine(self, *, read_only: bool) -> Iterator[Engine]:
        """An engine for one transaction. Raises WarehouseError."""
        url = f"bigquery://{self.client.project}?user_supplied_client=True"
        engine = create_engine(
            url, connect_args={"client": self.client, "prefer_bqstorage_client": False}
        )
        try:
            with self._reached():
                yield engine
        finally:
            engine.dispose()

    def rights(self, watched: Sequence[Relation], own: Sequence[Relation]) -> Rights:
        """As `sentinel.warehouses.contract.Database.rights`."""
        return Rights(
            unchecked="BigQuery does not expose a reader's privileges: they come from IAM roles of the "
            "project, its folders and each dataset; roles/bigquery.dataViewer and "
            "roles/bigquery.jobUser are all that reading needs"
        )

    @contextmanager
    def introspection(self, by_dbt: ByDbt) -> Iterator[bigquery.Client]:
        """dbt's queries while it compiles, with dbt's own client: every request must only read."""
        client = by_dbt()
        allow_only_reading(client)
        yield client

    @cached_property
    def client(self) -> bigquery.Client:
        """Google's client. Raises ConfigError if the credentials can't be read."""
        return make_client(self._keys, self._project_dir)

    @property
    def _patient(self) -> Retry:
        return bounded_retry(
            self._keys, lambda error: self._notify(f"waiting: {first_words(error)}")
        )

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except _UNREACHABLE as error:
            raise WarehouseError(f"BigQuery can't be used: {first_words(error)}") from None


class BigQuerySession(Wrapping):
    """Queries as jobs of one client."""

    dialect = DIALECT

    def __init__(self, client: bigquery.Client, keys: Mapping[str, Any]) -> None:
        self._client = client
        self._keys = keys

    def quote(self, column: str) -> str:
        return f"`{column}`"

    def describe(self, query: Query) -> QueryDescription:
        job = self._checked(query)
        fields = job.schema or ()
        described = _CELLS.described(
            [field.name for field in fields],
            ["ARRAY" if field.mode == "REPEATED" else field.field_type for field in fields],
        )
        return replace(described, bytes_estimated=job.total_bytes_processed)

    def fetch(self, query: Query, limit: int, excerpt: Excerpt | None = None) -> QueryResult:
        statement = one_select(query.sql, self.dialect)
        bounded = _CELLS.bound(statement, excerpt, limit) if excerpt else None
        if bounded is not None:
            query = replace(query, sql=bounded.sql)
        self._checked(query)
        found = self._said(lambda: self._fetch(query, limit, excerpt))
        if bounded is None:
            return found
        return replace(
            found,
            columns=bounded.excerpt.columns,
            rows=tuple(map(bounded.read, found.rows)),
            left_out=bounded.excerpt.left_out,
        )

    def dry_run(self, sql: str, labels: Mapping[str, str], retry: Retry) -> bigquery.QueryJob:
        """What the service knows of a query without running it; it costs nothing."""
        config = bigquery.QueryJobConfig(
            dry_run=True, use_query_cache=False, labels=_labels(labels)
        )
        return self._client.query(
            sql, job_config=config, retry=retry, timeout=REQUEST_TIMEOUT_S, job_retry=None
        )

    def _checked(self, query: Query) -> bigquery.QueryJob:
        statement = one_select(query.sql, self.dialect)
        job = self._said(lambda: self.dry_run(statement, query.labels, bounded_retry(self._keys)))
        if job.statement_type != "SELECT":
            kind = job.statement_type or "unknown"
            raise QueryError(f"the SQL is a {kind} statement to BigQuery; an alert is one SELECT")
        return job

    def _fetch(self, query: Query, limit: int, excerpt: Excerpt | None) -> QueryResult:
        expired = threading.Event()
        job = self._client.query(
            one_select(query.sql, self.dialect),
            job_config=self._config(query),
            retry=bounded_retry(self._keys),
            timeout=self._keys.get("job_creation_timeout_seconds") or REQUEST_TIMEOUT_S,
            job_retry=_again(self._keys),
        )

        def expire() -> None:
            expired.set()
            job.cancel(retry=bounded_retry(self._keys), timeout=REQUEST_TIMEOUT_S)

        timer = threading.Timer(self._seconds(query), expire)
        timer.daemon = True
        timer.start()
        try:
            found = job.result(max_results=limit + 1, retry=bounded_retry(self._keys))
            rows = [tuple(row.values()) for row in found]
        except GoogleAPIError:
            if expired.is_set():
                raise too_slow(query) from None
            raise
        except (SentinelError, *_UNREACHABLE):
            raise
        except Exception as error:  # noqa: BLE001 - whatever the client raises at a value
            raise _CELLS.unreadable(error, excerpt) from None
        finally:
            timer.cancel()
        if job.total_bytes_billed is None:
            job.reload(retry=bounded_retry(self._keys), timeout=REQUEST_TIMEOUT_S)
        return QueryResult(
            tuple(field.name for field in found.schema),
            tuple(rows[:limit]),
            truncated=len(rows) > limit,
            bytes_billed=job.total_bytes_billed,
        )

    def _config(self, query: Query) -> bigquery.QueryJobConfig:
        config = bigquery.QueryJobConfig(
            labels=_labels(query.labels), priority=priority(self._keys)
        )
        bounds = [self._keys.get("maximum_bytes_billed"), query.max_bytes_billed]
        smallest = min((int(bound) for bound in bounds if bound), default=None)
        if smallest is not None:
            config.maximum_bytes_billed = smallest
        if self._keys.get("reservation"):
            config.reservation = self._keys["reservation"]
        # The service ends the job if this process dies.
        config.job_timeout_ms = round(self._seconds(query) * 1_000) + 1_000
        return config

    def _seconds(self, query: Query) -> float:
        profile = self._keys.get("job_execution_timeout_seconds")
        own = query.timeout.total_seconds()
        return min(own, float(profile)) if profile else own

    @staticmethod
    def _said(work: Callable[[], Done]) -> Done:
        """Errors of the service in their own first words."""
        try:
            return work()
        except _UNREACHABLE as error:
            raise QueryError(first_words(error)) from None


class BigQueryCells(Cells):
    """By types: nested ones are read as their JSON, to see how long they are.

    Columns keep their names, since one without a name can't be named outside of its query.
    """

    def may_be_long(self, kind: Any) -> bool:
        return kind not in _SHORT

    def may_be_unreadable(self, kind: Any) -> bool:
        return kind not in ("STRING", "JSON")

    def cell(self, column: str, kind: Any, longest: int) -> Cell:
        if kind == "BYTES":
            size, most = f"byte_length({column})", longest // 2
            length, unit, beginning = size, "b", f"left(to_hex({column}), {2 * most})"
        else:
            words = column if kind == "STRING" else f"to_json_string({column})"
            size, most = f"byte_length({words})", BYTES * longest
            length, unit, beginning = f"length({words})", "c", f"left({words}, {longest})"
        cut = f"if({size} > {most}, concat(cast({length} as string), '{unit}:', {beginning}), null)"
        if kind == "JSON":
            return json_cell(f"if({size} <= {most}, {words}, null)", cut)
        return Cell(f"if({size} <= {most}, {column}, null)", cut)

    def bound(self, sql: str, excerpt: Excerpt, limit: int) -> Bounded:
        described = excerpt.described
        names = [f"`{name}`" for name in described.columns]
        cells = {
            n: Cell(names[n]) if _UNNAMED.fullmatch(described.columns[n]) else cell
            for n, cell in self._cells(excerpt, names).items()
        }
        left_out = [name for n, name in enumerate(names) if n not in excerpt.longest]
        replaced = [
            f"{cell.value} as {names[n]}" for n, cell in cells.items() if cell.value != names[n]
        ]
        cuts = [cut for cell in cells.values() if (cut := cell.cut) is not None]
        numbered = [f"{cut} as sentinel_cut_{n}" for n, cut in enumerate(cuts)]
        star = "*"
        if left_out:
            star += f" except ({', '.join(left_out)})"
        if replaced:
            star += f" replace ({', '.join(replaced)})"
        return Bounded(
            f"select {', '.join([star, *numbered])} from ({sql}\n) as fetched", excerpt, cells
        )


_CELLS = BigQueryCells()


def _again(keys: Mapping[str, Any]) -> Retry | None:
    """How often a job is run again that failed for reasons of the service: `job_retries`."""
    left = int(keys.get("job_retries", 1) or 0)
    if not left:
        return None

    def passing(error: BaseException) -> bool:
        nonlocal left
        reasons = {str(each.get("reason")) for each in getattr(error, "errors", None) or ()}
        if left and reasons & _PASSING:
            left -= 1
            return True
        return False

    deadline = keys.get("job_retry_deadline_seconds")
    return Retry(predicate=passing, timeout=float(deadline) if deadline else None, maximum=3.0)


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels as the service takes them: small letters, digits, `_` and `-`, at most 63 of them."""
    return {
        name: _NOT_IN_LABELS.sub("_", value.lower())[:_LONGEST_LABEL]
        for name, value in labels.items()
    }
