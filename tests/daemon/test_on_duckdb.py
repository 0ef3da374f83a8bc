"""A daemon on DuckDB, as a real process."""

from __future__ import annotations

import pytest

from .scenes import DaemonScenes


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
class TestDaemon(DaemonScenes):
    pass
