from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.core.errors import UsageError
from sentinel.dbt.options import DbtOptions


def test_the_project_is_found_in_the_nearest_parent(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").touch()
    inner = tmp_path / "models" / "deep"
    inner.mkdir(parents=True)
    assert DbtOptions.from_environment({}, inner).project_dir == tmp_path


def test_what_is_given_wins_over_the_environment(tmp_path: Path) -> None:
    env = {"DBT_TARGET": "prod", "DBT_PROFILE": "env", "DBT_PROJECT_DIR": "/elsewhere"}
    options = DbtOptions.from_environment(env, tmp_path, target="dev", profile=None)
    assert (options.target, options.profile) == ("dev", "env")
    assert options.project_dir == Path("/elsewhere")


def test_the_engine_names_of_dbt_1_11_win_over_the_old_ones(tmp_path: Path) -> None:
    env = {"DBT_TARGET": "old", "DBT_ENGINE_TARGET": "new", "DBT_ENGINE_STATE": "s"}
    options = DbtOptions.from_environment(env, tmp_path)
    assert (options.target, options.state) == ("new", Path("s"))


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("True", True), ("no", False)])
def test_switches_are_read_as_dbt_reads_them(tmp_path: Path, text: str, expected: bool) -> None:
    assert DbtOptions.from_environment({"DBT_DEFER": text}, tmp_path).defer is expected


def test_a_switch_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="DBT_FAVOR_STATE"):
        DbtOptions.from_environment({"DBT_FAVOR_STATE": "maybe"}, tmp_path)
