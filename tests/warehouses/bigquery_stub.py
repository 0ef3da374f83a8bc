"""A recording stub of BigQuery's REST API, for what the stand-in doesn't imitate: prices, limits,
cancelling, failing for reasons of the service, and credentials.

https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

STOPPED = {
    "reason": "stopped",
    "message": "Job execution was cancelled: User requested cancellation",
}


@dataclass
class Answer:
    """What becomes of a job. One that is `endless` runs until it is cancelled."""

    rows: list[list[Any]] = field(default_factory=lambda: [[1]])
    columns: tuple[str, ...] = ("n",)
    billed: int | None = 10_485_760
    error: Mapping[str, str] | None = None
    endless: bool = False


@dataclass
class Stub:
    """The service. `answers` are given to jobs in their order, the last one to all further ones."""

    url: str = ""
    answers: list[Answer] = field(default_factory=lambda: [Answer()])
    estimated: int = 123_456
    statement_type: str = "SELECT"
    refuse: tuple[int, Mapping[str, Any]] | None = None
    dry_runs: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: dict[str, threading.Event] = field(default_factory=dict)
    authorized: list[str | None] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    chosen: dict[str, Answer] = field(default_factory=dict)

    @property
    def configurations(self) -> list[dict[str, Any]]:
        """Of every job that was started."""
        return [job["configuration"] for job in self.jobs.values()]

    def respond(self, method: str, path: str, body: Any) -> tuple[int, Mapping[str, Any]]:
        if path.endswith("/token"):
            self.tokens.append(body)
            return 200, {"access_token": "granted", "expires_in": 3600, "token_type": "Bearer"}
        if self.refuse:
            return self.refuse
        *_, kind, last = path.rstrip("/").split("/")
        if method == "POST" and last == "jobs":
            return self._insert(body)
        if method == "POST" and last == "cancel":
            self.cancelled[kind].set()
            return 200, {"kind": "bigquery#jobCancelResponse", "job": self._job(kind)}
        if kind == "queries":
            return self._results(last)
        return 200, self._job(last)

    def _insert(self, job: dict[str, Any]) -> tuple[int, Mapping[str, Any]]:
        name = job["jobReference"]["jobId"]
        if job["configuration"].get("dryRun"):
            self.dry_runs.append(job["configuration"])
            statistics = {
                "totalBytesProcessed": str(self.estimated),
                "query": {
                    "statementType": self.statement_type,
                    "totalBytesProcessed": str(self.estimated),
                    "schema": {"fields": [{"name": "n", "type": "INTEGER"}]},
                },
            }
            return 200, job | {"status": {"state": "DONE"}, "statistics": statistics}
        self.jobs[name] = job
        self.cancelled[name] = threading.Event()
        self.chosen[name] = self.answers[min(len(self.jobs), len(self.answers)) - 1]
        return 200, self._job(name)

    def _job(self, name: str) -> dict[str, Any]:
        job, answer = self.jobs[name], self.chosen[name]
        if answer.endless and not self.cancelled[name].is_set():
            return job | {"status": {"state": "RUNNING"}}
        status: dict[str, Any] = {"state": "DONE"}
        error = STOPPED if answer.endless else answer.error
        if error:
            status |= {"errorResult": error, "errors": [error]}
        query: dict[str, Any] = {"statementType": "SELECT"}
        if answer.billed is not None:
            query["totalBytesBilled"] = str(answer.billed)
        return job | {"status": status, "statistics": {"query": query}}

    def _results(self, name: str) -> tuple[int, Mapping[str, Any]]:
        answer = self.chosen[name]
        reference = self.jobs[name]["jobReference"]
        if answer.endless:
            if not self.cancelled[name].wait(0.2):
                return 200, {"jobReference": reference, "jobComplete": False}
            return refused(400, STOPPED)
        if answer.error:
            return refused(400, answer.error)
        return 200, {
            "jobReference": reference,
            "jobComplete": True,
            "totalRows": str(len(answer.rows)),
            "schema": {"fields": [{"name": each, "type": "INTEGER"} for each in answer.columns]},
            "rows": [{"f": [{"v": str(value)} for value in row]} for row in answer.rows],
        }


def refused(code: int, error: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
    """A response that says no."""
    return code, {"error": {"code": code, "message": error["message"], "errors": [error]}}


@contextmanager
def run_stub() -> Iterator[Stub]:
    """A stub that listens on loopback."""
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            form = "json" not in (self.headers.get("Content-Type") or "")
            body: Any = data.decode() if form else json.loads(data or b"{}")
            path = urlparse(self.path).path
            if not path.endswith("/token"):
                stub.authorized.append(self.headers.get("Authorization"))
            code, answer = stub.respond(self.command, path, body)
            text = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            self._respond()

        def do_POST(self) -> None:
            self._respond()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
