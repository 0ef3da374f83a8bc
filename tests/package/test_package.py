"""The dbt package as a whole: how it is installed, what it documents, what its macros render."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT, DbtProject, copy_package, new_project


def test_it_installs_from_git(tmp_path: Path) -> None:
    repository = copy_package(tmp_path / "repository")
    commit = ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", "all"]
    for command in (["init", "-q"], ["add", "."], commit):
        subprocess.run(["git", "-C", str(repository), *command], check=True)
    packages = f'packages:\n  - git: "file://{repository}"\n    warn-unpinned: false\n'
    project = new_project(tmp_path / "shop", packages)
    project.dbt("run", "-s", "package:sentinel")
    assert project.rows()["state"] == []


def test_it_installs_from_the_repository_by_path(tmp_path: Path) -> None:
    project = new_project(tmp_path / "shop", f"packages:\n  - local: {ROOT}\n")
    listed = project.dbt("-q", "ls", "-s", "package:sentinel", "--output", "path")
    paths = [line for line in listed.splitlines() if line.startswith("dbt_package/")]
    assert len(paths) > 10


def test_every_model_and_column_is_described(
    made: DbtProject, documented: dict[str, dict[str, Any]]
) -> None:
    models = {path.stem for path in (ROOT / "dbt_package" / "models").rglob("*.sql")}
    assert models == set(documented)
    for name, model in documented.items():
        assert model["description"].strip()
        described = {column["name"] for column in model["columns"] if column["description"].strip()}
        assert described == {column for column, _ in made.columns(name)}, name


def test_every_macro_is_listed_and_each_file_s_own_is_described() -> None:
    macros = yaml.safe_load((ROOT / "macros/_macros.yml").read_text())["macros"]
    listed = {macro["name"] for macro in macros}
    described = {macro["name"] for macro in macros if macro.get("description")}
    for path in (ROOT / "macros").glob("*.sql"):
        text = path.read_text()
        made = re.findall(r"{% materialization (\w+), default %}", text)
        names = re.findall(r"{%-? macro (\w+)", text)
        assert [name for name in (*names, *made) if "__" not in name] == [path.stem]
        assert set(names) <= listed
        assert described & {path.stem, f"materialization_{path.stem}_default"}
        assert "target.type" not in text


def test_dbt_docs_show_the_tables_with_their_descriptions(made: DbtProject, tmp_path: Path) -> None:
    project = made.copy(tmp_path / "shop")
    project.dbt("docs", "generate")
    catalog = json.loads((project.root / "target" / "catalog.json").read_text())
    manifest = json.loads((project.root / "target" / "manifest.json").read_text())
    assert "model.sentinel.sentinel_state" in catalog["nodes"]
    node = manifest["nodes"]["model.sentinel.sentinel_history"]
    assert "UTC" in node["description"]
    macro = manifest["macros"]["macro.sentinel.as_of"]
    assert "{{ sentinel.as_of() }}" in macro["description"]


def test_as_of_is_the_time_in_utc_between_its_marks(made: DbtProject, tmp_path: Path) -> None:
    project = made.copy(tmp_path / "shop")
    sql = "select {{ sentinel.as_of() }} as t, {{ sentinel.as_of() }} - interval 1 day as before"
    (project.root / "models" / "clock.sql").write_text(sql)
    project.dbt("run", "-s", "clock")
    compiled = (project.root / "target/compiled/shop/models/clock.sql").read_text()
    marked = re.findall(r"/\*sentinel:as_of\*/ ([^*]+) /\*sentinel:end\*/", compiled)
    assert marked == ["make_timestamp(epoch_us(now()))"] * 2
    ((time, before, kind),) = project.sql("select t, before, typeof(t) from clock")
    assert kind == "TIMESTAMP"
    assert abs(datetime.now(UTC) - time.replace(tzinfo=UTC)) < timedelta(minutes=5)
    assert time - before == timedelta(days=1)


@pytest.mark.parametrize(
    ("adapter", "expression"),
    [
        ("postgres", "(current_timestamp at time zone 'UTC')"),
        ("bigquery", "current_timestamp()"),
        ("sqlite", "strftime('%Y-%m-%d %H:%M:%f000', 'now')"),
        ("default", "cast((current_timestamp at time zone 'UTC') as timestamp)"),
    ],
)
def test_every_warehouse_has_its_own_clock(
    adapter: str, expression: str, made: DbtProject, tmp_path: Path
) -> None:
    project = made.copy(tmp_path / "shop")
    (project.root / "models" / "clock.sql").write_text(
        f"{{{{ sentinel.{adapter}__sentinel_utc_now() }}}}"
    )
    project.dbt("compile", "-s", "clock")
    compiled = (project.root / "target/compiled/shop/models/clock.sql").read_text()
    assert compiled == expression
