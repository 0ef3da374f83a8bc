"""A dbt project with a configuration, which no test connects from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sentinel.bootstrap.configuration import Configuration
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project import DbtProject

PROFILES = """
shop:
  target: dev
  outputs:
    dev: {type: duckdb, path: shop.duckdb, threads: 3, password: dev-password-of-the-warehouse}
    ops: {type: duckdb, path: ops.duckdb, threads: 1, password: ops-password-of-the-store}
"""

Configure = Callable[..., Configuration]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Makes a configuration from the text of sentinel.yml."""
    (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    (tmp_path / "profiles.yml").write_text(PROFILES)

    def make(text: str, threads: int | None = None) -> Configuration:
        (tmp_path / "sentinel.yml").write_text(text)
        given = DbtOptions(tmp_path, profiles_dir=tmp_path, threads=threads)
        return Configuration(given, lambda chosen: DbtProject(chosen, cwd=tmp_path))

    return make
