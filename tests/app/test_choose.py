"""Which alerts a person means."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sentinel.app.choose import AlertSelection, choose_alerts
from sentinel.core.alert import DefinitionContext
from sentinel.core.errors import NothingSelected, UsageError
from sentinel.core.project import Selection
from sentinel.core.routing import Routing, Traits
from tests.fakes import FakeProject, source, state

CONTEXT = DefinitionContext(
    defaults={"channels": ["log"]}, routing=Routing({"log": Traits(groups=False)})
)
SELECTION = Selection(select=("tag:finance",))


def chosen(
    *names: str, selection: Selection | None = None, selected: Sequence[str] = ()
) -> AlertSelection:
    """A choice among `revenue`, `stock` (broken) and `orders`, which is only in the state."""
    project = FakeProject([source("revenue"), source("stock", {"severity": "awful"})])
    project.chosen = frozenset(f"model.shop.{name}" for name in selected)
    states = [state("orders"), state("revenue")]
    return choose_alerts(project, CONTEXT, states, names, selection or Selection())


def names(choice: AlertSelection) -> list[str]:
    return [alert.name for alert in choice.alerts]


def test_without_a_name_or_a_selection_all_of_the_project_are_meant() -> None:
    choice = chosen()
    assert names(choice) == ["revenue", "stock"]
    assert choice.everything


def test_names_are_meant_in_their_order_and_once() -> None:
    choice = chosen("stock", "revenue", "stock")
    assert names(choice) == ["stock", "revenue"]
    assert choice.everything
    assert not chosen("stock").everything


def test_an_alert_that_is_gone_is_known_by_its_rows() -> None:
    choice = chosen("orders")
    assert choice.ids == ("model.shop.orders",)


def test_a_selection_adds_to_the_names() -> None:
    assert names(chosen("orders", selection=SELECTION, selected=["revenue"])) == [
        "orders",
        "revenue",
    ]


def test_an_unknown_name_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"no alert 'revenu'.*revenue"):
        chosen("revenu")


def test_a_selection_without_an_alert_is_an_error() -> None:
    with pytest.raises(NothingSelected, match="no alert matches"):
        chosen(selection=SELECTION, selected=["customers"])
