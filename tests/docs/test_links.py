"""Every link leads somewhere, and every page can be found."""

from __future__ import annotations

import pytest

from tests.docs.pages import DOCS, ROOT, Page, all_pages, read

PAGES = all_pages()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_relative_link_resolves(page: Page) -> None:
    for link in page.links:
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.exists(), f"{page}: {link}"
        assert target.is_relative_to(ROOT), f"{page}: {link} leads out of the repository"
        if fragment:
            assert fragment in read(target).anchors, f"{page}: {link} has no such heading"


def test_every_page_is_linked_from_the_index() -> None:
    index = read(DOCS / "README.md")
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in index.links}
    assert set(DOCS.rglob("*.md")) - {index.path} <= linked


def test_the_readme_leads_to_the_documentation() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in read(ROOT / "README.md").links}
    assert {DOCS / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"} <= linked


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_has_no_heading_twice(page: Page) -> None:
    shown = [line for line in page.prose.splitlines() if line.startswith("#")]
    assert len(page.anchors) == len(shown)
