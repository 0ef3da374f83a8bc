from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from sentinel.channels import secret_scan
from sentinel.channels.registry import GROUP, channel_types
from sentinel.channels.secret_scan import ChannelSecretScan

Install = Callable[[str, str], None]
MODULE = """
from sentinel.core.secret_scan import SecretPatterns
class Pigeon:
    secret_patterns = SecretPatterns(values=({pattern!r},))
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a channel type whose module has this text."""
    known = channel_types()

    def install(name: str, text: str) -> None:
        (tmp_path / f"{name}_channel.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        point = EntryPoint(name, f"{name}_channel:Pigeon", GROUP)
        monkeypatch.setattr(secret_scan, "channel_types", lambda: {**known, name: point})

    return install


def test_the_version_changes_with_the_installed_types(install: Install) -> None:
    before = ChannelSecretScan().version
    assert before == ChannelSecretScan().version
    install("pigeon", MODULE.format(pattern="coo"))
    assert ChannelSecretScan().version != before


def test_a_new_type_s_secrets_are_recognised_and_the_others_too(install: Install) -> None:
    install("dove", MODULE.format(pattern="coo-coo"))
    scan = ChannelSecretScan()
    assert list(scan.find({"owner": "coo-coo", "runbook": "xoxb-1"})) == [("owner",), ("runbook",)]
    assert scan.problems == []


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gone", "import no_such_module_at_all", "ModuleNotFoundError"),
        ("broken", "1 / 0", "ZeroDivisionError"),
        ("odd", MODULE.format(pattern="("), "error"),
        ("bare", "class Pigeon: pass", "secret_patterns"),
    ],
)
def test_a_type_that_can_t_be_loaded_is_named_and_stops_no_other(
    install: Install, name: str, text: str, words: str
) -> None:
    install(name, text)
    scan = ChannelSecretScan()
    [problem] = scan.problems
    assert problem.startswith(f"the channel type '{name}' can't be loaded")
    assert words in problem
    assert list(scan.find({"owner": "xoxb-1"})) == [("owner",)]


def test_it_can_be_sent_to_another_process() -> None:
    sent = pickle.loads(pickle.dumps(ChannelSecretScan()))
    assert list(sent.find({"owner": "xoxb-1"})) == [("owner",)]


def test_its_version_imports_no_channel() -> None:
    script = (
        "import sys\n"
        "from sentinel.channels.secret_scan import ChannelSecretScan\n"
        "assert 'slack' in ChannelSecretScan().version\n"
        "loaded = {'sentinel.channels.slack', 'sentinel.channels.console', 'requests'}\n"
        "assert not loaded & set(sys.modules), loaded & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
