"""The wheel holds all that `sentinel init` needs."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .conftest import MakeProject, run_dbt

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it; everything else comes from this one."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, check=True, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    # Found after the new environment's own packages; the .pth files in it are not read, so an
    # editable install of this checkout stays out of sight.
    (site / "others.pth").write_text("\n".join(p for p in sys.path if p.endswith("-packages")))
    return folder / "venv" / "bin" / "python"


def test_the_wheel_scaffolds_a_project_that_dbt_runs(
    python: Path, make_project: MakeProject
) -> None:
    root = make_project({"models/orders.sql": "select 1 as id"})
    code = """
import json, sys
from pathlib import Path
import sentinel
from sentinel.dbt.setup import vendored
from sentinel.dbt.setup.scaffold import scaffold
done = scaffold(Path(sys.argv[1]))
files = sorted(vendored.shipped().files)
print(json.dumps([sentinel.__file__, [change.path for change in done.changes], files]))
"""
    done = subprocess.run(
        [python, "-c", code, str(root)], capture_output=True, text=True, check=True, cwd=root
    )
    home, changed, files = json.loads(done.stdout)
    assert Path(home).is_relative_to(python.parents[1])
    assert "dbt_sentinel/" in changed
    shipped = {path.relative_to(ROOT).as_posix() for path in (ROOT / "macros").glob("*.sql")}
    assert shipped <= set(files)
    assert "dbt_package/models/tables/sentinel_state.yml" in files
    run_dbt(root, "run", "-s", "package:sentinel", "example_alert")
