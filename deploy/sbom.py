"""Writes bills of materials (CycloneDX, JSON) from the locks; it needs no network.

    python deploy/sbom.py FOLDER

`requirements.cdx.json` is everything that Sentinel is developed and tested with, `image.cdx.json` what
the image holds when it is built without arguments.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = {
    "requirements": ("requirements.lock",),
    "image": ("deploy/docker/duckdb.lock", "deploy/docker/postgres.lock"),
}


def main() -> None:
    (folder,) = sys.argv[1:]
    to = Path(folder)
    to.mkdir(parents=True, exist_ok=True)
    for name, locks in LOCKS.items():
        write(locks, to / f"{name}.cdx.json")


def write(locks: tuple[str, ...], to: Path) -> None:
    """One bill of the packages of these locks, each once."""
    entries = {entry for lock in locks for entry in read_entries(ROOT / lock)}
    with tempfile.TemporaryDirectory() as folder:
        merged = Path(folder, "requirements.txt")
        merged.write_text("\n".join(sorted(entries)) + "\n", encoding="utf-8")
        words = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", str(merged)]
        # The bill is of Sentinel: its name and version come from pyproject.toml.
        words += ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application"]
        words += ["--output-reproducible", "--of", "JSON", "-o", str(to)]
        subprocess.run(words, check=True)
    print(f"{to}: {len(entries)} packages of Sentinel {version()}")  # noqa: T201 - its answer


def read_entries(lock: Path) -> list[str]:
    """The requirements of a lock with their hashes, each on one line."""
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def version() -> str:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


if __name__ == "__main__":
    main()
