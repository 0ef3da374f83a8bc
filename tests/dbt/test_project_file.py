from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.core.errors import ConfigError
from sentinel.dbt.engine import dbt_failed
from sentinel.dbt.files import ProjectFile
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project import DbtProject

from .conftest import PROFILES, write


def read(root: Path, text: str, vars: str | None = None) -> ProjectFile:
    write(root, {"dbt_project.yml": text, "profiles.yml": PROFILES})
    return DbtProject(DbtOptions(root, root, vars=vars), cwd=root).file()


def test_what_is_not_written_is_as_in_dbt(tmp_path: Path) -> None:
    file = read(tmp_path, "name: shop\n")
    assert file.paths == {
        "model-paths": ("models",),
        "seed-paths": ("seeds",),
        "snapshot-paths": ("snapshots",),
        "analysis-paths": ("analyses",),
        "macro-paths": ("macros",),
        "test-paths": ("tests",),
        "function-paths": ("functions",),
    }
    assert (file.target_path, file.clean_targets) == ("target", ("target",))
    assert file.packages_install_path == "dbt_packages"


def test_values_may_be_jinja_and_may_ask_for_the_target(tmp_path: Path) -> None:
    text = """
name: shop
profile: "{{ var('who', 'shop') }}"
target-path: "target/{{ target.name }}"
model-paths: ["{{ env_var('SHOP_GONE', 'm') }}"]
"""
    file = read(tmp_path, text)
    assert (file.profile, file.target_path) == ("shop", "target/dev")
    assert file.paths["model-paths"] == ("m",)


def test_the_profile_is_not_needed_until_a_value_asks_for_it(tmp_path: Path) -> None:
    assert read(tmp_path, "name: shop\nprofile: nowhere\n").name == "shop"
    with pytest.raises(ConfigError, match="no profile 'nowhere'"):
        read(tmp_path, "name: shop\nprofile: nowhere\ntarget-path: '{{ target.name }}'\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [\n", r"dbt_project\.yml:\d"),
        ("version: 1\n", "has no name"),
        ("- a\n", "not a mapping"),
        ("name: shop\nmodel-paths: models\n", "model-paths is not a list"),
        ("name: shop\ntarget-path: \"{{ env_var('SHOP_GONE') }}\"\n", "SHOP_GONE isn't set"),
    ],
)
def test_a_broken_project_file_says_what_and_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_outside_a_project_the_error_says_how_to_name_one(tmp_path: Path) -> None:
    project = DbtProject(DbtOptions.from_environment({}, tmp_path), cwd=tmp_path)
    with pytest.raises(ConfigError, match=r"no dbt_project\.yml") as error:
        project.alerts()
    assert "--project-dir" in str(error.value.hint)


@pytest.mark.parametrize("schedule", ["@daily", "*/10 * * * *"])
def test_a_schedule_that_dbt_cannot_read_is_to_be_quoted(schedule: str) -> None:
    said = f"Syntax error near line 6\n    5  |   sentinel:\n    6  |     schedule: {schedule}\n"
    assert dbt_failed(said).hint == f"quote it: schedule: '{schedule}'"
    assert "dbt parse" in str(dbt_failed("something else").hint)
