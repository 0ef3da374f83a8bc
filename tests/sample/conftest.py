"""The sample shop built: once on DuckDB for all tests that look at it, and on any place."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
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
import yaml

from tests.package.results import time_literal
from tests.places.duckdb import DuckDbPlace
from tests.places.place import Place, Rows, profile

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_project"
AS_OF = re.compile(r"/\*sentinel:as_of\*/.*?/\*sentinel:end\*/", re.DOTALL)
# Twelve hours behind UTC, and ahead of it: the sign is the other way round.
BEHIND, AHEAD = "Etc/GMT+12", "Etc/GMT-12"


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
    """A scratch copy of the shop after `dbt build`, and the place that it was built on."""

    path: Path
    place: Place
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
        """The database of a shop on DuckDB."""
        return duckdb.connect(str(self.path / "shop.duckdb"), read_only=True)

    def rows(self, alert: str, as_of: datetime) -> Rows:
        """What an alert's query gives when it speaks for a time."""
        return self.place.execute(
            AS_OF.sub(time_literal(self.place.name, as_of), self.alerts()[alert])
        )

    def today(self) -> date:
        ((found,),) = self.place.execute("select today from shop_today")
        return date.fromisoformat(str(found))

    def morning(self) -> datetime:
        return datetime.combine(self.today(), time(), tzinfo=UTC) + timedelta(hours=9)


def build_shop(place: Place, folder: Path, *flags: str, cases: Path | None = None) -> BuiltShop:
    """The shop built on a place, in a scratch copy in `folder`.

    `flags` are those of `dbt build`; `cases` is a folder whose seeds and models are built with the
    shop's. `dbt deps` isn't run: what it would do here is a link, and costs seconds.
    """
    path: Path = load_script("demo").scratch_copy(folder)
    (path / "profiles.yml").write_text(yaml.safe_dump(profile(place)), encoding="utf-8")
    (path / "dbt_packages").mkdir()
    (path / "dbt_packages" / "sentinel").symlink_to(ROOT)
    if cases:
        shutil.copytree(cases, path, dirs_exist_ok=True)
    return run_dbt(path, place, ["build", *flags])


def run_dbt(path: Path, place: Place, *commands: list[str]) -> BuiltShop:
    """Run dbt in a scratch copy, in a time zone whose date differs from that of UTC."""
    started = datetime.now(UTC)
    environment = {
        **load_script("demo").environment(),
        "TZ": BEHIND if started.hour < 12 else AHEAD,
    }
    log = ""
    for command in commands:
        done = subprocess.run(
            [place.bin / "dbt", "--no-use-colors", *command],
            cwd=path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        log += done.stdout
    return BuiltShop(path, place, log, (started.date(), datetime.now(UTC).date()))


@pytest.fixture(scope="session")
def shop(demo: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> BuiltShop:
    """On DuckDB, with the profile that it ships with."""
    path: Path = demo.scratch_copy(tmp_path_factory.mktemp("sample"))
    # dbt 1.9 has no such flag: it names every deprecation anyhow.
    every = [] if version("dbt-core").startswith("1.9.") else ["--show-all-deprecations"]
    return run_dbt(path, DuckDbPlace(path / "shop.duckdb"), ["deps"], ["build", *every])
