from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.core.project import AlertSource, Location
from sentinel.dbt.locate import locate

from .conftest import write

YAML = """version: 2
models:
  - name: other
    config: {meta: {sentinel: {schedule: hourly}}}
  - name: late
    description: "{{ doc('x') }}"
    config:
      meta:
        sentinel:
          schedule: daily
          channels:
            - console
            - ops
          escalations:
            - after: 1h
              channels: [pager]
  - name: old
    meta:
      sentinel: {severity: info}
"""

SQL = """-- config(meta={'sentinel': {}}) in a comment
{{ config(
    materialized='view',
    tags=["a", 'b'],
    meta={
        'owner': {'sentinel': 1},
        "sentinel": {
            'schedule': '*/5 * * * *',
            'channels': [
                'console',
                'ops',
            ],
            'escalations': [{'after': '1h'},
                            {'after': '2h'}],
        },
    },
) }}
select 1
"""


def source(name: str, *, yml: bool = True) -> AlertSource:
    path = "models/m.yml" if yml else None
    return AlertSource(f"model.shop.{name}", name, f"models/{name}.sql", {}, patch_path=path)


@pytest.mark.parametrize(
    ("name", "keys", "line"),
    [
        ("late", "", 9),
        ("late", "schedule", 10),
        ("late", "channels", 11),
        ("late", "channels 1", 13),
        ("late", "escalations 0 channels", 16),
        ("late", "unknown", 9),
        ("late", "channels 7", 11),
        ("other", "schedule", 4),
        ("old", "severity", 19),
    ],
)
def test_a_key_in_yaml_is_found_or_else_what_holds_it(
    tmp_path: Path, name: str, keys: str, line: int
) -> None:
    write(tmp_path, {"models/m.yml": YAML, f"models/{name}.sql": "select 1"})
    found = locate(tmp_path, source(name), keys.split())
    assert found == Location("models/m.yml", line)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("", 7),
        ("schedule", 8),
        ("channels", 9),
        ("channels 1", 11),
        ("escalations 1 after", 14),
        ("unknown", 7),
    ],
)
def test_a_key_in_sql_is_found_or_else_what_holds_it(tmp_path: Path, keys: str, line: int) -> None:
    write(tmp_path, {"models/m.yml": YAML, "models/late.sql": SQL})
    assert locate(tmp_path, source("late"), keys.split()) == Location("models/late.sql", line)


def test_other_ways_to_write_a_config(tmp_path: Path) -> None:
    text = "select 1\n{%- do config({'meta':\n dict(sentinel=dict(\n  severity='info'))}) -%}"
    write(tmp_path, {"models/x.sql": text})
    found = locate(tmp_path, source("x", yml=False), ["severity"])
    assert found == Location("models/x.sql", 4)


@pytest.mark.parametrize(
    "text", ["{{ config(meta={'sentinel': ", "{{ config(meta=)]}", "{{ config(", "x"]
)
def test_a_torn_file_still_has_a_place(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"models/x.sql": text, "models/m.yml": "models: ["})
    assert locate(tmp_path, source("x", yml=False), ["a"]).path == "models/x.sql"
    assert locate(tmp_path, source("gone"), ["a"]) == Location("models/m.yml")
