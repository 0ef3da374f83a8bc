"""BigQuery, by Google's client: every query is a job with labels, bounds and a price.

The keys of a dbt-bigquery profile are honoured as dbt-bigquery does: method and its secrets,
impersonate_service_account, project, execution_project, quota_project, location, priority,
reservation, maximum_bytes_billed, job_retries, job_retry_deadline_seconds,
job_creation_timeout_seconds, job_execution_timeout_seconds, api_endpoint, scopes.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import google.auth
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPIError
from google.api_core.retry import Retry
from google.auth import impersonated_credentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_RETRY
from google.oauth2 import credentials as oauth2
from google.oauth2 import service_account
from requests.exceptions import RequestException
from sqlalchemy import Engine, create_engine

from sentinel.core.errors import ConfigError, QueryError, SentinelError, WarehouseError
from sentinel.core.evaluation import Excerpt, Result
from sentinel.ports import Described, Query, Relation, Rights, Session
from sentinel.warehouses.bounding import BYTES, Bounded, Cell, Cells, json_cell
from sentinel.warehouses.introspection import ByDbt, refuse_but_reading
from sentinel.warehouses.readonly import one_select
from sentinel.warehouses.session import Wrapping, too_slow

DIALECT = "bigquery"
_ALIASES = {
    "project": "database",
    "dataset": "schema",
    "retries": "job_retries",
    "timeout_seconds": "job_execution_timeout_seconds",
}
_METHODS = ("oauth", "oauth-secrets", "service-account", "service-account-json")
_SCOPES = (
    "https://www.googleapis.com/auth/bigquery",
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/drive",
    "https://www.googleapis.com/auth/userinfo.email",
)
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
_REQUEST_S = 60.0
# Types whose values have a natural length, by both of their names.
_SHORT = {
    "INTEGER", "INT64", "FLOAT", "FLOAT64", "NUMERIC", "BIGNUMERIC", "BOOLEAN", "BOOL", "DATE",
    "DATETIME", "TIME", "TIMESTAMP", "INTERVAL", "RANGE",
}  # fmt: skip
_UNNAMED = re.compile(r"f\d+_")
# Requests: those that start a query, and those that end one.
_QUERIES = re.compile(r"/projects/[^/]+/(jobs|queries)$")
_CANCELS = re.compile(r"/jobs/[^/]+/cancel$")
# Parts of a job that write or keep something, and those that decide what a query is.
_WRITES = (
    "load",
    "copy",
    "extract",
    "destinationTable",
    "createSession",
    "writeIncrementalResults",
)
_ASKED = (
    "query", "useLegacySql", "defaultDataset", "parameterMode", "queryParameters",
    "connectionProperties", "tableDefinitions", "userDefinedFunctionResources",
)  # fmt: skip

Done = TypeVar("Done")


class BigQuery:
    """The project of one dbt target. Queries are dry-run first, so that only a SELECT runs.

    `notify` is told while the service can't be reached.
    """

    lock_file: Path | None = None
    exclusive: bool = False

    def __init__(
        self,
        credentials: Mapping[str, Any],
        project_dir: Path,
        threads: int = 4,
        *,
        notify: Callable[[str], None] = lambda _: None,
        lock_timeout: timedelta = timedelta(seconds=30),
        files: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._keys = {_ALIASES.get(key, key): value for key, value in credentials.items()}
        method = self._keys.get("method")
        if method not in _METHODS:
            raise ConfigError(
                f"the BigQuery profile has the method {method!r}, which Sentinel can't use; "
                f"it knows {', '.join(_METHODS)}"
            )
        self._project_dir = project_dir
        self._notify = notify

    @contextmanager
    def open(self) -> Iterator[Session]:
        session = BigQuerySession(self.client, self._keys)
        with self._reached():
            session.dry_run("select 1", {}, self._patient)
        yield session

    def instant(self, moment: datetime) -> str:
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
            unchecked="BigQuery tells a reader nothing of its rights: they come from IAM roles of the "
            "project, its folders and each dataset; roles/bigquery.dataViewer and "
            "roles/bigquery.jobUser are all that reading needs"
        )

    @contextmanager
    def introspection(self, by_dbt: ByDbt) -> Iterator[bigquery.Client]:
        """What dbt asks while it compiles, by dbt's own client: each request has to be one that reads."""
        client = by_dbt()
        _hold_to_reading(client)
        yield client

    @cached_property
    def client(self) -> bigquery.Client:
        """Google's client. Raises ConfigError if the credentials can't be read."""
        options = {
            "api_endpoint": self._keys.get("api_endpoint"),
            "quota_project_id": self._keys.get("quota_project"),
        }
        try:
            return _BoundedClient(
                self._keys.get("execution_project") or self._keys.get("database"),
                self._credentials(),
                location=self._keys.get("location"),
                client_options=ClientOptions(**options),
                default_query_job_config=bigquery.QueryJobConfig(
                    labels={"sentinel_store": "tables"}, priority=_priority(self._keys)
                ),
            )
        except (GoogleAuthError, OSError, ValueError) as error:
            raise ConfigError(
                f"the credentials of the BigQuery profile can't be used: {first_words(error)}"
            ) from None

    def _credentials(self) -> Any:
        keys = self._keys
        scopes = tuple(keys.get("scopes") or _SCOPES)
        source = self._source_credentials(scopes)
        principal = keys.get("impersonate_service_account")
        if not principal:
            return source
        return impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]  # Google's types end here
            source_credentials=source, target_principal=principal, target_scopes=list(scopes)
        )

    def _source_credentials(self, scopes: Sequence[str]) -> Any:
        keys = self._keys
        match keys["method"]:
            case "oauth":
                found, _ = google.auth.default(scopes=scopes)
                return found
            case "oauth-secrets":
                names = ("token", "refresh_token", "client_id", "client_secret", "token_uri")
                secrets = {name: keys.get(name) for name in names}
                return oauth2.Credentials(**secrets, scopes=scopes)  # type: ignore[no-untyped-call]  # as above
            case "service-account":
                file = self._project_dir / Path(str(keys.get("keyfile"))).expanduser()
                return service_account.Credentials.from_service_account_file(  # type: ignore[no-untyped-call]  # as above
                    str(file), scopes=scopes
                )
            case _:
                return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]  # as above
                    _key_info(keys.get("keyfile_json")), scopes=scopes
                )

    @property
    def _patient(self) -> Retry:
        return _bounded(self._keys, lambda error: self._notify(f"waiting: {first_words(error)}"))

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

    def describe(self, query: Query) -> Described:
        job = self._checked(query)
        fields = job.schema or ()
        described = _CELLS.described(
            [field.name for field in fields],
            ["ARRAY" if field.mode == "REPEATED" else field.field_type for field in fields],
        )
        return replace(described, bytes_estimated=job.total_bytes_processed)

    def fetch(self, query: Query, limit: int, excerpt: Excerpt | None = None) -> Result:
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
            sql, job_config=config, retry=retry, timeout=_REQUEST_S, job_retry=None
        )

    def _checked(self, query: Query) -> bigquery.QueryJob:
        statement = one_select(query.sql, self.dialect)
        job = self._said(lambda: self.dry_run(statement, query.labels, _bounded(self._keys)))
        if job.statement_type != "SELECT":
            kind = job.statement_type or "unknown"
            raise QueryError(f"the SQL is a {kind} statement to BigQuery; an alert is one SELECT")
        return job

    def _fetch(self, query: Query, limit: int, excerpt: Excerpt | None) -> Result:
        expired = threading.Event()
        job = self._client.query(
            one_select(query.sql, self.dialect),
            job_config=self._config(query),
            retry=_bounded(self._keys),
            timeout=self._keys.get("job_creation_timeout_seconds") or _REQUEST_S,
            job_retry=_again(self._keys),
        )

        def expire() -> None:
            expired.set()
            job.cancel(retry=_bounded(self._keys), timeout=_REQUEST_S)

        timer = threading.Timer(self._seconds(query), expire)
        timer.daemon = True
        timer.start()
        try:
            found = job.result(max_results=limit + 1, retry=_bounded(self._keys))
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
            job.reload(retry=_bounded(self._keys), timeout=_REQUEST_S)
        return Result(
            tuple(field.name for field in found.schema),
            tuple(rows[:limit]),
            truncated=len(rows) > limit,
            bytes_billed=job.total_bytes_billed,
        )

    def _config(self, query: Query) -> bigquery.QueryJobConfig:
        config = bigquery.QueryJobConfig(
            labels=_labels(query.labels), priority=_priority(self._keys)
        )
        bounds = [self._keys.get("maximum_bytes_billed"), query.max_bytes_billed]
        smallest = min((int(bound) for bound in bounds if bound), default=None)
        if smallest is not None:
            config.maximum_bytes_billed = smallest
        if self._keys.get("reservation"):
            config.reservation = self._keys["reservation"]
        # The service ends the job by itself should this process die.
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


class _BoundedClient(bigquery.Client):
    """Google's client, giving up after a minute where it would try for ten."""

    def query_and_wait(self, query: str, **options: Any) -> Any:
        return super().query_and_wait(query, retry=_bounded({}), api_timeout=_REQUEST_S, **options)


def _hold_to_reading(client: bigquery.Client) -> None:
    """Let through what gets something, and jobs that the service itself takes for a SELECT.

    dbt-bigquery makes and drops datasets, copies tables and loads files by requests of their own, so
    it is the requests that are judged, and not the statements alone.
    """
    http: Any = client._http
    send = http.request

    def request(method: str, url: str, data: Any = None, **options: Any) -> Any:
        if method.upper() not in ("GET", "HEAD"):
            _refuse_but_queries(method, url, data, lambda *job: send("POST", *job, **options))
        return send(method, url, data=data, **options)

    http.request = request


def _refuse_but_queries(method: str, url: str, data: Any, send: Callable[[str, str], Any]) -> None:
    """Raises QueryError unless a request starts or cancels a job that only reads."""
    address = urlsplit(url)
    if method.upper() == "POST" and _CANCELS.search(address.path):
        return
    body = json.loads(data) if _QUERIES.search(address.path) and data else {}
    # jobs.query has the query's settings at the top, jobs.insert below `configuration`.
    settings = body.get("configuration") or {"query": body, "dryRun": body.get("dryRun")}
    query = settings.get("query") or {}
    by = next((key for key in _WRITES if settings.get(key) or query.get(key)), None)
    if method.upper() != "POST" or by or not isinstance(query.get("query"), str):
        raise QueryError(
            f"the request {method} {address.path}{f' with {by}' if by else ''} does more than read; "
            "while dbt compiles an alert, Jinja may only read"
        )
    refuse_but_reading(query["query"], DIALECT)
    if settings.get("dryRun"):
        return
    asked = {key: query[key] for key in _ASKED if key in query}
    trial = {"configuration": {"dryRun": True, "query": {"useLegacySql": False, **asked}}}
    jobs = address._replace(path=re.sub(r"/queries$", "/jobs", address.path))
    answer = send(urlunsplit(jobs), json.dumps(trial))
    if answer.ok:  # what it refuses, it refuses again, and dbt puts it into words
        kind = answer.json().get("statistics", {}).get("query", {}).get("statementType")
        if kind not in (None, "SELECT"):
            raise QueryError(
                f"the SQL is a {kind} statement; while dbt compiles an alert, Jinja may only read"
            )


def first_words(error: BaseException) -> str:
    """What the service says is wrong, without its reasons, location and job id."""
    if isinstance(error, GoogleAPIError) and getattr(error, "cause", None) is not None:
        error = error.cause  # type: ignore[attr-defined]  # a RetryError: what was tried in vain
    details = getattr(error, "errors", None)
    if details and isinstance(details[0], Mapping) and details[0].get("message"):
        return str(details[0]["message"]).strip()
    text = str(getattr(error, "message", "") or error).strip()
    return text.split("; reason:")[0].splitlines()[0] if text else type(error).__name__


def _bounded(
    keys: Mapping[str, Any], on_error: Callable[[Exception], object] | None = None
) -> Retry:
    """How a request is tried again while the service doesn't answer."""
    deadline = float(keys.get("job_creation_timeout_seconds") or _REQUEST_S)
    retry: Retry = DEFAULT_RETRY.with_timeout(deadline)
    if on_error is None:
        return retry
    # A Retry is told whom to tell of errors only when it is made.
    return Retry(predicate=retry._predicate, timeout=deadline, on_error=on_error)


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


def _priority(keys: Mapping[str, Any]) -> str:
    batch = str(keys.get("priority") or "").lower() == "batch"
    return bigquery.QueryPriority.BATCH if batch else bigquery.QueryPriority.INTERACTIVE


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels as the service takes them: small letters, digits, `_` and `-`, at most 63 of them."""
    return {
        name: _NOT_IN_LABELS.sub("_", value.lower())[:_LONGEST_LABEL]
        for name, value in labels.items()
    }


def _key_info(keyfile_json: Any) -> dict[str, Any]:
    """The key of a service account: a mapping, or its JSON, or that in Base64."""
    if isinstance(keyfile_json, Mapping):
        info = dict(keyfile_json)
    else:
        text = str(keyfile_json or "")
        with suppress(binascii.Error, UnicodeDecodeError):
            text = base64.b64decode(text, validate=True).decode()
        info = json.loads(text)
    if isinstance(info.get("private_key"), str):
        info["private_key"] = info["private_key"].replace("\\n", "\n")
    return info
