"""Which alerts a command is about."""

from __future__ import annotations

import pytest

from sentinel.app.alerts import Alerts, select_alerts
from sentinel.core.alert import DefinitionContext
from sentinel.core.errors import NothingSelected
from sentinel.core.project import Selection
from sentinel.core.routing import Routing, Traits
from tests.fakes import FakeProject, source

AROUND = DefinitionContext(
    defaults={"channels": ["log"]}, routing=Routing({"log": Traits(groups=False)})
)
GOOD = source("good")
OFF = source("off", {"enabled": False})
BROKEN = source("broken", {"timeout": "soon"})


def chosen(*names: str) -> frozenset[str]:
    return frozenset(f"model.shop.{name}" for name in names)


def select(project: FakeProject, selection: Selection | None = None) -> Alerts:
    return select_alerts(project, AROUND, selection or Selection())


def nothing(project: FakeProject, selection: Selection | None = None) -> NothingSelected:
    with pytest.raises(NothingSelected) as caught:
        select(project, selection)
    assert caught.value.exit_code == 5
    return caught.value


def test_alerts_are_good_broken_or_disabled() -> None:
    found = select(FakeProject([GOOD, OFF, BROKEN]))
    assert [alert.name for alert in found.valid] == ["good"]
    assert [alert.name for alert in found.broken] == ["broken"]
    assert [alert.name for alert in found.disabled] == ["off"]
    assert [alert.name for alert in found.all] == ["broken", "good"]


def test_only_what_dbt_selects_is_there() -> None:
    project = FakeProject([GOOD, OFF, BROKEN], chosen=chosen("good", "orders"))
    found = select(project, Selection(("good+",)))
    assert ([alert.name for alert in found.all], found.disabled) == (["good"], ())


def test_an_id_is_unique_in_the_project_and_not_just_in_the_selection() -> None:
    twins = [source("one", {"id": "same"}), source("two", {"id": "same"})]
    found = select(FakeProject(twins, chosen=chosen("one")), Selection(("one",)))
    [broken] = found.broken
    assert (found.valid, broken.name) == ((), "one")
    assert "also that of two" in broken.faults[0].message


def test_a_project_without_alerts_says_how_to_have_one() -> None:
    error = nothing(FakeProject())
    assert str(error) == "the dbt project has no alerts"
    assert "meta: {sentinel: {}}" in (error.hint or "")


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (Selection(("tag:a", "tag:b")), "no alert matches --select tag:a tag:b"),
        (Selection(exclude=("good",)), "no alert matches --exclude good"),
        (Selection(selector="nightly"), "no alert matches --selector nightly"),
        (Selection(), "all alerts of the project are left out by its default selector"),
    ],
)
def test_a_selection_of_nothing_is_said_as_it_was_given(selection: Selection, words: str) -> None:
    error = nothing(FakeProject([GOOD], chosen=chosen("orders")), selection)
    assert str(error) == words
    assert "sentinel list" in (error.hint or "")


def test_a_selection_of_disabled_alerts_only_says_so() -> None:
    error = nothing(FakeProject([GOOD, OFF], chosen=chosen("off")), Selection(("off",)))
    assert str(error) == "all 1 selected alerts are disabled"
