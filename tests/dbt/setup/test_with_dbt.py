"""What dbt itself makes of a project after `sentinel init`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sentinel.dbt.setup.scaffold import scaffold

from .conftest import MakeProject, run_dbt, snapshot

PACKAGES = """\
# What we build on
packages:
  - package: dbt-labs/dbt_utils
    version: [">=1.0.0", "<2.0.0"]
  - git: "https://host/audit.git"   # pinned
    revision: 1.0
    warn-unpinned: false
  - local: lib/base
"""
LOCK = """\
packages:
  - name: dbt_utils
    package: dbt-labs/dbt_utils
    version: 1.1.0
  - git: https://host/audit.git
    name: audit
    revision: 0123456789012345678901234567890123456789
  - local: lib/base
    name: base
sha1_hash: {hash}
"""


def _dbts_hash(root: Path) -> str:
    """The hash by which dbt judges whether a lock is current."""
    from dbt.config.project import package_config_from_data
    from dbt.task.deps import _create_sha1_hash

    text = (root / "packages.yml").read_text()
    config = package_config_from_data(yaml.safe_load(text), yaml.safe_load(text))
    return _create_sha1_hash(config.packages)


def _locked(make_project: MakeProject) -> Path:
    files = {"packages.yml": PACKAGES, "package-lock.yml": LOCK}
    for name in ("dbt_utils", "audit", "base"):
        files[f"dbt_packages/{name}/dbt_project.yml"] = f"name: {name}\nversion: '1.0'\n"
    return make_project(files)


def test_locked_versions_stay_and_dbt_does_not_lock_anew(make_project: MakeProject) -> None:
    root = _locked(make_project)
    lock = root / "package-lock.yml"
    current = LOCK.format(hash=_dbts_hash(root))
    lock.write_text(current)
    done = scaffold(root)
    assert done.uninstalled == ()
    after = lock.read_text()
    assert yaml.safe_load(after)["sha1_hash"] == _dbts_hash(root)
    added = "  - local: dbt_sentinel\n    name: sentinel\n"
    head, _, _ = current.partition("sha1_hash")
    assert after == f"{head}{added}sha1_hash: {_dbts_hash(root)}\n"
    assert (root / "packages.yml").read_text() == PACKAGES + "  - local: dbt_sentinel\n"
    run_dbt(root, "parse")


@pytest.mark.parametrize(
    "entry",
    [
        "package: a/b\n    version: 1.0",
        "package: a/b\n    version: '2.0'\n    install_prerelease: true",
        "git: https://host/x.git\n    subdirectory: dbt",
        "tarball: https://host/x.tgz\n    name: x",
        "local: ../x",
    ],
)
def test_the_lock_is_current_for_every_kind_of_package(
    entry: str, make_project: MakeProject
) -> None:
    root = make_project({"packages.yml": f"packages:\n  - {entry}\n"})
    lock = root / "package-lock.yml"
    lock.write_text(f"packages:\n  - {entry}\nsha1_hash: {_dbts_hash(root)}\n")
    scaffold(root)
    assert yaml.safe_load(lock.read_text())["sha1_hash"] == _dbts_hash(root)
    assert len(yaml.safe_load(lock.read_text())["packages"]) == 2


def test_a_lock_that_was_not_current_is_not_made_to_look_so(make_project: MakeProject) -> None:
    root = _locked(make_project)
    done = scaffold(root)
    assert (root / "package-lock.yml").read_text() == LOCK
    (change,) = [change for change in done.changes if change.path == "package-lock.yml"]
    assert change.action == "unchanged"
    assert "not current" in change.detail


def test_a_local_project_runs_and_outlives_dbt_deps_and_dbt_clean(
    make_project: MakeProject,
) -> None:
    root = make_project(
        {
            "packages.yml": "packages:\n  - local: lib/base\n",
            "lib/base/dbt_project.yml": "name: base\nversion: '1.0'\n",
            "models/orders.sql": "select 1 as id",
        }
    )
    run_dbt(root, "deps")
    before = yaml.safe_load((root / "package-lock.yml").read_text())
    assert scaffold(root).uninstalled == ()
    run_dbt(root, "build")
    lock = (root / "package-lock.yml").read_bytes()
    assert yaml.safe_load(lock)["packages"][: len(before["packages"])] == before["packages"]

    run_dbt(root, "clean")
    assert "Updating lock file" not in run_dbt(root, "deps")
    assert (root / "package-lock.yml").read_bytes() == lock
    files = snapshot(root)
    assert {change.action for change in scaffold(root).changes} == {"unchanged"}
    assert snapshot(root) == files
    assert "example_alert" in run_dbt(root, "ls", "-s", "shop")
    run_dbt(root, "run", "-s", "package:sentinel", "--full-refresh")
