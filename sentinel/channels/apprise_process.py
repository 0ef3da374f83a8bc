"""The process in which Apprise sends one message.

Its plugins bring transports of their own, whose time-outs bound single reads and none the whole. A
process is what can be ended for certain, whatever it waits for. It ends itself too: its parent may
be killed, and a claim must not run out while it goes on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Nothing else: this is imported again for each message.
if TYPE_CHECKING:
    from sentinel.channels.certificates import Certificates
    from sentinel.channels.deadline import Deadline


@dataclass(frozen=True)
class Service:
    """One Apprise URL, and the plugin that reads it: loading one takes a tenth of loading all."""

    key: str
    url: str
    module: str
    plugin: str

    def __repr__(self) -> str:
        return f"Service({self.key!r})"


@dataclass(frozen=True)
class Text:
    """The message; `kind` is the value of Apprise's NotifyType."""

    title: str
    body: str
    kind: str


def send(
    services: Sequence[Service], text: Text, certificates: Certificates, deadline: Deadline
) -> dict[str, bool]:
    """Send to each service, in a process. Gives by key whether it accepted; those without an entry
    gave no answer in time. Raises OSError if there is no process to be had.
    """
    job = {
        "services": [asdict(each) for each in services],
        "text": asdict(text),
        "certificates": asdict(certificates),
        "seconds": deadline.remaining(),
    }
    process = subprocess.Popen(  # noqa: S603 - this module, in this Python
        # -P: no module of the current folder takes the place of one that is installed.
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(json.dumps(job).encode(), timeout=deadline.remaining())
    except (subprocess.TimeoutExpired, TimeoutError):
        _end(process)
        output, _ = process.communicate()
    finally:
        _end(process)
    results = {key: taken for line in output.splitlines() for key, taken in json.loads(line)}
    if process.returncode not in (-signal.SIGALRM, -signal.SIGKILL):
        # A plugin may end the process; the service that it was about has not accepted.
        results = {**dict.fromkeys((each.key for each in services), False), **results}
    return results


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it, with what it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# -- in the process ----------------------------------------------------------------------------


def main() -> None:
    job = json.load(sys.stdin)
    # Its default action ends the process, whatever it does.
    signal.setitimer(signal.ITIMER_REAL, job["seconds"])
    results = os.fdopen(os.dup(1), "w", buffering=1)
    # What plugins print is no result.
    os.dup2(2, 1)
    _use(**job["certificates"])
    text = Text(**job["text"])
    for each in job["services"]:
        service = Service(**each)
        accepted = _attempt(lambda service=service: _notify(service, text))  # type: ignore[misc]
        results.write(json.dumps([[service.key, accepted]]) + "\n")


def _attempt(notify: Callable[[], bool]) -> bool:
    try:
        return notify()
    except Exception:  # noqa: BLE001 - a fault of one plugin is none of the other services'
        return False


def _notify(service: Service, text: Text) -> bool:
    from apprise import Apprise, AppriseAsset, NotifyType

    plugin: Any = getattr(import_module(service.module), service.plugin)
    # As Apprise reads URLs, without loading the other plugins.
    url = service.url.replace("/#", "/%23")
    native = url.lower().startswith(("http://", "https://"))
    known: Mapping[str, Any] = plugin.parse_native_url(url) if native else plugin.parse_url(url)
    apprise = Apprise()
    apprise.add(plugin(**{**known, "asset": AppriseAsset(), "tag": set()}))
    return bool(
        apprise.notify(
            title=text.title, body=text.body, notify_type=NotifyType(text.kind), body_format="text"
        )
    )


def _use(ca_file: str | None, client_cert: str | None, client_key: str | None) -> None:
    """Have every request of this process trust and show these."""
    if ca_file:
        os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = ca_file
    if client_cert:
        import requests

        class Session(requests.Session):
            def __init__(self) -> None:
                super().__init__()
                self.cert = (str(client_cert), str(client_key or client_cert))

        requests.Session = requests.sessions.Session = Session  # type: ignore[misc]


if __name__ == "__main__":
    main()
