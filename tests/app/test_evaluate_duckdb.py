"""One batch whose queries run on a real DuckDB file, with a real store in the same file."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from sentinel.app.batch import BatchOptions, EvaluatedBatch
from sentinel.app.delivery.delivery import Delivery
from sentinel.app.evaluate import Evaluation
from sentinel.core.errors import DeliveryError
from sentinel.core.notification import Status
from sentinel.core.project import AlertSource, Compiled
from sentinel.core.state import Phase
from sentinel.ports import HistoryQuery, Store
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.duckdb import DuckDb
from tests.fakes import FakeChannel, FakeProject, alerts_of, source
from tests.store.made import create_tables, declared_columns, open_store, relations_of

AS_OF = "/*sentinel:as_of*/ make_timestamp(epoch_us(now())) /*sentinel:end*/"
ORDERS = """
create table orders as
select range as id, 'r' || range % 3 as region, range * 10 as amount,
    timestamp '2020-01-01' + interval (range) day as made_at
from range(9)
"""
SQL = {
    "revenue": "select case when sum(amount) < 1000 then 'ALERT' else 'OK' end as status, "
    "sum(amount) as actual_value, 1000 as threshold, '100% of ' || count(*) as message from orders",
    "fresh": f"select 'OK' as status, max(made_at) <= {AS_OF} as past, {AS_OF} as as_of from orders",
    "negative": "select * from orders where amount < 0 -- none",
    "large": "select * from orders where amount > 30;",
    "by_region": "select region, if(sum(amount) > 120, 'ALERT', 'OK') as status from orders group by 1",
    "wrong": "select no_such_column from orders",
    "writes": "delete from orders",
    "slow": "select 'OK' as status, count(*) as n from range(10000000000), range(1000)",
    "wide": "select range as id, 'OK' as status from range(10001)",
    "odd": "select interval 1000000000 day as d, 'OK' as status",
}
DEFINITIONS: dict[str, dict[str, object]] = {
    "large": {"warn_if": ">2", "error_if": ">5", "samples": 2, "sample_columns": ["id"]},
    "by_region": {"dimensions": ["region"]},
    "wide": {"dimensions": ["id"]},
    "slow": {"timeout": "1s", "shape": "status"},
}


class Shop:
    """Alerts, and the one file that they watch and that remembers them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.duckdb"
        create_tables(self.path)
        with duckdb.connect(str(self.path)) as connection:
            connection.execute(ORDERS)
        self.file = DuckDb({"path": "shop.duckdb"}, WarehouseContext(folder, 3))
        self.store: Store = open_store(self.file, relations_of("shop", declared_columns()))

    def run(self, *names: str, threads: int = 3, dry_run: bool = False) -> EvaluatedBatch:
        sources: list[AlertSource] = [source(name, DEFINITIONS.get(name)) for name in names]
        compiled = {each.unique_id: Compiled(each.unique_id, SQL[each.name]) for each in sources}
        evaluation = Evaluation(FakeProject(sources, compiled), self.file, self.store)
        return evaluation(alerts_of(*sources), BatchOptions(threads, dry_run=dry_run))

    def orders(self) -> int:
        with duckdb.connect(str(self.path)) as connection:
            return len(connection.execute("from orders").fetchall())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_a_batch_reads_and_is_recorded_in_the_same_file(shop: Shop) -> None:
    evaluated = shop.run("revenue", "fresh", "negative", "large", "by_region", "wrong", "writes")
    assert {seen.alert.name: str(seen.result.outcome) for seen in evaluated.evaluations} == {
        "by_region": "alert",
        "fresh": "ok",
        "large": "alert",
        "negative": "ok",
        "revenue": "alert",
        "writes": "error",
        "wrong": "error",
    }
    states = {(each.alert, each.instance): each for each in shop.store.snapshot().states}
    revenue = states["revenue", ""]
    assert (revenue.phase, revenue.actual_value, revenue.threshold, revenue.message) == (
        Phase.FIRING,
        360,
        1000,
        "100% of 9",
    )
    assert (states["large", ""].severity, states["large", ""].actual_value) == ("warning", 5)
    assert {key[1]: each.phase for key, each in states.items() if key[0] == "by_region"} == {
        "": None,
        "region=r0": Phase.OK,
        "region=r1": Phase.OK,
        "region=r2": Phase.FIRING,
    }
    assert states["wrong", ""].health == "failing"
    history = {row.alert: row for row in shop.store.history(HistoryQuery()) if not row.instance}
    assert (history["wrong"].error or "").startswith("Binder Error: Referenced column")
    assert history["writes"].error == "the SQL begins with DELETE; an alert is one SELECT"
    assert shop.orders() == 9


def test_as_of_is_the_time_of_the_store_s_clock_when_the_batch_began(shop: Shop) -> None:
    evaluated = shop.run("fresh")
    [update] = evaluated.updates
    [seen] = update.result.observations
    assert seen.context == {
        "past": True,
        "as_of": evaluated.started_at.replace(tzinfo=None).isoformat(),
    }
    assert abs(shop.store.now() - evaluated.started_at) < timedelta(minutes=1)


def test_samples_are_real_rows(shop: Shop) -> None:
    shop.run("large")
    [sent] = shop.store.notifications(Status)
    samples = sent.payload["context"]["samples"]
    assert len(samples) == 2
    assert {row["id"] for row in samples} <= {4, 5, 6, 7, 8}
    assert all(set(row) == {"id"} for row in samples)


def test_what_one_query_can_t_do_hurts_no_other(shop: Shop) -> None:
    evaluated = shop.run("slow", "wide", "odd", "revenue")
    errors = {seen.alert.name: seen.result.error or "" for seen in evaluated.evaluations}
    assert "longer than its timeout of 1s" in errors["slow"]
    assert "more than 10,000 rows" in errors["wide"]
    assert "can't be read" in errors["odd"]
    assert errors["revenue"] == ""


def test_a_dry_run_leaves_the_file_as_it_was(shop: Shop) -> None:
    before = shop.path.read_bytes()
    assert shop.run("revenue", dry_run=True).plan.notifications
    assert shop.path.read_bytes() == before


def test_what_a_batch_planned_is_delivered_and_marked_in_the_same_file(shop: Shop) -> None:
    shop.run("revenue", "large", "by_region")
    threads = set()
    log = FakeChannel(before=lambda _: threads.add(threading.get_ident()))
    delivered = Delivery(shop.store, {"log": log}, "me")()
    assert len(delivered.sent) == 3
    assert threading.get_ident() not in threads
    rows = shop.store.notifications([Status.SENT])
    assert {row.remote_ref for row in rows} == {"ref-1", "ref-2", "ref-3"}
    assert shop.store.notifications([Status.PENDING, Status.CLAIMED]) == []


def test_failures_of_several_channels_at_once_are_marked_in_the_same_file(shop: Shop) -> None:
    shop.run("revenue", "large", "by_region")
    log = FakeChannel(always=DeliveryError("down"))
    delivered = Delivery(shop.store, {"log": log}, "me")(timeout=timedelta())
    assert len(delivered.waiting) == 3
    assert {row.last_error for row in shop.store.notifications([Status.PENDING])} == {"down"}
