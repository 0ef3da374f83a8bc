"""The documentation's site: every page as HTML and Markdown, links, search, dark mode, diagrams."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import DOCS

PAGES = sorted(
    path.relative_to(DOCS).with_suffix("").as_posix()
    for path in DOCS.rglob("*.md")
    if "site" not in path.relative_to(DOCS).parts
)
DIAGRAMS = [page for page in PAGES if "```mermaid" in (DOCS / f"{page}.md").read_text()]
MARKDOWN_LINK = re.compile(r"\]\(([^)\s]+)\)")


class Links(HTMLParser):
    """The targets a page links to and loads, and the anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src"} and value:
                self.targets.add(value)
            if name == "id" and value:
                self.anchors.add(value)


@cache
def anchors(page: Path) -> set[str]:
    return Links(page.read_text()).anchors


def broken_links(file: Path, targets: set[str]) -> list[str]:
    broken = []
    for target in targets:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        path = (file.parent / unquote(parts.path)).resolve() if parts.path else file
        if not path.is_file() or (
            parts.fragment
            and path.suffix == ".html"
            and unquote(parts.fragment) not in anchors(path)
        ):
            broken.append(target)
    return sorted(broken)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_resolves(site: Path, page: str) -> None:
    file = site / f"{page}.html"
    targets = Links(file.read_text()).targets
    assert targets
    assert broken_links(file, targets - {"#"}) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_also_plain_markdown_whose_links_resolve(site: Path, page: str) -> None:
    file = site / f"{page}.md"
    text = file.read_text()
    assert text.startswith("# ")
    assert broken_links(file, set(MARKDOWN_LINK.findall(text))) == []


def test_llms_txt_lists_every_page_as_markdown(site: Path) -> None:
    file = site / "llms.txt"
    text = file.read_text()
    targets = set(MARKDOWN_LINK.findall(text))
    assert text.startswith("# Sentinel\n\n> ")
    assert targets == {f"{page}.md" for page in PAGES if page != "README"}
    assert broken_links(file, targets) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_page_offers_search_and_dark_mode(site: Path, page: str) -> None:
    text = (site / f"{page}.html").read_text()
    assert 'name="q"' in text
    assert "theme-toggle" in text


def test_search_finds_a_page(rendered: Callable[[str], str]) -> None:
    results = rendered("search.html?q=acknowledge").partition('id="search-results"')[2]
    assert "how-to/silence-and-acknowledge.html" in results


def test_a_search_for_nonsense_finds_nothing(rendered: Callable[[str], str]) -> None:
    assert "did not match any documents" in rendered("search.html?q=xyzzyplugh")


@pytest.mark.parametrize("page", DIAGRAMS)
def test_every_diagram_of_a_page_is_drawn(rendered: Callable[[str], str], page: str) -> None:
    written = (DOCS / f"{page}.md").read_text().count("```mermaid")
    text = rendered(f"{page}.html")
    diagrams = re.findall(r'<pre class="mermaid"[^>]*>(.*?)</pre>', text, re.DOTALL)
    assert len(diagrams) == written
    for diagram in diagrams:
        assert "<svg" in diagram
        assert 'aria-roledescription="error"' not in diagram
        assert "Syntax error" not in diagram


def test_a_diagram_with_a_mistake_would_be_noticed(
    rendered: Callable[[str], str], site: Path
) -> None:
    page = site / "explanation" / "lifecycle.html"
    broken = re.sub(
        r'(<pre class="mermaid">).*?(</pre>)',
        r"\1stateDiagram-v2\n  [*] --&gt; --&gt;\2",
        page.read_text(),
        flags=re.DOTALL,
    )
    copy = page.with_name("broken-diagram.html")
    copy.write_text(broken)
    try:
        text = rendered("explanation/broken-diagram.html")
    finally:
        copy.unlink()
    assert "Syntax error" in text
