"""Runs of pytest with the conftest.py of all tests, over a few tests made up here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import EXPECTED

ROOT = Path(__file__).parents[1]
# Without the plugins that happen to be installed, which take a second to load.
ALONE = {"PYTEST_ADDOPTS": "-p no:cacheprovider", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
# The conftest.py of all tests, but with a reason to expect.
CONFTEST = """
import tests.skips
tests.skips.Skips.__init__.__defaults__ = (("the moon",),)
from tests.conftest import *
"""
PASSES = "def test_passes(): pass\n"
SKIPS = "import pytest\ndef test_skips(): pytest.skip('{}')\n"
MODULE = "import pytest\npytest.skip('{}', allow_module_level=True)\n"
XFAILS = "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_fails(): assert False\n"


def run_tests(folder: Path, *args: str, **modules: str) -> tuple[int, str]:
    (folder / "conftest.py").write_text(CONFTEST)
    for name, text in modules.items():
        (folder / f"test_{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "xdist", *args, folder],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **ALONE},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workers", [(), ("-n", "2", "--dist", "loadscope")])
def test_a_skip_that_nobody_expects_is_listed_and_fails_the_run(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    skips = {"one": SKIPS.format("no server"), "two": SKIPS.format("the moon is full")}
    code, output = run_tests(tmp_path, *workers, a=PASSES, b=MODULE.format("no driver"), **skips)
    assert code == pytest.ExitCode.TESTS_FAILED
    said = output[output.index("skipped tests") :].splitlines()[1:5]
    assert said == [
        "unexpected: test_b.py: no driver",
        "unexpected: test_one.py::test_skips: no server",
        "test_two.py::test_skips: the moon is full",
        "A skip is expected once its reason is in EXPECTED of tests/skips.py",
    ]


def test_an_expected_skip_is_only_listed(tmp_path: Path) -> None:
    code, output = run_tests(tmp_path, a=PASSES, b=SKIPS.format("the moon is full"))
    assert code == 0
    assert "\ntest_b.py::test_skips: the moon is full\n" in output
    assert "unexpected" not in output


def test_without_skips_nothing_is_said(tmp_path: Path) -> None:
    code, output = run_tests(tmp_path, a=PASSES, b=XFAILS)
    assert code == 0
    assert "skipped tests" not in output


def test_reasons_are_told_apart_by_their_beginning() -> None:
    assert all(EXPECTED), "the empty reason would expect every skip"
