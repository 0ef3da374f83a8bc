"""Real dbt projects on DuckDB, each dbt command in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PARTS = ("dbt_project.yml", "dbt_package", "macros")
TABLES = ("state", "history", "notifications", "silences", "leases")

BLOCK = """
models:
  sentinel:
    +enabled: true
    tables:
      +materialized: sentinel_table
    views:
      +materialized: sentinel_view
"""
PROFILES = """
shop:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: shop.duckdb
      settings: {TimeZone: America/New_York}
"""


@dataclass(frozen=True)
class DbtProject:
    root: Path

    def configure(self, models: str) -> None:
        """Writes dbt_project.yml with this `models:` block."""
        head = "name: shop\nversion: '1.0'\nprofile: shop\nflags: {use_colors: false}\n"
        (self.root / "dbt_project.yml").write_text(head + models)

    def try_dbt(self, *args: str) -> tuple[bool, str]:
        """Runs dbt; whether it succeeded, and what it said."""
        success, output = _in_child(_dbt, self.root, args)
        return success, output

    def dbt(self, *args: str) -> str:
        success, output = self.try_dbt(*args)
        assert success, output
        return output

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Runs statements in one transaction; the rows of the last one."""
        rows: list[tuple[Any, ...]] = _in_child(_sql, self.root / "shop.duckdb", statements)
        return rows

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of Sentinel's tables."""
        return {name: self.sql(f"from sentinel_{name} order by all") for name in TABLES}

    def columns(self, model: str) -> list[tuple[str, str]]:
        return self.sql(f"select column_name, column_type from (describe {model})")

    def copy(self, to: Path) -> DbtProject:
        shutil.copytree(self.root, to, symlinks=True)
        return DbtProject(to)


def copy_package(to: Path) -> Path:
    """The files of the dbt package, and nothing else of the repository."""
    to.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, to / part)
        else:
            shutil.copy(source, to / part)
    return to


def new_project(root: Path, packages: str, models: str = BLOCK) -> DbtProject:
    (root / "models").mkdir(parents=True)
    (root / "packages.yml").write_text(packages)
    (root / "profiles.yml").write_text(PROFILES)
    project = DbtProject(root)
    project.configure(models)
    project.dbt("deps")
    return project


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    """A project that uses a copy of the package, beside it as `sentinel_package`, with tables."""
    root = tmp_path_factory.mktemp("made") / "shop"
    copy_package(root / "sentinel_package")
    project = new_project(root, "packages:\n  - local: sentinel_package\n")
    # A relative link, so that the project can be copied.
    link = root / "dbt_packages" / "sentinel"
    link.unlink()
    link.symlink_to("../sentinel_package")
    project.dbt("run")
    return project


@pytest.fixture(scope="session")
def filled(made: DbtProject, tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    """The same with a few rows in each table, inserted and updated as the store does."""
    project = made.copy(tmp_path_factory.mktemp("filled") / "shop")
    for name in TABLES:
        table = f"sentinel_{name}"
        values = [_value(table, column, kind) for column, kind in project.columns(table)]
        key, *rest = (column for column, _ in project.columns(table))
        others = ", ".join(values[1:])
        project.sql(
            f"insert into {table} select 'key-' || i, {others} from range(3) as t (i)",
            f"update {table} set {rest[0]} = 'new' from (select 'key-1' as k) as s where {key} = s.k",
            f"insert into {table} select 'key-9', {others}",
            f"update {table} set {rest[0]} = 'newer' where {key} = 'key-1'",
        )
    project.sql("update sentinel_state set alert_id = state_key")
    return project


@pytest.fixture(scope="session")
def documented() -> dict[str, dict[str, Any]]:
    """The models as the package's YAML declares them, by name."""
    files = sorted((ROOT / "dbt_package" / "models").rglob("*.yml"))
    return {
        model["name"]: model
        for path in files
        for model in yaml.safe_load(path.read_text())["models"]
    }


_WORDS = {
    "phase": "ok",
    "phase_before": "ok",
    "phase_after": "firing",
    "severity": "warning",
    "peak_severity": "critical",
    "outcome": "ok",
    "last_outcome": "ok",
    "health": "healthy",
    "status": "sent",
    "instance": "",
}


def _value(table: str, column: str, kind: str) -> str:
    if kind == "VARCHAR":
        return f"'{_WORDS.get(column, 'text')}'"
    return {"BIGINT": "9007199254740993", "DOUBLE": "0.1"}.get(
        kind, "timestamp '2026-01-02 03:04:05'"
    )


def _dbt(root: Path, args: tuple[str, ...]) -> tuple[bool, str]:
    os.chdir(root)
    log = root / "dbt.out"
    # pytest has put objects of its own here; this process has its copies of them.
    sys.stdout = sys.stderr = log.open("w", buffering=1)
    os.environ |= {"DBT_SEND_ANONYMOUS_USAGE_STATS": "0", "DBT_PROFILES_DIR": str(root)}
    from dbt.cli.main import dbtRunner

    result = dbtRunner().invoke(list(args))
    return result.success, log.read_text() + (f"\n{result.exception}" if result.exception else "")


def _sql(path: Path, statements: tuple[str, ...]) -> list[tuple[Any, ...]]:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        connection.execute("begin")
        try:
            for statement in statements:
                rows = connection.execute(statement).fetchall()
        except duckdb.Error as error:
            raise RuntimeError(str(error)) from error
        connection.execute("commit")
    return rows


def _in_child(function: Callable[..., Any], *args: Any) -> Any:
    """In a fork: dbt keeps global state, but importing it anew each time takes seconds."""
    import dbt.adapters.duckdb
    import dbt.cli.main  # noqa: F401

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(sender, function, args))
    child.start()
    sender.close()
    try:
        result = receiver.recv()
    finally:
        child.join()
    if isinstance(result, Exception):
        raise result
    return result


def _send(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        sender.send(function(*args))
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        sender.send(error)
