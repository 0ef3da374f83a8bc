"""The store on real SQLite files."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sentinel.core.errors import StoreError, TablesMissing, TablesOutdated, WarehouseLocked
from sentinel.core.notification import Status
from sentinel.ports import Batch, HistoryQuery
from sentinel.store.sql import SqlStore
from sentinel.store.sqlite import SqliteDialect
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.sqlite import Sqlite
from tests.fakes import notification, state, write

from . import made
from .contract import MakeStore, StoreContract, history_row

OpenStore = Callable[..., SqlStore]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A file with the five tables."""
    path = tmp_path / "shop.db"
    sql(path, *made.create_statements("sqlite"))
    return path


@pytest.fixture
def open_store(database: Path) -> OpenStore:
    def open_store(project: str = "shop", wait: timedelta = timedelta(seconds=30)) -> SqlStore:
        credentials = {"schemas_and_paths": {"main": database.name}, "schema_directory": "schemas"}
        file = Sqlite(credentials, WarehouseContext(database.parent, lock_timeout=wait))
        # As dbt-sqlite names them.
        relations = {model: f'main."{model}"' for model in made.declared_columns("sqlite")}
        return made.open_store(file, relations, project, SqliteDialect())

    return open_store


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def make_store(self, open_store: OpenStore) -> MakeStore:
        return open_store


def sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_table_that_dbt_has_not_made_is_named(database: Path, open_store: OpenStore) -> None:
    sql(database, "drop table sentinel_history")
    with pytest.raises(TablesMissing, match=r'main\."sentinel_history" doesn\'t exist'):
        open_store().check()
    with pytest.raises(StoreError, match="no such table"):
        open_store().history(HistoryQuery())


def test_a_table_without_a_column_is_outdated(database: Path, open_store: OpenStore) -> None:
    sql(database, "alter table sentinel_state drop column held_s")
    with pytest.raises(TablesOutdated, match="held_s"):
        open_store().check()


@pytest.mark.parametrize(
    "text", ["\0", "\x01", "\x01\x02", "\x01\x03", "\0\x01", "\\u0000", "\\\0"]
)
@pytest.mark.parametrize("dressed", ["{}", "a{}b", "\\{}\\", "{0}{0}"])
def test_every_text_comes_back_whatever_its_characters(
    open_store: OpenStore, text: str, dressed: str
) -> None:
    store, given = open_store(), dressed.format(text)
    row = history_row(given, message=given, context={given: given})
    write(store, Batch(history=(row,)))
    assert list(store.history(HistoryQuery())) == [row]
    silenced = notification(notification_id=given, message_id=given)
    write(store, Batch(notifications=(silenced,)))
    assert [row.message_id for row in store.claim("me", timedelta(minutes=1), 1, [given])] == [
        given
    ]


def test_times_are_texts_of_one_width(database: Path, open_store: OpenStore) -> None:
    store = open_store()
    row = notification(at=datetime(2026, 1, 2, tzinfo=UTC))
    write(store, Batch(notifications=(row,)))
    store.claim("me", timedelta(minutes=1), 1)
    with closing(sqlite3.connect(database)) as connection:
        [(created, until)] = connection.execute(
            "select created_at, claim_until from sentinel_notifications"
        )
    assert created == "2026-01-02 00:00:00.000000"
    assert len(until) == len(created)


def test_processes_that_commit_at_the_same_time_lose_nothing(
    database: Path, open_store: OpenStore
) -> None:
    write(open_store(), Batch(states=(state(),)))
    script = (
        "import sys\n"
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        "from sentinel.core.project import StoreTables\n"
        "from sentinel.ports import Batch, Decision\n"
        "from sentinel.store.sql import SqlStore\n"
        "from sentinel.store.sqlite import SqliteDialect\n"
        "from sentinel.warehouses.contract import WarehouseContext\n"
        "from sentinel.warehouses.sqlite import Sqlite\n"
        "file = Sqlite({'schemas_and_paths': {'main': sys.argv[1]}}, WarehouseContext(Path('/')))\n"
        "names = ['state', 'history', 'notifications', 'silences', 'leases']\n"
        "tables = StoreTables({f'sentinel_{n}': f'main.sentinel_{n}' for n in names})\n"
        "store = SqlStore('shop', tables, lambda ro: file.engine(read_only=ro), SqliteDialect())\n"
        "calls = []\n"
        "def decide(snapshot):\n"
        "    calls.append(1)\n"
        "    kept = snapshot.states[0]\n"
        "    return Decision(Batch(states=(replace(kept, held_s=kept.held_s + 1),)), None)\n"
        "for _ in range(8):\n"
        "    store.commit(['model.shop.revenue'], decide)\n"
        "assert len(calls) == 8, 'a transaction was tried again'\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", script, str(database)]) for _ in range(3)]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0, 0]
    assert [each.held_s for each in open_store().snapshot().states] == [24]


def test_a_held_file_is_told_as_locked_and_nothing_is_written(
    database: Path, open_store: OpenStore
) -> None:
    store = open_store(wait=timedelta(milliseconds=200))
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("begin immediate")
        with pytest.raises(WarehouseLocked, match=str(database)):
            write(store, Batch(history=(history_row("a"),)))
        store.check()  # reading goes on
        writer.execute("rollback")
    assert list(store.history(HistoryQuery())) == []
    assert list(store.notifications(Status)) == []
