"""The tutorial, played as it is written: its files, its commands, and what they print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Project
from tests.docs.pages import DOCS, Block, read

# What a test has done already: an environment of its own, with everything installed.
_SET_UP = ("mkdir bakery", "python -m venv", "pip install")
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+Z)?"), "TIME"),
    (re.compile(r"\b(\d+m )?\d+(\.\d+)? ?s\b"), "SECONDS"),
)


def plain(line: str) -> str:
    """A line without times and without the width of columns."""
    for pattern, word in _VARYING:
        line = pattern.sub(word, line)
    return " ".join(line.split())


def file_of(block: Block) -> str:
    """The file that the sentence before a block names last."""
    names: list[str] = re.findall(r"`([\w/]+\.(?:yml|csv|sql))`", block.before)
    return names[-1]


def play(commands: str, project: Project) -> str:
    """What the commands print, standard error included; a firing alert (1) is no failure."""
    printed = ""
    for line in commands.splitlines():
        if line.startswith(_SET_UP):
            continue
        name, *words = shlex.split(line)
        if name == "sentinel":  # in this process, which is quicker
            ran = project.sentinel(*words)
            code, said = ran.code, ran.err + ran.out
        else:
            done = subprocess.run(
                line,
                shell=True,
                cwd=project.root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            code, said = done.returncode, done.stdout
        assert code in (0, 1), f"{line}\n{said}"
        printed += said
    return printed


def test_the_tutorial_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("DBT_", "SENTINEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    project, printed = Project(tmp_path, monkeypatch), ""
    for block in read(DOCS / "tutorial" / "first-alert.md").blocks:
        if block.language == "sh":
            printed = play(block.code, project)
        elif block.language == "text":
            there = {plain(line) for line in printed.splitlines()}
            lines = [plain(line) for line in block.code.splitlines()]
            assert [line for line in lines if line not in there] == [], printed
        else:
            project.write(file_of(block), block.code)
