"""The site that `make docs` has built, served on loopback, and a browser that opens its pages."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

SITE = Path(__file__).parents[2] / "build" / "docs"
# Of the page's own clock, in milliseconds: the browser doesn't wait that long.
VIRTUAL_TIME = 20_000


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def site() -> Path:
    if not SITE.is_dir():
        pytest.fail("build/docs does not exist: run `make docs`")
    return SITE


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def rendered(address: str, tmp_path: Path) -> Callable[[str], str]:
    """A function that opens a page in Chromium and returns its HTML after its scripts have run."""
    chromium = shutil.which("chromium")
    if chromium is None:
        if "SENTINEL_TEST_PROGRAMS_INSTALLED" in os.environ:
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")

    def render(page: str) -> str:
        command = [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}",
            f"--virtual-time-budget={VIRTUAL_TIME}",
            "--dump-dom",
            f"{address}/{page}",
        ]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=120
        ).stdout

    return render
