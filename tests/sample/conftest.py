"""One build of the sample shop, shared by the tests that look at it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest

SAMPLE = Path(__file__).parents[2] / "sample_project"


def load_script(name: str) -> ModuleType:
    """A script of the sample project as a module; it is no package, so it can't be imported."""
    spec = importlib.util.spec_from_file_location(f"sample_{name}", SAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sample() -> Path:
    return SAMPLE


@pytest.fixture(scope="session")
def demo() -> ModuleType:
    return load_script("demo")


@pytest.fixture(scope="session")
def make_seeds() -> ModuleType:
    return load_script("make_seeds")


@dataclass(frozen=True)
class BuiltShop:
    """A scratch copy of the shop after `dbt build`."""

    path: Path
    log: str
    built_on: tuple[date, date]  # the UTC date before and after, in case it was midnight

    def alerts(self) -> dict[str, str]:
        """Name to compiled SQL of every alert."""
        compiled = self.path / "target/compiled/shop/models/alerts"
        return {
            file.stem: file.read_text(encoding="utf-8") for file in sorted(compiled.rglob("*.sql"))
        }

    @cached_property
    def meta(self) -> dict[str, dict[str, Any]]:
        """Name to `meta` of every alert, as dbt has merged it."""
        manifest = json.loads((self.path / "target/manifest.json").read_text(encoding="utf-8"))
        return {
            node["name"]: node["config"]["meta"]
            for node in manifest["nodes"].values()
            if node["path"].startswith("alerts/")
        }

    def connect(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(str(self.path / "shop.duckdb"), read_only=True)

    def today(self) -> date:
        with self.connect() as connection:
            row = connection.execute("select today from shop_today").fetchone()
        assert row is not None
        found: date = row[0]
        return found

    def morning(self) -> datetime:
        return datetime.combine(self.today(), time(), tzinfo=UTC) + timedelta(hours=9)


@pytest.fixture(scope="session")
def shop(demo: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> BuiltShop:
    path: Path = demo.scratch_copy(tmp_path_factory.mktemp("sample"))
    started = datetime.now(UTC)
    # Etc/GMT+12 is twelve hours behind UTC: its sign is the other way round.
    another_date_than_utc = "Etc/GMT+12" if started.hour < 12 else "Etc/GMT-12"
    log = ""
    # dbt 1.9 has no such flag: it names every deprecation anyhow.
    every = [] if version("dbt-core").startswith("1.9.") else ["--show-all-deprecations"]
    for command in (["deps"], ["build", *every]):
        done = subprocess.run(
            [Path(sys.executable).parent / "dbt", "--no-use-colors", *command],
            cwd=path,
            env={**demo.environment(), "TZ": another_date_than_utc},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        log += done.stdout
    return BuiltShop(path, log, (started.date(), datetime.now(UTC).date()))
