"""Project-wide settings of models: none of them changes a row of Sentinel's tables.

Every key of dbt's model configuration, and of the adapters', is set for the whole project. All that
can be set at once is set at once: a run of dbt takes seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.package.conftest import BLOCK, DbtProject
from tests.places.postgres import PostgresPlace
from tests.places.servers import Servers

from .conftest import TABLES, new_shop

IGNORED: Mapping[str, Any] = {
    "incremental_strategy": "microbatch",
    "event_time": "updated_at",
    "begin": "2020-01-01",
    "batch_size": "day",
    "lookback": 3,
    "concurrent_batches": True,
    "unique_key": ["no_such_column"],
    "full_refresh": True,
    "on_schema_change": "sync_all_columns",
    "on_configuration_change": "fail",
    "contract": {"enforced": True},
    "column_types": {"state_key": "integer"},
    "packages": ["numpy"],
    "quoting": {"identifier": True},
    "static_analysis": "off",
    "freshness": {"build_after": {"count": 1, "period": "day"}},
    "docs": {"show": False},
    "access": "public",
    "sql_header": "create table header_ran (i integer);",
    "indexes": [{"columns": ["no_such_column"]}],
    "unlogged": True,
    "temporary": True,
    "transient": True,
    "store_failures": True,
    "latest_version": 2,
    "merge_update_columns": ["version"],
    "merge_exclude_columns": ["version"],
    "incremental_predicates": ["true"],
    "partition_by": {"field": "updated_at", "data_type": "timestamp"},
    "partitions": ["current_date()"],
    "copy_partitions": True,
    "cluster_by": ["project"],
    "hours_to_expiration": 1,
    "partition_expiration_days": 1,
    "require_partition_filter": True,
    "kms_key_name": "projects/x/locations/y/keyRings/z/cryptoKeys/k",
    "labels": {"team": "data"},
    "grant_access_to": [{"project": "p", "dataset": "d"}],
    "enable_refresh": True,
    "refresh_interval_minutes": 1,
    "max_staleness": "interval 1 day",
    "enable_list_inference": True,
    "intermediate_format": "orc",
    "submission_method": "serverless",
    "notebook_template_id": 1,
    "enable_change_history": True,
    "job_execution_timeout_seconds": 60,
    "reservation": "r",
}
# What a project may set: each has a test of its own below, or in tests/package.
APPLIED: Mapping[str, Any] = {
    "tags": ["nightly"],
    "meta": {"owner": "data", "sentinel": {"severity": "critical"}},
    "persist_docs": {"relation": True, "columns": True},
    "pre-hook": "create table if not exists seen as select count(*) as n from {{ this }}",
    "post-hook": "insert into seen select count(*) from {{ this }}",
}
NAMES = {"pre-hook": "pre_hook", "post-hook": "post_hook"}
# Refused, or without an effect on what `sentinel init` writes, or where they make relations.
ELSEWHERE = {"materialized", "enabled", "alias", "schema", "database", "grants", "group"}


def project_wide(settings: Mapping[str, Any], block: str = BLOCK) -> str:
    models = yaml.safe_load(block)["models"] if block else {}
    wide = {f"+{key}": value for key, value in settings.items()}
    return yaml.safe_dump({"models": {**wide, **models}}, sort_keys=False)


@dataclass(frozen=True)
class Built:
    project: DbtProject
    before: dict[str, list[tuple[Any, ...]]]
    after: dict[str, list[tuple[Any, ...]]]
    nodes: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def built(filled: DbtProject, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Twice built with all of it, after rows were written."""
    project = filled.copy(tmp_path_factory.mktemp("settings") / "shop")
    before = project.rows()
    assert all(before.values())
    project.configure(project_wide({**IGNORED, **APPLIED}))
    project.dbt("run", "--full-refresh")
    project.dbt(
        "run",
        "--full-refresh",
        "--event-time-start",
        "2020-01-01",
        "--event-time-end",
        "2020-02-01",
    )
    manifest = json.loads((project.root / "target" / "manifest.json").read_text())
    return Built(project, before, project.rows(), manifest["nodes"])


def test_every_key_is_here() -> None:
    from dbt.adapters.duckdb.impl import DuckDBConfig
    from dbt.artifacts.resources.v1.model import ModelConfig

    known = {*IGNORED, *ELSEWHERE, *(NAMES.get(key, key) for key in APPLIED)}
    configs: list[Any] = [ModelConfig, DuckDBConfig]
    try:
        from dbt.adapters.bigquery.impl import BigqueryConfig
        from dbt.adapters.postgres.impl import PostgresConfig
    except ImportError:  # the environments of other dbt versions have DuckDB's adapter alone
        pass
    else:
        configs += [BigqueryConfig, PostgresConfig]
    names = {field.name for config in configs for field in fields(config)} - {"_extra"}
    assert names - known == set()


@pytest.mark.parametrize("key", [*IGNORED, *APPLIED])
def test_a_setting_of_the_whole_project_changes_no_row(built: Built, key: str) -> None:
    """It reached the package, and the rows are the same after two runs."""
    config = built.nodes["model.sentinel.sentinel_state"]["config"]
    found = config.get(key, config.get(NAMES.get(key, key)))
    assert found not in (None, [], {}) or (key == "freshness" and key not in config)
    assert built.after == built.before


def test_only_the_package_s_own_columns_keys_and_marks_are_made(built: Built) -> None:
    project = built.project
    kinds = dict(project.sql("select table_name, temporary from duckdb_tables()"))
    assert kinds.keys() >= set(TABLES)
    assert not any(kinds.values())
    assert "header_ran" not in kinds
    comments = dict(project.sql("select table_name, comment from duckdb_tables()"))
    for table in TABLES:
        assert comments[table].endswith(f"Sentinel keeps this table as shop.duckdb.main.{table}.")
        assert "UTC" in comments[table]  # persist_docs, beside the mark
    with pytest.raises(RuntimeError, match="Constraint Error"):
        project.sql("insert into sentinel_state (state_key) values ('key-1')")


def test_hooks_run_when_the_relation_is_there(built: Built) -> None:
    assert len(built.project.sql("from seen")) > 2 * len(TABLES)


def test_sentinels_own_models_are_no_alerts_whatever_meta_says(built: Built) -> None:
    from sentinel.dbt.manifest import alerts, load_manifest

    manifest = load_manifest(built.project.root / "target" / "manifest.json")
    assert alerts(manifest) == []


@pytest.mark.parametrize("materialized", ["table", "view", "incremental", "ephemeral"])
def test_another_materialization_is_refused_unless_init_has_set_ours(
    materialized: str, filled: DbtProject, tmp_path: Path
) -> None:
    project = filled.copy(tmp_path / "shop")
    before = project.rows()
    project.configure(project_wide({"materialized": materialized}, ""))
    success, output = project.try_dbt("run", "--full-refresh", "-s", "sentinel_state")
    if materialized != "ephemeral":  # of that dbt makes nothing
        assert not success
        assert "must be sentinel_table" in output
        assert "+materialized: sentinel_table" in output
    assert project.rows() == before
    if materialized == "ephemeral":
        project.configure(project_wide({"materialized": materialized, "enabled": False}))
        project.dbt("run", "--full-refresh", "-s", "package:sentinel")
        assert project.rows() == before


def test_the_relations_may_be_elsewhere(filled: DbtProject, tmp_path: Path) -> None:
    project = filled.copy(tmp_path / "shop")
    before = project.rows()
    project.configure(project_wide({"schema": "apart", "database": "shop"}))
    project.dbt("run", "-s", "package:sentinel")
    for table in TABLES:
        [(mark,)] = project.sql(
            "select comment from duckdb_tables() "
            f"where schema_name = 'main_apart' and table_name = '{table}'"
        )
        assert mark == f"Sentinel keeps this table as shop.duckdb.main_apart.{table}."
    assert project.rows() == before


# -- PostgreSQL, where grants, hooks and what is written to disk are real ------------------------

GRANTS = {
    "grants": {"select": ["reporter"]},
    "pre-hook": "insert into shop.hooks select count(*) from {{ this }}",
    "unlogged": True,
    "indexes": [{"columns": ["alias_of_nothing"]}],
    "contract": {"enforced": True},
    "unique_key": "nothing",
    "persist_docs": {"relation": True, "columns": True},
}


@pytest.fixture
def database(servers: Servers) -> Iterator[PostgresPlace]:
    with servers.postgres.database() as place:
        yield place


def test_init_succeeds_on_postgres_and_grants_by_hand_last(
    database: PostgresPlace, tmp_path: Path
) -> None:
    shop = new_shop(tmp_path / "shop", database, {"prod": database.output})
    roles = [f"{name}_{database.dbname}" for name in ("reporter", "writer")]
    settings = yaml.safe_load((shop.root / "dbt_project.yml").read_text())
    settings["models"] |= {f"+{key}": value for key, value in GRANTS.items()}
    settings["models"]["+grants"] = {"select": [roles[0]]}
    (shop.root / "dbt_project.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
    for role in roles:
        database.execute(f"create role {role}")
    try:
        database.execute("create table hooks (n bigint)")
        shop.do("sentinel", "init")
        database.execute(f"grant insert, update, delete on sentinel_state to {roles[1]}")
        shop.do("dbt", "run", "-s", "package:sentinel", "--full-refresh")
        for role, privilege in ((roles[0], "select"), (roles[1], "delete")):
            held = f"select has_table_privilege('{role}', 'sentinel_state', '{privilege}')"
            assert database.execute(held) == [(True,)]
        assert database.execute("select count(*) >= 14 from hooks") == [(True,)]
        kept = "select count(*) from pg_class where relname like 'sentinel%' and relkind = 'r' "
        assert database.execute(f"{kept} and relpersistence = 'p'") == [(5,)]
    finally:
        for role in roles:
            database.execute(f"drop owned by {role}; drop role {role}")
