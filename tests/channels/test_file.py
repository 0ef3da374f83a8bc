from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from sentinel.core.errors import ConfigError, DeliveryError
from tests.fakes import message, notification, payload

from .contract import SECRET, RemoteChannelContract, RemoteUnderTest, build
from .examples import LocalExample

EXAMPLE = LocalExample(
    name="file",
    settings={"path": "alerts.jsonl"},
    mentions_allowed="its JSON is for programs, which get values as they are",
)


@dataclass
class File(RemoteUnderTest):
    kind: str = "file"
    for_people = False

    def __post_init__(self) -> None:
        self.values = {"path": "told/messages.jsonl"}

    @property
    def path(self) -> Path:
        return self.folder / "told" / "messages.jsonl"

    def arrived(self) -> list[str]:
        return self.path.read_text(encoding="ascii").splitlines()

    def break_down(self) -> None:
        self.path.parent.mkdir()
        self.path.mkdir()


class TestFile(RemoteChannelContract):
    example = EXAMPLE

    @pytest.fixture
    def it(self, tmp_path: Path) -> RemoteUnderTest:
        return File(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


def test_a_line_is_the_payload_with_the_ids_and_the_time(file: File) -> None:
    row = notification(payload=payload(message='"quoted"\n2nd', context={"a": [1, None]}))
    file.build().send(message(row))
    [line] = file.arrived()
    assert json.loads(line) == {
        "message_id": row.message_id,
        "notification_id": row.notification_id,
        "created_at": "2026-01-02T09:00:00Z",
        **row.payload,
    }


def test_messages_are_appended_to_what_is_there(file: File) -> None:
    file.path.parent.mkdir()
    file.path.write_text("before\n")
    file.build().send(message())
    file.build().send(message())
    assert len(file.arrived()) == 3
    assert file.arrived()[0] == "before"
    assert file.path.read_bytes().endswith(b"}\n")


def test_a_path_starts_from_the_project_unless_it_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    build("file", {"path": "a.jsonl"}, tmp_path)[0].send(message())
    build("file", {"path": str(elsewhere / "b.jsonl")}, tmp_path)[0].send(message())
    assert (tmp_path / "a.jsonl").is_file()
    assert (elsewhere / "b.jsonl").is_file()


def test_processes_that_write_at_once_don_t_interleave(file: File) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.channels.contract import build\n"
        "from tests.fakes import message, notification, payload\n"
        "channel, _ = build('file', {'path': 'told/messages.jsonl'}, Path(sys.argv[1]))\n"
        "for _ in range(40):\n"
        "    text = sys.argv[2] * 100_000\n"
        "    channel.send(message(notification(payload=payload(message=text))))\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(file.folder), letter],
            cwd=Path(__file__).parents[2],
        )
        for letter in "abc"
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    found = [json.loads(line)["message"] for line in file.arrived()]
    assert len(found) == 120
    assert {(len(text), len(set(text))) for text in found} == {(100_000, 1)}


def test_a_writer_waits_for_its_turn(file: File) -> None:
    channel = file.build()
    channel.send(message())
    with file.path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        writer = threading.Thread(target=channel.send, args=[message()])
        writer.start()
        writer.join(0.2)
        assert len(file.arrived()) == 1
        fcntl.flock(other, fcntl.LOCK_UN)
        writer.join(10)
    assert len(file.arrived()) == 2


def test_a_path_that_can_t_be_written_says_which_and_why(file: File) -> None:
    file.folder.joinpath("told").write_text("a file where a folder is needed")
    with pytest.raises(DeliveryError) as caught:
        file.build().send(message())
    assert str(file.path) in str(caught.value)
    assert not caught.value.permanent


def test_a_full_disk_leaves_no_half_line(file: File) -> None:
    """A limit on the size of files stands for the disk; the kernel writes what fits."""
    file.build().send(message())
    before = file.path.read_bytes()
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from sentinel.core.errors import DeliveryError\n"
        "from tests.channels.contract import build\n"
        "from tests.fakes import message\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "limit = int(sys.argv[2])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "channel, _ = build('file', {'path': 'told/messages.jsonl'}, Path(sys.argv[1]))\n"
        "try:\n"
        "    channel.send(message())\n"
        "except DeliveryError as error:\n"
        "    print(error)\n"
    )
    limit = str(len(before) + 50)
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, str(file.folder), limit],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "can't be written: File too large" in done.stdout, done.stderr
    assert file.path.read_bytes() == before


def test_a_pipe_is_written_too(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.channels.contract import build\n"
        "from tests.fakes import message\n"
        "build('file', {'path': '/dev/stdout'}, Path(sys.argv[1]))[0].send(message())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["alert"] == "revenue"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "`path` is missing"),
        ({"path": ""}, "`path`: string should have at least 1 character"),
        ({"path": [SECRET]}, "`path`: input should be a valid string"),
    ],
)
def test_a_path_is_needed(tmp_path: Path, values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build("file", values, tmp_path)
    assert str(caught.value) == f"sentinel.yml:7: the channel `it`: {words}"
