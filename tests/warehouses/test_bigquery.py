"""BigQuery: the stand-in, or the real service where the environment names one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.cloud.bigquery import DatasetReference, QueryJobConfig

from sentinel.core.errors import QueryError
from sentinel.ports import Query, Session
from sentinel.warehouses.bigquery import BigQuery
from sentinel.warehouses.contract import WarehouseContext
from tests.places.bigquery import BigQueryPlace
from tests.places.servers import Servers

from .contract import LONG, QueryContract, Watched

ORDERS = (
    "create table orders (id int64, region string, amount int64)",
    "insert into orders (id, region, amount) "
    "values (1, 'north', 40), (2, 'north', 70), (3, 'south', 90), (4, null, 5)",
)
WRONG = "select no_such_column from orders"
SAID = "Unrecognized name: no_such_column"
SAID_BY_THE_STAND_IN = "Query execution failed: Binder Error: Referenced column"


@dataclass
class WatchedBigQuery(Watched):
    place: BigQueryPlace

    def __post_init__(self) -> None:
        self.refused = {
            "create temp function f() as (1); select f()": "2 statements",
            "call other.procedure()": "begins with CALL",
            "export data options (uri = 'gs://x/*.csv', format = 'csv') as select 1": "begins with",
            "load data into orders from files (format = 'csv', uris = ['gs://x'])": "begins with",
            "execute immediate 'drop table orders'": "begins with",
            "begin transaction": "begins with BEGIN",
            "declare x int64": "begins with DECLARE",
            "merge orders using (select 1) on false when not matched then insert row": "MERGE",
        }

    def fingerprint(self) -> Any:
        return self.place.execute("select * from orders order by id")


@pytest.fixture(scope="module")
def shop(servers: Servers) -> Iterator[BigQueryPlace]:
    """One dataset with the orders: none of these tests changes it."""
    with servers.bigquery.dataset() as place:
        for statement in ORDERS:
            place.execute(statement)
        yield place


@pytest.fixture
def warehouse(shop: BigQueryPlace) -> BigQuery:
    """The tests write `orders` without its dataset, as dbt never does."""
    found = BigQuery(shop.output, WarehouseContext(Path("/")))
    found.client.default_query_job_config = QueryJobConfig(
        default_dataset=DatasetReference(shop.project, shop.schema)
    )
    return found


class TestBigQuerySession(QueryContract):
    @pytest.fixture
    def watched(self, warehouse: BigQuery, shop: BigQueryPlace) -> Watched:
        return WatchedBigQuery(
            warehouse,
            "",
            (WRONG, SAID_BY_THE_STAND_IN if shop.emulated else SAID),
            shop,
            quote="`",
            remainder="mod({}, {})",
            backslash_escapes=True,
        )

    def test_fetch_keeps_columns_of_the_same_name_apart(self, session: Session) -> None:
        """The service refuses them; the stand-in gives the second another name."""
        sql = "select 1 as a, 2 as a"
        try:
            assert session.fetch(Query(sql, LONG), 3).columns == ("a", "a_1")
        except QueryError as error:
            assert "Duplicate column names" in str(error)
