"""Small dbt projects, real dbt over them once for each engine, and a stand-in that counts calls."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sentinel.bootstrap import introspect
from sentinel.core.project import Compiled, Selection
from sentinel.dbt.engine import Invocation, Node
from sentinel.dbt.options import DbtOptions, EngineChoice
from sentinel.dbt.project import DbtProject

Files = Mapping[str, str]

PROFILES = """
shop:
  target: dev
  outputs:
    dev: {type: duckdb, path: "{{ env_var('SHOP_DB') }}", schema: main, threads: 2}
    prod: {type: duckdb, path: "{{ env_var('SHOP_DB') }}", schema: prod}
"""

AS_OF = """
{% macro as_of() %}{{ return(adapter.dispatch('as_of', 'helper')()) }}{% endmacro %}
{% macro default__as_of() %}/*sentinel:as_of*/ now() /*sentinel:end*/{% endmacro %}
{% macro cents(column) %}({{ column }} / 100.0){% endmacro %}
"""

SHOP: Files = {
    "dbt_project.yml": """
name: shop
version: "1.0"
profile: shop
vars: {floor: 10, region: eu}
models:
  shop: {+tags: [all]}
flags:
  # Otherwise another target's schema makes every model `state:modified`.
  state_modified_compare_more_unrendered_values: true
""",
    "profiles.yml": PROFILES,
    "packages.yml": "packages:\n  - local: ../helper\n",
    "selectors.yml": """
selectors:
  - name: orders_only
    definition: {method: fqn, value: orders}
""",
    "models/base/e1.sql": "{{ config(materialized='ephemeral') }} select 1 as x",
    "models/base/e2.sql": "{{ config(materialized='ephemeral') }} select * from {{ ref('e1') }}",
    "models/base/orders.sql": "select 5 as amount",
    "models/alerts/one_ephemeral.sql": "select * from {{ ref('e1') }}",
    "models/alerts/two_ephemerals.sql": "select * from {{ ref('e2') }}, {{ ref('e1') }} as again",
    "models/alerts/vars.sql": "select {{ var('floor') }} as f, '{{ var(\"region\") }}' as r",
    "models/alerts/environment.sql": 'select \'{{ env_var("SHOP_COUNTRY", "nl") }}\' as country',
    "models/alerts/queried.sql": """
{% set answer = run_query('select 42 as n') %}
select {{ answer.columns[0].values()[0] if execute else 0 }} as n from {{ this }}""",
    "models/alerts/packaged.sql": """
{{ config(tags=['money']) }}
select {{ helper.cents('amount') }} from {{ ref('orders') }} where at < {{ helper.as_of() }}""",
    "models/alerts/broken.sql": "select {{ 1 / 0 if execute else 1 }}",
    "models/alerts/alerts.yml": """
groups:
  - name: finance
    owner: {name: Fin, email: fin@example.com, slack: "#fin"}
models:
  - name: packaged
    description: Late orders
    config:
      group: finance
      meta:
        sentinel_defaults: {severity: info}
        sentinel:
          schedule: daily
          channels: [console, ops]
  - name: vars
    config: {meta: {sentinel: }}
exposures:
  - name: board
    type: dashboard
    owner: {email: a@example.com}
    depends_on: [ref('orders')]
""",
    "../helper/dbt_project.yml": "name: helper\nversion: '2.3'\n",
    "../helper/macros/helper.sql": AS_OF,
}


def write(root: Path, files: Files) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def make_shop(folder: Path, more: Files | None = None) -> Path:
    """The shop project with its package installed, as `dbt deps` would."""
    root = folder / "shop"
    root.mkdir(parents=True)
    duckdb.connect(os.environ["SHOP_DB"]).close()
    write(root, {**SHOP, **(more or {})})
    (root / "dbt_packages").mkdir()
    (root / "dbt_packages" / "helper").symlink_to(folder / "helper", target_is_directory=True)
    return root


@pytest.fixture(autouse=True)
def shop_db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("DBT_")]:
            patch.delenv(name)
        path = tmp_path_factory.getbasetemp() / "shop.duckdb"
        patch.setenv("SHOP_DB", str(path))
        duckdb.connect(path).close()  # which compiling doesn't make
        yield path


def open_project(
    root: Path, engine: EngineChoice = "python", sent: list[str] | None = None, **given: Any
) -> DbtProject:
    options = DbtOptions(project_dir=root, profiles_dir=root, engine=engine, **given)
    notify = (sent if sent is not None else []).append
    return DbtProject(options, notify=notify, cwd=root, introspection=introspect)


class CountingEngine:
    """An engine that answers from a manifest made by hand and counts what it is asked."""

    def __init__(self, invocation: Invocation, manifest: Mapping[str, Any]) -> None:
        self.invocation = invocation
        self.manifest = manifest
        self.calls: list[str] = []

    def parse(self) -> None:
        self.calls.append("parse")
        self.invocation.manifest.write_text(json.dumps(self.manifest))

    def select(self, selection: Selection) -> frozenset[str]:
        self.calls.append("select")
        return frozenset(self.manifest["nodes"])

    def run(self, selection: Selection) -> None:
        self.calls.append(f"run {selection}")

    def compile(self, nodes: Iterable[Node]) -> Mapping[str, Compiled]:
        ids = [n.unique_id for n in nodes]
        self.calls.append(f"compile {' '.join(ids)}")
        return {i: Compiled(i, f"sql of {i}") for i in ids}


def model(name: str, raw_code: str = "select 1", **more: Any) -> dict[str, Any]:
    """A model as manifest.json shows it."""
    return {
        "unique_id": f"model.shop.{name}",
        "name": name,
        "resource_type": "model",
        "package_name": "shop",
        "fqn": ["shop", name],
        "original_file_path": f"models/{name}.sql",
        "raw_code": raw_code,
        "config": {"meta": {}},
        "depends_on": {"nodes": [], "macros": []},
        **more,
    }


def manifest_of(*models: dict[str, Any], macros: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {
        "nodes": {m["unique_id"]: m for m in models},
        "macros": {
            f"macro.shop.{name}": {"name": name, "package_name": "shop", "macro_sql": text}
            for name, text in (macros or {}).items()
        },
    }


Counting = Callable[..., tuple[DbtProject, CountingEngine]]


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    """Open a project over a counting engine; each call is a new process as far as it can tell."""

    def start(manifest: Mapping[str, Any], **given: Any) -> tuple[DbtProject, CountingEngine]:
        root = tmp_path / "shop"
        if not root.exists():
            make_shop(tmp_path)
        made: list[CountingEngine] = []
        engine = CountingEngine(
            Invocation(DbtOptions(root), root, root / "target/sentinel"), manifest
        )

        def make(invocation: Invocation) -> CountingEngine:
            engine.invocation = invocation
            made.append(engine)
            return engine

        env = given.pop("env", None)
        options = DbtOptions(project_dir=root, profiles_dir=root, **given)
        environment = {**os.environ, **(env or {})}
        return DbtProject(options, cwd=root, env=environment, engine=make), engine

    return start
