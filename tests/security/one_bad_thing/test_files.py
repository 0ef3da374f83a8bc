"""Files that Sentinel writes: its user's alone, and nobody steers where it writes or makes it wait.

The files are found on the disk after real commands, so that a new one can't escape.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sentinel import files
from sentinel.core.errors import DeliveryError, StoreError
from sentinel.store.leadership import FileLeadership
from tests.channels.contract import build
from tests.cli.conftest import Project
from tests.fakes import message

KILL_S = 240
CANARY = "a file of this user that nothing may change\n"
SENTINEL = [sys.executable, "-c", "from sentinel.cli.main import main; main()"]
NOBODY = 65_534


def command(root: Path, *args: str, mask: int = 0o000) -> subprocess.CompletedProcess[str]:
    """A command in a process whose umask takes nothing away."""
    return subprocess.run(
        [*SENTINEL, *args],
        cwd=root, capture_output=True, text=True, timeout=KILL_S, check=False, umask=mask,
    )  # fmt: skip


def daemon(root: Path) -> None:
    """A daemon that leads, evaluates nothing, and ends."""
    process = subprocess.Popen(
        [*SENTINEL, "daemon", "--port", "0"],
        cwd=root, umask=0, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + KILL_S
        while not list(root.glob("*.sentinel.lock.*")):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.wait(KILL_S)
    finally:
        process.kill()


def on_disk(root: Path) -> dict[str, os.stat_result]:
    found = {}
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder, name)
            found[str(path.relative_to(root))] = path.lstat()
    return found


@pytest.fixture(scope="module")
def ran(
    template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, set[str]]]:
    """A project in which all commands have run, and the files that they made."""
    root = tmp_path_factory.mktemp("files") / "acme"
    shutil.copytree(template, root, symlinks=True)
    shutil.rmtree(root / "target")
    before = set(on_disk(root))
    assert command(root, "validate").returncode in (0, 2)
    assert command(root, "run").returncode == 1
    assert command(root, "deliver").returncode == 0
    daemon(root)
    made = {name for name in on_disk(root) if name not in before}
    # What DuckDB and dbt make for themselves, as without Sentinel.
    yield root, {name for name in made if not name.startswith(("logs", "acme.duckdb.wal"))}


def test_what_is_written_is_its_users_alone_whatever_the_umask(ran: tuple[Path, set[str]]) -> None:
    root, made = ran
    assert {"told.jsonl", "target/sentinel/answers.json", "target/sentinel/lock"} <= made
    assert any(".sentinel.lock." in name for name in made)
    found = on_disk(root)
    open_to_others = {
        name: stat.filemode(found[name].st_mode)
        for name in made
        if name != "target" and stat.S_IMODE(found[name].st_mode) & 0o077
    }
    assert open_to_others == {}
    assert not stat.S_IMODE(found["target"].st_mode) & 0o022


def test_what_init_writes_is_for_all_to_read_and_for_its_user_to_write(
    new_project: Callable[[str], Project],
) -> None:
    project = new_project("shop")
    project.write("dbt_project.yml", 'name: shop\nversion: "1.0"\nprofile: shop\n').chmod(0o640)
    project.write(
        "profiles.yml",
        "shop: {target: dev, outputs: {dev: {type: duckdb, path: shop.duckdb}}}\n",
    )
    assert command(project.root, "init").returncode == 0
    found = on_disk(project.root)
    assert "sentinel.yml" in found
    assert stat.S_IMODE(found["dbt_project.yml"].st_mode) == 0o640
    writable = {
        name: stat.filemode(each.st_mode)
        for name, each in found.items()
        if not stat.S_ISLNK(each.st_mode)
        and stat.S_IMODE(each.st_mode) & 0o022
        and not name.startswith(("target", "logs", "shop.duckdb", ".user.yml"))  # dbt's own
    }
    assert writable == {}


def link(place: Path, canary: Path) -> None:
    place.symlink_to(canary)


def hard_link(place: Path, canary: Path) -> None:
    place.hardlink_to(canary)


def pipe(place: Path, canary: Path) -> None:
    os.mkfifo(place)


PLANTED: Mapping[str, Callable[[Path, Path], None]] = {
    "a link": link, "a hard link": hard_link, "a pipe": pipe,
}  # fmt: skip


@pytest.mark.parametrize("plant", PLANTED)
def test_what_is_planted_for_a_file_is_replaced_or_refused_and_never_followed(
    plant: str, ran: tuple[Path, set[str]], tmp_path: Path
) -> None:
    """All files at once; a file that stops a command is named by it, and removed by a person."""
    origin, made = ran
    root = tmp_path / "acme"
    shutil.copytree(origin, root, symlinks=True)
    canary = tmp_path / "canary"
    canary.write_text(CANARY)
    planted = [root / name for name in sorted(made) if (root / name).is_file()]
    for place in planted:
        place.unlink()
        PLANTED[plant](place, canary)
    for args in (("run",), ("deliver",)):
        done = command(root, *args)
        assert canary.read_text() == CANARY
        refused = [each for each in planted if str(each) in done.stderr or each.name in done.stderr]
        assert done.returncode in (0, 1, 4) or refused, done.stderr
        for each in refused:  # as a person does who reads the error
            each.unlink(missing_ok=True)
    done = command(root, "run")
    assert done.returncode in (0, 1), done.stderr
    assert canary.read_text() == CANARY


# -- each way of writing -----------------------------------------------------------------------


def append(path: Path) -> None:
    build("file", {"path": str(path)}, path.parent)[0].send(message())


def acquire_lease(path: Path) -> None:
    leadership = FileLeadership(path)
    try:
        leadership.hold()
    finally:
        leadership.let_go()


@pytest.mark.parametrize("write", [append, acquire_lease])
@pytest.mark.parametrize("plant", PLANTED)
def test_a_file_that_is_kept_open_is_refused_by_name(
    plant: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    canary.write_text(CANARY)
    place = tmp_path / "place"
    PLANTED[plant](place, canary)
    with pytest.raises(
        (DeliveryError, StoreError), match=r"place can't be written|can't write .*place"
    ):
        write(place)
    assert canary.read_text() == CANARY


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize("write", [append, acquire_lease])
def test_a_file_of_another_user_is_refused(write: Callable[[Path], None], tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.write_text("")
    place.chmod(0o666)
    os.chown(place, NOBODY, NOBODY)
    with pytest.raises((DeliveryError, StoreError), match="belongs to another user; remove it"):
        write(place)
    assert place.read_text() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize("own", [True, False])
def test_a_link_in_the_path_is_followed_only_if_its_user_or_the_folders_made_it(
    own: bool, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "target"
    target.symlink_to("elsewhere")
    if not own:
        os.chown(target, NOBODY, NOBODY, follow_symlinks=False)
        with pytest.raises(DeliveryError, match="`target` in its path is a link of another user"):
            append(target / "a.jsonl")
        with pytest.raises(OSError, match="link of another user"):
            files.make_private_folder(target / "sentinel")
        with pytest.raises(OSError, match="link of another user"):
            files.replace(target / "a", b"")
    else:
        append(target / "a.jsonl")
        files.make_private_folder(target / "sentinel")
        files.replace(target / "a", b"")
    assert bool(list((tmp_path / "elsewhere").iterdir())) is own


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_in_a_folder_for_everybody_its_owner_is_not_trusted_either(tmp_path: Path) -> None:
    """As in /tmp, where the kernel protects links in the same way."""
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, NOBODY, NOBODY)
    shared.chmod(0o1777)
    place = shared / "place"
    place.write_text("")
    os.chown(place, NOBODY, NOBODY)
    with pytest.raises(DeliveryError, match="belongs to another user"):
        append(place)


@pytest.mark.parametrize("kind", ["a link", "a file", "a pipe"])
def test_the_folder_of_artifacts_is_a_folder(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "sentinel"
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    if kind == "a link":
        place.symlink_to("elsewhere")
    elif kind == "a file":
        place.write_text("")
    else:
        os.mkfifo(place)
    with pytest.raises(OSError, match="not a folder; remove it"):
        files.make_private_folder(place)
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o755


def test_a_locked_file_is_an_error_that_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentinel.channels import file as channel

    monkeypatch.setattr(channel, "_PATIENCE", timedelta(seconds=0.2))
    place = tmp_path / "place"
    place.write_text("")
    with place.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DeliveryError, match="another process has locked it") as caught:
            append(place)
        assert not caught.value.permanent
    append(place)
    assert len(place.read_text().splitlines()) == 1


def test_a_locked_file_stops_no_other_channel(acme: Project) -> None:
    acme.write(
        "sentinel.yml",
        "defaults: {channels: [log, other]}\nchannels:\n"
        "  log: {type: file, path: told.jsonl}\n  other: {type: file, path: other.jsonl}\n",
    )
    place = acme.write("told.jsonl", "")
    with place.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ran = acme.sentinel("run", "--delivery-timeout", "1s")
    assert ran.code == 4
    assert "another process has locked it" in ran.out
    assert place.read_text() == ""
    assert (acme.root / "other.jsonl").read_text().count("\n") == 1


def test_a_lock_that_nobody_gives_back_ends_a_command_with_its_name(
    acme: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sentinel.dbt import runner

    monkeypatch.setattr(runner, "_LOCK_TIMEOUT", timedelta(seconds=0.2))
    shutil.rmtree(acme.root / "target", ignore_errors=True)
    files.make_private_folder(acme.root / "target" / "sentinel")
    with (acme.root / "target" / "sentinel" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ran = acme.sentinel("list")
    assert ran.code == 2
    assert "target/sentinel/lock" in ran.err
    assert "another process has locked" in ran.err


def test_a_file_is_replaced_in_one_step_and_leaves_nothing(tmp_path: Path) -> None:
    files.replace(tmp_path / "a", b"1")
    with pytest.raises(OSError, match="directory"):
        files.replace(tmp_path / "nowhere" / "a", b"2")
    (tmp_path / "b").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.replace(tmp_path / "b", b"2")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "a").read_bytes() == b"1"


@pytest.mark.parametrize("path", ["fifo", "/dev/zero", "."])
def test_only_regular_files_are_read(path: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(files.Refused, match="not a regular file"):
        files.read(tmp_path / path)
    (tmp_path / "large").write_bytes(b"a" * 11)
    with pytest.raises(files.Refused, match="larger than 10 bytes"):
        files.read(tmp_path / "large", most=10)


# -- artifacts that can't be written -----------------------------------------------------------


ARTIFACTS = ("run_results.json", "answers.json", "stamp.key")


def occupy(place: Path) -> None:
    """A folder, not empty, where a file is to be: it can't be replaced."""
    if place.is_dir():
        return
    place.unlink(missing_ok=True)
    place.mkdir()
    (place / "kept").write_text("")


def test_an_artifact_that_cannot_be_written_is_a_warning_and_changes_no_result(
    acme: Project,
) -> None:
    for name in ARTIFACTS:
        occupy(acme.root / "target" / "sentinel" / name)
    ran = acme.sentinel("run", "--output", "json")
    assert ran.code == 1, ran.err
    assert {each["alert"] for each in ran.document["results"]} == {
        "by_region",
        "negative",
        "revenue",
    }
    # One warning for what only makes the next command slow.
    assert ran.err.count("target/sentinel/stamp.key: Is a directory") == 1
    assert "answers.json" not in ran.err
    assert ran.err.count("target/sentinel/run_results.json: Is a directory") == 1
    assert acme.query("select count(*) > 0 from sentinel_history") == [(True,)]
    assert len(acme.sent()) == 1
    for args in (("status",), ("validate",), ("list",)):
        assert acme.sentinel(*args).code == 0


def test_results_that_cannot_be_written_leave_none_of_an_earlier_run(
    acme: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = acme.root / "target" / "sentinel" / "run_results.json"
    assert acme.sentinel("run").code == 1
    assert kept.is_file()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def replace(path: Path, content: bytes, **options: Any) -> None:
        if path == kept:
            raise full
        write(path, content, **options)

    write = files.replace
    monkeypatch.setattr(files, "replace", replace)
    ran = acme.sentinel("run")
    assert ran.code == 1
    assert "firing" in ran.out
    assert "run_results.json: No space left on device" in ran.err
    assert not kept.exists()


def test_results_are_kept_though_dbt_clean_ran_meanwhile(
    acme: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentinel.app.delivery.delivery import Delivery

    deliver = Delivery.__call__

    def cleaned(self: Delivery, *args: Any) -> Any:
        shutil.rmtree(acme.root / "target")
        return deliver(self, *args)

    monkeypatch.setattr(Delivery, "__call__", cleaned)
    ran = acme.sentinel("run")
    assert (ran.code, ran.err) == (1, "")
    assert (acme.root / "target" / "sentinel" / "run_results.json").is_file()


@pytest.mark.parametrize("name", ["lock", "manifest.json", "dbt"])
def test_an_artifact_that_dbt_needs_stops_a_command_before_it_evaluates(
    name: str, acme: Project
) -> None:
    folder = acme.root / "target" / "sentinel"
    (folder / "answers.json").unlink(missing_ok=True)
    place = folder / name
    if name == "dbt":
        shutil.rmtree(place)
        place.write_text("")
    else:
        occupy(place)
    ran = acme.sentinel("run")
    assert ran.code == 2
    assert f"target/sentinel/{name}" in ran.err
    assert "unexpected" not in ran.err
    assert acme.query("select count(*) from sentinel_history") == [(0,)]
