"""When is dbt asked again? Over an engine that counts."""

from __future__ import annotations

import json
import os
import stat
from itertools import islice
from pathlib import Path

import pytest

from sentinel.core.errors import ConfigError
from sentinel.core.project import Selection
from sentinel.dbt import stamp as stamping

from .conftest import Counting, make_shop, manifest_of, model

ALERT = {"meta": {"sentinel": {"schedule": "daily"}}}
TABLE = model("sentinel_state", package_name="sentinel", relation_name='"a"."b"."sentinel_state"')
CLOCK = model("clock", "{{ run_started_at }}")
PROJECT = manifest_of(model("a", config=ALERT), CLOCK, TABLE)


def touch(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_an_unchanged_project_is_answered_without_dbt(counting: Counting) -> None:
    project, engine = counting(PROJECT)
    ids = ["model.shop.a"]
    first = (project.alerts(), project.select(Selection(("a",))), project.compile(ids))
    tables = project.tables()
    assert engine.calls == ["parse", "select", "compile model.shop.a"]
    again, idle = counting(PROJECT)
    assert (again.alerts(), again.select(Selection(("a",))), again.compile(ids)) == first
    assert again.tables() == tables
    assert tables.relations == {"sentinel_state": '"a"."b"."sentinel_state"'}
    assert idle.calls == []


def test_sql_that_looks_at_the_clock_is_compiled_each_time(counting: Counting) -> None:
    project, engine = counting(PROJECT)
    for _ in range(2):
        assert project.compile(["model.shop.clock"])["model.shop.clock"].sql
    assert engine.calls == ["parse", "compile model.shop.clock", "compile model.shop.clock"]


@pytest.mark.parametrize(
    "path",
    [
        "models/new.sql",
        "models/alerts/vars.sql",
        "macros/m.sql",
        "seeds/s.csv",
        "dbt_project.yml",
        "profiles.yml",
        "selectors.yml",
        "packages.yml",
        "dependencies.yml",
        "package-lock.yml",
        "../helper/macros/helper.sql",
        "../helper/dbt_project.yml",
    ],
)
def test_a_changed_file_makes_dbt_parse_again(
    counting: Counting, tmp_path: Path, path: str
) -> None:
    counting(PROJECT)[0].alerts()
    file = tmp_path / "shop" / path
    touch(file, (file.read_text() if file.exists() else "") + "\n")
    project, engine = counting(PROJECT)
    project.alerts()
    assert engine.calls == ["parse"]


def test_a_change_that_keeps_size_and_mtime_is_seen(counting: Counting, tmp_path: Path) -> None:
    counting(PROJECT)[0].alerts()
    file = tmp_path / "shop/models/base/orders.sql"
    before = file.stat()
    file.write_text("select 6 as amount")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    project, engine = counting(PROJECT)
    project.alerts()
    assert engine.calls == ["parse"]


def test_files_dbt_does_not_read_change_nothing(counting: Counting, tmp_path: Path) -> None:
    counting(PROJECT)[0].alerts()
    for name in ("README.md", "sentinel.yml", "target/manifest.json", "logs/dbt.log"):
        touch(tmp_path / "shop" / name, "x")
    project, engine = counting(PROJECT)
    project.alerts()
    assert engine.calls == []


@pytest.mark.parametrize(
    ("env", "parses"),
    [
        ({"SHOP_COUNTRY": "be"}, 1),  # named in a model
        ({"DBT_ANYTHING": "1"}, 1),
        ({"NAMED_NOWHERE": "1"}, 0),
    ],
)
def test_only_variables_the_project_names_matter(
    counting: Counting, env: dict[str, str], parses: int
) -> None:
    counting(PROJECT)[0].alerts()
    project, engine = counting(PROJECT, env=env)
    project.alerts()
    assert engine.calls == ["parse"] * parses


def test_a_computed_variable_name_makes_every_variable_matter(
    counting: Counting, tmp_path: Path
) -> None:
    counting(PROJECT)
    touch(tmp_path / "shop/macros/m.sql", "{% macro m(x) %}{{ env_var(x) }}{% endmacro %}")
    counting(PROJECT)[0].alerts()
    project, engine = counting(PROJECT, env={"NAMED_NOWHERE": "1"})
    project.alerts()
    assert engine.calls == ["parse"]


@pytest.mark.parametrize("flag", [{"target": "prod"}, {"vars": "{a: 1}"}, {"threads": 4}])
def test_flags_that_alter_the_sql_are_part_of_the_stamp(
    counting: Counting, flag: dict[str, object]
) -> None:
    counting(PROJECT)[0].alerts()
    project, engine = counting(PROJECT, **flag)
    project.alerts()
    assert engine.calls == ([] if "threads" in flag else ["parse"])


def test_another_version_of_dbt_parses_again(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting(PROJECT)[0].alerts()
    monkeypatch.setattr(stamping, "version", lambda name: "0")
    project, engine = counting(PROJECT)
    project.alerts()
    assert engine.calls == ["parse"]


def test_editing_a_model_leaves_the_tables_known(counting: Counting, tmp_path: Path) -> None:
    counting(PROJECT)[0].tables()
    touch(tmp_path / "shop/models/base/orders.sql", "select 7")
    project, engine = counting(PROJECT)
    assert project.tables().relations
    assert engine.calls == []
    touch(tmp_path / "shop/macros/generate_schema_name.sql", "{# another schema #}")
    assert project.tables().relations
    assert engine.calls == ["parse"]


@pytest.mark.parametrize(
    "selection",
    [
        Selection(("state:modified",)),
        Selection(("+result:error",)),
        Selection(exclude=("source_status:fresher+",)),
    ],
)
def test_selections_that_look_outside_are_asked_each_time(
    counting: Counting, selection: Selection
) -> None:
    project, engine = counting(PROJECT)
    project.select(selection)
    project.select(selection)
    assert engine.calls == ["parse", "select", "select"]


def test_a_selector_that_looks_outside_is_asked_each_time(
    counting: Counting, tmp_path: Path
) -> None:
    counting(PROJECT)
    selectors = "selectors: [{name: s, definition: {method: state, value: modified}}]"
    touch(tmp_path / "shop/selectors.yml", selectors)
    project, engine = counting(PROJECT)
    for _ in range(2):
        project.select(Selection(selector="s"))
        project.select(Selection(("a",)))
    assert engine.calls == ["parse", "select", "select", "select"]


def test_with_a_state_nothing_that_may_depend_on_it_is_kept(
    counting: Counting, tmp_path: Path
) -> None:
    project, engine = counting(PROJECT, state=tmp_path / "state", defer=True)
    for _ in range(2):
        project.select(Selection(("a",)))
        project.compile(["model.shop.a"])
    assert engine.calls == ["parse", *["select", "compile model.shop.a"] * 2]


def test_an_unknown_model_is_an_error_of_that_model(counting: Counting) -> None:
    project, _ = counting(PROJECT)
    found = project.compile(["model.shop.a", "model.shop.gone"])
    assert found["model.shop.a"].sql == "sql of model.shop.a"
    assert found["model.shop.gone"].error == "dbt has no model model.shop.gone"


def test_what_is_kept_is_private_and_holds_no_value_of_a_variable(
    counting: Counting, tmp_path: Path
) -> None:
    project, _ = counting(PROJECT, env={"DBT_ENV_SECRET_X": "s3cr3t-word"})
    project.compile(["model.shop.a"])
    folder = tmp_path / "shop/target/sentinel"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [f for f in folder.rglob("*") if f.is_file()]
    assert {"answers.json", "stamp.key", "manifest.json", "lock"} <= {f.name for f in files}
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert b"s3cr3t" not in file.read_bytes()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1, "project": {"stamp": 3}}'])
def test_a_damaged_file_of_answers_counts_as_none(
    counting: Counting, tmp_path: Path, content: str
) -> None:
    counting(PROJECT)[0].alerts()
    touch(tmp_path / "shop/target/sentinel/answers.json", content)
    project, engine = counting(PROJECT)
    assert [a.name for a in project.alerts()] == ["a"]
    assert engine.calls == ["parse"]


def test_an_engine_with_an_older_project_in_memory_reads_it_again(
    counting: Counting, tmp_path: Path
) -> None:
    old, engine = counting(PROJECT)
    old.alerts()
    touch(tmp_path / "shop/models/base/orders.sql", "select 8")
    counting(PROJECT)[0].alerts()  # another process parses and keeps its answers
    old._cache._kept = None  # as after the file of answers was read again
    old.compile(["model.shop.a"])
    assert engine.calls == ["parse", "parse", "compile model.shop.a"]


def test_links_back_into_the_project_are_followed_once(counting: Counting, tmp_path: Path) -> None:
    counting(PROJECT)
    root = tmp_path / "shop"
    here = [p for p in (root / "models").rglob("*") if p.is_file()]
    for name in ("loop", "other"):
        (root / "models" / name).symlink_to(root / "models", target_is_directory=True)
    assert sorted(islice(stamping._below([root / "models"], set()), 1000)) == sorted(here)
    (root / "dbt_packages" / "self").symlink_to(root, target_is_directory=True)
    counting(PROJECT)[0].alerts()
    project, engine = counting(PROJECT)
    project.alerts()
    assert engine.calls == []


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path, counting: Counting) -> None:
    make_shop(tmp_path)
    (tmp_path / "file").touch()
    project, _ = counting(PROJECT, target_path=tmp_path / "file")
    with pytest.raises(ConfigError, match="can't use"):
        project.alerts()


def test_a_block_without_value_is_an_empty_block(counting: Counting) -> None:
    nodes = [
        model("null", config={"meta": {"sentinel": None}}),
        model("list", meta={"sentinel": [1]}),
    ]
    nodes[1]["config"] = {}
    project, _ = counting(manifest_of(*nodes))
    assert [(a.name, a.block) for a in project.alerts()] == [("list", [1]), ("null", {})]
    assert json.dumps([a.block for a in counting(manifest_of())[0].alerts()]) == "[[1], {}]"


def test_a_project_that_reads_other_projects_is_never_current(
    counting: Counting, tmp_path: Path
) -> None:
    counting(PROJECT)
    touch(tmp_path / "shop/dbt_loom.config.yml", "manifests: []")
    project, engine = counting(PROJECT)
    project.alerts()
    project.alerts()
    assert engine.calls == ["parse", "parse"]
