"""Builds docs/ as a site: Sphinx, with MyST for Markdown and Furo as the theme.

The pages are written for GitHub and hold nothing that only Sphinx understands. docs/README.md lists
them: its sections are the site's navigation and its llms.txt.
"""

from __future__ import annotations

import html
import re
import shutil
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers.special import TextLexer
from pygments.lexers.templates import SqlJinjaLexer
from pygments.token import Error, Punctuation, _TokenType
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HOME = "README"
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# A link or an image of Markdown: its text, and its target without a scheme or an anchor of its own.
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)")
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)

project = "Sentinel"
html_title = project
html_theme = "furo"
html_static_path = ["static", "../../build/docs-static"]
html_copy_source = False
html_show_copyright = False
root_doc = HOME
exclude_patterns = ["site"]
extensions = ["myst_parser"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]


class Mermaid(SphinxDirective):
    """A diagram, which the browser draws."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        text = html.escape("\n".join(self.content))
        return [nodes.raw("", f'<pre class="mermaid">{text}</pre>', format="html")]


class DbtSqlLexer(SqlJinjaLexer):
    """SQL in a Jinja template, where a dictionary's closing braces don't end the expression."""

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, _TokenType, str]]:
        for position, token, value in super().get_tokens_unprocessed(text):
            yield position, Punctuation if token is Error and value == "}" else token, value


def sections(index: str) -> dict[str, str]:
    """The text below each heading of the list of pages."""
    _, *parts = SECTION.split(index)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def navigation(index: str) -> str:
    """A table of contents for each section, which the theme shows beside every page."""
    tables = []
    for title, text in sections(index).items():
        pages = "\n".join(target for _, target in LINK.findall(text))
        tables.append(f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n")
    return "\n".join(tables)


def home(readme: str, index: str) -> str:
    """The project's README, followed by the list of pages."""

    def moved(link: re.Match[str]) -> str:
        target = Path(link[2])
        inside = target.is_relative_to("docs")
        return link[1] + (target.relative_to("docs").as_posix() if inside else f"../{link[2]}")

    pages = "".join(f"### {title}\n{text}" for title, text in sections(index).items())
    return f"{LINK.sub(moved, readme)}\n## All pages\n\n{pages}\n{navigation(index)}"


def prepare(_app: Sphinx, page: str, content: list[str]) -> None:
    """Add what only the site has: the home page's text, and Markdown files elsewhere as downloads."""
    if page == HOME:
        content[0] = home((ROOT / "README.md").read_text(), content[0])
    folder = (DOCS / page).parent

    def prepared(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        download = target.suffix == ".md" and not target.is_relative_to(DOCS)
        return f"{link[1]}path:{link[2]}" if download else link[0]

    content[0] = LINK.sub(prepared, content[0])


def load_diagrams(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: nodes.document | None
) -> None:
    if '<pre class="mermaid">' in context.get("body", ""):
        app.add_js_file("mermaid.min.js", loading_method="defer")
        app.add_js_file("diagrams.js", loading_method="defer")


def write_markdown(app: Sphinx, error: Exception | None) -> None:
    """Write each page as Markdown beside its HTML, the files it links to, and llms.txt."""
    if error is not None:
        return
    site = Path(app.outdir)

    def copied(link: re.Match[str], page: Path, depth: int) -> str:
        target = (page.parent / link[2]).resolve()
        if target.is_relative_to(DOCS):
            if target.suffix != ".md":
                copy(target, site / target.relative_to(DOCS))
            return link[0]
        name = target.relative_to(ROOT)
        copy(target, site / "files" / name)
        return f"{link[1]}{'../' * depth}files/{name.as_posix()}"

    for name in app.env.found_docs:
        page = DOCS / f"{name}.md"
        depth = name.count("/")
        text = LINK.sub(partial(copied, page=page, depth=depth), page.read_text())
        (site / f"{name}.md").write_text(text)
    listed = "".join(
        f"## {title}\n{text}" for title, text in sections((DOCS / "README.md").read_text()).items()
    )
    summary = f"# {project}\n\n> {METADATA['description']}\n\n"
    (site / "llms.txt").write_text(summary + listed)
    (site / "index.html").write_text(f'<meta http-equiv="refresh" content="0; url={HOME}.html">\n')


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def setup(app: Sphinx) -> None:
    app.add_lexer("sql", DbtSqlLexer)
    app.add_lexer("csv", TextLexer)
    app.add_directive("mermaid", Mermaid)
    app.connect("source-read", prepare)
    app.connect("html-page-context", load_diagrams)
    app.connect("build-finished", write_markdown)
