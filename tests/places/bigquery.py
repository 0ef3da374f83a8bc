"""BigQuery: a stand-in, or the project that SENTINEL_TEST_BIGQUERY_PROJECT names.

The real one takes the Application Default Credentials, and SENTINEL_TEST_BIGQUERY_LOCATION.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.places.place import BIN, Rows, environment, only_rows

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud.bigquery import Client, QueryJobConfig

REAL_PROJECT = "SENTINEL_TEST_BIGQUERY_PROJECT"
REAL_LOCATION = "SENTINEL_TEST_BIGQUERY_LOCATION"
LAUNCHER = Path(__file__).with_name("bigquery_launcher.py")
LISTENING = "listening on "


@dataclass(frozen=True)
class BigQueryServer:
    """`endpoint` is the stand-in's; None is the real service."""

    project: str
    location: str
    endpoint: str | None

    @property
    def emulated(self) -> bool:
        return self.endpoint is not None

    @cached_property
    def client(self) -> Client:
        from google.cloud import bigquery
        from google.oauth2.credentials import Credentials

        if self.endpoint is None:
            return bigquery.Client(project=self.project, location=self.location)
        return bigquery.Client(
            project=self.project,
            location=self.location,
            # Google's Credentials have no types.
            credentials=Credentials("fake"),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": self.endpoint},
        )

    @contextmanager
    def dataset(self) -> Iterator[BigQueryPlace]:
        """A dataset of its own, with nothing in it; deleted in the end."""
        place = BigQueryPlace(self, f"sentinel_{uuid4().hex[:12]}")
        self.client.create_dataset(f"{self.project}.{place.schema}", timeout=60)
        try:
            yield place
        finally:
            self.client.delete_dataset(
                f"{self.project}.{place.schema}", delete_contents=True, timeout=60
            )


@dataclass(frozen=True)
class BigQueryPlace:
    """A dataset."""

    server: BigQueryServer
    schema: str
    name: str = "bigquery"
    bin: Path = field(default=BIN)

    @property
    def project(self) -> str:
        return self.server.project

    @property
    def location(self) -> str:
        return self.server.location

    @property
    def emulated(self) -> bool:
        return self.server.emulated

    @property
    def client(self) -> Client:
        return self.server.client

    @property
    def output(self) -> dict[str, Any]:
        common = {
            "type": "bigquery",
            "project": self.project,
            "dataset": self.schema,
            "location": self.location,
            "threads": 1,
        }
        if not self.emulated:
            return common | {"method": "oauth"}
        fake = {"method": "oauth-secrets", "token": "fake", "api_endpoint": self.server.endpoint}
        return common | fake

    def execute(self, sql: str) -> Rows:
        """Raises what Google's client raises, at once."""
        return self.query(sql)

    def query(self, sql: str, config: QueryJobConfig | None = None) -> Rows:
        """By the request jobs.query; `execute` with parameters and other settings."""
        rows = self.client.query_and_wait(
            sql,
            job_config=self.config(config),
            api_timeout=60,
            wait_timeout=120,
            retry=once(),
            job_retry=once(),
        )
        return only_rows([row.values() for row in rows])

    def config(self, config: QueryJobConfig | None = None) -> QueryJobConfig:
        """The settings of a job, in which this dataset is the default."""
        from google.cloud.bigquery import DatasetReference, QueryJobConfig

        found = config or QueryJobConfig()
        found.default_dataset = DatasetReference(self.project, self.schema)
        return found


def once() -> Retry:
    """Google's client tries again for ten minutes unless it gets this."""
    from google.api_core.retry import Retry

    return Retry(predicate=lambda _: False)


@contextmanager
def run_bigquery() -> Iterator[BigQueryServer]:
    """Raises PlaceMissing."""
    if project := os.environ.get(REAL_PROJECT):
        yield BigQueryServer(project, os.environ.get(REAL_LOCATION, "US"), None)
        return
    python = environment("bqemulator") / "python"
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [python, "-P", LAUNCHER],  # -P: its folder has modules named like those it imports
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # or Ctrl-C would end it before the tests delete their datasets
        ) as process,
    ):
        assert process.stdout is not None
        said = (line for line in process.stdout if line.startswith(LISTENING))
        url = next(said, "").removeprefix(LISTENING).strip()
        if not url:
            log.seek(0)
            raise RuntimeError(f"the stand-in for BigQuery didn't start:\n{log.read()}")
        yield BigQueryServer("sentinel-test", "US", url)
