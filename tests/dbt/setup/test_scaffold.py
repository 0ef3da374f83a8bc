"""What `sentinel init` does to projects of many shapes, short of running dbt."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sentinel.core.errors import ConfigError, ProjectError, SentinelError
from sentinel.dbt.setup import vendored
from sentinel.dbt.setup.scaffold import Scaffolded, scaffold

from .conftest import PROJECT, MakeProject, snapshot

BLOCK = {
    "+enabled": True,
    "tables": {"+materialized": "sentinel_table"},
    "views": {"+materialized": "sentinel_view"},
}


def _actions(done: Scaffolded) -> dict[str, str]:
    return {change.path: change.action for change in done.changes}


def _models(root: Path) -> Any:
    return yaml.safe_load((root / "dbt_project.yml").read_text())["models"]


def test_a_bare_project_gets_everything(make_project: MakeProject) -> None:
    root = make_project({"models/orders.sql": "select 1 as id"})
    done = scaffold(root)
    assert _actions(done) == {
        "dbt_sentinel/": "created",
        "packages.yml": "created",
        "dbt_packages/sentinel": "created",
        "dbt_project.yml": "updated",
        "sentinel.yml": "created",
        "models/alerts/example_alert.sql": "created",
    }
    assert done.uninstalled == ()
    assert (root / "packages.yml").read_text() == "packages:\n  - local: dbt_sentinel\n"
    assert (root / "dbt_packages/sentinel").readlink() == Path("../dbt_sentinel")
    assert (root / "dbt_packages/sentinel/macros/as_of.sql").is_file()
    assert _models(root) == {"sentinel": BLOCK, "shop": {"alerts": {"+materialized": "view"}}}
    assert (root / "dbt_project.yml").read_text().startswith(PROJECT)
    settings = yaml.safe_load((root / "sentinel.yml").read_text())
    assert settings == {
        "defaults": {"channels": ["console"]},
        "channels": {"console": {"type": "console"}},
    }
    assert not (root / "package-lock.yml").exists()
    assert not (root / ".gitignore").exists()


def test_a_second_run_changes_nothing(make_project: MakeProject) -> None:
    root = make_project({"package-lock.yml": "packages: []\n"})
    scaffold(root)
    before = snapshot(root)
    for upgrade in (False, True):
        done = scaffold(root, upgrade=upgrade)
        assert set(_actions(done).values()) == {"unchanged"}
        assert snapshot(root) == before


def test_comments_and_settings_of_the_project_stay(make_project: MakeProject) -> None:
    text = """\
# Our shop
name: shop  # short
version: "1.0"
profile: "{{ env_var('SHOP_PROFILE', 'shop') }}"

models:
    # how we build
    shop:
        +materialized: table
        alerts:
            finance: {+tags: [finance]}
            # theirs
            +materialized: "{{ 'ephemeral' }}"

seeds: {}  # none
"""
    root = make_project({"dbt_project.yml": text})
    scaffold(root)
    after = (root / "dbt_project.yml").read_text()
    start = after.index("    # Sentinel keeps")
    end = after.index("\nseeds:")
    assert after[:start] + after[end:] == text
    assert "            +materialized: sentinel_table\n" in after
    assert _models(root)["sentinel"] == BLOCK


def test_settings_in_another_style_are_completed_not_doubled(make_project: MakeProject) -> None:
    models = """\
models:
  sentinel:
    tables:
      materialized: table
      +full_refresh: false
      contract: {enforced: false}
      sentinel_state:
        +tags: [mine]
  shop:
    alerts:
      materialized: table
"""
    root = make_project({"dbt_project.yml": PROJECT + models})
    done = scaffold(root)
    assert _models(root) == {
        "sentinel": {
            "+enabled": True,
            "tables": {
                "materialized": "sentinel_table",
                "+full_refresh": False,
                "contract": {"enforced": False},
                "sentinel_state": {"+tags": ["mine"]},
            },
            "views": BLOCK["views"],
        },
        "shop": {"alerts": {"materialized": "table"}},
    }
    (detail,) = [change.detail for change in done.changes if change.path == "dbt_project.yml"]
    assert "sentinel.tables.materialized" in detail
    assert "full_refresh" not in detail
    assert set(_actions(scaffold(root)).values()) == {"unchanged"}


def test_the_first_model_path_gets_the_example(make_project: MakeProject) -> None:
    paths = "model-paths: ['transform/models', more]\nmacro-paths: [transform/macros]\n"
    root = make_project({"dbt_project.yml": PROJECT + paths})
    assert "transform/models/alerts/example_alert.sql" in _actions(scaffold(root))
    assert _models(root)["shop"] == {"alerts": {"+materialized": "view"}}


@pytest.mark.parametrize(
    "alert", ["alerts/mine.sql", "alerts/deep/mine.sql", "x/example_alert.sql"]
)
def test_no_example_beside_alerts_that_are_there(alert: str, make_project: MakeProject) -> None:
    root = make_project({f"models/{alert}": "select 1"})
    scaffold(root)
    assert [path.name for path in (root / "models").rglob("*.sql")] == [Path(alert).name]
    assert (root / "models" / alert).read_text() == "select 1"


@pytest.mark.parametrize(
    "taken",
    [
        "clean-targets: [target, dbt_sentinel]\n",
        "clean-targets: ['{{ \"dbt_sentinel\" }}']\n",
        "model-paths: [models, dbt_sentinel/models]\n",
        "packages-install-path: dbt_sentinel\n",
    ],
)
def test_another_folder_is_taken_where_dbt_would_read_or_clean_it(
    taken: str, make_project: MakeProject
) -> None:
    root = make_project({"dbt_project.yml": PROJECT + taken})
    assert _actions(scaffold(root))["sentinel_package/"] == "created"
    assert "local: sentinel_package" in (root / "packages.yml").read_text()
    assert set(_actions(scaffold(root)).values()) == {"unchanged"}


def test_a_project_without_room_for_the_package_is_refused(make_project: MakeProject) -> None:
    root = make_project({"dbt_project.yml": PROJECT + "model-paths: ['.']\n"})
    with pytest.raises(ConfigError, match="no folder is outside"):
        scaffold(root)


def test_packages_install_path_is_respected(make_project: MakeProject) -> None:
    root = make_project({"dbt_project.yml": PROJECT + "packages-install-path: lib/dbt\n"})
    scaffold(root)
    assert (root / "lib/dbt/sentinel").resolve() == root / "dbt_sentinel"


def test_the_entry_goes_where_the_packages_are(make_project: MakeProject) -> None:
    text = "projects:\n  - name: up\n# ours\npackages:\n- local: ../x # y\n"
    root = make_project({"dependencies.yml": text, "packages.yml": "# moved\n"})
    scaffold(root)
    assert (root / "dependencies.yml").read_text() == text + "- local: dbt_sentinel\n"
    assert (root / "packages.yml").read_text() == "# moved\n"


def test_a_dependencies_file_of_projects_only_is_left_alone(make_project: MakeProject) -> None:
    root = make_project({"dependencies.yml": "projects:\n  - name: up\n"})
    scaffold(root)
    assert (root / "dependencies.yml").read_text() == "projects:\n  - name: up\n"
    assert "dbt_sentinel" in (root / "packages.yml").read_text()


def test_packages_that_are_not_installed_are_named(make_project: MakeProject) -> None:
    packages = """\
packages:
  - package: dbt-labs/dbt_utils
    version: [">=1.0.0", "<2.0.0"]
  - git: "{{ env_var('GIT_HOST', 'https://host') }}/org/audit.git"
    revision: 1.0
"""
    root = make_project({"packages.yml": packages})
    uninstalled = ("dbt-labs/dbt_utils", "https://host/org/audit.git")
    assert scaffold(root).uninstalled == uninstalled
    for name in ("dbt_utils", "audit"):
        folder = root / "dbt_packages" / name
        folder.mkdir()
        (folder / "dbt_project.yml").write_text(f"name: {name}\n")
    assert scaffold(root).uninstalled == ()


def test_an_older_copy_is_renewed_only_when_asked(
    make_project: MakeProject, tmp_path: Path
) -> None:
    root = make_project({})
    outside = tmp_path / "outside"
    outside.write_text("not Sentinel's")
    scaffold(root)
    new = snapshot(root)
    folder = root / "dbt_sentinel"
    record = json.loads((folder / vendored.RECORD).read_text())
    record["version"] = "0.0.9"
    gone, kept = folder / "macros" / "gone.sql", folder / "macros" / "users_own.sql"
    gone.write_text("-- shipped once")
    kept.write_text("-- mine")
    record["files"]["macros/gone.sql"] = hashlib.sha256(gone.read_bytes()).hexdigest()
    record["files"]["../../outside"] = "0"
    (folder / vendored.RECORD).write_text(json.dumps(record))
    (folder / "macros" / "as_of.sql").write_text("-- old")
    before = snapshot(root)

    done = scaffold(root)
    assert _actions(done)["dbt_sentinel/"] == "outdated"
    assert "sentinel init --upgrade" in done.changes[0].detail
    assert snapshot(root) == before

    done = scaffold(root, upgrade=True)
    assert _actions(done)["dbt_sentinel/"] == "updated"
    assert "from 0.0.9 to" in done.changes[0].detail
    assert snapshot(root) == {**new, "dbt_sentinel/macros/users_own.sql": b"-- mine"}
    assert outside.exists()


def test_a_newer_copy_is_never_replaced(make_project: MakeProject) -> None:
    root = make_project({})
    scaffold(root)
    record = root / "dbt_sentinel" / vendored.RECORD
    record.write_text(json.dumps({**json.loads(record.read_text()), "version": "99.0"}))
    before = snapshot(root)
    assert "newer" in scaffold(root).changes[0].detail
    with pytest.raises(ConfigError, match="newer than this"):
        scaffold(root, upgrade=True)
    assert snapshot(root) == before


def test_a_damaged_copy_is_seen_and_mended(make_project: MakeProject) -> None:
    root = make_project({})
    scaffold(root)
    valid = snapshot(root)
    (root / "dbt_sentinel/macros/guard_table.sql").unlink()
    assert _actions(scaffold(root))["dbt_sentinel/"] == "outdated"
    scaffold(root, upgrade=True)
    assert snapshot(root) == valid


def test_a_lost_link_or_folder_is_put_back(make_project: MakeProject) -> None:
    root = make_project({})
    scaffold(root)
    valid = snapshot(root)
    shutil.rmtree(root / "dbt_packages")
    shutil.rmtree(root / "dbt_sentinel")
    scaffold(root)
    assert snapshot(root) == valid


def test_a_link_elsewhere_is_set_right(make_project: MakeProject, tmp_path: Path) -> None:
    root = make_project({})
    scaffold(root)
    link = root / "dbt_packages" / "sentinel"
    link.unlink()
    link.symlink_to(tmp_path / "gone")
    assert _actions(scaffold(root))["dbt_packages/sentinel"] == "updated"
    assert link.resolve() == root / "dbt_sentinel"


def test_a_copied_package_becomes_a_link(make_project: MakeProject) -> None:
    root = make_project({})
    scaffold(root)
    link = root / "dbt_packages" / "sentinel"
    link.unlink()
    shutil.copytree(root / "dbt_sentinel", link)
    scaffold(root)
    assert link.is_symlink()


def test_where_links_are_refused_the_package_is_copied(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("links are for administrators")

    root = make_project({})
    monkeypatch.setattr(Path, "symlink_to", refuse)
    scaffold(root)
    assert (root / "dbt_packages/sentinel/dbt_project.yml").is_file()


def test_a_package_used_by_path_from_elsewhere_is_left_there(
    make_project: MakeProject, tmp_path: Path
) -> None:
    source = tmp_path / "elsewhere"
    for name, content in vendored.shipped().files.items():
        if name != vendored.RECORD:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
    root = make_project({"packages.yml": "packages:\n  - local: ../elsewhere\n"})
    done = scaffold(root)
    assert _actions(done)["packages.yml"] == "unchanged"
    assert not (root / "dbt_sentinel").exists()
    assert done.uninstalled == ("../elsewhere",)


def test_modes_and_linked_files_stay(make_project: MakeProject, tmp_path: Path) -> None:
    root = make_project({"packages.yml": "packages: []\n"})
    real = tmp_path / "packages.yml"
    (root / "packages.yml").rename(real)
    (root / "packages.yml").symlink_to(real)
    (root / "dbt_project.yml").chmod(0o640)
    scaffold(root)
    assert (root / "packages.yml").is_symlink()
    assert "dbt_sentinel" in real.read_text()
    assert (root / "dbt_project.yml").stat().st_mode & 0o777 == 0o640


ANCHORS = "base: &base\n  shop: {+enabled: true}\nmodels: *base\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"dbt_project.yml": "name: [\n"}, r"dbt_project.yml:\d+"),
        ({"dbt_project.yml": "name: sentinel\nversion: '1'\n"}, "the project is named `sentinel`"),
        ({"dbt_project.yml": PROJECT + "model-paths: ['{{ env_var(\"NO_SUCH\") }}']\n"}, "NO_SUCH"),
        ({"dbt_project.yml": PROJECT + ANCHORS}, "dbt_project.yml can't be edited safely"),
        ({"dbt_project.yml": PROJECT + "models: nothing\n"}, "can't be edited safely"),
        ({"packages.yml": "packages: [\n"}, r"packages.yml:\d+"),
        ({"packages.yml": "packages: {a: b}\n"}, "not a list"),
        ({"packages.yml": "- a\n"}, "not a mapping"),
        ({"packages.yml": "packages:\n  - dbt_utils\n"}, "packages.yml:2: not a package"),
        (
            {"packages.yml": "packages: []\n", "dependencies.yml": "packages: []\n"},
            "both packages.yml and dependencies.yml",
        ),
        (
            {"packages.yml": "packages:\n\n  - package: acme/sentinel\n    version: 1.0.0\n"},
            "packages.yml:3: `acme/sentinel` is a package named `sentinel` already",
        ),
        (
            {"packages.yml": "packages:\n  - git: git@host:acme/dbt-sentinel.git\n"},
            "packages.yml:2: `git@host:acme/dbt-sentinel.git`",
        ),
        (
            {
                "packages.yml": "packages:\n  - local: lib/watch\n",
                "lib/watch/dbt_project.yml": "name: sentinel\n",
            },
            "packages.yml:2: `lib/watch`",
        ),
        ({"dbt_sentinel/notes.txt": "mine"}, "dbt_sentinel is there and is not Sentinel's"),
        ({"dbt_sentinel": "a file"}, "dbt_sentinel is there and is not Sentinel's"),
        (
            {"dbt_packages/sentinel/dbt_project.yml": "name: sentinel\n"},
            "dbt_packages/sentinel holds another package",
        ),
        ({"package-lock.yml": "packages: [\n"}, r"package-lock.yml:\d+"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    files: dict[str, str], message: str, make_project: MakeProject
) -> None:
    root = make_project(files)
    before = snapshot(root)
    with pytest.raises(SentinelError, match=message) as raised:
        scaffold(root, env={})
    assert raised.value.hint
    assert snapshot(root) == before


def test_lines_to_write_by_hand_are_complete(make_project: MakeProject) -> None:
    root = make_project({"dbt_project.yml": PROJECT + ANCHORS})
    with pytest.raises(ProjectError) as raised:
        scaffold(root)
    assert raised.value.hint
    lines = yaml.safe_load(raised.value.hint.split("\n", 1)[1])
    assert lines["models"]["sentinel"] == BLOCK


def test_no_project_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no dbt_project\.yml"):
        scaffold(tmp_path)


def test_a_file_that_cannot_be_written_is_named(make_project: MakeProject) -> None:
    root = make_project({"models/alerts": "a file where a folder should be"})
    with pytest.raises(ProjectError, match="can't read or write"):
        scaffold(root)
    (root / "models/alerts").unlink()
    assert _actions(scaffold(root))["models/alerts/example_alert.sql"] == "created"


def test_dbt_is_not_imported(make_project: MakeProject) -> None:
    root = make_project({})
    code = (
        "import sys; from pathlib import Path; from sentinel.dbt.setup.scaffold import scaffold;"
        f"scaffold(Path({str(root)!r}));"
        "print([name for name in sys.modules if name.split('.')[0] == 'dbt'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
