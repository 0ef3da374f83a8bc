"""A small dbt project of somebody's, and the command line as they use it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sentinel.channels.secret_scan import ChannelSecretScan
from sentinel.cli.main import main
from sentinel.dbt.answer_cache import AnswerCache
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project_files import ProjectFiles

PROJECT = """\
# Acme's warehouse.
name: acme
version: "1.0"
profile: acme
model-paths: [models]
vars:
  floor: 100
"""

PROFILES = """\
acme:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: acme.duckdb
      threads: 2
"""

ORDERS = """\
select * from (values (1, 'north', 40), (2, 'north', 70), (3, 'south', 90)) as t (id, region, amount)
"""

REVENUE = """\
{{ config(tags=['finance'], meta={'sentinel': {'severity': 'critical'}}) }}
select
    case when sum(amount) < {{ var('floor') }} then 'ALERT' else 'OK' end as status,
    sum(amount) as actual_value,
    {{ var('floor') }} as threshold,
    'revenue is ' || sum(amount) as message
from {{ ref('orders') }}
"""

BY_REGION = """\
{{ config(tags=['operations'], meta={'sentinel': {'severity': 'warning', 'dimensions': ['region']}}) }}
select region, case when sum(amount) < 95 then 'ALERT' else 'OK' end as status, sum(amount) as actual_value
from {{ ref('orders') }}
group by region
"""

NEGATIVE = """\
{{ config(tags=['finance'], meta={'sentinel': {'warn_if': '>0', 'error_if': '>2', 'samples': 2}}) }}
select * from {{ ref('orders') }} where amount < 0
"""

SENTINEL = """\
defaults:
  channels: [log]
channels:
  console:
    type: console
  log:
    type: file
    path: told.jsonl
"""


@dataclass(frozen=True)
class Ran:
    """One command: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Project:
    """A dbt project on disk, and `sentinel` run in it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._patch = monkeypatch

    def sentinel(self, *args: str) -> Ran:
        """Run a command in this process, as if typed in the project's folder."""
        self._patch.chdir(self.root)
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main(list(args))
        code = ended.value.code
        return Ran(code if isinstance(code, int) else 1, out.getvalue(), err.getvalue())

    def write(self, path: str, text: str) -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        return place

    def alert(self, name: str, sql: str) -> Path:
        return self.write(f"models/alerts/{name}.sql", sql)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.root / "acme.duckdb")) as connection:
            return connection.execute(sql).fetchall()

    def sent(self) -> list[dict[str, Any]]:
        """What the channel `log` has been told."""
        file = self.root / "told.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Acme's project after `sentinel init` and its first dbt build."""
    root = tmp_path_factory.mktemp("acme")
    patch = pytest.MonkeyPatch()
    project = Project(root, patch)
    project.write("dbt_project.yml", PROJECT)
    project.write("profiles.yml", PROFILES)
    project.write("models/orders.sql", "{{ config(materialized='table') }}\n" + ORDERS)
    project.alert("revenue", REVENUE)
    project.alert("by_region", BY_REGION)
    project.alert("negative", NEGATIVE)
    ran = project.sentinel("init")
    assert ran.code == 0, ran.err
    project.write("sentinel.yml", SENTINEL)
    project.query(f"create table orders as {ORDERS}")
    ran = project.sentinel("list")
    assert ran.code == 0, ran.err
    patch.undo()
    return root


def copy_parsed(template: Path, root: Path) -> None:
    """Copy a project with what dbt has answered about it, so that dbt needn't parse the copy."""
    shutil.copytree(template, root, symlinks=True)
    project_files = ProjectFiles(DbtOptions.from_environment({}, root), os.environ, root)
    cache = AnswerCache(project_files, print, ChannelSecretScan())
    project = project_files.project()
    kept = cache.load()
    assert kept.answers and kept.tables, "the template was not parsed"
    kept.answers.stamp = cache.stamp("project", project, None)
    kept.tables = replace(kept.tables, stamp=cache.stamp("base", project, None))
    cache.save()


@pytest.fixture
def acme(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A copy of Acme's project for one test."""
    for name in [name for name in os.environ if name.startswith(("DBT_", "SENTINEL_"))]:
        monkeypatch.delenv(name)
    root = tmp_path / "acme"
    copy_parsed(template, root)
    yield Project(root, monkeypatch)


@pytest.fixture
def new_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Project]:
    """An empty folder for a project of another shape."""

    def make(name: str) -> Project:
        root = tmp_path / name
        root.mkdir()
        return Project(root, monkeypatch)

    return make
