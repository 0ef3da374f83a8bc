"""A daemon on PostgreSQL, as a real process."""

from __future__ import annotations

import pytest

from .scenes import DaemonScenes


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
class TestDaemon(DaemonScenes):
    pass
