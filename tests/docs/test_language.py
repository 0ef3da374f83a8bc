"""Phrases that the project's texts don't use, in code and documentation alike.

Code in backticks and code blocks are not counted, and neither is CHANGELOG where it names what
something was called before.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT

PHRASES = (
    r"who has to know",
    r"who was told",
    r"nobody (?:is|was) told",
    r"(?:already|never|not) told",
    r"how things stand",
    r"how .{1,12} stands",
    r"what it says of",
    r"hears? (?:nothing )?of\b",
    r"told to be over",
    r"stand with what they are of",
    r"look what was lost",
    r"asked for beyond",
    r"gone for good",
    r"whom (?:it|alerts) tells?",
    r"keep alerts quiet",
    r"what keeps a daemon",
    r"unsettled",
    r"strangers",
    r"tried again",
    r"only what is due",
    r"where nobody else is named",
    r"what comes by time",
    r"of this is told",
    r"it would tell nobody",
    r"a list of many says",
    r"it has gone\b",
    r"the fixture that there is",
    r"who says so",
    r"also what is ok",
    r"start no further alert",
    r"what is wrong with this",
    r"tells people",
    r"tell who",
    r"queries at once",
    r"what fires: no more",
    r"the rooms\b",
    r"by what (?:it|they) (?:is|are)",
)
_PATTERN = re.compile("|".join(PHRASES), re.IGNORECASE)
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
PROSE = [
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "sample_project").glob("*.md")),
    *sorted((ROOT / "dbt_package").rglob("*.yml")),
]
CODE = [
    *sorted((ROOT / "sentinel").rglob("*.py")),
    *sorted((ROOT / "sample_project").glob("*.py")),
]


def found(text: str) -> list[str]:
    return _PATTERN.findall(" ".join(_CODE.sub("", text).split()))


def texts(path: Path) -> Iterator[tokenize.TokenInfo]:
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_has_none_of_the_phrases(path: Path) -> None:
    assert found(path.read_text(encoding="utf-8")) == []


def test_no_docstring_comment_or_message_has_one() -> None:
    hits = [
        f"{path.relative_to(ROOT)}:{token.start[0]}: {each}"
        for path in CODE
        for token in texts(path)
        for each in found(token.string)
    ]
    assert hits == []


def test_the_list_finds_what_it_should() -> None:
    assert found("It was already\n told, see `already_told`.") == ["already told"]
