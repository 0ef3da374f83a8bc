"""The project and its settings, read when first asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.bootstrap.configuration import Configuration
from sentinel.core.errors import ConfigError
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project import DbtProject

from .conftest import Configure


def test_the_store_shares_the_target_unless_another_is_named(configure: Configure) -> None:
    shared = configure("channels: {}\n")
    assert shared.shares_target
    assert shared.store_profile is shared.profile
    named = configure("store: {target: dev}\n")
    assert named.shares_target


def test_a_store_target_is_a_project_of_its_own_with_its_own_artifacts(
    configure: Configure, tmp_path: Path
) -> None:
    configuration = configure("store: {target: ops}\n")
    assert not configuration.shares_target
    assert configuration.store_profile.target == "ops"
    assert configuration.profile.target == "dev"
    assert configuration.store_project.folder == tmp_path / "target/sentinel/store/sentinel"


def test_threads_are_those_of_the_options_before_those_of_the_profile(
    configure: Configure,
) -> None:
    assert configure("channels: {}\n").threads == 3
    assert configure("channels: {}\n", threads=7).threads == 7


def test_definitions_get_time_zone_defaults_and_channels_of_sentinel_yml(
    configure: Configure,
) -> None:
    text = (
        "timezone: Europe/Paris\ndefaults: {severity: warning}\nchannels:\n  log: {type: console}\n"
    )
    context = configure(text).definition_context
    assert (context.timezone, context.defaults) == ("Europe/Paris", {"severity": "warning"})
    assert list(context.routing.channels) == ["log"]


def test_a_missing_dbt_project_is_named_before_a_missing_sentinel_yml(tmp_path: Path) -> None:
    configuration = Configuration(
        DbtOptions(tmp_path), lambda chosen: DbtProject(chosen, cwd=tmp_path)
    )
    with pytest.raises(ConfigError, match=r"dbt_project\.yml"):
        _ = configuration.settings
    assert configuration.loaded_settings is None
