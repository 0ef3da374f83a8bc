"""The image without a container engine: its Dockerfile's own steps, and its entry point locked in.

`make test-image` runs this; its name keeps it out of `make unit`, since it takes minutes. It has to
be root on Linux. A command runs as process 1 in a root of its own that is mounted read-only, with
the user, the environment and the folders of the image, without capabilities and with nothing of
this machine but its system folders and Python.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.files import ROOT, context, dockerfile
from tests.places.bigquery import BigQueryPlace
from tests.places.place import profile
from tests.places.postgres import PostgresPlace

BUILD, IMAGE = dockerfile()
HOME_OF_IT = Path("/opt/sentinel")
# Of python:3.11-slim-bookworm, in millions of bytes, at most: Debian's packages in it have 96, and
# Python with pip 71.
BASE_MB = 167
TOKEN = "a token of the test"
SYSTEM = ("/bin", "/sbin", "/lib", "/lib64", "/usr", "/etc")

# $1 is an empty folder; then come the folders to mount, as `from:to:ro|rw`, until `--`, then the
# user, the folder to work in, and the command.
IN_A_ROOT_OF_ITS_OWN = """\
set -eu
root=$1; shift
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
for each in $SYSTEM; do
    if [ -L "$each" ]; then cp -P "$each" "$root$each"
    elif [ -d "$each" ]; then mkdir -p "$root$each"; mount --bind -o ro "$each" "$root$each"; fi
done
mkdir "$root/proc" "$root/dev" "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/tmp"
while [ "$1" != -- ]; do
    from=${1%%:*}; rest=${1#*:}; to=${rest%%:*}
    mkdir -p "$root$to"
    mount --bind "$from" "$root$to"
    if [ "${rest#*:}" = ro ]; then mount -o remount,bind,ro "$root$to"; fi
    shift
done
mount -o remount,ro "$root"
user=$2; folder=$3; shift 3
exec chroot "$root" setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups \\
    --bounding-set=-all --inh-caps=-all --no-new-privs \\
    env --chdir="$folder" "$@"
"""


@dataclass(frozen=True)
class Built:
    """What the build stage leaves at /opt/sentinel, kept in a folder here."""

    folder: Path
    megabytes: float


@dataclass
class Container:
    """Where commands of an image run. `project` and `state` are its two folders that last."""

    built: Built
    scratch: Path
    user: str = IMAGE.one("USER")
    writable_state: bool = True

    @property
    def project(self) -> Path:
        return self.scratch / "project"

    @property
    def state(self) -> Path:
        return self.scratch / "state"

    def command(
        self, words: list[str], env: Mapping[str, str], folder: str, mounts: Mapping[Path, str]
    ) -> list[str]:
        state = f"{self.state}:{IMAGE.one('VOLUME')}:{'rw' if self.writable_state else 'ro'}"
        environ = {**IMAGE.env, **env}
        environ["PATH"] = environ["PATH"].replace("$PATH", f"{sys.base_prefix}/bin:{os.defpath}")
        return [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", IN_A_ROOT_OF_ITS_OWN, "sh", str(self.scratch / "root")),
            f"{self.built.folder}:{HOME_OF_IT}:ro",
            f"{sys.base_prefix}:{sys.base_prefix}:ro",
            f"{self.project}:/project:rw",
            state,
            *(f"{path}:{to}:ro" for path, to in mounts.items()),
            *("--", self.user, folder, "-i"),
            *(f"{name}={value}" for name, value in environ.items()),
            *words,
        ]

    def run(
        self,
        *words: str,
        env: Mapping[str, str] = {},
        folder: str = "/project",
        mounts: Mapping[Path, str] = {},
        exits: int | None = 0,
    ) -> str:
        """What a command prints; fails unless it ends with `exits`."""
        done = subprocess.run(
            self.command(list(words), env, folder, mounts),
            env={**os.environ, "SYSTEM": " ".join(SYSTEM)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert exits is None or done.returncode == exits, done.stdout
        return done.stdout

    @contextmanager
    def running(
        self, *words: str, env: Mapping[str, str], folder: str
    ) -> Iterator[tuple[subprocess.Popen[str], int, Path]]:
        """A command that goes on: the process that waits for it, its own number, and its log."""
        log = self.scratch / "log"
        with (
            log.open("w") as output,
            subprocess.Popen(
                self.command(list(words), env, folder, {}),
                env={**os.environ, "SYSTEM": " ".join(SYSTEM)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process,
        ):
            try:
                yield process, first_child(process.pid), log
            finally:
                process.kill()


def first_child(pid: int) -> int:
    deadline = time.monotonic() + 10
    path = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := path.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(found[0])


def build(folder: Path, **args: str) -> Built:
    """The RUN lines of the build stage, in order, on what .dockerignore lets through."""
    source, made = folder / "source", folder / "sentinel"
    source.mkdir(parents=True)
    made.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for name in context():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source / name)
    script = " && ".join(BUILD.all("RUN"))
    mounted = f'mkdir -p {HOME_OF_IT} && mount --bind "$0" {HOME_OF_IT} && {script}'
    # /opt is covered, so that nothing is left on this machine.
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f"mount -t tmpfs tmpfs /opt; {mounted}", made],
        cwd=source,
        env={
            **os.environ,
            **BUILD.args,
            **args,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    counted = subprocess.run(
        ["du", "--summarize", "--block-size=1000", made], capture_output=True, text=True, check=True
    )
    return Built(made, int(counted.stdout.split()[0]) / 1000)


@contextmanager
def closed_to_nobody() -> Iterator[Path]:
    """pytest's own folder is closed to the user of the image."""
    with tempfile.TemporaryDirectory(prefix="sentinel-image-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def slim() -> Iterator[Built]:
    """As it is built without arguments."""
    with closed_to_nobody() as folder:
        yield build(folder)


@pytest.fixture(scope="module")
def full() -> Iterator[Built]:
    with closed_to_nobody() as folder:
        yield build(folder, WAREHOUSES="duckdb postgres bigquery", CHANNELS="")


@contextmanager
def container(built: Built) -> Iterator[Container]:
    with closed_to_nobody() as folder:
        made = Container(built, folder)
        uid, gid = map(int, made.user.split(":"))
        for each in (made.project, made.state, folder / "root"):
            each.mkdir()
            os.chown(each, uid, gid)
        yield made


@pytest.mark.parametrize(("name", "limit"), [("slim", 400), ("full", 500)])
def test_its_size(name: str, limit: int, request: pytest.FixtureRequest) -> None:
    built: Built = request.getfixturevalue(name)
    said = f"{name}: {built.megabytes:.0f} MB at {HOME_OF_IT}, {BASE_MB} MB at most below it"
    print(f"\n{said}")  # noqa: T201 - the figure of the documentation
    assert built.megabytes + BASE_MB < limit


def test_it_may_do_nothing_and_write_only_where_it_is_said(slim: Built) -> None:
    with container(slim) as box:
        status = box.run("cat", "/proc/self/status")
        caps = [line.split()[1] for line in status.splitlines() if line.startswith("Cap")]
        assert set(caps) == {"0" * 16}
        assert "NoNewPrivs:\t1" in status
        tried = "for d in / /opt/sentinel /usr /etc /tmp /project $HOME; do "
        tried += "touch $d/x 2>/dev/null && echo $d; done; true"
        assert box.run("sh", "-c", tried).split() == ["/tmp", "/project", "/var/lib/sentinel"]


def test_what_is_imported_at_each_start_is_compiled_already(slim: Built) -> None:
    code = "import dbt.cli.main, dbt.adapters.postgres, sentinel.cli.daemon, sentinel.web.server"
    with container(slim) as box:
        said = box.run("python", "-v", "-c", code)
    compiled = [line for line in said.splitlines() if line.startswith("# code object from '/")]
    assert [line for line in compiled if ".pyc" not in line] == []
    assert "/opt/sentinel/bytecode/" in said


def settings_of(place: PostgresPlace) -> dict[str, str]:
    """What docker-compose.yml hands to the sample project."""
    return {
        "DBT_TARGET": "postgres",
        "SHOP_PG_HOST": place.host,
        "SHOP_PG_PORT": str(place.port),
        "SHOP_PG_USER": place.user,
        "SHOP_PG_PASSWORD": place.password,
        "SHOP_PG_DATABASE": place.dbname,
        "SENTINEL_WEB_TOKEN": TOKEN,
    }


def source_of_sample(folder: Path) -> Path:
    """The checkout as compose mounts it, without what is made in it."""
    ignore = shutil.ignore_patterns(
        "target", "logs", "dbt_packages", "__pycache__", "*.duckdb*", "package-lock.yml"
    )
    for name in ("dbt_package", "macros", "sample_project", "deploy"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "dbt_project.yml", folder)
    return folder


def ask(port: int, path: str, token: str | None = None) -> tuple[int, str]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_ready(port: int, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + 90
    while ask(port, "/readyz")[0] != 200 or '"leading":true' not in ask(port, "/readyz")[1]:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)


def test_the_sample_project_is_built_and_served_as_compose_does(
    slim: Built, postgres: PostgresPlace
) -> None:
    env, port = settings_of(postgres), free_port()
    sample = "/project/sample_project"
    with container(slim) as box, closed_to_nobody() as checkout:
        source = source_of_sample(checkout)
        build_it = ["/source/deploy/docker/sample.sh"]
        box.run(*build_it, env=env, mounts={source: "/source"})
        env |= {"SENTINEL_DAEMON_PORT": str(port), "SENTINEL_HEALTHCHECK_PORT": str(port)}
        started = [*IMAGE.words("ENTRYPOINT"), *IMAGE.words("CMD")]
        with box.running(*started, env=env, folder=sample) as (process, pid, log):
            wait_ready(port, process, log)
            check = IMAGE.words("HEALTHCHECK")
            assert box.run(*check, env=env, folder=sample).startswith("alive")
            assert ask(port, "/metrics")[0] == 401
            assert ask(port, "/metrics", TOKEN)[0] == 200
            status = json.loads(ask(port, "/api/status", TOKEN)[1])
            assert status["daemon"]["alerts"] == 11
            # What compose does after an edit, while the daemon works.
            before = log.read_text().count('"project loaded"')
            box.run(*build_it, env=env, mounts={source: "/source"})
            deadline = time.monotonic() + 60
            while log.read_text().count('"project loaded"') == before:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
            os.kill(pid, signal.SIGTERM)
            asked = time.monotonic()
            assert process.wait(timeout=40) == 0, log.read_text()
            assert time.monotonic() - asked < 30
        lines = log.read_text().splitlines()
        assert [line for line in lines if not line.startswith("{")] == []
        assert box.run(*check, env=env, folder=sample, exits=1)
        run_without_a_name_or_a_home(box, env, sample)


def run_without_a_name_or_a_home(box: Container, env: dict[str, str], folder: str) -> None:
    """As on clusters that choose the user: no name, a home that is closed, artifacts in /tmp."""
    stranger = Container(box.built, box.scratch, user="4711:0", writable_state=False)
    env = {**env, "DBT_TARGET_PATH": "/tmp/target", "DBT_LOG_PATH": "/tmp/logs"}
    said = stranger.run(
        "sentinel", "run", "--fail-on", "never", "--dry-run", env=env, folder=folder
    )
    assert "revenue_drop" in said
    stranger.run(
        *("sentinel", "silence", "revenue_drop", "--for", "1h", "--comment", "a test"),
        env=env,
        folder=folder,
    )


ALERT = """\
{{ config(meta={'sentinel': {'shape': 'rows'}}) }}
select * from {{ ref('orders') }} where id > 1
"""


def test_bigquery_works_without_dataframes(full: Built, bigquery: BigQueryPlace) -> None:
    files: dict[str, Any] = {
        "dbt_project.yml": {"name": "shop", "version": "1.0", "profile": "shop"},
        "profiles.yml": profile(bigquery),
    }
    with container(full) as box:
        for module in ("pandas", "numpy", "pyarrow", "google.cloud.aiplatform"):
            assert "ModuleNotFoundError" in box.run("python", "-c", f"import {module}", exits=1)
        box.project.joinpath("models").mkdir()
        for name, value in files.items():
            box.project.joinpath(name).write_text(yaml.safe_dump(value))
        models = box.project / "models"
        models.joinpath("orders.sql").write_text(
            "{{ config(materialized='table') }} select 1 as id union all select 2 as id"
        )
        models.joinpath("many.sql").write_text(ALERT)
        for path in (box.project, *box.project.rglob("*")):
            os.chown(path, *map(int, box.user.split(":")))
        box.run("sentinel", "init")
        box.run("dbt", "build")
        said = box.run("sentinel", "run", "-s", "many", "--output", "json", "-q", exits=1)
        assert "FIRING many" in said
        document = json.loads(said[said.index("\n{") :])
        assert [(each["alert"], each["outcome"]) for each in document["results"]] == [
            ("many", "alert")
        ]
        assert "many" in box.run("sentinel", "status", exits=None)


def test_the_rest_of_the_dockerfile_is_what_is_tried_here() -> None:
    """A new instruction has to be looked at here."""
    assert {name for name, _ in IMAGE.instructions} == {
        "FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "VOLUME", "EXPOSE", "HEALTHCHECK",
        "ENTRYPOINT", "CMD",
    }  # fmt: skip
    copied = shlex.split(IMAGE.one("COPY"))
    assert copied == ["--from=build", str(HOME_OF_IT), str(HOME_OF_IT)]
