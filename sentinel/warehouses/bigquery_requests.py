"""Google's client as dbt may use it while it compiles alerts: requests that read, and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from google.cloud import bigquery

from sentinel.core.errors import QueryError
from sentinel.warehouses.introspection import refuse_but_reading

DIALECT = "bigquery"
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


def allow_only_reading(client: bigquery.Client) -> None:
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
