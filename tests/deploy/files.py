"""The files that deploy Sentinel, as data."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKER = DEPLOY / "docker"
UNIT = DEPLOY / "systemd" / "sentinel.service"


class Stage:
    """One stage of the Dockerfile: its instructions in order, comments and continuations gone."""

    def __init__(self, instructions: list[tuple[str, str]]) -> None:
        self.instructions = instructions

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.instructions if each == name]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    def words(self, name: str) -> list[str]:
        """The JSON array of an instruction such as ENTRYPOINT."""
        value = self.one(name)
        found: list[str] = json.loads(value[value.index("[") :])
        return found

    @cached_property
    def env(self) -> dict[str, str]:
        return dict(word.split("=", 1) for value in self.all("ENV") for word in shlex.split(value))

    @cached_property
    def args(self) -> dict[str, str]:
        """Build arguments with their defaults."""
        return {
            name: default.strip('"')
            for name, _, default in (value.partition("=") for value in self.all("ARG"))
        }


def dockerfile() -> tuple[Stage, Stage]:
    """The stage that builds, and the one that is the image."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    pairs = [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]
    starts = [place for place, (name, _) in enumerate(pairs) if name == "FROM"]
    build, image = (
        Stage(pairs[start:end]) for start, end in zip(starts, [*starts[1:], None], strict=True)
    )
    return build, image


def context() -> list[str]:
    """What .dockerignore lets into the build, as it is written there."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every document of deploy/kubernetes, with its kind."""
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for each in yaml.safe_load_all(path.read_text()):
            yield each["kind"], each


def manifest(kind: str) -> dict[str, Any]:
    return next(each for found, each in manifests() if found == kind)


def unit() -> dict[str, list[str]]:
    """The settings of the systemd unit; those that stand more than once have more values."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def locked(path: Path) -> dict[str, set[str]]:
    """The packages of a lock with their versions: there may be one for each version of Python."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;]+)", path.read_text(), re.M
    ):
        found.setdefault(name, set()).add(version)
    return found


def install_script() -> ModuleType:
    """deploy/docker/install.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("install", DOCKER / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
