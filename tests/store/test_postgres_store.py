"""The store on a real PostgreSQL."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from sentinel.core.errors import QueryError, StoreError, StoreLost, TablesMissing, TablesOutdated
from sentinel.core.notification import Status
from sentinel.ports import Attempt, Batch, Decision, HistoryQuery, PrunedRows, Query, Snapshot
from sentinel.store.database import StoreDatabase
from sentinel.store.postgres import PostgresDialect
from sentinel.store.sql import SqlStore
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.postgres import Postgres
from tests.docs.pages import all_pages
from tests.fakes import mark, notification, state, write
from tests.places.postgres import PostgresPlace
from tests.places.servers import Servers

from .contract import MINUTE, ODD, MakeStore, StoreContract, history_row, silence
from .made import create_statements, declared_columns, open_store, relations_of

TABLES = [
    "sentinel_state",
    "sentinel_history",
    "sentinel_notifications",
    "sentinel_silences",
    "sentinel_leases",
]
CREATE = "; ".join(create_statements("postgres"))


def store_of(place: PostgresPlace, project: str = "shop", **others: Any) -> SqlStore:
    relations = relations_of(place.dbname, declared_columns("postgres"), place.schema)
    database = Postgres({**place.output, **others}, WarehouseContext(Path()))
    return open_store(database, relations, project, PostgresDialect())


@pytest.fixture(scope="module")
def tables(servers: Servers) -> Iterator[PostgresPlace]:
    """A database with the five tables, which `emptied` empties."""
    with servers.postgres.database() as place:
        place.execute(CREATE)
        yield place


@pytest.fixture
def emptied(tables: PostgresPlace) -> PostgresPlace:
    tables.execute(f"truncate {', '.join(TABLES)}")
    return tables


@pytest.fixture
def own(postgres: PostgresPlace) -> PostgresPlace:
    """A database of a test's own with the five tables, which it may change."""
    postgres.execute(CREATE)
    return postgres


class TestPostgresStore(StoreContract):
    nul = "\N{REPLACEMENT CHARACTER}"

    @pytest.fixture
    def make_store(self, emptied: PostgresPlace) -> MakeStore:
        def make_store(project: str = "shop") -> SqlStore:
            return store_of(emptied, project)

        return make_store


# -- check -------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_dbt_has_not_made_is_named_with_what_makes_it(
    own: PostgresPlace, table: str
) -> None:
    own.execute(f"drop table {table}")
    with pytest.raises(TablesMissing, match=f'"{table}" doesn\'t exist') as caught:
        store_of(own).check()
    assert "`dbt run -s package:sentinel`" in (caught.value.hint or "")


def test_a_schema_that_dbt_has_not_made_is_a_table_that_it_has_not_made(
    postgres: PostgresPlace,
) -> None:
    postgres.execute("drop schema shop")
    with pytest.raises(TablesMissing, match="doesn't exist yet"):
        store_of(postgres).check()


@pytest.mark.parametrize("what", ["table shop.sentinel_history", "schema shop"])
def test_a_table_that_may_not_be_read_is_told_as_that(own: PostgresPlace, what: str) -> None:
    role = f"{own.dbname}_r"
    own.execute(f"create role {role}")
    try:
        own.execute(f"grant usage on schema shop to {role}")
        own.execute(f"grant select on all tables in schema shop to {role}")
        store_of(own, role=role).check()
        own.execute(f"revoke all on {what} from {role}")
        denied = f"permission denied for {what.replace('shop.', '')}"
        with pytest.raises(StoreError, match=denied) as caught:
            store_of(own, role=role).check()
        assert not isinstance(caught.value, TablesMissing)
    finally:
        own.execute(f"drop owned by {role}; drop role {role}")


def test_a_table_older_than_this_sentinel_is_named_with_what_upgrades_it(
    own: PostgresPlace,
) -> None:
    own.execute("alter table sentinel_history drop column bytes_billed")
    with pytest.raises(TablesOutdated, match=r"older than this Sentinel.*bytes_billed"):
        store_of(own).check()


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\0b\0\0c", "a\ufffdb\ufffd\ufffdc"),
        ("\\\0", "\\\ufffd"),
        ("\\\\\0", "\\\\\ufffd"),
        (r"\u0000", r"\u0000"),
        (r"\\u0000", r"\\u0000"),
        ("\\u0000\0", "\\u0000\ufffd"),
    ],
)
def test_nul_becomes_a_replacement_character_and_nothing_else_changes(
    emptied: PostgresPlace, text: str, kept: str
) -> None:
    store = store_of(emptied)
    row = history_row("a", message=text, error=ODD.replace("\0", ""), context={"text": text})
    write(store, Batch(history=(row,)))
    [found] = store.history(HistoryQuery())
    assert found == replace(row, message=kept)  # JSON keeps it: it is escaped there


def test_an_id_with_nul_is_found_again(emptied: PostgresPlace) -> None:
    store = store_of(emptied)
    write(store, Batch(states=(state(alert_id="a\0b"),)))
    assert [each.alert for each in store.snapshot(["a\0b"]).states] == ["revenue"]
    store.add_silence(silence("s\0", ends_at=store.now() + MINUTE))
    assert len(store.end_silences(["s\0"], "me")) == 1


def test_times_are_utc_whatever_the_zone_of_the_server(own: PostgresPlace) -> None:
    own.execute(f"alter database {own.dbname} set timezone = 'America/New_York'")
    store = store_of(own)
    assert abs(store.now() - datetime.now(UTC)) < timedelta(minutes=1)
    row = notification(at=store.now())
    write(store, Batch(notifications=(row,)))
    assert mark(store, store.claim("me", MINUTE, 1), Attempt(Status.SENT))
    own.execute(f"alter database {own.dbname} set timezone = 'UTC'")
    [sent] = store.notifications(Status)
    assert sent.created_at == row.created_at
    assert sent.sent_at is not None
    assert abs(sent.sent_at - datetime.now(UTC)) < timedelta(minutes=1)


# -- others at the same time ---------------------------------------------------------------------


def test_what_two_claim_at_the_same_time_each_has_once(emptied: PostgresPlace) -> None:
    """As often as it takes to see that READ COMMITTED would not do."""
    store = store_of(emptied)
    for turn in range(3):
        rows = tuple(
            notification(f"{turn}-{n}", at=store.now() - MINUTE, message_id=f"{turn}-{n}")
            for n in range(20)
        )
        write(store, Batch(notifications=rows))
        barrier = threading.Barrier(3)

        def claim(holder: str, barrier: threading.Barrier = barrier) -> list[str]:
            barrier.wait(timeout=10)
            return [row.message_id for row in store_of(emptied).claim(holder, MINUTE, 20)]

        with ThreadPoolExecutor(3) as pool:
            claimed = [key for found in pool.map(claim, ("a", "b", "c")) for key in found]
        assert sorted(claimed) == sorted(row.message_id for row in rows)


def test_who_waited_for_another_writer_decides_again_on_what_that_one_wrote(
    emptied: PostgresPlace,
) -> None:
    first, second = store_of(emptied), store_of(emptied)
    write(first, Batch(states=(state(),)))
    seen: list[int] = []

    def later(snapshot: Snapshot) -> Decision[None]:
        return Decision(Batch((replace(snapshot.states[0], held_s=10),)), None)

    def decide(snapshot: Snapshot) -> Decision[None]:
        [kept] = snapshot.states
        seen.append(kept.held_s)
        if len(seen) == 1:
            first.commit([kept.alert_id], later)
        return Decision(Batch(states=(replace(kept, held_s=kept.held_s + 1),)), None)

    second.commit(["model.shop.revenue"], decide)
    assert seen == [0, 10]
    assert [each.held_s for each in second.snapshot().states] == [11]


def test_a_snapshot_is_of_one_moment(emptied: PostgresPlace) -> None:
    """State and ledger are read one after the other, and yet both as they were."""
    store = store_of(emptied)
    write(store, Batch(states=(state(episode_id="e"),)))
    seen: list[Snapshot] = []
    original = store_of(emptied)

    def rows(*arguments: Any) -> Any:
        found = StoreDatabase.rows(*arguments)
        if not seen:
            seen.append(Snapshot((), (), store.now()))
            write(store, Batch(notifications=(notification("e"),)))
        return found

    original._database.rows = rows  # type: ignore[method-assign,assignment]  # to write between its two reads
    assert original.snapshot().ledger == ()
    assert len(store.snapshot().ledger) == 1


def test_processes_that_commit_at_the_same_time_lose_nothing(emptied: PostgresPlace) -> None:
    names = ["model.shop.a", "model.shop.b"]
    write(store_of(emptied), Batch(states=(state("a"), state("b"))))
    script = (
        "import sys\n"
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        "from sentinel.core.project import StoreTables\n"
        "from sentinel.ports import Batch, Decision\n"
        "from sentinel.store.postgres import PostgresDialect\n"
        "from sentinel.store.sql import SqlStore\n"
        "from sentinel.warehouses.contract import WarehouseContext\n"
        "from sentinel.warehouses.postgres import Postgres\n"
        "database = Postgres(eval(sys.argv[1]), WarehouseContext(Path()))\n"
        "names = ['state', 'history', 'notifications', 'silences', 'leases']\n"
        "tables = StoreTables({f'sentinel_{n}': f'shop.sentinel_{n}' for n in names})\n"
        "store = SqlStore('shop', tables, lambda ro: database.engine(read_only=ro), PostgresDialect())\n"
        "print('ready', flush=True)\n"
        "input()\n"
        "for _ in range(5):\n"
        f"    store.commit({names}, lambda s: Decision(Batch(\n"
        "        states=tuple(replace(each, held_s=each.held_s + 1) for each in s.states)), None))\n"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, repr(emptied.output)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:  # both at once
        assert worker.stdin
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=60)
    assert [worker.returncode for worker in workers] == [0, 0]
    assert [each.held_s for each in store_of(emptied).snapshot().states] == [10, 10]


def test_a_server_that_hangs_up_in_the_middle_leaves_nothing_of_a_batch(
    emptied: PostgresPlace,
) -> None:
    def decide(_: Snapshot) -> Decision[None]:
        emptied.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            f"where datname = '{emptied.dbname}' and pid <> pg_backend_pid()"
        )
        return Decision(Batch(states=(state(),), history=(history_row("a"),)), None)

    with pytest.raises(StoreLost, match="Sentinel's tables can't be used"):
        store_of(emptied).commit([], decide)
    assert store_of(emptied).snapshot().states == ()


def test_reading_needs_no_right_to_write(own: PostgresPlace) -> None:
    write(store_of(own), Batch(states=(state(),)))
    own.execute(f"alter database {own.dbname} set default_transaction_read_only = on")
    assert len(store_of(own).snapshot().states) == 1
    with pytest.raises(StoreError, match="read-only transaction"):
        write(store_of(own), Batch(states=(state("b"),)))


# -- least privilege -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Granted:
    """A database as the page says: dbt's role owns it all, and two users have their grants."""

    place: PostgresPlace
    renamed: Mapping[str, str]

    def as_user(self, name: str, password: str) -> Postgres:
        output = {**self.place.output, "user": self.renamed[name], "password": password}
        return Postgres(output | {"schema": "analytics"}, WarehouseContext(Path(), 2))

    @property
    def reader(self) -> Postgres:
        return self.as_user("sentinel_reader", "choose one")

    @property
    def writer(self) -> Postgres:
        return self.as_user("sentinel_writer", "choose another")

    def run(self, sql: str) -> None:
        """With the page's names as they are called here: roles are the server's, not a database's."""
        for name, unique in self.renamed.items():
            sql = re.sub(rf"\b{name}\b", unique, sql)
        self.place.execute(sql)


@pytest.fixture
def granted(postgres: PostgresPlace) -> Iterator[Granted]:
    unique = {name: f"{postgres.dbname}_{name}" for name in ("sentinel_reader", "sentinel_writer")}
    unique |= {
        "role dbt": f"role {postgres.dbname}_dbt",
        "database shop": f"database {postgres.dbname}",
    }
    granted = Granted(postgres, unique)
    granted.run("create role dbt")
    granted.run("grant create on database shop to " + f"{postgres.dbname}_dbt")
    try:
        schema = {"analytics": "create table analytics.orders as select 1 as id, 'north' as region"}
        schema["analytics_sentinel"] = "; ".join(
            create_statements("postgres", lambda model: f"analytics_sentinel.{model}")
        )
        for name, tables in schema.items():
            granted.run(f"set role {postgres.dbname}_dbt; create schema {name}; {tables}")
        page = next(page for page in all_pages() if str(page).endswith("connect-postgres.md"))
        grants = [block.code for block in page.blocks if block.code.startswith("create role")]
        assert len(grants) == 2
        for block in grants:
            granted.run(block)
        yield granted
    finally:
        for role in (
            *(unique[name] for name in ("sentinel_reader", "sentinel_writer")),
            f"{postgres.dbname}_dbt",
        ):
            postgres.execute(f"drop owned by {role} cascade; drop role {role}")


def read(database: Postgres, sql: str) -> Sequence[Sequence[Any]]:
    with database.open() as session:
        return session.fetch(Query(sql, MINUTE), 10).rows


def test_the_page_s_reader_can_evaluate_and_nothing_else(granted: Granted) -> None:
    query = Query("select * from analytics.orders", MINUTE)
    with granted.reader.open() as session:
        assert session.describe(query).columns == ("id", "region")
        assert session.fetch(query, 10).rows == ((1, "north"),)
        assert session.count(query, ["region"], 10).rows == (("north", 1),)
        assert session.sample(query, ["region"], 1).rows == ((1, "north"),)
        with pytest.raises(QueryError, match="permission denied"):
            session.fetch(Query("select * from analytics_sentinel.sentinel_state", MINUTE), 1)
    # dbt makes its tables anew, and the grants with them.
    granted.run(
        f"set role {granted.place.dbname}_dbt; drop table analytics.orders; "
        "create table analytics.orders as select 2 as id"
    )
    assert read(granted.reader, "select * from analytics.orders") == ((2,),)
    for sql in FORBIDDEN:
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
            written_by(granted.reader, sql)
    with pytest.raises(DBAPIError, match="permission denied"):
        written_by(granted.reader, "delete from analytics_sentinel.sentinel_state")


def test_the_page_s_writer_can_do_all_that_a_store_does_and_nothing_else(granted: Granted) -> None:
    models = declared_columns("postgres")
    relations = relations_of(granted.place.dbname, models, "analytics_sentinel")
    store = open_store(granted.writer, relations, "shop", PostgresDialect())
    store.check()
    sent = notification(at=store.now() - MINUTE)
    write(store, Batch((state(),), (history_row("a"),), (sent,)))
    [kept] = store.snapshot().states
    write(store, Batch((replace(kept, held_s=1),)))
    assert mark(store, store.claim("me", MINUTE, 10), Attempt(Status.SENT))
    store.add_silence(silence("s", ends_at=store.now() + MINUTE))
    assert store.end_silences(["s"], "me") == {"s"}
    assert len(store.history(HistoryQuery())) == len(store.notifications(Status)) == 1
    assert store.prune(store.now() + MINUTE) == PrunedRows(1, 1, 1)
    written_by(granted.writer, "update analytics_sentinel.sentinel_leases set token = 1")
    for sql in (*FORBIDDEN, "select * from analytics.orders"):
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
            written_by(granted.writer, sql)


FORBIDDEN = (
    "insert into analytics.orders values (3)",
    "delete from analytics.orders",
    "drop table analytics.orders",
    "create table analytics.more (n int)",
    "create table analytics_sentinel.more (n int)",
    "create table public.more (n int)",
    "drop table analytics_sentinel.sentinel_state",
    "truncate analytics_sentinel.sentinel_state",
    "alter table analytics_sentinel.sentinel_state add column n int",
    "copy analytics.orders to '/tmp/orders'",
    "select pg_read_file('PG_VERSION')",
)


def written_by(database: Postgres, sql: str) -> None:
    """As nothing in Sentinel would, without its guards."""
    with database.engine(read_only=False) as engine, engine.begin() as connection:
        connection.exec_driver_sql(sql)


def test_the_driver_is_not_imported_before_it_is_needed() -> None:
    script = (
        "import sys\n"
        "import sentinel.store.sql, sentinel.store.postgres, sentinel.store.tables\n"
        "assert not {'psycopg', 'psycopg2'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
