"""Fills a virtual environment with what the image holds, and leaves out what nothing reads.

    python install.py packages ENVIRONMENT NAME...   the packages of these locks, hashes checked
    python install.py sentinel ENVIRONMENT SOURCE    Sentinel, from a checkout
    python install.py slim ENVIRONMENT               takes out what no program reads
    python install.py rehearse ENVIRONMENT           runs it, and keeps the bytecode of what was imported

The Dockerfile calls it, and so do the tests. It needs nothing but Python and pip.
"""

from __future__ import annotations

import argparse
import os
import py_compile
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LOCKS = Path(__file__).resolve().parent
BUILD = "build"
NAMES = sorted(path.stem for path in LOCKS.glob("*.lock") if path.stem != BUILD)
# babel knows 1,100 locales; agate, which dbt formats numbers with, asks for English.
LOCALES_KEPT = ("root.dat", "en*.dat")
# Made by `rehearse`; PYTHONPYCACHEPREFIX of the image leads there.
BYTECODE = "bytecode"
# Opening a warehouse imports its driver late.
DRIVERS = {
    "postgres": "psycopg, psycopg2",
    "bigquery": "google.cloud.bigquery, sqlalchemy_bigquery",
}
STARTS_WITHIN_S = 120

PROJECT = {
    "dbt_project.yml": "name: rehearsal\nversion: '1.0'\nprofile: rehearsal\n",
    "profiles.yml": """\
rehearsal:
  target: dev
  outputs:
    dev: {type: duckdb, path: rehearsal.duckdb}
""",
    "models/orders.sql": "select 1 as id",
    "models/orders.yml": """\
models:
  - name: orders
    columns:
      - name: id
        data_tests: [not_null, unique]
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Fill the image's virtual environment.")
    parser.add_argument("step", choices=["packages", "sentinel", "slim", "rehearse"])
    parser.add_argument("environment", type=Path)
    parser.add_argument("rest", nargs="*")
    given = parser.parse_args()
    environment: Path = given.environment.absolute()
    match given.step:
        case "packages":
            install_packages(environment, given.rest)
        case "sentinel":
            install_sentinel(environment, Path(given.rest[0]))
        case "slim":
            slim(environment)
        case "rehearse":
            rehearse(environment)


def install_packages(environment: Path, names: list[str]) -> None:
    """A new environment without pip, with the packages of the locks of these names."""
    if unknown := sorted(set(names) - set(NAMES)):
        raise SystemExit(f"unknown: {', '.join(unknown)}; known are {', '.join(NAMES)}")
    make_environment(environment)
    # Every lock holds the packages that all of them need, and is made with the same versions.
    pip_install(environment, *(LOCKS / f"{name}.lock" for name in ("duckdb", *names)))


def install_sentinel(environment: Path, source: Path) -> None:
    """Sentinel as a wheel, built by what a lock names."""
    with tempfile.TemporaryDirectory() as folder:
        builder = Path(folder, "builder")
        make_environment(builder)
        pip_install(builder, LOCKS / f"{BUILD}.lock")
        hatchling = [python_of(builder), "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        subprocess.run(hatchling, cwd=source, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        pip(environment, "--no-index", "--no-deps", str(wheel))


def slim(environment: Path) -> None:
    """Take out test suites, stubs and locales."""
    for site in environment.glob("lib/python*/site-packages"):
        for path in sorted(left_out(site)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def left_out(site: Path) -> Iterator[Path]:
    """What is in packages and no program reads."""
    yield from site.rglob("*.pyi")
    for path in (site / "babel" / "locale-data").glob("*.dat"):
        if not any(path.match(kept) for kept in LOCALES_KEPT):
            yield path
    # Only packages: dbt keeps its generic tests in folders of this name, and macros.
    for path in site.rglob("tests"):
        if (path / "__init__.py").is_file():
            yield path


def rehearse(environment: Path) -> None:
    """Set a project up, build, evaluate and serve it: the environment works, and was imported.

    The image is read-only, so bytecode that isn't in it is made anew at each start.
    """
    cache = environment / BYTECODE
    shutil.rmtree(cache, ignore_errors=True)
    environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("DBT_", "SENTINEL_"))},
        "PATH": f"{environment / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONPYCACHEPREFIX": str(cache),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in PROJECT.items():
            Path(folder, name).parent.mkdir(exist_ok=True)
            Path(folder, name).write_text(text, encoding="utf-8")

        def run(*words: str) -> None:
            program = environment / "bin" / words[0]
            subprocess.run([program, *words[1:]], cwd=folder, env=environ, check=True)

        for name, drivers in DRIVERS.items():
            if any(environment.glob(f"lib/python*/site-packages/dbt/adapters/{name}")):
                modules = f"sentinel.warehouses.{name}, sentinel.store.{name}, dbt.adapters.{name}"
                run("python", "-c", f"import {modules}, {drivers}")
        run("sentinel", "init")
        run("dbt", "build", "--quiet")
        run("sentinel", "run", "--fail-on", "never")
        run("sentinel", "status")
        serve(environment, Path(folder), environ)
    for made in cache.rglob("*.pyc"):
        keep_for_good(made, cache)


def serve(environment: Path, project: Path, environ: dict[str, str]) -> None:
    """A daemon that becomes ready, and ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    sentinel = environment / "bin" / "sentinel"
    with subprocess.Popen([sentinel, "daemon", "--port", port], cwd=project, env=environ) as daemon:
        asked = [str(sentinel), "healthcheck", "--ready", "--port", port]
        deadline = time.monotonic() + STARTS_WITHIN_S
        while subprocess.run(asked, cwd=project, env=environ, check=False).returncode:
            if daemon.poll() is not None or time.monotonic() > deadline:
                daemon.kill()
                raise SystemExit("the daemon doesn't become ready")
            time.sleep(0.5)
        daemon.terminate()
    if daemon.returncode:
        raise SystemExit(f"the daemon ended with exit code {daemon.returncode}")


def keep_for_good(made: Path, cache: Path) -> None:
    """Bytecode as it is, but valid whatever the time of its source is: layers may change it."""
    inside = made.relative_to(cache)
    source = Path("/", inside.parent, f"{inside.name.split('.')[0]}.py")
    if source.is_file():
        unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(source), str(made), doraise=True, invalidation_mode=unchecked)
    else:
        made.unlink()


def make_environment(environment: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)


def pip_install(environment: Path, *locks: Path) -> None:
    """Exactly what the locks hold, as wheels: nothing is built, so nothing else is downloaded."""
    listed = [word for lock in locks for word in ("--requirement", str(lock))]
    pip(environment, "--require-hashes", "--no-deps", "--only-binary", ":all:", *listed)


def pip(environment: Path, *words: str) -> None:
    """`rehearse` compiles what is used; pip would compile all."""
    command: list[str] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python_of(environment),
        "install",
    ]
    subprocess.run(
        [*command, "--quiet", "--no-compile", "--disable-pip-version-check", *words], check=True
    )


def python_of(environment: Path) -> str:
    return str(environment / "bin" / "python")


if __name__ == "__main__":
    main()
