"""A project as it was read once: dbt runs in a process of its own, which ends by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sentinel.bootstrap import introspect
from sentinel.channels.secret_scan import ChannelSecretScan
from sentinel.core.errors import ProjectError
from sentinel.core.project import Selection
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.picture import DbtProcess, ProjectSnapshot

from .conftest import make_shop

MONEY, QUERIED = "model.shop.packaged", "model.shop.queried"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    more = {
        "models/alerts/queried.yml": "models:\n  - name: queried\n    config: {meta: {sentinel: {}}}\n"
    }
    return make_shop(tmp_path, more)


@pytest.fixture
def process(shop: Path) -> Iterator[DbtProcess]:
    process = DbtProcess(DbtOptions(shop), introspect)
    yield process
    process.close()


def children() -> set[int]:
    """The processes that this one has started and that still run."""
    me = str(os.getpid())
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", me], capture_output=True, text=True
    ).stdout
    return {
        int(line.split()[0])
        for line in listed.splitlines()
        if "multiprocessing" in line and "resource_tracker" not in line
    }


def test_the_process_scans_for_the_secrets_of_installed_channels(shop: Path) -> None:
    path = shop / "models" / "alerts" / "queried.yml"
    path.write_text(path.read_text().replace("sentinel: {}", "sentinel: {owner: xoxb-1}"))
    options, scan = DbtOptions(shop), ChannelSecretScan()
    process = DbtProcess(options, introspect, scan)
    try:
        alerts = ProjectSnapshot(options, process, Selection(), scan).alerts()
    finally:
        process.close()
    assert {each.name: each.secrets for each in alerts if each.secrets} == {
        "queried": (("owner",),)
    }


def test_a_picture_stays_what_it_was_until_the_next_one(shop: Path, process: DbtProcess) -> None:
    options = DbtOptions(shop)
    first = ProjectSnapshot(options, process, Selection(("tag:money", "queried")))
    assert first.name == "shop"
    assert {each.name for each in first.alerts()} == {"packaged", "vars", "queried"}
    assert first.select(Selection()) == {MONEY, QUERIED}
    assert "(amount / 100.0)" in str(first.compile([MONEY])[MONEY].sql)
    # What looks at the warehouse is in no picture: it is compiled each time.
    assert first.picture.compiled.keys() == {MONEY}
    assert first.compile([QUERIED])[QUERIED].sql
    assert "no model" in str(first.compile(["model.shop.none"])["model.shop.none"].error)
    # The project changes: the picture doesn't, a new one does.
    path = shop / "models" / "alerts" / "packaged.sql"
    path.write_text(path.read_text() + "\n-- changed\n")
    assert "changed" not in str(first.compile([MONEY])[MONEY].sql)
    second = ProjectSnapshot(options, process, Selection(("tag:money",)))
    assert "changed" in str(second.compile([MONEY])[MONEY].sql)
    # It doesn't parse: that is said in dbt's words, and what was good is still there.
    valid = path.read_text()
    path.write_text(valid + "{{ config(")
    with pytest.raises(ProjectError, match="packaged"):
        ProjectSnapshot(options, process, Selection()).alerts()
    assert second.alerts()
    path.write_text(valid)
    assert ProjectSnapshot(options, process, Selection()).alerts()
    # Nothing of it has brought dbt into this process.
    script = (
        "import sys; from sentinel.dbt.picture import *; from sentinel.core.project import Selection\n"
        "from sentinel.dbt.options import DbtOptions; from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        f"    o = DbtOptions(Path({str(shop)!r})); p = DbtProcess(o)\n"
        "    print(len(ProjectSnapshot(o, p, Selection()).alerts()), 'dbt' in sys.modules); p.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "3 False\n", done.stderr


def test_the_process_ends_when_it_is_idle_and_comes_again(shop: Path) -> None:
    process = DbtProcess(DbtOptions(shop), introspect, idle=timedelta(milliseconds=200))
    before = children()
    assert process.tables().relations == {}
    _until(lambda: children() == before)
    assert process.tables().relations == {}
    process.close()
    assert children() == before


def test_a_process_that_is_killed_is_an_error_and_started_anew(
    shop: Path, process: DbtProcess
) -> None:
    before = children()
    process.tables()
    [child] = children() - before
    os.kill(child, signal.SIGKILL)
    with pytest.raises(ProjectError, match="ended unexpectedly"):
        process.tables()
    assert process.tables().relations == {}


def test_closing_ends_a_call_that_is_under_way(shop: Path, process: DbtProcess) -> None:
    said: list[str] = []

    def ask() -> None:
        try:
            process.picture(Selection())
        except ProjectError as error:
            said.append(error.message)

    thread = threading.Thread(target=ask)
    thread.start()
    _until(process._lock.locked)
    time.sleep(0.3)
    process.close()
    thread.join(20)
    assert said == ["the process that runs dbt has ended unexpectedly"]


def test_it_ends_with_its_parent_however_that_ends(shop: Path) -> None:
    script = (
        "import os, signal\nfrom pathlib import Path\nfrom sentinel.dbt.options import DbtOptions\n"
        "from sentinel.dbt.picture import DbtProcess\nif __name__ == '__main__':\n"
        f"    process = DbtProcess(DbtOptions(Path({str(shop)!r}))); process.tables()\n"
        "    print(process._child.process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    child = int(done.stdout)
    _until(lambda: not Path(f"/proc/{child}").exists() or _is_zombie(child))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _until(met: object) -> None:
    assert callable(met)
    for _ in range(600):
        if met():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")
