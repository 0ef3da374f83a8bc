"""dbt is run on a project's files, with its artifacts in Sentinel's own folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sentinel.core.errors import ProjectError
from sentinel.core.project import Compiled, Selection
from sentinel.dbt.engine import Invocation, Node
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project_files import ProjectFiles
from sentinel.dbt.runner import DbtRunner
from sentinel.dbt.stamp import Stamp

from .conftest import CountingEngine, make_shop, manifest_of, model

FIRST, SECOND = Stamp("first", "", ()), Stamp("second", "", ())
MANIFEST = manifest_of(model("a"))


class Rig:
    """A runner over an engine that counts its calls."""

    def __init__(self, folder: Path, engine: Callable[[Invocation], CountingEngine]) -> None:
        self.root = make_shop(folder)
        self.phrases: list[str] = []
        self.engines: list[CountingEngine] = []

        def make(invocation: Invocation) -> CountingEngine:
            self.engines.append(engine(invocation))
            return self.engines[-1]

        options = DbtOptions(self.root, profiles_dir=self.root)
        self.runner = DbtRunner(
            ProjectFiles(options, os.environ, self.root), self.phrases.append, make
        )

    @property
    def calls(self) -> list[str]:
        return [call for each in self.engines for call in each.calls]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, lambda invocation: CountingEngine(invocation, MANIFEST))


def test_dbt_parses_once_per_stamp(rig: Rig) -> None:
    rig.runner.select(Selection(("a",)), FIRST)
    rig.runner.compile([Node("model.shop.a", ("shop", "a"))], FIRST)
    assert rig.calls == ["parse", "select", "compile model.shop.a"]
    rig.runner.select(Selection(("a",)), SECOND)
    assert rig.calls[3:] == ["parse", "select"]
    assert len(rig.engines) == 1


def test_a_parse_returns_the_manifest_and_publishes_it(rig: Rig) -> None:
    assert rig.runner.parse(FIRST)["nodes"].keys() == MANIFEST["nodes"].keys()
    published = rig.root / "target/sentinel/manifest.json"
    assert published.stat().st_mode & 0o777 == 0o600


def test_a_parse_is_repeated_at_the_same_stamp_when_it_is_wanted(rig: Rig) -> None:
    rig.runner.parse(FIRST)
    rig.runner.parse(FIRST)
    assert rig.calls == ["parse", "parse"]


def test_each_step_that_takes_time_is_named(rig: Rig) -> None:
    rig.runner.run(Selection(("package:sentinel",)), FIRST)
    assert rig.phrases == ["starting dbt", "parsing the dbt project", "making Sentinel's tables"]


def test_the_users_sources_json_is_lent_for_a_selection_and_taken_back(rig: Rig) -> None:
    theirs = rig.root / "target/sources.json"
    ours = rig.root / "target/sentinel/dbt/sources.json"
    rig.runner.select(Selection(("a",)), FIRST)
    assert not ours.exists()
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("{}")
    rig.runner.select(Selection(("a",)), FIRST)
    assert ours.read_text() == "{}"
    theirs.unlink()
    rig.runner.select(Selection(("a",)), FIRST)
    assert not ours.exists()


class Failing(CountingEngine):
    """An engine whose errors hold the profile's secret."""

    def select(self, selection: Selection) -> frozenset[str]:
        raise ProjectError("no connection as hunter-22", hint="try again")

    def compile(self, nodes: Iterable[Node]) -> Mapping[str, Compiled]:
        return {node.unique_id: Compiled(node.unique_id, None, "hunter-22") for node in nodes}


@pytest.fixture
def failing(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path, lambda invocation: Failing(invocation, MANIFEST))
    profiles = rig.root / "profiles.yml"
    profiles.write_text(profiles.read_text().replace("schema: main", "password: hunter-22"))
    return rig


def test_errors_of_dbt_lose_the_profiles_secrets(failing: Rig) -> None:
    with pytest.raises(ProjectError) as caught:
        failing.runner.select(Selection(("a",)), FIRST)
    assert "no connection as" in caught.value.message
    assert "hunter-22" not in caught.value.message
    assert caught.value.hint == "try again"
    assert caught.value.__cause__ is None

    compiled: Mapping[str, Any] = failing.runner.compile([Node("model.shop.a", ())], FIRST)
    assert "hunter-22" not in compiled["model.shop.a"].error


class Silent(CountingEngine):
    """An engine that leaves no manifest."""

    def parse(self) -> None:
        self.calls.append("parse")


def test_a_parse_without_a_manifest_is_an_error_and_repeated(tmp_path: Path) -> None:
    rig = Rig(tmp_path, lambda invocation: Silent(invocation, MANIFEST))
    for _ in range(2):
        with pytest.raises(ProjectError, match="dbt left no manifest"):
            rig.runner.select(Selection(("a",)), FIRST)
    assert rig.calls == ["parse", "parse"]
