"""The query contract: what the rows of an alert's query say."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from sentinel.core.evaluation import (
    ROW_CAP,
    ContractError,
    EvaluationResult,
    Outcome,
    QueryResult,
    absent_count,
    known_shape,
    read_counts,
    read_status,
    shape_of,
)
from sentinel.core.severity import Severity
from tests.core.builders import make_result, make_rules


def refusal(read: Any, *given: Any) -> str:
    """The words in which a result is refused."""
    with pytest.raises(ContractError) as refused:
        read(*given)
    return str(refused.value)


# -- shape -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "columns", "shape"),
    [
        ({}, ["status", "region"], "status"),
        ({}, ["STATUS"], "status"),
        ({}, ["order_id"], "rows"),
        ({"warn_if": ">10"}, ["status"], "rows"),
        ({"error_if": ">10"}, ["status"], "rows"),
        ({"shape": "rows"}, ["status"], "rows"),
        ({"shape": "status"}, ["status", "actual_value", "threshold"], "status"),
        ({"shape": "rows"}, ["actual_value"], "rows"),
        ({"warn_if": ">10"}, ["threshold"], "rows"),
        ({"error_if": ">10"}, ["actual_value"], "rows"),
        ({"shape": "rows"}, ["a", "a"], "rows"),
        ({"dimensions": ["region"]}, ["Region", "status"], "status"),
    ],
)
def test_the_shape_is_given_or_found(keys: dict[str, Any], columns: list[str], shape: str) -> None:
    assert shape_of(make_rules(**keys), columns) == shape


@pytest.mark.parametrize(
    ("keys", "shape"),
    [
        ({}, None),
        ({"dimensions": "region"}, None),
        ({"shape": "rows"}, "rows"),
        ({"shape": "status"}, "status"),
        ({"warn_if": ">10"}, "rows"),
        ({"error_if": ">10"}, "rows"),
    ],
)
def test_the_shape_is_known_without_the_query_where_the_definition_decides(
    keys: dict[str, Any], shape: str | None
) -> None:
    assert known_shape(make_rules(**keys)) == shape


@pytest.mark.parametrize(
    ("keys", "columns", "message"),
    [
        ({"shape": "status"}, ["region"], "`shape: status` needs a column named status"),
        (
            {"dimensions": ["region", "store"]},
            ["status", "Shop"],
            "the query has no column 'region', 'store' that `dimensions` names; "
            "it has status, shop",
        ),
        (
            {"shape": "rows", "dimensions": "region"},
            ["order_id"],
            "the query has no column 'region' that `dimensions` names; it has order_id",
        ),
        (
            {},
            ["Actual_Value"],
            "the query has a column 'actual_value' but none named status: add status "
            "('OK' or 'ALERT'), or say `shape: rows` if every row is a violation",
        ),
        (
            {},
            ["region", "threshold"],
            "the query has a column 'threshold' but none named status: add status "
            "('OK' or 'ALERT'), or say `shape: rows` if every row is a violation",
        ),
        ({}, ["status", "Region", "region"], "the query has the column 'region' twice"),
        ({}, ["status", "STATUS"], "the query has the column 'status' twice"),
    ],
)
def test_columns_that_dont_go_with_the_definition_are_refused(
    keys: dict[str, Any], columns: list[str], message: str
) -> None:
    assert refusal(shape_of, make_rules(**keys), columns) == message


def test_the_columns_are_judged_before_the_rows() -> None:
    empty = QueryResult(("actual_value",), ())

    assert "none named status" in refusal(read_status, make_rules(), empty)


# -- status ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("OK", "ok"), ("ok", "ok"), ("Alert", "alert"), ("ALERT", "alert"), (" alert ", "alert")],
)
def test_a_status_says_ok_or_alert_in_any_case(status: str, outcome: str) -> None:
    result = read_status(make_rules(), make_result({"Status": status}))

    assert result.outcome == outcome
    assert [(each.instance, each.outcome) for each in result.observations] == [("", outcome)]
    assert result.absent == "missing"


@pytest.mark.parametrize(
    ("status", "given"),
    [(None, "NULL"), ("FAIL", "'FAIL'"), ("", "''"), (True, "True"), (0, "0"), (b"OK", "'4f4b'")],
)
def test_a_null_or_unknown_status_is_refused_and_names_the_shape_rows(
    status: Any, given: str
) -> None:
    assert refusal(read_status, make_rules(), make_result({"status": status})) == (
        f"the column 'status' holds {given}; it must be 'OK' or 'ALERT' "
        "(say `shape: rows` if every row of this query is a violation)"
    )


def test_one_bad_row_refuses_the_whole_result() -> None:
    rules = make_rules(dimensions="region")
    query_result = make_result(
        {"region": "north", "status": "OK"}, {"region": "south", "status": None}
    )

    assert "holds NULL" in refusal(read_status, rules, query_result)


def test_reserved_columns_are_read_in_any_case_and_all_others_are_context() -> None:
    query_result = make_result(
        {
            "STATUS": "ALERT",
            "Actual_Value": Decimal("8120.50"),
            "THRESHOLD": 10_000,
            "Severity": " Warning ",
            "Message": "too little",
            "Region": "north",
            "Orders": 12,
        }
    )
    (seen,) = read_status(make_rules(), query_result).observations

    assert (seen.actual_value, seen.threshold) == (8120.5, 10_000.0)
    assert seen.severity is Severity.WARNING
    assert seen.message == "too little"
    assert seen.context == {"region": "north", "orders": 12}
    assert seen.dimensions == {}
    assert seen.failures is None


def test_the_optional_columns_may_be_left_out() -> None:
    (seen,) = read_status(
        make_rules(severity="info"), make_result({"status": "ALERT"})
    ).observations

    assert (seen.actual_value, seen.threshold, seen.message) == (None, None, None)
    assert seen.severity is Severity.INFO
    assert seen.context == {}


def test_the_optional_columns_may_be_null() -> None:
    row = {
        "status": "ALERT",
        "actual_value": None,
        "threshold": None,
        "severity": None,
        "message": None,
    }
    (seen,) = read_status(make_rules(severity="warning"), make_result(row)).observations

    assert (seen.actual_value, seen.threshold, seen.message) == (None, None, None)
    assert seen.severity is Severity.WARNING


@pytest.mark.parametrize("name", ["actual_value", "threshold"])
@pytest.mark.parametrize(
    ("value", "given"), [("many", "'many'"), ("5", "'5'"), (True, "True"), (b"\x05", "'05'")]
)
def test_a_value_that_is_no_number_is_refused_with_its_column(
    name: str, value: Any, given: str
) -> None:
    query_result = make_result({"status": "OK", name.upper(): value})

    assert refusal(read_status, make_rules(), query_result) == (
        f"the column {name!r}: {given} is not a number"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, Decimal("NaN"), Decimal("Infinity")])
def test_a_value_that_isnt_finite_is_none(value: Any) -> None:
    (seen,) = read_status(
        make_rules(), make_result({"status": "OK", "actual_value": value})
    ).observations

    assert seen.actual_value is None


@pytest.mark.parametrize("value", ["high", "", 3])
def test_an_unknown_severity_is_refused_with_its_value(value: Any) -> None:
    query_result = make_result({"status": "ALERT", "severity": value})

    assert refusal(read_status, make_rules(), query_result) == (
        f"the column 'severity' holds {value!r}; it must be info, warning or critical"
    )


def test_context_and_dimensions_are_safe_for_json() -> None:
    row = {
        "status": "ALERT",
        "day": date(2026, 1, 5),
        "rate": Decimal("0.25"),
        "nothing": None,
        "share": math.nan,
        "at": datetime(2026, 1, 5, 12, tzinfo=UTC),
        "raw": b"\xff",
        "list": [Decimal("1"), date(2026, 1, 5)],
        "store": Decimal("12"),
    }
    rules = make_rules(dimensions=["day", "store"])
    (seen,) = read_status(rules, make_result(row)).observations

    assert seen.dimensions == {"day": "2026-01-05", "store": 12}
    assert seen.instance == 'day="2026-01-05", store=12'
    assert seen.context == {
        "rate": 0.25,
        "nothing": None,
        "share": "nan",
        "at": "2026-01-05T12:00:00Z",
        "raw": "ff",
        "list": [1, "2026-01-05"],
    }
    json.dumps([seen.context, seen.dimensions], allow_nan=False)


def test_a_message_of_another_type_is_text() -> None:
    (seen,) = read_status(
        make_rules(), make_result({"status": "OK", "message": Decimal("1.50")})
    ).observations

    assert seen.message == "1.50"


# -- status, several instances -----------------------------------------------------------------------


def test_each_combination_of_dimensions_is_an_instance() -> None:
    rules = make_rules(dimensions=["region", "store"])
    query_result = make_result(
        {"status": "OK", "STORE": 1, "Region": "north"},
        {"status": "ALERT", "STORE": 2, "Region": "north"},
        {"status": "OK", "STORE": 1, "Region": None},
    )
    result = read_status(rules, query_result)

    assert result.outcome is Outcome.ALERT
    assert [(each.instance, each.outcome) for each in result.observations] == [
        ("region=north, store=1", "ok"),
        ("region=north, store=2", "alert"),
        ("region=null, store=1", "ok"),
    ]
    assert all(each.context == {} for each in result.observations)


def test_an_alert_is_ok_when_all_its_instances_are() -> None:
    rules = make_rules(dimensions="region")
    rows = [{"status": "OK", "region": "north"}, {"status": "ok", "region": "south"}]

    assert read_status(rules, make_result(*rows)).outcome is Outcome.OK


def test_two_rows_without_dimensions_are_refused() -> None:
    query_result = make_result({"status": "OK"}, {"status": "OK"})

    assert refusal(read_status, make_rules(), query_result) == (
        "the query gives 2 rows; without `dimensions` a status query gives one"
    )


@pytest.mark.parametrize(
    ("one", "other", "instance"),
    [
        ("north", "north", "region=north"),
        (None, None, "region=null"),
        (1, Decimal("1.0"), "region=1"),
    ],
)
def test_two_rows_of_one_instance_are_refused(one: Any, other: Any, instance: str) -> None:
    rules = make_rules(dimensions="region")
    query_result = make_result(
        {"status": "OK", "region": one}, {"status": "ALERT", "region": other}
    )

    assert (
        refusal(read_status, rules, query_result)
        == f"two rows are of the same instance {instance!r}"
    )


def test_a_cut_list_is_refused_even_if_it_has_one_row() -> None:
    rules = make_rules(dimensions="region")
    rows = [{"status": "OK", "region": number} for number in range(1000)]

    assert refusal(read_status, rules, make_result(*rows, truncated=True)) == (
        "the query gives more than 1,000 rows: a cut list would look like recovered instances; "
        "narrow the query or say `shape: rows`"
    )
    assert len(read_status(rules, make_result(*rows)).observations) == 1000


# -- status, no row ----------------------------------------------------------------------------------

EMPTY = QueryResult(("status", "region"), ())


@pytest.mark.parametrize("dimensions", [[], ["region"]])
def test_no_row_is_an_error_unless_on_empty_says_what_it_means(dimensions: list[str]) -> None:
    assert refusal(read_status, make_rules(dimensions=dimensions), EMPTY) == (
        "the query gives no row; `on_empty: ok | alert | keep` if that is meant"
    )


def test_no_row_may_be_ok() -> None:
    result = read_status(make_rules(on_empty="ok"), EMPTY)

    assert result.outcome is Outcome.OK
    assert [(each.instance, each.outcome) for each in result.observations] == [("", "ok")]


def test_no_row_may_be_ok_and_leaves_known_instances_to_on_missing() -> None:
    result = read_status(make_rules(on_empty="ok", dimensions="region"), EMPTY)

    assert result == EvaluationResult(Outcome.OK, (), absent="missing")


@pytest.mark.parametrize("dimensions", [[], ["region"]])
def test_no_row_may_be_an_alert_of_the_definitions_severity(dimensions: list[str]) -> None:
    rules = make_rules(on_empty="alert", severity="warning", dimensions=dimensions)
    result = read_status(rules, EMPTY)
    (seen,) = result.observations

    assert result.outcome is Outcome.ALERT
    assert (seen.instance, seen.outcome, seen.severity) == ("", "alert", "warning")
    assert seen.message == "the query gives no row"


@pytest.mark.parametrize("dimensions", [[], ["region"]])
def test_no_row_may_keep_what_was(dimensions: list[str]) -> None:
    result = read_status(make_rules(on_empty="keep", dimensions=dimensions), EMPTY)

    assert result == EvaluationResult(Outcome.EMPTY, (), absent="unknown")


# -- rows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "count", "outcome", "severity"),
    [
        ({}, 0, "ok", None),
        ({}, 1, "alert", "critical"),
        ({"severity": "info"}, 1, "alert", "info"),
        ({"warn_if": ">10"}, 10, "ok", None),
        ({"warn_if": ">10"}, 11, "alert", "warning"),
        ({"error_if": ">10", "severity": "info"}, 11, "alert", "critical"),
        ({"error_if": ">10"}, 5, "ok", None),
        ({"warn_if": ">1", "error_if": ">10"}, 1, "ok", None),
        ({"warn_if": ">1", "error_if": ">10"}, 2, "alert", "warning"),
        ({"warn_if": ">1", "error_if": ">10"}, 11, "alert", "critical"),
        ({"warn_if": ">100", "error_if": ">10"}, 50, "alert", "critical"),
        ({"warn_if": "between 5 and 10"}, 4, "ok", None),
        ({"warn_if": "between 5 and 10"}, 10, "alert", "warning"),
        ({"error_if": "!= 3"}, 3, "ok", None),
        ({"error_if": "!= 3"}, 0, "alert", "critical"),
    ],
)
def test_the_number_of_rows_decides(
    keys: dict[str, Any], count: int, outcome: str, severity: str | None
) -> None:
    result = read_counts(make_rules(**keys), {(): count})
    (seen,) = result.observations

    assert result.outcome == seen.outcome == outcome
    assert severity is None or seen.severity == severity
    assert result.absent == "ok"


@pytest.mark.parametrize("count", [0, 1, 1_000, 10**9])
def test_the_exact_number_of_rows_is_the_actual_value(count: int) -> None:
    (seen,) = read_counts(make_rules(), {(): count}).observations

    assert (seen.actual_value, seen.failures) == (count, count)


@pytest.mark.parametrize(
    ("keys", "count", "message", "threshold"),
    [
        ({}, 0, "0 violating rows", 0),
        ({}, 1, "1 violating row", 0),
        ({}, 12_345, "12,345 violating rows", 0),
        ({"warn_if": " >10 "}, 11, "11 violating rows (warn_if: >10)", 10),
        ({"warn_if": ">10"}, 3, "3 violating rows", 10),
        ({"warn_if": ">1", "error_if": ">10"}, 11, "11 violating rows (error_if: >10)", 10),
        ({"warn_if": ">1", "error_if": ">10"}, 2, "2 violating rows (warn_if: >1)", 1),
        ({"warn_if": ">1", "error_if": ">10"}, 0, "0 violating rows", 1),
    ],
)
def test_the_message_gives_number_and_condition(
    keys: dict[str, Any], count: int, message: str, threshold: float
) -> None:
    (seen,) = read_counts(make_rules(**keys), {(): count}).observations

    assert (seen.message, seen.threshold) == (message, threshold)


def test_rows_are_counted_for_each_value_of_the_dimensions() -> None:
    rules = make_rules(dimensions=["region", "day"], warn_if=">1", error_if=">10")
    day = date(2026, 1, 5)
    counts = {("north", day): 2, ("south", day): 11, ("west", day): 1, (None, None): 2}
    result = read_counts(rules, counts)

    assert result.outcome is Outcome.ALERT
    assert [
        (each.instance, each.outcome, each.severity, each.actual_value)
        for each in result.observations
    ] == [
        ('day="2026-01-05", region=north', "alert", "warning", 2),
        ('day="2026-01-05", region=south', "alert", "critical", 11),
        ('day="2026-01-05", region=west', "ok", "critical", 1),
        ("day=null, region=null", "alert", "warning", 2),
    ]
    assert result.observations[0].dimensions == {"region": "north", "day": "2026-01-05"}


def test_no_rows_at_all_are_ok_for_every_value_of_the_dimensions() -> None:
    result = read_counts(make_rules(shape="rows", dimensions="region"), {})

    assert result == EvaluationResult(Outcome.OK, (), absent="ok")


def test_two_values_that_give_one_instance_are_refused() -> None:
    rules = make_rules(shape="rows", dimensions="region")
    counts = {("2026-01-05",): 1, (date(2026, 1, 5),): 2}

    assert re.match(
        r"two values of `dimensions` give the same instance 'region=.*'",
        refusal(read_counts, rules, counts),
    )


@pytest.mark.parametrize(
    ("keys", "outcome"), [({}, "ok"), ({"warn_if": ">1"}, "ok"), ({"error_if": "<1"}, "alert")]
)
def test_an_instance_without_rows_is_judged_as_zero_rows(
    keys: dict[str, Any], outcome: str
) -> None:
    rules = make_rules(shape="rows", dimensions="region", **keys)
    seen = absent_count(rules, {"region": "north"})

    assert (seen.instance, seen.outcome, seen.failures) == ("region=north", outcome, 0)


# -- words ----------------------------------------------------------------------------------------


def test_a_failed_evaluation_says_nothing_of_any_instance() -> None:
    assert EvaluationResult.failed("no such table") == EvaluationResult(
        Outcome.ERROR, (), error="no such table", absent="unknown"
    )


def test_outcomes_are_written_in_the_words_of_the_design() -> None:
    assert [str(each) for each in Outcome] == ["ok", "alert", "error", "empty", "skipped"]
    assert ROW_CAP == 10_000
