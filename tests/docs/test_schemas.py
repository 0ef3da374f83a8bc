"""The JSON Schemas and the tables of keys are generated, sound and complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import click
import pytest
from jsonschema import Draft202012Validator

from sentinel.cli.main import COMMANDS, cli
from sentinel.core.payload import example_notification
from sentinel.store.tables import HISTORY, STATE
from tests import fakes
from tests.docs import generate
from tests.docs.pages import REFERENCE, reference

SCHEMAS = {
    each.name.removesuffix(".json"): json.loads(each.read_text())
    for each in (files("sentinel") / "schemas").iterdir()
    if each.name.endswith(".json")
}
# The only key that a payload may leave out.
OPTIONAL = {"undeliverable"}


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of a schema that lists properties."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for part in schema.values():
            yield from objects(part)


def entries(name: str, key: str) -> dict[str, Any]:
    schema = SCHEMAS[name]
    reference = schema["properties"][key]["items"]["$ref"].removeprefix("#/$defs/")
    properties: dict[str, Any] = schema["$defs"][reference]["properties"]
    return properties


def test_every_command_with_json_output_has_a_schema() -> None:
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in COMMANDS}
    assert set(SCHEMAS) - {"payload"} == {
        name
        for name, command in commands.items()
        if command and any("--output" in parameter.opts for parameter in command.params)
    }


@pytest.mark.parametrize("name", sorted(generate.DOCUMENTS))
def test_a_schema_is_as_generated(name: str) -> None:
    written = (generate.SCHEMAS / f"{name}.json").read_text(encoding="utf-8")
    assert written == generate.text_of(name), "`make reference` writes it anew"


def test_every_schema_is_generated() -> None:
    assert SCHEMAS.keys() == generate.DOCUMENTS.keys()


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_tables_of_a_page_are_as_generated(name: str) -> None:
    written = (REFERENCE / f"{name}.md").read_text(encoding="utf-8")
    assert written == generate.page(name), "`make reference` writes them anew"


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_sound_and_leaves_nothing_open(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for part in objects(schema):
        assert part["additionalProperties"] is False
        assert part["required"] == [key for key in part["properties"] if key not in OPTIONAL]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_key_is_described(name: str) -> None:
    page = reference("messages" if name == "payload" else "json-documents")
    section = page.sections["Payload" if name == "payload" else name].text
    linked = {"SilenceDocument"} if name != "silence" else set()
    parts = [SCHEMAS[name], *SCHEMAS[name].get("$defs", {}).items()]
    for part in parts:
        title, schema = part if isinstance(part, tuple) else ("", part)
        for key in schema.get("properties", {}) if title not in linked else ():
            assert f"| `{key}` |" in section, f"{name}: {key}"


def test_a_payload_is_as_its_schema_says() -> None:
    validator = Draft202012Validator(SCHEMAS["payload"])
    validator.validate(dict(fakes.payload()))
    validator.validate(dict(example_notification("shop", "ops", "key", fakes.NOW).payload))
    fallback = fakes.payload(undeliverable={"channel": "ops", "error": "404"})
    validator.validate(dict(fallback))


def test_history_is_the_table_of_that_name() -> None:
    assert list(entries("history", "evaluations")) == list(HISTORY.columns)


def test_status_takes_its_keys_from_the_table_of_states() -> None:
    # When a silence ends stands in the table of silences.
    assert set(entries("status", "alerts")) - {"silenced_until"} <= set(STATE.columns)
