"""The store on BigQuery: the stand-in, or the real service where the environment names one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from google.auth.transport.requests import AuthorizedSession
from sqlalchemy import Engine, event

from sentinel.app.batch import BatchOptions
from sentinel.app.delivery.delivery import Delivery
from sentinel.app.evaluate import Evaluation
from sentinel.core.errors import StateConflict, TablesMissing
from sentinel.core.notification import Status
from sentinel.ports import Attempt, Batch, Query
from sentinel.store.bigquery import BigQueryDialect
from sentinel.store.sql import SqlStore
from sentinel.warehouses.bigquery import BigQuery
from sentinel.warehouses.contract import WarehouseContext
from tests.fakes import (
    FakeChannel,
    FakeProject,
    FakeWarehouse,
    alerts_of,
    mark,
    notification,
    source,
    state,
    status,
    write,
)
from tests.places.bigquery import BigQueryPlace
from tests.places.servers import Servers

from .contract import MINUTE, MakeStore, StoreContract
from .made import create_statements, declared_columns, open_store, relations_of


def opened(place: BigQueryPlace, project: str = "shop") -> SqlStore:
    relations = relations_of(place.project, declared_columns(), place.schema, "`")
    return open_store(
        BigQuery(place.output, WarehouseContext(Path("/"))), relations, project, BigQueryDialect()
    )


@pytest.fixture(scope="module")
def tables(servers: Servers) -> Iterator[BigQueryPlace]:
    """One dataset with the five tables, for all tests."""
    with servers.bigquery.dataset() as place:
        for statement in create_statements("bigquery", place=f"{place.project}.{place.schema}"):
            place.execute(statement)
        yield place


@pytest.fixture
def empty(tables: BigQueryPlace) -> BigQueryPlace:
    """The five tables without rows."""
    for model in declared_columns():
        tables.execute(f"delete from {model} where true")
    return tables


class TestBigQueryStore(StoreContract):
    @pytest.fixture
    def make_store(self, empty: BigQueryPlace) -> MakeStore:
        return lambda project="shop": opened(empty, project)


@contextmanager
def scripts_that_write() -> Iterator[list[str]]:
    """The scripts sent meanwhile: each is one job."""
    sent: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lower().startswith("select"):
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", listen)


def test_a_tick_writes_by_two_jobs_whatever_the_number_of_alerts(empty: BigQueryPlace) -> None:
    names = [f"a{n}" for n in range(30)]
    sources = [
        source(name, {"channels": ["log"] if n < 12 else []}) for n, name in enumerate(names)
    ]
    project = FakeProject(sources)
    warehouse = FakeWarehouse({f"select {name}": status("ALERT") for name in names})
    store, channel = opened(empty), FakeChannel()
    evaluate = Evaluation(project, warehouse, store)
    deliver = Delivery(store, {"log": channel}, "me")
    with scripts_that_write() as sent:
        evaluated = evaluate(alerts_of(*sources), BatchOptions(threads=4, holder="me"))
        delivered = deliver(evaluated.messages, claimed=evaluated.claimed)
    assert len(delivered.sent) == len(channel.accepted) == 12
    assert len(sent) == 2
    assert len(store.snapshot().states) == 30
    assert {row.status for row in store.notifications(Status)} == {Status.SENT}


def test_two_first_writers_of_the_same_state_do_not_both_win(empty: BigQueryPlace) -> None:
    """Nothing is unique there: it is the counting that refuses the second."""
    first, second = opened(empty), opened(empty)
    write(first, Batch(states=(state(),)))
    with pytest.raises(StateConflict, match="before"):
        write(second, Batch(states=(state(held_s=2),)))
    [[rows]] = empty.execute("select count(*) from sentinel_state")
    assert rows == 1


def test_a_table_that_dbt_has_not_made_is_named(servers: Servers) -> None:
    with (
        servers.bigquery.dataset() as place,
        pytest.raises(TablesMissing, match="sentinel_state` doesn't exist"),
    ):
        opened(place).check()


def test_reading_and_keeping_state_need_no_other_permission_than_to_use_jobs(
    empty: BigQueryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/how-to/connect-bigquery.md says of the two roles."""
    asked: set[str] = set()
    send: Any = AuthorizedSession.request

    def listen(self: AuthorizedSession, method: str, url: str, *args: Any, **options: Any) -> Any:
        asked.add(f"{method} {urlparse(url).path.split('/')[5]}")
        return send(self, method, url, *args, **options)

    monkeypatch.setattr(AuthorizedSession, "request", listen)
    with BigQuery(empty.output, WarehouseContext(Path("/"))).open() as session:
        query = Query(f"select * from `{empty.project}`.{empty.schema}.sentinel_state", MINUTE)
        session.describe(query)
        session.fetch(query, 3)
        session.sample(query, ["alert"], 3)
    store = opened(empty)
    store.check()
    write(
        store,
        Batch(states=(state(),), notifications=(notification("e", message_id="m"),)),
    )
    [row] = store.claim("me", MINUTE, 9)
    assert mark(store, [row], Attempt(Status.SENT))
    store.prune(store.now())
    assert {each.split()[1] for each in asked} == {"jobs", "queries"}
    assert {each.split()[0] for each in asked} == {"GET", "POST"}
