"""Each promise of the security page is held by tests that exist."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.pages import DOCS, ROOT, read

PAGE = read(DOCS / "explanation" / "security.md")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
NAMED = sorted(set(_TEST.findall(PAGE.text)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_its_tests() -> None:
    promises = [
        line
        for line in PAGE.text.partition("\n## Read-only\n")[2].splitlines()
        if line.startswith("|") and not line.startswith(("| promise", "|---"))
    ]
    assert len(promises) > 50
    assert all(_TEST.search(line) for line in promises)


def test_every_heading_of_the_attacks_is_on_the_page() -> None:
    attacked = {path.parent for path in (ROOT / "tests" / "security").glob("*/test_*.py")}
    named = {(ROOT / file).parent for file, _ in NAMED}
    assert attacked <= named
