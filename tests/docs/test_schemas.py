"""The JSON Schemas of the documents: sound, exact, and described."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import click
import pytest
from jsonschema import Draft202012Validator

from sentinel.cli.main import COMMANDS, cli
from sentinel.store.tables import HISTORY, STATE
from tests.docs.pages import reference

SCHEMAS = {
    each.name.removesuffix(".json"): json.loads(each.read_text())
    for each in (files("sentinel") / "schemas").iterdir()
    if each.name.endswith(".json")
}


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of a schema that lists properties."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for part in schema.values():
            yield from objects(part)


def entries(name: str, key: str) -> dict[str, Any]:
    found: dict[str, Any] = SCHEMAS[name]["properties"][key]["items"]["properties"]
    return found


def test_every_command_with_json_output_has_a_schema() -> None:
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in COMMANDS}
    assert set(SCHEMAS) == {
        name
        for name, command in commands.items()
        if command and any("--output" in parameter.opts for parameter in command.params)
    }


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_sound_and_leaves_nothing_open(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for part in objects(schema):
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_key_is_described(name: str) -> None:
    text = reference("json-documents").sections[name].text
    if name == "history":
        assert "columns of the table" in text
        return
    for part in objects(SCHEMAS[name]):
        for key in part["properties"]:
            assert f"`{key}`" in text, f"{name}: {key}"


def test_history_is_the_table_of_that_name() -> None:
    assert list(entries("history", "evaluations")) == list(HISTORY.columns)


def test_status_takes_its_keys_from_the_table_of_states() -> None:
    # When a silence ends stands in the table of silences.
    assert set(entries("status", "alerts")) - {"silenced_until"} <= set(STATE.columns)
