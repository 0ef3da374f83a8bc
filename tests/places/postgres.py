"""PostgreSQL: a server of its own, or the one that SENTINEL_TEST_POSTGRES_URL names."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from tests.places.place import BIN, PlaceMissing, Rows, only_rows

ANOTHER_SERVER = "SENTINEL_TEST_POSTGRES_URL"
UNPRIVILEGED = "nobody"
# Ends the server when its standard input closes: then the tests have ended, or were killed.
UNTIL_STDIN_CLOSES = (
    '"$@" & server=$!; cat > /dev/null; kill -QUIT $server; wait $server; rm -rf "$0"'
)


@dataclass(frozen=True)
class PostgresPlace:
    """A database. The user owns it, and may do anything on the server."""

    host: str
    port: int
    user: str
    password: str
    dbname: str
    name: str = "postgres"
    bin: Path = BIN
    schema: str = "shop"

    @property
    def output(self) -> dict[str, Any]:
        return {
            "type": "postgres",
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.dbname,
            "schema": self.schema,
            "threads": 1,
        }

    def execute(self, sql: str) -> Rows:
        """As superuser; the schema comes first in the search path."""
        import psycopg2  # type: ignore[import-untyped]  # it has no types

        arguments = {key: self.output[key] for key in ("host", "port", "user", "password")}
        options = f"-c search_path={self.schema},public"
        with closing(
            psycopg2.connect(**arguments, dbname=self.dbname, options=options)
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return only_rows(cursor.fetchall()) if cursor.description else []


@dataclass(frozen=True)
class PostgresServer:
    """`main` is the database that others are created from."""

    main: PostgresPlace

    @contextmanager
    def database(self) -> Iterator[PostgresPlace]:
        """A database of its own, with the schema and nothing in it; dropped in the end."""
        place = replace(self.main, dbname=f"sentinel_{uuid4().hex[:12]}")
        self.main.execute(f"create database {place.dbname}")
        try:
            place.execute(f"create schema {place.schema}")
            yield place
        finally:
            self.main.execute(f"drop database {place.dbname} with (force)")


@contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """A server that listens on a free port of 127.0.0.1."""
    if url := os.environ.get(ANOTHER_SERVER):
        yield PostgresServer(_named_by(url))
        return
    main = PostgresPlace("127.0.0.1", _free_port(), "postgres", secrets.token_hex(8), "postgres")
    # Not in pytest's folder: that one is closed to the user that the server may have to be.
    with tempfile.TemporaryDirectory(prefix="sentinel-postgres-") as folder:
        binaries, user = _prepare(Path(folder))
        data = Path(folder, "data")
        _make(data, main, binaries, user)
        with _running(data, main, binaries, user):
            yield PostgresServer(main)


def _named_by(url: str) -> PostgresPlace:
    parts = urlsplit(url)
    return PostgresPlace(
        parts.hostname or "127.0.0.1",
        parts.port or 5432,
        unquote(parts.username or "postgres"),
        unquote(parts.password or ""),
        parts.path.strip("/") or "postgres",
    )


def _prepare(folder: Path) -> tuple[Path, str | None]:
    """The folder of the binaries, and the user to be, if not this one. Raises PlaceMissing.

    PostgreSQL refuses to run as root. The user it is then can't enter every folder on the way
    to the environment, so it gets a copy.
    """
    spec = find_spec("pgserver")
    if spec is None or spec.origin is None:  # there is none for Python 3.13 yet
        raise PlaceMissing(f"pgserver isn't installed: `make setup` does, or set {ANOTHER_SERVER}")
    installed = Path(spec.origin).parent
    inside = Path("pginstall", "bin")
    if os.geteuid() != 0:
        return installed / inside, None
    shutil.chown(folder, UNPRIVILEGED)
    for each in (installed, installed.with_name("pgserver.libs")):
        if each.exists():
            without = shutil.ignore_patterns("include", "__pycache__")
            shutil.copytree(each, folder / each.name, ignore=without)
    for each in folder.rglob("*"):
        shutil.chown(each, UNPRIVILEGED)  # who has to delete it if the tests are killed
    return folder / installed.name / inside, UNPRIVILEGED


def _make(data: Path, main: PostgresPlace, binaries: Path, user: str | None) -> None:
    password = data.with_name("password")
    password.write_text(main.password)
    initdb: list[str | Path] = [binaries / "initdb", "-D", data, "-U", main.user, "--no-sync"]
    access = ["--auth=scram-sha-256", f"--pwfile={password}"]
    done = subprocess.run(
        [*initdb, *access, "--encoding=utf8", "--locale=C"],
        user=user,
        cwd=data.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def _running(data: Path, main: PostgresPlace, binaries: Path, user: str | None) -> Iterator[None]:
    log = data / "log"
    server: list[str | Path] = [
        binaries / "postgres",
        "-D",
        data,
        "-h",
        main.host,
        "-p",
        str(main.port),
    ]
    # Nothing has to survive, so nothing waits for the disk.
    fast = [f"-c{name}=off" for name in ("fsync", "full_page_writes", "synchronous_commit")]
    with (
        log.open("w") as output,
        subprocess.Popen(
            ["/bin/sh", "-c", UNTIL_STDIN_CLOSES, data.parent, *server, "-k", "", *fast],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            user=user,
            cwd=data,
            start_new_session=True,  # or Ctrl-C would end it before the tests drop their databases
        ),
    ):
        _wait(main, log)
        yield  # leaving `with` closes its standard input, and waits for it


def _wait(main: PostgresPlace, log: Path) -> None:
    import psycopg2

    deadline = time.monotonic() + 60
    while True:
        try:
            main.execute("select 1")
        except psycopg2.OperationalError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
