"""dbt projects of other people's making, without dbt."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Files = Mapping[str, str]
MakeProject = Callable[[Files], Path]

PROJECT = "name: shop\nversion: '1.0'\nprofile: shop\n"
PROFILES = "shop: {target: dev, outputs: {dev: {type: duckdb, path: shop.duckdb}}}\n"


def run_dbt(root: Path, *args: str) -> str:
    """dbt's command in a project; a registry that it asks would refuse the connection."""
    quiet = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "0", "DBT_USE_COLORS": "0"}
    nowhere = {"DBT_PACKAGE_HUB_URL": "http://127.0.0.1:9/"}
    done = subprocess.run(
        [Path(sys.executable).parent / "dbt", *args, "--profiles-dir", "."],
        cwd=root,
        env={**os.environ, **quiet, **nowhere},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def snapshot(root: Path) -> dict[str, bytes | str]:
    """Every file's content, and every link's target."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


@pytest.fixture
def make_project(tmp_path: Path) -> MakeProject:
    """Writes files to a folder; dbt_project.yml and profiles.yml are there without being named."""

    def make(files: Files) -> Path:
        root = tmp_path / "shop"
        for name, text in {"dbt_project.yml": PROJECT, "profiles.yml": PROFILES, **files}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        return root

    return make
