"""Looks the packages of the locks up among known vulnerabilities, with pip-audit.

    python deploy/audit.py [pypi|osv]

It asks pypi.org/pypi, or api.osv.dev, for each package by name and version. Exit code 1: there is a
known vulnerability; 3: not every package could be looked up, so nothing is known to be sound.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", *sorted(str(p) for p in (ROOT / "deploy/docker").glob("*.lock")))
SERVICES = {"pypi": "https://pypi.org/pypi", "osv": "https://api.osv.dev"}
VULNERABLE, UNCHECKED = 1, 3


def main() -> int:
    service = sys.argv[1] if len(sys.argv) > 1 else "pypi"
    if service not in SERVICES:
        say(f"unknown service {service!r}: pypi or osv")
        return 2
    found: dict[tuple[str, str], Any] = {}
    unchecked: set[str] = set()
    for lock in LOCKS:
        report = ask(ROOT / lock, service)
        if report is None:
            say(
                f"{SERVICES[service]} can't be reached from here: nothing was checked. Try again on a "
                "machine that reaches it, or with the other service: make audit SERVICE=osv"
            )
            return UNCHECKED
        for package in report["dependencies"]:
            if "skip_reason" in package:
                unchecked.add(package["name"])
            else:
                found[package["name"], package["version"]] = package["vulns"]
    for line in sorted(vulnerabilities(found)):
        say(line)
    if unchecked:
        some = ", ".join(sorted(unchecked)[:5])
        say(
            f"{SERVICES[service]} knows nothing of {len(unchecked)} packages ({some}, ...): they were "
            "not checked. A package index that stands in for PyPI may lack this data; SERVICE=osv asks "
            "another service"
        )
    say(f"{len(found)} packages checked by {SERVICES[service]}")
    if any(found.values()):
        return VULNERABLE
    return UNCHECKED if unchecked else 0


def ask(lock: Path, service: str) -> dict[str, Any] | None:
    """pip-audit's report of one lock; None if the service doesn't answer."""
    words = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes"]
    words += ["--disable-pip", "--progress-spinner", "off", "--format", "json"]
    words += ["--vulnerability-service", service, "--timeout", "15"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:]
        say(f"pip-audit: {' '.join(last)[:300]}")
        return None
    return report


def vulnerabilities(found: dict[tuple[str, str], Any]) -> Iterator[str]:
    for (name, version), known in found.items():
        for each in known:
            fixed = ", ".join(each.get("fix_versions") or ()) or "no release yet"
            yield f"{name} {version}: {each['id']}, fixed by {fixed}"


def say(line: str) -> None:
    print(line)  # noqa: T201 - its answer


if __name__ == "__main__":
    sys.exit(main())
