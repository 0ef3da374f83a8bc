"""A line that can't be written, to the log or as a result, stops nothing; nor does a thread that ends."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from werkzeug.wrappers import Response

from sentinel.app.daemon.deliveries import DeliveryLoop
from sentinel.app.daemon.heartbeat import Heartbeat
from sentinel.app.daemon.jobs import Jobs
from sentinel.app.daemon.reloading import ProjectLoader
from sentinel.app.daemon.supervisor import Daemon
from sentinel.app.threads import Threads
from sentinel.channels.contract import ChannelContext
from sentinel.channels.registry import build_channel
from sentinel.cli.logs import Log, dated_step, json_step, plain_step
from sentinel.cli.main import COMMANDS, EXIT_UNWRITTEN, main
from sentinel.cli.streams import Queued, Standard, guarded_streams
from sentinel.core.errors import DeliveryError
from sentinel.core.project import Location
from tests.app.test_daemon import Lines, Rig
from tests.cli.conftest import Project, acme, template  # noqa: F401 - fixtures
from tests.daemon.rig import open_shop, until
from tests.fakes import message, notification
from tests.places.place import ROOT, Place
from tests.security.registry import LOCAL_CHANNELS

# -- a daemon whose log can't be written -------------------------------------------------------------


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
def test_a_daemon_that_cannot_log_delivers_and_evaluates(place: Place, tmp_path: Path) -> None:
    """On a full device; then with a reader that doesn't read, and leaves."""
    with open_shop(tmp_path / "shop", place, ("revenue",)) as shop:

        def start(stderr: int) -> subprocess.Popen[str]:
            words = ["-m", "tests.daemon.child", "3", "daemon", "--port", "0"]
            return subprocess.Popen(
                [sys.executable, *words],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                cwd=shop.root,
                stderr=stderr,
                text=True,
            )

        def goes_on(amount: int) -> None:
            """The receiver is down for a while: lines about that can't be written."""
            shop.receiver.answers += [Response(status=503), Response(status=503)]
            sent = ("revenue", "resolved" if amount else "firing", "sent")
            before = list(shop.notifications().values()).count(sent)
            slots = len(shop.evaluations("revenue"))
            shop.set("revenue", amount)
            until(lambda: list(shop.notifications().values()).count(sent) > before, str(sent), 300)
            assert not shop.receiver.answers, "it was down"
            until(lambda: len(shop.evaluations("revenue")) > slots, "slots are recorded", 300)

        with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
            process = start(full.fileno())
            until(lambda: shop.evaluations("revenue"), "the first slot is evaluated", 300)
            goes_on(0)
            process.terminate()
            assert process.wait(60) == 0
        reads, writes = os.pipe()
        os.set_blocking(writes, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(writes, b"x" * 4_096):
                pass  # it is full before the first line
        os.set_blocking(writes, True)
        process = start(writes)
        os.close(writes)
        goes_on(1)
        os.close(reads)
        goes_on(0)
        process.terminate()
        assert process.wait(60) == 0


def test_a_slow_reader_gets_what_there_is_room_for_and_how_much_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sentinel.cli.streams._MOST_WAITING", 3)
    reads, writes = os.pipe()
    queued = Queued(Standard(writes, whole=False), lambda number: f"lost {number}\n".encode())
    for number in range(10):
        queued.write(f"line {number}\n".encode())
    thread = threading.Thread(target=queued.work, daemon=True)
    thread.start()
    time.sleep(0.1)
    queued.write(b"last\n")
    queued.finish(10)
    thread.join(10)
    os.close(writes)
    with os.fdopen(reads) as got:
        lines = got.read().splitlines()
    assert lines == ["lost 7", "line 0", "line 1", "line 2", "last"]


def test_a_line_that_was_written_in_part_does_not_swallow_the_next() -> None:
    reads, writes = os.pipe()
    under = Standard(writes, whole=False)
    queued = Queued(under, lambda number: b"lost\n")
    under.put(b"half a li")
    queued.write(b"whole\n")
    thread = threading.Thread(target=queued.work, daemon=True)
    thread.start()
    queued.finish(10)
    thread.join(10)
    os.close(writes)
    with os.fdopen(reads) as got:
        assert got.read().splitlines() == ["half a li", "whole"]


def test_a_pipe_that_another_process_made_non_blocking_gets_everything() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    data = b"x" * 1_000_000
    thread = threading.Thread(target=Standard(writes, whole=True).write, args=(data,), daemon=True)
    thread.start()
    got = b""
    while len(got) < len(data):
        got += os.read(reads, 65_536)
    thread.join(10)
    assert got == data
    os.close(reads)
    os.close(writes)


class Odd:
    """A value that nothing can be made of."""

    def __str__(self) -> str:
        raise RecursionError

    __repr__ = __str__


@pytest.mark.parametrize("step", [plain_step, dated_step, json_step()])
@pytest.mark.parametrize("raised", [OSError(28, "full"), ValueError("closed"), MemoryError()])
def test_no_log_call_raises(step: Any, raised: Exception) -> None:
    def fail(_: str) -> Any:
        raise raised

    Log(fail, step).error("fault", error="words", exc_info=raised)
    Log(lambda _: None, step, scrub=fail).warning("waiting", detail="words")
    said: list[str] = []
    log = Log(said.append, step)
    log.info("evaluated", alert=Odd())
    log.info("evaluated", alert="\ud800", slot={1: Odd()})
    assert said and all("log entry lost" in line or "evaluated" in line for line in said)


# -- the daemon's threads ----------------------------------------------------------------------------

# Each thread's name, and the method that is its work.
WORKS: dict[str, tuple[type, str]] = {
    "keep_scheduling": (Jobs, "keep_scheduling"),
    "keep_leading": (Daemon, "_keep_leading"),
    "keep_loaded": (ProjectLoader, "keep_loaded"),
    "keep_delivering": (DeliveryLoop, "keep_delivering"),
    "beat": (Heartbeat, "keep_beating"),
}
RAISED = (RuntimeError("once"), MemoryError(), RecursionError(), SystemExit(1), KeyboardInterrupt())


@contextmanager
def working(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr("sentinel.app.daemon.supervisor._PULSE_S", 0.02)
    daemon = rig.daemon()
    daemon._threads.pause_s = 0.02
    thread = threading.Thread(target=daemon.run, daemon=True)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        thread.join(30)
        assert not thread.is_alive()


def test_all_threads_of_the_daemon_are_known_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with working(Rig(), monkeypatch) as daemon:
        until(lambda: len(daemon._threads.names) == len(WORKS), "all have begun")
        assert set(daemon._threads.names) == set(WORKS)


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
def test_a_thread_that_ends_is_started_anew(
    monkeypatch: pytest.MonkeyPatch, name: str, raised: BaseException
) -> None:
    rig = Rig()
    owner, method = WORKS[name]
    works = getattr(owner, method)
    begun: list[None] = []

    def once(self: Any, *args: Any) -> None:
        begun.append(None)
        if len(begun) == 1:
            raise raised
        works(self, *args)

    monkeypatch.setattr(owner, method, once)
    with working(rig, monkeypatch) as daemon:
        until(lambda: len(begun) == 2, "it is started anew")
        assert daemon.status().alive
    assert any("restarted" in error for error in rig.log.of("error"))


@pytest.mark.parametrize("name", WORKS)
def test_a_thread_that_cannot_be_kept_running_ends_liveness(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rig = Rig()

    def fail(*_: Any) -> None:
        raise RuntimeError("always")

    owner, method = WORKS[name]
    monkeypatch.setattr(owner, method, fail)
    with working(rig, monkeypatch) as daemon:
        daemon._threads.lost_s = 0.2
        until(lambda: not daemon.status().alive, "it isn't alive without it")
        assert not daemon.status().ready


def test_a_thread_that_returns_too_early_is_started_anew() -> None:
    threads, begun = Threads(Lines(), pause_s=0.0), threading.Semaphore(0)
    threads.start("short", begun.release)
    for _ in range(3):
        assert begun.acquire(timeout=20)
        until(lambda: threads._workers["short"].running is False, "it has ended")
        threads.look()


def test_a_thread_that_the_system_refuses_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Lines()
    threads, begun = Threads(log, pause_s=0.0), threading.Event()
    start = threading.Thread.start

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    threads.start("late", begun.set)
    assert "late" in threads.failing()
    monkeypatch.setattr(threading.Thread, "start", start)
    threads.look()
    assert begun.wait(20)
    assert log.of("error")


def test_what_no_thread_was_to_be_had_for_is_still_due(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fakes import source

    rig = Rig(sources=[source("revenue", {"schedule": "* * * * *"})])
    daemon = rig.daemon()
    submit = daemon.parts.batches._pool.submit

    def refuse(*_: Any) -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(daemon.parts.batches._pool, "submit", refuse)
    rig.tick()
    monkeypatch.setattr(daemon.parts.batches._pool, "submit", submit)
    before = len(rig.recorded())
    rig.tick()
    assert len(rig.recorded()) > before


# -- commands whose result can't be written ------------------------------------------------------------


def streams(kind: str) -> io.TextIOWrapper:
    """A stream that can't be written."""
    if kind == "full":
        return open("/dev/full", "w", encoding="utf-8")  # noqa: PTH123 - closed by its user
    if kind == "closed":
        stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        os.close(stream.fileno())
        return stream
    if kind == "read only":
        descriptor = os.open(os.devnull, os.O_RDONLY)
    else:
        reads, descriptor = os.pipe()
        os.close(reads)
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(descriptor, "w")), encoding="utf-8")


def run(args: list[str], *, out: Any, err: Any) -> int:
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        with pytest.raises(SystemExit) as ended:
            main(args)
        code = ended.value.code
        assert isinstance(code, int)
        return code


PRINTING: dict[str, list[str]] = {
    "init": ["init"],
    "list": ["list"],
    "validate": ["validate", "--offline"],
    "run": ["run", "--fail-on", "never"],
    "deliver": ["deliver"],
    "status": ["status"],
    "history": ["history"],
    "explain": ["explain", "revenue"],
    "silence": ["silence", "revenue", "--for", "2h", "--comment", "known"],
    "unsilence": ["unsilence", "revenue"],
    "ack": ["ack", "by_region", "--comment", "mine"],
    "notify-test": ["notify-test", "log"],
    "doctor": ["doctor"],
}
JSON = ("list", "validate", "run", "status", "history", "explain", "doctor")


def test_every_command_that_prints_is_among_these() -> None:
    # The daemon has no result; the health check's is its exit code, and --help is tested as a process.
    assert set(PRINTING) == set(COMMANDS) - {"daemon", "healthcheck"}


def test_a_result_that_cannot_be_written_has_an_exit_code_of_its_own(
    acme: Project,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(acme.root)
    codes: dict[str, int] = {}
    for name, args in PRINTING.items():
        for more in [[], *([["--output", "json"]] if name in JSON else [])]:
            with streams("full") as out:
                err = io.StringIO()
                codes[" ".join([*args, *more])] = run([*args, *more], out=out, err=err)
            assert "the result can't be written to standard output: No space left" in err.getvalue()
            assert "Traceback" not in err.getvalue()
    assert set(codes.values()) == {EXIT_UNWRITTEN}
    # All the same everything is recorded, and sent.
    fired = "select count(*) from sentinel_state where alert = 'revenue' and phase = 'ok'"
    assert acme.query(fired) == [(1,)]
    assert (
        acme.query("select count(*) from sentinel_notifications where status = 'sent'")[0][0] >= 1
    )


def test_a_result_whose_reader_left_keeps_the_commands_own_exit_code(
    acme: Project,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(acme.root)
    acme.alert("revenue", "{{ config(meta={'sentinel': {}}) }} select 'ALERT' as status")
    for args, code in (
        (["run", "--fail-on", "never"], 0),
        (["run"], 1),
        (["run", "--output", "json"], 1),
        (["run", "-s", "no_such_alert"], 5),
        (["history"], 0),
        (["list", "--output", "json"], 0),
        (["--help"], 0),
    ):
        with streams("left") as out:
            assert run(args, out=out, err=io.StringIO()) == code


@pytest.mark.parametrize("kind", ["full", "left", "read only"])
def test_diagnostics_that_cannot_be_written_change_nothing(
    acme: Project,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.chdir(acme.root)
    for args, code in (
        (["run", "--fail-on", "never", "--log-format", "json"], 0),
        (["run", "-s", "no_such_alert"], 5),
        (["run", "--no-such-option"], 2),
        (["no-such-command"], 2),
    ):
        out = io.StringIO()
        with streams(kind) as err:
            assert run(args, out=out, err=err) == code
        assert ("ok" in out.getvalue()) is (code == 0)


@pytest.mark.parametrize(
    ("redirection", "lost"),
    [
        (">/dev/full", True), (">&-", True), (">&- 2>&-", True), ("<&- >&- 2>&-", True),
        ("2>/dev/full", False), ("2>&-", False), ("| head -0", False),
        ("2>&1 >/dev/full | head -0", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("args", ["--help", "--version", "run --help", "status --no-such-option"])
def test_a_process_ends_with_its_code_and_without_a_traceback(
    args: str, redirection: str, lost: bool
) -> None:
    command = f'"{sys.executable}" -c "from sentinel.cli.main import main; main()" {args}'
    done = subprocess.run(
        ["bash", "-c", f"{command} {redirection}; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    usage = "option" in args
    assert done.returncode == (2 if usage else EXIT_UNWRITTEN if lost else 0)
    assert "Traceback" not in done.stderr + done.stdout
    assert "Exception ignored" not in done.stderr + done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("args", [["run"], ["run", "--output", "json"], ["status"]])
def test_a_value_that_the_encoding_does_not_have_is_written_as_an_escape(
    acme: Project,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    args: list[str],
) -> None:
    monkeypatch.chdir(acme.root)
    sql = "select 'ALERT' as status, 'é \u2192 \U0001f600' as message"
    acme.alert("revenue", f"{{{{ config(meta={{'sentinel': {{}}}}) }}}} {sql}")
    acme.sentinel("run", "-s", "revenue")
    raw = io.FileIO(os.open(acme.root / "out", os.O_CREAT | os.O_TRUNC | os.O_RDWR), "r+")
    with io.TextIOWrapper(io.BufferedRandom(raw), encoding=encoding) as out:
        assert run([*args, "-s", "revenue"][: None if "run" in args else 1], out=out,
                   err=io.StringIO()) in (0, 1)  # fmt: skip
    written = (acme.root / "out").read_bytes().decode(encoding)
    assert written
    if "json" in args:
        results = json.loads(written)["results"]
        assert "é \u2192 \U0001f600" in [each["message"] for each in results]


# -- the console -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCAL_CHANNELS)
@pytest.mark.parametrize("kind", ["full", "left", "read only"])
def test_a_channel_on_this_machine_that_cannot_write_fails_to_deliver(
    tmp_path: Path, name: str, kind: str
) -> None:
    from sentinel.cli.output import Output

    settings = {**LOCAL_CHANNELS[name]}
    if name == "file":
        settings["path"] = "/dev/full"
    for json_logs, service in ((False, False), (True, False), (False, True), (True, True)):
        output = Output(
            json=False, json_logs=json_logs, quiet=True, terminal=False, service=service
        )
        context = ChannelContext(tmp_path, output.progress_reporter().say)
        channel, _ = build_channel(name, name, settings, lambda *_: Location("x", 1), context)
        with (
            streams(kind) as err,
            contextlib.redirect_stderr(err),
            guarded_streams(),
            pytest.raises(DeliveryError) as error,
        ):
            channel.send(message(notification()))
        assert not error.value.permanent


def test_a_message_to_a_console_that_cannot_be_written_waits_for_another_try(
    acme: Project,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(acme.root)
    sql = "{{ config(meta={'sentinel': {'channels': ['console']}}) }} select 'ALERT' as status"
    acme.alert("revenue", sql)
    args = ["run", "-s", "revenue", "--delivery-timeout", "0s"]
    with streams("full") as err:
        assert run(args, out=io.StringIO(), err=err) == 4
    assert acme.query("select status from sentinel_notifications") == [("pending",)]
    acme.query("update sentinel_notifications set not_before = created_at")
    assert "FIRING revenue" in acme.sentinel("deliver").err


def test_in_the_daemon_a_console_message_is_sent_once_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sentinel.cli.streams._DELIVERY_S", 0.2)
    reads, writes = os.pipe()
    queued = Queued(Standard(writes, whole=False), lambda number: b"lost\n")
    with pytest.raises(OSError, match="doesn't read"):
        queued.put(b"never written\n")
    thread = threading.Thread(target=queued.work, daemon=True)
    thread.start()
    queued.put(b"written\n")
    queued.finish(10)
    thread.join(10)
    assert os.read(reads, 1_000) == b"written\n"
    os.close(reads)
    os.close(writes)
