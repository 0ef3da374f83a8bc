"""The documentation as data: pages, their sections, tables, code blocks and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Block:
    """A code block; `before` is the text that leads to it."""

    language: str
    code: str
    before: str


@dataclass(frozen=True)
class Text:
    """A page, or a section of one. `title` is its heading without backticks."""

    title: str
    text: str

    @cached_property
    def prose(self) -> str:
        """The text without its code blocks."""
        return _FENCE.sub("", self.text)

    @property
    def links(self) -> list[str]:
        return _LINK.findall(self.prose)

    def names(self, column: int = 0) -> list[str]:
        """What stands in backticks in a column of its tables, in order."""
        return [name for row in self.rows() for name in _CODE.findall(row[column])]

    def rows(self) -> Iterator[list[str]]:
        """The rows of its tables, without their heads, as texts of cells."""
        lines = self.prose.splitlines()
        for above, line in pairwise(lines):
            if line.startswith("|") and not line.startswith("|---") and above.startswith("|"):
                cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
                yield [cell.replace("\\|", "|").strip() for cell in cells]

    def row(self, name: str) -> list[str]:
        """The row whose first cell has this name in backticks, or is it."""
        return next(row for row in self.rows() if name in (*_CODE.findall(row[0]), row[0]))


@dataclass(frozen=True)
class Page(Text):
    path: Path

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def blocks(self) -> list[Block]:
        found, end = [], 0
        for match in _FENCE.finditer(self.text):
            found.append(Block(match[1], match[2], self.text[end : match.start()].strip()))
            end = match.end()
        return found

    @cached_property
    def sections(self) -> dict[str, Text]:
        """Each heading's own text, up to the next heading of its rank or a higher one."""
        shown = _FENCE.sub(lambda match: " " * len(match[0]), self.text)
        heads = list(_HEADING.finditer(shown))
        found = {}
        for place, head in enumerate(heads):
            ends = (later.start() for later in heads[place + 1 :] if len(later[1]) <= len(head[1]))
            end = next(ends, len(self.text))
            title = head[2].replace("`", "")
            found[title] = Text(title, self.text[head.end() : end])
        return found

    @cached_property
    def anchors(self) -> set[str]:
        """The anchors of its headings, as GitHub makes them."""
        return {anchor(title) for title in self.sections}

    def at(self, wanted: str) -> Text:
        """The section with this anchor."""
        return next(each for each in self.sections.values() if anchor(each.title) == wanted)


def anchor(title: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", title.strip().lower())
    return kept.replace(" ", "-")


def read(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    first = _HEADING.search(text)
    return Page(first[2] if first else "", text, path)


def reference(name: str) -> Page:
    return read(REFERENCE / f"{name}.md")


def all_pages() -> list[Page]:
    """Every Markdown file of the repository."""
    places = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("sample_project/*.md")]
    return [read(path) for path in sorted(places)]
