"""The columns known here are those that dbt makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from sentinel.core.errors import StoreError
from sentinel.store import tables
from sentinel.store.tables import STATE, TABLES, Table
from tests.fakes import state

KINDS = {
    "text": "string",
    "json": "string",
    "time": "timestamp",
    "integer": "bigint",
    "float": "double",
}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.model)
def test_columns_are_those_of_the_dbt_model_in_its_order(
    table: Table[Any], declared: Mapping[str, list[dict[str, Any]]]
) -> None:
    assert [(name, KINDS[kind]) for name, kind in table.columns.items()] == [
        (column["name"], column["data_type"]) for column in declared[table.model]
    ]


def test_every_model_of_the_package_is_known(declared: Mapping[str, Any]) -> None:
    assert sorted(table.model for table in TABLES) == sorted(declared)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.model)
def test_the_key_is_the_first_column_and_the_primary_key(
    table: Table[Any], declared: Mapping[str, list[dict[str, Any]]]
) -> None:
    [key] = [
        column["name"]
        for column in declared[table.model]
        if {"type": "primary_key", "warn_unenforced": False, "warn_unsupported": False}
        in column.get("constraints", [])
    ]
    assert table.key == next(iter(table.columns)) == key


def test_a_time_is_written_in_utc_to_the_microsecond_and_read_back_with_its_zone() -> None:
    here = timezone(timedelta(hours=2))
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=here)
    [written] = json.loads(STATE.dump([state(updated_at=moment)]))
    assert written["updated_at"] == "2026-01-02 01:04:05.000000"
    as_text = written["updated_at"]
    for given in (moment, moment.astimezone(UTC).replace(tzinfo=None), as_text):
        read = STATE.load({**written, "updated_at": given})
        assert (read.updated_at, read.updated_at and read.updated_at.tzinfo) == (moment, UTC)


def test_a_row_with_a_field_that_no_column_can_hold_is_refused_at_once() -> None:
    @dataclass(frozen=True)
    class Odd:
        key: str
        value: complex

    with pytest.raises(TypeError, match="no column can hold"):
        tables._table("odd", Odd)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("dimensions", "no JSON"),
        ("dimensions", "[" * 100_000),
        ("phase", "nope"),
        ("updated_at", "x"),
    ],
)
def test_a_row_that_something_else_has_changed_is_an_error_that_names_the_column(
    column: str, value: str
) -> None:
    (values,) = json.loads(STATE.dump([state()]))
    with pytest.raises(StoreError, match=rf"the column {column} of sentinel_state") as caught:
        STATE.load({**values, column: value})
    assert len(caught.value.message) < 200
