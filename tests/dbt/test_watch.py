"""Changes of files are noticed, wherever dbt and Sentinel read them; others are not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sentinel.app.threads import Threads
from sentinel.core.project import Watched
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project import DbtProject
from sentinel.dbt.watch import Watch
from tests.app.test_daemon import Lines

from .conftest import make_shop

Noticed = Callable[[], bool]


class Noticing:
    """A watch, and whether it has noticed something since it was last asked."""

    def __init__(self) -> None:
        self.changed = threading.Event()
        self.watch = Watch(self.changed.set, Threads(Lines()))

    def notices(self, change: Callable[[], object], *, within: float = 15.0) -> bool:
        self.changed.clear()
        change()
        return self.changed.wait(within)


@pytest.fixture
def noticing() -> Iterator[Noticing]:
    noticing = Noticing()
    yield noticing
    noticing.watch.close()


def test_what_a_project_is_made_of_is_watched(tmp_path: Path, noticing: Noticing) -> None:
    root = make_shop(tmp_path)
    noticing.watch.look_at(DbtProject(DbtOptions(root)).watched())
    threading.Event().wait(1)  # the system has to have begun
    model = root / "models" / "alerts" / "vars.sql"
    for place, change in enumerate(
        (
            lambda: model.write_text("select 2"),
            lambda: (root / "models" / "new").mkdir(),
            lambda: (root / "models" / "new" / "a.sql").write_text("select 1"),
            lambda: model.rename(model.with_name("others.sql")),
            lambda: (root / "sentinel.yml").write_text("timezone: UTC\n"),
            lambda: (root / "profiles.yml").write_text("shop: {}\n"),
            lambda: (root / "packages.yml").unlink(),
            lambda: (root / "macros").mkdir(),
            lambda: (root / "dbt_packages" / "another").mkdir(),
            lambda: (tmp_path / "helper" / "macros" / "helper.sql").write_text("{# none #}"),
        )
    ):
        assert noticing.notices(change), place
        threading.Event().wait(0.6)  # what belongs to the same change
    (root / "target").mkdir(exist_ok=True)
    for quiet in (
        lambda: (root / "target" / "manifest.json").write_text("{}"),
        lambda: (root / "shop.duckdb").write_text("x"),
        lambda: (root / "README.md").write_text("x"),
    ):
        assert not noticing.notices(quiet, within=0.8)


def test_looking_elsewhere_ends_the_look_before(tmp_path: Path, noticing: Noticing) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    noticing.watch.look_at(Watched(deep=frozenset([one])))
    noticing.watch.look_at(Watched(flat=frozenset([(two, frozenset({"*"}))])))
    threading.Event().wait(1)
    assert noticing.notices(lambda: (two / "secret").write_text("x"))
    threading.Event().wait(0.6)
    assert not noticing.notices(lambda: (one / "a").write_text("x"), within=0.8)


def test_what_is_not_there_is_not_watched(tmp_path: Path, noticing: Noticing) -> None:
    nowhere = tmp_path / "nowhere"
    noticing.watch.look_at(Watched(frozenset([nowhere]), frozenset([(nowhere, frozenset({"*"}))])))
