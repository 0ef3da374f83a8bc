"""The SQL of alerts, and the wording of their errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest

from sentinel.app.compile import compile_alerts, describe_definition_faults, describe_fault
from sentinel.core.errors import ProjectError
from sentinel.core.project import Compiled
from tests.fakes import FakeProject, alerts_of, source


@dataclass
class PickyProject(FakeProject):
    """A project that raises an error as soon as one of these models is compiled."""

    broken: Mapping[str, Exception] = field(default_factory=dict)

    def compile(self, unique_ids: Iterable[str]) -> Mapping[str, Compiled]:
        wanted = tuple(unique_ids)
        for each in wanted:
            if each in self.broken:
                raise self.broken[each]
        return super().compile(wanted)


ALERTS = alerts_of(source("a"), source("b"), source("c")).valid


def test_all_alerts_are_compiled_at_once() -> None:
    compiled = compile_alerts(FakeProject(), ALERTS)
    assert {key: each.sql for key, each in compiled.items()} == {
        "model.shop.a": "select a",
        "model.shop.b": "select b",
        "model.shop.c": "select c",
    }


def test_an_unforeseen_error_is_the_one_of_the_alert_that_causes_it() -> None:
    faults: list[str] = []
    project = PickyProject(broken={"model.shop.b": RecursionError()})
    compiled = compile_alerts(project, ALERTS, lambda name, _: faults.append(name))
    assert {key: each.sql for key, each in compiled.items()} == {
        "model.shop.a": "select a",
        "model.shop.b": None,
        "model.shop.c": "select c",
    }
    error = compiled["model.shop.b"].error
    assert error == "a value or an expression is nested too deeply to be read"
    assert faults == ["b"]


def test_a_project_that_can_t_be_read_raises_its_error() -> None:
    project = PickyProject(broken={"model.shop.b": ProjectError("broken")})
    with pytest.raises(ProjectError, match="broken"):
        compile_alerts(project, ALERTS)


def test_faults_of_a_definition_are_named_with_their_places() -> None:
    [broken] = alerts_of(source("a", {"severity": "awful", "for": "long"})).broken
    lines = describe_definition_faults(FakeProject(lines={"severity": 7}), broken).splitlines()
    assert len(lines) == 2
    assert any(line.startswith("models/alerts/a.sql:7: ") for line in lines)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("two\n words"), "unexpected ValueError: two words"),
        (ValueError(), "unexpected ValueError"),
        (KeyError("secret value"), "unexpected KeyError"),
        (MemoryError(), "there is not enough memory to read the result"),
    ],
)
def test_an_unforeseen_error_is_worded_in_one_line(error: Exception, words: str) -> None:
    assert describe_fault(error) == words
