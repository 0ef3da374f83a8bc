"""The files that a dbt-duckdb project declares: real dbt, and an alert that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sentinel.core.errors import QueryError
from sentinel.dbt.manifest import external_files
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project import DbtProject
from sentinel.ports import Query
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.duckdb import DuckDb

from .conftest import write

PARTS = 'meta: {external_location: "data/{schema}/*.csv"}'
if not version("dbt-core").startswith("1.9."):
    PARTS = f"config: {{{PARTS}}}"  # where newer versions want it
FILES = {
    "dbt_project.yml": "name: shop\nversion: '1.0'\nprofile: shop\n",
    "profiles.yml": """
shop:
  target: dev
  outputs:
    dev: {type: duckdb, path: shop.duckdb, external_root: out}
""",
    "models/sources.yml": """
sources:
  - name: files
    meta: {external_location: "data/{name}.csv"}
    tables:
      - name: orders
      - name: refunds
        identifier: refunds_v2
        meta: {external_location: "read_csv(['data/{identifier}.csv'], delim='/', names=['a'])"}
      - name: parts
        PARTS
  - name: gone
    config: {enabled: false}
    meta: {external_location: "gone.csv"}
    tables: [{name: t}]
  - name: plain
    tables: [{name: t}]
""".replace("PARTS", PARTS),
    "models/plain.sql": "select 1 as n",
    "models/named.sql": "{{ config(materialized='external', location='out/n.csv') }} select 1 as n",
    "models/unnamed.sql": "{{ config(materialized='external', format='csv', alias='x') }} select 1 as n",
    "models/spread.sql": (
        "{{ config(materialized='external', options={'partition_by': 'n'}) }} select 1 as n, 2 as m"
    ),
    "models/late.sql": "select * from {{ source('files', 'orders') }} where n > 1",
    "data/orders.csv": "n,name\n1,anna\n2,boris\n",
    "secret.csv": "n\n1\n",
}


def test_declared_files_are_known_and_readable_and_others_are_not(tmp_path: Path) -> None:
    root = write(tmp_path, FILES)
    (root / "out").mkdir()
    with duckdb.connect(str(root / "shop.duckdb")) as connection:
        connection.execute("create table t as select 1 as n")
    project = DbtProject(DbtOptions(root, profiles_dir=root), cwd=root)
    assert sorted(project.external_files()) == [
        "data/files/*.csv",
        "data/orders.csv",
        "data/refunds_v2.csv",
        "out/n.csv",
        "out/spread",
        "out/x.csv",
    ]
    compiled = project.compile(["model.shop.late"])["model.shop.late"]
    assert compiled.sql is not None
    profile = project.profile()
    database = DuckDb(
        profile.credentials, WarehouseContext(root, declared_files=project.external_files)
    )
    minute = timedelta(minutes=1)
    with database.open() as session:
        assert session.fetch(Query(compiled.sql, minute), 9).rows == ((2, "boris"),)
        with pytest.raises(QueryError, match="Cannot access"):
            session.fetch(Query("select * from 'secret.csv'", minute), 9)


@pytest.mark.parametrize(
    ("relation", "files"),
    [
        (None, []),
        ('"shop"."main"."t"', []),
        ('"shop"."main"."odd (\'name.csv\')"', []),
        ("shop.main.t", []),
        ("'a.csv'", ["a.csv"]),
        ("'it''s, (a) = b.csv'", ["it's, (a) = b.csv"]),
        ("read_csv('a.csv', delim = '/', header := true)", ["a.csv"]),
        ("read_csv(['a.csv', 'b.csv'], columns = {'x': 'INT'})", ["a.csv", "b.csv"]),
        ("read_csv('a.csv', nullstr => ['-', '/'], x = '/')", ["a.csv"]),
        ("(from 'a.csv' union all from read_parquet('b/*.parquet'))", ["a.csv", "b/*.parquet"]),
        ("(select * from read_csv('a.csv') where kind = '/')", ["a.csv"]),
        ("(select split_part(f, '/', 1) from read_csv('a.csv', filename = true))", ["a.csv"]),
        ("(select trim(both from '/') from 'a.csv' where f in ('/', ''))", ["a.csv"]),
        ("(from 'a.csv' join 'b.csv' using (n))", ["a.csv", "b.csv"]),
        ("delta_scan('a/b')", ["a/b"]),
        ("read_csv('')", []),
        ("lower('/')", []),
    ],
)
def test_the_files_of_a_source_are_those_that_its_relation_reads(
    relation: str | None, files: list[str]
) -> None:
    manifest: Mapping[str, Any] = {
        "nodes": {},
        "sources": {"source.shop.s.t": {"relation_name": relation}},
    }
    assert external_files(manifest, ".") == files
