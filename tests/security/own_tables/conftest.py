"""dbt projects with Sentinel in them, on every warehouse that can keep the tables."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sentinel.dbt.setup.scaffold import scaffold
from tests.package.conftest import filled, made
from tests.places.place import Place

__all__ = ["filled", "made"]

TABLES = tuple(f"sentinel_{n}" for n in ("state", "history", "notifications", "silences", "leases"))
QUIET = {
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "0",
    "DBT_USE_COLORS": "0",
    "NO_COLOR": "1",
    "COLUMNS": "1000",
}


@dataclass(frozen=True)
class Done:
    code: int
    output: str


@dataclass(frozen=True)
class Shop:
    """A project after `sentinel init` without its tables, in a place."""

    root: Path
    place: Place

    def try_it(self, command: str, *args: str, env: dict[str, str] | None = None) -> Done:
        """`dbt` or `sentinel`, as a process."""
        done = subprocess.run(
            [self.place.bin / command, *args],
            cwd=self.root,
            env={**os.environ, **QUIET, "DBT_PROFILES_DIR": str(self.root), **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        return Done(done.returncode, done.stdout + done.stderr)

    def do(self, command: str, *args: str, env: dict[str, str] | None = None) -> str:
        done = self.try_it(command, *args, env=env)
        assert done.code == 0, done.output
        return done.output


def new_shop(root: Path, place: Place, outputs: dict[str, Any], alert: str | None = None) -> Shop:
    """`outputs` are the targets of the profile; the first is the default."""
    (root / "models").mkdir(parents=True)
    project = {"name": "shop", "version": "1.0", "profile": "shop"}
    (root / "dbt_project.yml").write_text(yaml.safe_dump(project, sort_keys=False))
    profile = {"shop": {"target": next(iter(outputs)), "outputs": outputs}}
    (root / "profiles.yml").write_text(yaml.safe_dump(profile))
    scaffold(root)
    if alert is not None:
        shutil.rmtree(root / "models" / "alerts")
        (root / "models" / "late.sql").write_text(alert)
    return Shop(root, place)
