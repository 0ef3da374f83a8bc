"""What is wrong before anything runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sentinel.app.validate import (
    Finding,
    check_queries,
    find_hidden,
    find_in_definitions,
    find_in_settings,
    find_in_sql,
)
from sentinel.core.alert import Alert
from sentinel.core.errors import ConfigError, WarehouseError
from sentinel.core.evaluation import QueryResult
from sentinel.core.project import Compiled, Location
from tests.fakes import FakeProject, FakeWarehouse, alerts_of, refused, source, status


def test_every_fault_of_every_definition_is_found_at_its_line() -> None:
    sources = [
        source("good"),
        source("late", {"timeout": "soon", "severty": "info"}),
        source("mute", {"channels": ["pager"]}),
    ]
    project = FakeProject(sources, lines={"timeout": 3, "severty": 4, "channels": 5})
    found = find_in_definitions(project, alerts_of(*sources))
    assert sorted((each.subject, str(each.location)) for each in found) == [
        ("late", "models/alerts/late.sql:3"),
        ("late", "models/alerts/late.sql:4"),
        ("mute", "models/alerts/mute.sql:5"),
    ]
    assert {each.message for each in found if each.subject == "mute"} == {
        "there is no channel 'pager' in sentinel.yml"
    }


def test_every_channel_is_checked_though_others_are_wrong() -> None:
    checked = []

    def check(name: str, *faults: str) -> Callable[[], None]:
        def run() -> None:
            checked.append(name)
            if len(faults) > 1:
                raise ConfigError.at([(here, fault) for fault in faults])
            if faults:
                raise ConfigError(faults[0])

        return run

    here = Location("sentinel.yml", 3)
    found = find_in_settings([check("a", "x", "y"), check("b"), check("c", "z")])
    assert checked == ["a", "b", "c"]
    assert found == [
        Finding("sentinel.yml", here, "x"),
        Finding("sentinel.yml", here, "y"),
        Finding("sentinel.yml", None, "z"),
    ]


def test_a_definition_that_another_one_hides_is_a_warning() -> None:
    sources = [source("a"), source("b")]
    place = Location("models/alerts.yml", 7)
    project = FakeProject(sources, hidden={"b": place})
    words = "this `sentinel` block is not used: the one in models/alerts/b.sql replaces it"
    assert find_hidden(project, alerts_of(*sources)) == [Finding("b", place, words, warning=True)]


def test_models_that_don_t_compile_are_found_and_the_sql_of_the_others_is_given() -> None:
    sources = [source("a"), source("b"), source("c", {"timeout": "soon"})]
    project = FakeProject(sources)
    project.compiled["model.shop.a"] = Compiled("model.shop.a", None, "no such macro")
    found, sql = find_in_sql(project, alerts_of(*sources))
    assert found == [Finding("a", Location("models/alerts/a.sql"), "no such macro")]
    assert [(alert.name, text) for alert, text in sql] == [("b", "select b")]


def checked(definition: dict[str, Any], answer: Any) -> list[Finding]:
    [alert] = alerts_of(source("it", definition)).valid
    warehouse = FakeWarehouse({"select it": answer})
    found = list(check_queries(warehouse, [(alert, "select it")], threads=2).findings)
    assert warehouse.asked == [("describe", "select it")]
    return found


@pytest.mark.parametrize(
    ("definition", "answer", "words"),
    [
        ({}, refused("Binder Error: no such column"), "Binder Error: no such column"),
        ({}, QueryResult(("actual_value",), ()), "none named status"),
        ({"shape": "status"}, QueryResult(("n",), ()), "needs a column named status"),
        ({"dimensions": ["region"]}, status("OK"), "no column 'region'"),
        ({}, QueryResult(("status", "a", "A"), ()), "the column 'a' twice"),
    ],
)
def test_columns_that_break_the_query_contract_are_found(
    definition: dict[str, Any], answer: Any, words: str
) -> None:
    [found] = checked(definition, answer)
    assert (found.subject, str(found.location)) == ("it", "models/alerts/it.sql")
    assert words in found.message


@pytest.mark.parametrize(
    ("definition", "columns"),
    [
        ({}, ("status",)),
        ({}, ("STATUS", "n")),
        ({}, ("id",)),
        ({"shape": "rows"}, ("actual_value",)),
        ({"warn_if": ">1", "dimensions": ["id"]}, ("id", "threshold")),
    ],
)
def test_columns_that_keep_the_contract_are_no_finding(
    definition: dict[str, Any], columns: tuple[str, ...]
) -> None:
    assert checked(definition, QueryResult(columns, ())) == []


def test_findings_come_in_the_order_of_the_alerts_whatever_ended_first() -> None:
    alerts: tuple[Alert, ...] = alerts_of(*(source(f"a{n}") for n in range(5))).valid

    def late() -> QueryResult:
        time.sleep(0.05)
        return QueryResult(("threshold",), ())

    warehouse = FakeWarehouse(
        {"select a0": late} | {f"select a{n}": refused(str(n)) for n in range(1, 5)}
    )
    sql = [(alert, f"select {alert.name}") for alert in alerts]
    found = check_queries(warehouse, sql, threads=5).findings
    assert [each.subject for each in found] == ["a0", "a1", "a2", "a3", "a4"]


def test_a_warehouse_that_can_t_be_reached_is_no_finding_but_an_error() -> None:
    with pytest.raises(WarehouseError):
        check_queries(FakeWarehouse(unreachable=WarehouseError("gone")), [], threads=1)


def test_what_a_query_would_read_is_told_where_the_warehouse_knows_it() -> None:
    alerts = alerts_of(
        source("dear", {"max_bytes_billed": 99}), source("cheap"), source("free")
    ).valid
    answers: dict[Any, Any] = {
        "select dear": replace(status("OK"), bytes_billed=100),
        "select cheap": replace(status("OK"), bytes_billed=5),
    }
    sql = [(alert, f"select {alert.name}") for alert in alerts]
    checked = check_queries(FakeWarehouse(answers), sql, threads=2)
    assert dict(checked.estimates) == {"cheap": 5}
    [found] = checked.findings
    assert found.subject == "dear"
    assert "would read 100 bytes, more than its max_bytes_billed of 99" in found.message
