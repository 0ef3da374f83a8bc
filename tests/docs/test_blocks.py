"""What stands in code blocks works: it parses, and it means what Sentinel takes it for."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import click
import jinja2
import pytest
import yaml

from sentinel.cli.main import COMMANDS, cli
from sentinel.config.settings import FileSettings
from sentinel.core.alert import Definition
from sentinel.warehouses.readonly import one_select
from tests.docs.pages import Block, Page, all_pages

PAGES = all_pages()
_CALL = re.compile(r"(?:^|[ /])sentinel ([a-z].*)$", re.MULTILINE)
LANGUAGES = {"", "sh", "text", "yaml", "json", "sql", "python", "csv", "mermaid"}


def blocks(*languages: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{page}-{number}")
        for page in PAGES
        for number, block in enumerate(page.blocks)
        if block.language in languages
    ]


def test_every_block_names_a_language_that_is_checked() -> None:
    used = {block.language for page in PAGES for block in page.blocks}
    assert used <= LANGUAGES


@pytest.mark.parametrize("block", blocks("json"))
def test_json_parses(block: Block) -> None:
    json.loads(block.code)


@pytest.mark.parametrize("block", blocks("python"))
def test_python_parses(block: Block) -> None:
    ast.parse(block.code)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_yaml_parses_and_holds_keys_that_sentinel_knows(block: Block) -> None:
    value = yaml.safe_load(block.code)
    for definition in definitions_in(value):
        Definition.model_validate(definition)
    if set(value) & {"channels", "store", "defaults"}:
        FileSettings.model_validate(value)


def definitions_in(value: Any) -> Iterator[Any]:
    """Every `sentinel` and `sentinel_defaults` below a `meta`."""
    for key, below in value.items() if isinstance(value, dict) else enumerate(value):
        if key in ("meta", "+meta"):
            yield from (below[name] for name in below)
        elif isinstance(below, dict | list):
            yield from definitions_in(below)


@pytest.mark.parametrize("block", blocks("sql"))
def test_sql_is_one_select_and_its_definition_is_good(block: Block) -> None:
    metas: list[dict[str, Any]] = []

    class Package:
        @staticmethod
        def as_of() -> str:
            return "now()"

    def config(**given: Any) -> str:
        metas.append(given.get("meta", {}))
        return ""

    jinja = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    sql = jinja.from_string(block.code).render(
        config=config, ref=lambda name: f'"main"."{name}"', sentinel=Package
    )
    for meta in metas:
        Definition.model_validate(meta["sentinel"])
    if sql.strip():
        one_select(sql, "duckdb")


def calls(page: Page) -> list[list[str]]:
    """Every call of sentinel in a block of a page, and every one in backticks, as words."""
    shown = [block.code for block in page.blocks if block.language in ("sh", "text")]
    shown += re.findall(r"`(sentinel [a-z][^`]*)`", page.prose)
    lines = [line for text in shown for line in _CALL.findall(text)]
    return [shlex.split(re.split(r" [|>#]| 2>", line)[0]) for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_command_lines_are_understood(page: Page) -> None:
    for name, *words in calls(page):
        assert name in COMMANDS, f"sentinel {name}"
        context = click.Context(cli)
        command = cli.get_command(context, name)
        assert command is not None
        command.make_context(name, words, parent=context)


def test_the_checks_above_have_something_to_check() -> None:
    assert sum(len(calls(page)) for page in PAGES) > 40
    assert len(blocks("sql")) > 5


def test_the_readme_shows_both_commands_first() -> None:
    readme = next(page for page in PAGES if str(page) == "README.md")
    assert readme.blocks[0].code == "make demo\nmake test\n"
