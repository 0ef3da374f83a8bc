"""The README's samples are what the demo shows."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.places.duckdb import DuckDbPlace

from . import readme
from .conftest import BuiltShop


def test_the_samples_in_the_readme_are_those_of_the_demo(shop: BuiltShop, tmp_path: Path) -> None:
    path = tmp_path / "shop"
    shutil.copytree(shop.path, path, symlinks=True)
    fresh = BuiltShop(path, DuckDbPlace(path / "shop.duckdb"), shop.log, shop.built_on)
    text = readme.README.read_text(encoding="utf-8")
    expected = readme.written(text, readme.samples(fresh))
    assert readme.essence(text) == readme.essence(expected), "`make readme` writes them anew"
    picture = readme.picture(readme.slack_lines(path))
    drawn = readme.PICTURE.read_text(encoding="utf-8")
    assert readme.essence(drawn) == readme.essence(picture), "`make readme` draws it anew"
