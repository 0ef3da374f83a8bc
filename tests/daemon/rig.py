"""A dbt project on a real database, a receiver of its messages, and daemons as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.channels.receiver import Receiver, receiving
from tests.places.place import ROOT, Place, profile

PACE_S = float(os.environ.get("SENTINEL_CHAOS_PACE", "3"))

PROJECT = """\
name: shop
profile: shop
model-paths: [models]
"""
ALERT = """\
{{{{ config(meta={{"sentinel": {{"schedule": "* * * * *", "severity": "{severity}"}}}}) }}}}
select case when amount > 0 then 'OK' else 'ALERT' end as status, amount as actual_value
from {{{{ target.schema }}}}.orders where name = '{watches}'
"""


def until(met: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Wait until something is so, and give it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = met()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"it did not come to that: {what}")


@dataclass
class DaemonProcess:
    """One `sentinel daemon`, and what it logs."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.odd.append(line)

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in list(self.lines) if line["event"] == event]

    @property
    def port(self) -> int:
        lines = until(lambda: self.said("listening"), "it listens")
        port: int = lines[0]["port"]
        return port

    def get(self, path: str) -> tuple[int, Any]:
        """(status, document) of a request."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as it:
                said, status = it.read(), it.status
        except urllib.error.HTTPError as error:
            said, status = error.read(), error.code
        try:
            return status, json.loads(said)
        except ValueError:
            return status, said.decode()

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, seconds: float = 40.0) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self._thread.join(5)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@dataclass
class Shop:
    """The project, and what is done with it."""

    root: Path
    place: Place
    receiver: Receiver
    daemons: list[DaemonProcess] = field(default_factory=list)

    def sentinel(self, *args: str, pace: float = PACE_S) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.daemon.child", str(pace), *args],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args: str) -> str:
        """A command in another terminal."""
        process = self.sentinel(*args)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        return out

    def dbt(self, *args: str) -> None:
        """dbt in another terminal."""
        words = [str(self.place.bin / "dbt"), *args, "--quiet", "--no-send-anonymous-usage-stats"]
        done = subprocess.run(words, cwd=self.root, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr

    def daemon(self, *args: str, pace: float = PACE_S) -> DaemonProcess:
        words = ["daemon", "--port", "0", "--log-format", "json", *args]
        started = DaemonProcess(self.sentinel(*words, pace=pace))
        self.daemons.append(started)
        return started

    def write(self, path: str, text: str) -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        return place

    def alert(self, name: str, watches: str = "", severity: str = "critical") -> Path:
        sql = ALERT.format(severity=severity, watches=watches or name)
        return self.write(f"models/{name}.sql", sql)

    def configure(self, **settings: Any) -> None:
        hook = {"type": "webhook", "url": self.receiver.url, "allow_private": True}
        given = {"defaults": {"channels": ["hook"]}, "channels": {"hook": hook}}
        given |= {"scheduler": {"plan_interval": "2s"}} | settings
        self.write("sentinel.yml", yaml.safe_dump(given))

    def set(self, name: str, amount: int) -> None:
        """What the alerts watch, as somebody else changes it."""
        schema = self.place.schema
        sql = f"update {schema}.orders set amount = {amount} where name = '{name}'"
        self.patiently(sql)

    def patiently(self, sql: str) -> list[tuple[Any, ...]]:
        """A statement, tried again while a file is held."""
        for _ in range(200):
            try:
                return list(self.place.execute(sql))
            except Exception as error:
                if "lock" not in str(error).lower() and "different conf" not in str(error).lower():
                    raise
                time.sleep(0.05)
        raise AssertionError("the database was never free")

    def amounts(self) -> dict[str, int]:
        rows = self.patiently(f"select name, amount from {self.place.schema}.orders")
        return {str(name): int(amount) for name, amount in rows}

    def phases(self) -> dict[str, bool]:
        """Whether each alert is ok."""
        sql = f"select alert, phase from {self.place.schema}.sentinel_state"
        return {str(alert): phase == "ok" for alert, phase in self.patiently(sql)}

    def unsent(self) -> int:
        """How many notifications are neither sent nor replaced by others."""
        sql = (
            f"select count(*) from {self.place.schema}.sentinel_notifications "
            "where status not in ('sent', 'superseded')"
        )
        [(number,)] = self.patiently(sql)
        return int(number)

    def notifications(self) -> dict[str, tuple[str, str, str]]:
        """(alert, event, status) of each, by id."""
        rows = self.patiently(
            "select notification_id, payload, event, status "
            f"from {self.place.schema}.sentinel_notifications"
        )
        return {key: (json.loads(sent)["alert"], event, state) for key, sent, event, state in rows}

    def sent(self) -> list[tuple[str, str]]:
        """(alert, event) of what has arrived, each message once, in order."""
        found: dict[str, tuple[str, str]] = {}
        for got in list(self.receiver.got):
            data = json.loads(got.body)["data"]
            found.setdefault(got.headers["webhook-id"], (data["alert"], data["event"]))
        return list(found.values())

    def evaluations(self, alert: str) -> list[dict[str, Any]]:
        """Rows of history of an alert, by slot."""
        names = ("slot", "outcome", "missed_slots", "attempt", "events", "phase_after")
        rows = self.patiently(
            f"select {', '.join(names)} from {self.place.schema}.sentinel_history "
            f"where alert = '{alert}' and kind = 'evaluation' order by slot, recorded_at"
        )
        return [
            {**dict(zip(names, row, strict=True)), "events": json.loads(row[4])} for row in rows
        ]


@contextmanager
def open_shop(root: Path, place: Place, names: tuple[str, ...]) -> Iterator[Shop]:
    """A project with Sentinel's tables and an alert of each name."""
    with receiving() as receiver:
        shop = Shop(root, place, receiver)
        shop.write("dbt_project.yml", PROJECT)
        shop.write("profiles.yml", yaml.safe_dump(profile(place)))
        place.execute(f"create table {place.schema}.orders (name varchar(100), amount integer)")
        values = ", ".join(f"('{name}', 1)" for name in names)
        place.execute(f"insert into {place.schema}.orders values {values}")
        for name in names:
            shop.alert(name)
        shop.run("init")
        (root / "models" / "alerts" / "example_alert.sql").unlink(missing_ok=True)
        shop.configure()
        try:
            yield shop
        finally:
            for each in shop.daemons:
                if each.process.poll() is None:
                    each.signal(signal.SIGCONT)
                    each.kill()
