"""The fake that other tests use keeps the contract of a real store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from sentinel.core.errors import TablesMissing
from sentinel.ports import Store
from tests.fakes import Clock, MemoryStore, Tables

from .contract import MakeStore, StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def make_store(self, clock: Clock) -> MakeStore:
        tables = Tables()

        def make(project: str = "shop") -> Store:
            return MemoryStore(clock, project, tables)

        return make

    @pytest.fixture
    def wait(self, clock: Clock) -> Callable[[timedelta], None]:
        return clock.pass_by


def test_missing_tables_are_said_when_a_test_wants_them_to_be() -> None:
    with pytest.raises(TablesMissing):
        MemoryStore(missing=True).check()
