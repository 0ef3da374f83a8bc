"""dbt's answers are kept under the project's stamp."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sentinel.core.project import StoreTables
from sentinel.core.secret_scan import PatternScan
from sentinel.dbt.answer_cache import AnswerCache
from sentinel.dbt.answers import Answers, TableAnswer
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project_files import ProjectFiles

from .conftest import make_shop


@pytest.fixture
def project_files(tmp_path: Path) -> ProjectFiles:
    root = make_shop(tmp_path)
    return ProjectFiles(DbtOptions(root, profiles_dir=root), os.environ, root)


def ignore(phrase: str) -> None:
    """Nobody reads warnings."""


def test_answers_outlive_their_process(project_files: ProjectFiles) -> None:
    cache = AnswerCache(project_files, ignore, PatternScan())
    stamp = cache.stamp("project", project_files.project(), None)
    kept = cache.load()
    kept.answers = Answers(stamp, [], {"model.shop.a": ("shop", "a")})
    kept.tables = TableAnswer(stamp, StoreTables({"state": "s"}, "1.0"))
    cache.save()
    again = AnswerCache(project_files, ignore, PatternScan()).load()
    assert again.answers == kept.answers
    assert again.tables == kept.tables


def test_the_stamp_is_the_same_until_a_file_changes(project_files: ProjectFiles) -> None:
    project = project_files.project()
    first = AnswerCache(project_files, ignore, PatternScan()).stamp("project", project, None)
    cache = AnswerCache(project_files, ignore, PatternScan())
    assert cache.stamp("project", project, first) == first
    (project.root / "models/base/orders.sql").write_text("select 6 as amount, 1 as more")
    assert cache.stamp("project", project, first) != first


def test_the_stamp_changes_with_the_installed_channel_types(project_files: ProjectFiles) -> None:
    class NewerScan(PatternScan):
        version = "another channel"

    project = project_files.project()
    first = AnswerCache(project_files, ignore, PatternScan()).stamp("project", project, None)
    assert AnswerCache(project_files, ignore, NewerScan()).stamp("project", project, first) != first


def test_the_base_stamp_ignores_models(project_files: ProjectFiles) -> None:
    project, cache = project_files.project(), AnswerCache(project_files, ignore, PatternScan())
    first = cache.stamp("base", project, None)
    (project.root / "models/base/orders.sql").write_text("select 6 as amount, 1 as more")
    assert cache.stamp("base", project, first) == first
    (project.root / "selectors.yml").write_text("selectors: []\n")
    assert cache.stamp("base", project, first) != first


def test_a_cache_that_cannot_be_written_warns_once_and_still_answers(
    project_files: ProjectFiles,
) -> None:
    warnings: list[str] = []
    cache = AnswerCache(project_files, warnings.append, PatternScan())
    project = project_files.project()
    folder = project_files.artifacts_dir(project)
    folder.mkdir(parents=True)
    (folder / "answers.json").mkdir()  # where a file has to go
    stamp = cache.stamp("project", project, None)
    cache.load().answers = Answers(stamp, [], {})
    cache.save()
    cache.save()
    assert len(warnings) == 1
    assert warnings[0].endswith("dbt parses the project again for the next command")
    assert cache.load().answers is not None
