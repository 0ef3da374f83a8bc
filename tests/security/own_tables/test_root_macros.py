"""Macros of the root project that are named like the package's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.package.conftest import BLOCK, ROOT, DbtProject

ADAPTERS = ("default", "duckdb", "postgres", "bigquery", "sqlite", "snowflake", "spark", "redshift")
PUBLIC = {"as_of", "utc_now", "days_ago", "month_start", "severity_rank", "severity_name"}
RAISES = (
    "{{% macro {}() %}} {{{{ exceptions.raise_compiler_error('replaced') }}}} {{% endmacro %}}\n"
)


def package_macros() -> set[str]:
    texts = [path.read_text() for path in (ROOT / "macros").glob("*.sql")]
    return {name for text in texts for name in re.findall(r"{%-? *macro (\w+)", text)}


def test_no_macro_of_the_root_project_replaces_one_of_the_package(
    made: DbtProject, tmp_path: Path
) -> None:
    project = made.copy(tmp_path / "shop")
    names = {name for name in package_macros() if "__" not in name}
    taken = names | {f"{adapter}__{name}" for adapter in ADAPTERS for name in names}
    (project.root / "macros").mkdir()
    (project.root / "macros" / "ours.sql").write_text(
        "".join(RAISES.format(name) for name in sorted(taken))
        # dbt's own, as its documentation has it replaced
        + "{% macro ref(name) %} {{ return('nothing') }} {% endmacro %}"
    )
    alert = "select {{ sentinel.as_of() }} as t, {{ sentinel.days_ago(1) }} as d"
    (project.root / "models" / "clock.sql").write_text(alert)
    project.dbt("build", "--full-refresh")
    assert project.sql("select count(*) from clock") == [(1,)]
    assert project.sql("from sentinel_incidents") == []


def test_dispatched_implementations_carry_the_package_s_prefix() -> None:
    implementations = [name.split("__", 1)[1] for name in package_macros() if "__" in name]
    assert implementations
    assert [name for name in implementations if not name.startswith("sentinel_")] == []


def test_a_project_can_replace_an_implementation_on_purpose(
    made: DbtProject, tmp_path: Path
) -> None:
    project = made.copy(tmp_path / "shop")
    project.configure(
        BLOCK
        + yaml.safe_dump(
            {"dispatch": [{"macro_namespace": "sentinel", "search_order": ["shop", "sentinel"]}]}
        )
    )
    (project.root / "macros").mkdir()
    (project.root / "macros" / "clock.sql").write_text(
        "{% macro duckdb__sentinel_utc_now() %}timestamp '2026-01-02 03:04:05'{% endmacro %}"
    )
    (project.root / "models" / "clock.sql").write_text("select {{ sentinel.utc_now() }} as now")
    project.dbt("run", "-s", "clock")
    [(now,)] = project.sql("select now::varchar from clock")
    assert now == "2026-01-02 03:04:05"


def test_dbt_docs_show_the_public_macros_only(made: DbtProject) -> None:
    manifest = json.loads((made.root / "target" / "manifest.json").read_text())
    shown = {
        macro["name"]
        for macro in manifest["macros"].values()
        if macro["package_name"] == "sentinel" and macro["docs"]["show"]
    }
    assert shown == PUBLIC


def test_the_package_dispatches_by_no_name_of_its_own_without_prefix() -> None:
    for path in (ROOT / "macros").glob("*.sql"):
        for name in re.findall(r'dispatch\(\s*"(\w+)"', path.read_text()):
            assert name.startswith("sentinel_"), path.name


@pytest.mark.parametrize(
    "path", sorted((ROOT / "macros").glob("*.sql")), ids=lambda path: path.stem
)
def test_calls_inside_the_package_name_it(path: Path) -> None:
    """A plain call would find the root project's macro first."""
    text = path.read_text()
    for name in {name for name in package_macros() if "__" not in name}:
        calls = re.findall(rf"(?<![\w.\"]){name}\(", text)
        defined = re.findall(rf"macro {name}\(", text)
        assert len(calls) == len(defined), name
