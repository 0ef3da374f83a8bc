"""For all tests: the places, and the report of what was skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places.bigquery import BigQueryPlace
from tests.places.place import NAMES, Place
from tests.places.postgres import PostgresPlace
from tests.places.servers import Servers
from tests.skips import Skips


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Skips(), "skips")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Starts nothing by itself."""
    found = Servers()
    with found.running:
        yield found


@pytest.fixture(params=NAMES)
def place(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[Place]:
    """A fresh database of each warehouse in turn; fewer by an indirect parametrize."""
    folder = tmp_path / "place"
    folder.mkdir()
    with servers.open_place(request.param, folder) as opened:
        yield opened


@pytest.fixture
def postgres(servers: Servers) -> Iterator[PostgresPlace]:
    with servers.postgres.database() as opened:
        yield opened


@pytest.fixture
def bigquery(servers: Servers) -> Iterator[BigQueryPlace]:
    with servers.bigquery.dataset() as opened:
        yield opened
