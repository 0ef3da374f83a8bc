"""The store on real DuckDB files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from sentinel.core.errors import StoreError, TablesMissing, TablesOutdated, WarehouseLocked
from sentinel.core.notification import Status
from sentinel.ports import Attempt, Batch, HistoryQuery
from sentinel.store.sql import SqlStore
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.duckdb import DuckDb
from tests.fakes import mark, notification, state, write

from .contract import MINUTE, MakeStore, StoreContract, history_row
from .made import open_store as open_on

OpenStore = Callable[..., SqlStore]
TABLES = [
    "sentinel_state",
    "sentinel_history",
    "sentinel_notifications",
    "sentinel_silences",
    "sentinel_leases",
]


class TestDuckDbStore(StoreContract):
    @pytest.fixture
    def make_store(self, open_store: OpenStore) -> MakeStore:
        return open_store


def sql(path: Path, statement: str) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(statement)


# -- check -------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_dbt_has_not_made_is_named_with_what_makes_it(
    database: Path, open_store: OpenStore, table: str
) -> None:
    sql(database, f"drop table {table}")
    with pytest.raises(TablesMissing, match=f'"{table}" doesn\'t exist') as caught:
        open_store().check()
    assert "`dbt run -s package:sentinel`" in (caught.value.hint or "")


@pytest.mark.parametrize("table", TABLES)
def test_a_model_that_the_project_lacks_is_named_with_what_installs_it(
    open_store: OpenStore, relations: Mapping[str, str], table: str
) -> None:
    lacking = {model: name for model, name in relations.items() if model != table}
    store = open_store(changed=lacking)
    with pytest.raises(TablesMissing, match=f"no model {table}") as caught:
        store.check()
    assert "sentinel init" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("sentinel_state", "held_s"),
        ("sentinel_history", "bytes_billed"),
        ("sentinel_notifications", "sent_at"),
    ],
)
def test_a_table_older_than_this_sentinel_is_named_with_what_upgrades_it(
    database: Path, open_store: OpenStore, table: str, column: str
) -> None:
    sql(database, f"alter table {table} drop column {column}")
    with pytest.raises(TablesOutdated, match=f"older than this Sentinel.*{column}") as caught:
        open_store().check()
    assert "sentinel init --upgrade" in (caught.value.hint or "")
    assert "dbt run" in (caught.value.hint or "")


@pytest.mark.parametrize("table", TABLES)
def test_a_table_newer_than_this_sentinel_asks_for_a_newer_one(
    database: Path, open_store: OpenStore, table: str
) -> None:
    sql(database, f"alter table {table} add column from_the_future varchar")
    with pytest.raises(
        TablesOutdated, match=r"newer than this Sentinel.*from_the_future"
    ) as caught:
        open_store().check()
    assert "upgrade dbt-sentinel" in (caught.value.hint or "")


def test_columns_may_stand_in_any_order(database: Path, open_store: OpenStore) -> None:
    sql(
        database,
        "alter table sentinel_state drop column alert; "
        "alter table sentinel_state add column alert varchar",
    )
    store = open_store()
    store.check()
    write(store, Batch(states=(state("moved"),)))
    assert [each.alert for each in store.snapshot().states] == ["moved"]


def test_a_column_that_was_added_to_rows_later_reads_as_its_default(
    database: Path, open_store: OpenStore
) -> None:
    store = open_store()
    write(store, Batch(states=(state(),), notifications=(notification(),)))
    sql(database, "update sentinel_state set held_s = null, dimensions = null")
    sql(database, "update sentinel_notifications set attempts = null, recipients_done = null")
    [kept] = store.snapshot().states
    assert (kept.held_s, kept.dimensions) == (0, {})
    [row] = store.notifications(Status)
    assert (row.attempts, row.recipients_done) == (0, ())


# -- DuckDB ------------------------------------------------------------------------------------


def test_a_missing_table_is_an_error_of_the_store_and_not_of_the_driver(
    database: Path, open_store: OpenStore
) -> None:
    sql(database, "drop table sentinel_notifications")
    with pytest.raises(StoreError, match="Sentinel's tables can't be used: Catalog Error"):
        open_store().notifications(Status)


def test_a_relation_whose_name_has_a_colon_is_no_parameter(
    database: Path, open_store: OpenStore, relations: Mapping[str, str]
) -> None:
    mark = "Sentinel keeps this table as shop.duckdb.main.state :of."
    sql(
        database,
        f'alter table sentinel_state rename to "state :of"; comment on table "state :of" is \'{mark}\'',
    )
    store = open_store(changed={**relations, "sentinel_state": '"shop"."main"."state :of"'})
    store.check()
    write(store, Batch(states=(state(),)))
    assert len(store.snapshot().states) == 1


def test_times_are_utc_whatever_the_profile_says(database: Path, relations: dict[str, str]) -> None:
    credentials = {"path": database.name, "settings": {"TimeZone": "America/New_York"}}
    store = open_on(DuckDb(credentials, WarehouseContext(database.parent)), relations)
    utc = open_on(DuckDb({"path": database.name}, WarehouseContext(database.parent)), relations)
    assert abs(store.now() - utc.now()) < timedelta(seconds=30)
    row = notification(at=store.now())
    write(store, Batch(notifications=(row,)))
    assert [each.created_at for each in utc.notifications(Status)] == [row.created_at]
    mark(store, store.claim("me", MINUTE, 1), Attempt(Status.SENT))
    [sent] = utc.notifications(Status)
    assert sent.sent_at is not None
    assert abs(sent.sent_at - utc.now()) < timedelta(seconds=30)


def test_a_held_file_is_told_as_locked_and_nothing_is_written(
    database: Path, relations: dict[str, str]
) -> None:
    file = DuckDb(
        {"path": database.name},
        WarehouseContext(database.parent, lock_timeout=timedelta(milliseconds=100)),
    )
    store = open_on(file, relations)
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    holder.stdout.readline()
    with pytest.raises(WarehouseLocked, match=str(holder.pid)):
        write(store, Batch(history=(history_row("a"),)))
    with pytest.raises(WarehouseLocked):
        store.check()
    holder.communicate("\n", timeout=10)
    assert list(store.history(HistoryQuery())) == []


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
        "from sentinel.store.duckdb import DuckDbDialect\n"
        "from sentinel.store.sql import SqlStore\n"
        "from sentinel.warehouses.contract import WarehouseContext\n"
        "from sentinel.warehouses.duckdb import DuckDb\n"
        "file = DuckDb({'path': sys.argv[1]}, WarehouseContext(Path('/')))\n"
        "names = ['state', 'history', 'notifications', 'silences', 'leases']\n"
        "tables = StoreTables({f'sentinel_{n}': f'sentinel_{n}' for n in names})\n"
        "store = SqlStore('shop', tables, lambda ro: file.engine(read_only=ro), DuckDbDialect())\n"
        "for _ in range(5):\n"
        "    store.commit(['model.shop.revenue'], lambda s: Decision(Batch(\n"
        "        states=(replace(s.states[0], held_s=s.states[0].held_s + 1),)), None))\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", script, str(database)]) for _ in range(2)]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    assert [each.held_s for each in open_store().snapshot().states] == [10]


def test_the_driver_is_not_imported_before_it_is_needed() -> None:
    script = (
        "import sys\n"
        "import sentinel.store.sql, sentinel.store.duckdb, sentinel.store.tables\n"
        "assert 'duckdb' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
