"""A delivery ends in time, whatever a receiver or a proxy sends slowly, on every transport.

No assertion is timed; a send that doesn't end within `KILLED_AFTER_S` never would.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from sentinel.bootstrap import Installation, ProgressReporter
from sentinel.channels import apprise_process
from sentinel.channels.apprise_process import Service, Text
from sentinel.channels.certificates import Certificates
from sentinel.channels.deadline import Deadline, DeadlinePassed
from sentinel.core.errors import ConfigError, DeliveryError
from sentinel.core.transport import LONGEST_TIMEOUT, SEND_DEADLINE
from sentinel.dbt.options import DbtOptions
from sentinel.ports import Receipt
from tests.channels.contract import build
from tests.cli.conftest import Project, acme, template  # noqa: F401 - fixtures
from tests.fakes import message, notification, payload

from ..registry import HTTP_CHANNELS, channel_type
from . import peers
from .peers import RECEIVERS, Authority, Proxy, Serve, peer

TRANSPORTS = ("plain", "tls", "proxy to http", "proxy to https")
KILLED_AFTER_S = 60
LARGE = "x" * 20_000_000
Outcome = Receipt | BaseException | None


def outcomes(
    url: str, folder: Path, values: dict[str, Any], only: tuple[str, ...] = tuple(HTTP_CHANNELS)
) -> dict[str, Outcome]:
    """What a send by each channel came to; None if it did not end."""
    found: dict[str, Outcome] = dict.fromkeys(only)

    def send(name: str) -> None:
        settings = {**HTTP_CHANNELS[name](url), "timeout": "1s", **values}
        try:
            channel, _ = build(channel_type(name), settings, folder)
            found[name] = channel.send(message())
        except Exception as error:  # noqa: BLE001 - compared by the test
            found[name] = error

    threads = [threading.Thread(target=send, args=(name,), daemon=True) for name in only]
    for each in threads:
        each.start()
    until = time.monotonic() + KILLED_AFTER_S
    for each in threads:
        each.join(max(0.0, until - time.monotonic()))
    return dict(found)  # as of now: when the receiver is gone, all of them end


@contextmanager
def reached(
    transport: str, serve: Serve, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A receiver behind a transport: its URL, and the settings that it needs."""
    tls = transport in ("tls", "proxy to https")
    with ExitStack() as stack:
        receiver = stack.enter_context(peer(serve, authority.server() if tls else None))
        if transport.startswith("proxy"):
            proxy = stack.enter_context(peer(Proxy()))
            for name in ("HTTP_PROXY", "HTTPS_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        scheme = "https" if tls else "http"
        yield f"{scheme}://127.0.0.1:{receiver.port}/hook", {"ca_file": authority.ca_file}


def not_ended_in_time(found: dict[str, Outcome]) -> dict[str, Outcome]:
    """The sends that went on, or whose end isn't one that is tried again."""
    return {
        name: outcome
        for name, outcome in found.items()
        if not (isinstance(outcome, DeliveryError) and not outcome.permanent)
    }


@pytest.mark.parametrize("stage", sorted(RECEIVERS))
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_receiver_that_trickles_ends_no_later_than_the_timeout(
    transport: str,
    stage: str,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with reached(transport, RECEIVERS[stage], authority, monkeypatch) as (url, values):
        found = outcomes(url, tmp_path, values)
    if stage in ("body", "chunks"):  # the status of 200 is what counts to a webhook
        assert isinstance(found.pop("webhook"), Receipt)
    assert not_ended_in_time(found) == {}


@pytest.mark.parametrize("behind", ["", "proxy"])
def test_a_receiver_that_trickles_its_handshake_ends_no_later_than_the_timeout(
    behind: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        receiver = stack.enter_context(peer(peers.handshake))
        if behind:
            proxy = stack.enter_context(peer(Proxy()))
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        url = f"https://127.0.0.1:{receiver.port}/hook"
        found = outcomes(url, tmp_path, {"ca_file": authority.ca_file})
    assert not_ended_in_time(found) == {}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_trickles_its_answer_ends_no_later_than_the_timeout(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with peer(peers.trickling_proxy) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        found = outcomes(f"{scheme}://receiver.example.org:9/hook", tmp_path, {})
    assert not_ended_in_time(found) == {}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_body_that_nobody_reads_ends_no_later_than_the_timeout(
    transport: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is larger than what the buffers of both sides take."""
    row = notification(payload=payload(message=LARGE))
    with reached(transport, peers.never_reads, authority, monkeypatch) as (url, values):
        settings = {**HTTP_CHANNELS["webhook"](url), "timeout": "1s", **values}
        channel, _ = build("webhook", settings, tmp_path)
        results: list[object] = []

        def send() -> None:
            try:
                results.append(channel.send(message(row)))
            except DeliveryError as error:
                results.append(error)

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        thread.join(KILLED_AFTER_S)
    [error] = results
    assert isinstance(error, DeliveryError)
    assert "no answer within 1 s" in error.message


def test_a_name_that_nobody_resolves_ends_no_later_than_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """getaddrinfo has no time-out of its own."""
    real, done = socket.getaddrinfo, threading.Event()

    def never(host: Any, *args: Any, **kwargs: Any) -> Any:
        if "example.org" in str(host):
            done.wait(KILLED_AFTER_S)
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", never)
    # Apprise looks names up in a process of its own, which ends as a whole.
    ours = tuple(name for name in HTTP_CHANNELS if name != "apprise")
    try:
        found = outcomes("http://slow.example.org/hook", tmp_path, {}, ours)
        assert not_ended_in_time(found) == {}
        assert all("no answer within 1 s" in str(error) for error in found.values())
    finally:
        done.set()


def test_an_address_that_drops_packets_leaves_time_for_the_next() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        valid = (socket.AF_INET, listener.getsockname())
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        waiting = [socket.socket() for _ in range(8)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            with Deadline(timedelta(seconds=2)) as deadline:
                connection = deadline.connect([(socket.AF_INET, full.getsockname()), valid])
                assert connection.getpeername() == listener.getsockname()
                connection.close()
        finally:
            for each in (full, *waiting):
                each.close()


def test_nothing_is_begun_after_the_end() -> None:
    ran = threading.Event()
    with Deadline(timedelta()) as deadline:
        assert deadline.passed
        for begin in (lambda: deadline.call(ran.set), lambda: deadline.resolve("localhost", 1)):
            with pytest.raises(DeadlinePassed):
                begin()
    assert not ran.is_set()


def test_an_error_of_what_is_waited_for_is_raised() -> None:
    def fail() -> None:
        raise ValueError("it")

    with (
        Deadline(timedelta(seconds=KILLED_AFTER_S)) as deadline,
        pytest.raises(ValueError, match="it"),
    ):
        deadline.call(fail)


def test_the_process_of_apprise_ends_though_its_parent_is_gone() -> None:
    """It would send on after the claim of a process that was killed."""
    with peer(peers.headers) as receiver:
        url = f"json://127.0.0.1:{receiver.port}/hook"
        service = Service("url 1", url, "apprise.plugins.custom_json", "NotifyJSON")
        job = {
            "services": [asdict(service)],
            "text": asdict(Text("title", "body", "info")),
            "certificates": asdict(Certificates()),
            "seconds": 3,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", apprise_process.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(job).encode())
        process.stdin.close()
        assert process.wait(KILLED_AFTER_S) == -signal.SIGALRM


@pytest.mark.parametrize("stage", ["headers", "silence", "handshake"])
def test_a_heartbeat_ends_no_later_than_its_timeout(
    stage: str, authority: Authority, tmp_path: Path
) -> None:
    tls = None if stage == "handshake" else authority.server()
    with peer(getattr(peers, stage), tls) as receiver:
        settings = {
            "url": f"https://127.0.0.1:{receiver.port}/ping",
            "allow_private": True,
            "ca_file": authority.ca_file,
            "timeout": "1s",
        }
        (tmp_path / "sentinel.yml").write_text(yaml.safe_dump({"heartbeat": settings}))
        (tmp_path / "dbt_project.yml").write_text("name: acme\nprofile: acme\n")
        reporter = ProgressReporter(*([lambda *_: None] * 4))
        beat = Installation(
            DbtOptions(tmp_path, profiles_dir=tmp_path), reporter
        ).channels.heartbeat()
        assert beat is not None
        errors: list[str] = []

        def run() -> None:
            try:
                beat()
            except DeliveryError as error:
                errors.append(error.message)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(KILLED_AFTER_S)
    assert errors == ["the receiver can't be reached: no answer within 1 s"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"timeout": "1m"}, "`timeout`"),
        ({"ca_file": "nowhere.pem"}, "`heartbeat.ca_file`: there is no file nowhere.pem"),
        ({"client_key": "x.pem"}, "`client_key`: it needs `client_cert`"),
    ],
)
def test_what_is_wrong_with_a_heartbeat_is_named(
    values: dict[str, str], words: str, tmp_path: Path
) -> None:
    settings = {"url": "https://example.org", **values}
    (tmp_path / "sentinel.yml").write_text(yaml.safe_dump({"heartbeat": settings}))
    (tmp_path / "dbt_project.yml").write_text("name: acme\nprofile: acme\n")
    reporter = ProgressReporter(*([lambda *_: None] * 4))
    with pytest.raises(ConfigError) as caught:
        Installation(DbtOptions(tmp_path, profiles_dir=tmp_path), reporter).channels.heartbeat()
    assert words in str(caught.value)
    assert "sentinel.yml:" in str(caught.value)


# -- the setting -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HTTP_CHANNELS)
@pytest.mark.parametrize("timeout", ["26s", "1m", "0s", "-1s", "soon"])
def test_a_timeout_that_outlasts_the_claim_is_refused(
    name: str, timeout: str, tmp_path: Path
) -> None:
    settings = {**HTTP_CHANNELS[name]("https://example.org/hook"), "timeout": timeout}
    with pytest.raises(ConfigError) as caught:
        build(channel_type(name), settings, tmp_path)
    assert "`timeout`" in str(caught.value)
    assert timeout != "1m" or "at most 25s" in str(caught.value)


def test_the_longest_timeout_ends_well_before_a_claim() -> None:
    assert LONGEST_TIMEOUT < SEND_DEADLINE


# -- end to end --------------------------------------------------------------------------------


def test_a_run_against_a_receiver_that_trickles_ends_and_nobody_sends_meanwhile(
    acme: Project,  # noqa: F811 - the fixture
    authority: Authority,
) -> None:
    """Two processes, one receiver behind TLS: at no moment it gets the message from both."""
    with peer(peers.headers, authority.server()) as receiver:
        acme.write(
            "sentinel.yml",
            yaml.safe_dump(
                {
                    "defaults": {"channels": ["hook"]},
                    "channels": {
                        "hook": {
                            "type": "webhook",
                            "url": f"https://127.0.0.1:{receiver.port}/hook",
                            "allow_private": True,
                            "ca_file": authority.ca_file,
                            "timeout": "3s",
                        }
                    },
                }
            ),
        )
        command = [str(Path(sys.executable).with_name("sentinel"))]
        run = [*command, "run", "--select", "revenue", "--vars", "{floor: 500}"]
        one = start([*run, "--delivery-timeout", "1s"], acme.root)
        assert receiver.first.wait(KILLED_AFTER_S)
        other = start([*command, "deliver", "--delivery-timeout", "1s"], acme.root)
        codes = [each.wait(KILLED_AFTER_S * 2) for each in (one, other)]
    assert codes[0] == 4, "the message is undelivered, and waits"
    assert receiver.most_at_once == 1


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=folder,
        env=dict(os.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
