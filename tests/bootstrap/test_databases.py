"""How parts are found."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from sentinel.bootstrap.databases import WAREHOUSES, load_entry_point
from sentinel.core.errors import ConfigError


def test_a_warehouse_whose_packages_are_missing_names_what_installs_them() -> None:
    point = EntryPoint("bigquery", "a_package_that_nobody_has:BigQuery", WAREHOUSES)
    with pytest.raises(ConfigError, match="the module a_package_that_nobody_has") as caught:
        load_entry_point(point)
    assert caught.value.hint == "pip install 'dbt-sentinel[bigquery]'"
