"""A session with Sentinel on the sample shop: two alerts fire once, the data is repaired, one resolves.

It works on a scratch copy and leaves this directory unchanged. It checks every step: if one fails,
the demo says which and exits with 1.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

SAMPLE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
LEFT_BEHIND = (
    *("target", "logs", "dbt_packages", "package-lock.yml", "__pycache__"),
    *("*.duckdb*", "*.sqlite*"),
)
FINANCE = ("run", "--select", "tag:finance")
SOMETHING_FIRES = 1


class NotAsPromisedError(Exception):
    """A step of the session did not give the expected result."""


def scratch_copy(parent: Path) -> Path:
    """A copy of the sample project in `parent`, with the dbt package taken from this checkout."""
    shop = parent / "shop"
    shutil.copytree(SAMPLE, shop, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    packages = shop / "packages.yml"
    text = packages.read_text(encoding="utf-8")
    here = json.dumps(str(SAMPLE.parent))  # a JSON string is a YAML string, whatever the path holds
    packages.write_text(text.replace("local: ../", f"local: {here}"), encoding="utf-8")
    return shop


@dataclass
class NotificationLog:
    """The file that the channel `log` writes; `new()` returns the lines added since the last call."""

    path: Path
    seen: int = field(default=0, init=False)

    def new(self) -> list[tuple[str, str]]:
        """The event and the alert of each notification, sorted."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        added = [json.loads(line) for line in lines[self.seen :]]
        self.seen = len(lines)
        return sorted((line["event"], line["alert"]) for line in added)


def check_notified(log: NotificationLog, *wanted: tuple[str, str]) -> None:
    """Raise NotAsPromisedError unless exactly these notifications were sent since the last check."""
    sent = log.new()
    if sent != sorted(wanted):
        said, expected = (
            ", ".join(f"{alert} {event}" for event, alert in events) or "nothing"
            for events in (sent, sorted(wanted))
        )
        raise NotAsPromisedError(f"finance was notified of {said}, expected was {expected}")


@dataclass(frozen=True)
class Session:
    """A terminal session in the scratch copy."""

    shop: Path
    console: Console

    def title(self, text: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{text}", align="left")

    def say(self, text: str) -> None:
        self.console.print(text, style="italic", highlight=False)

    def prompt(self, command: str) -> None:
        self.console.print()
        self.console.print(
            f"$ {command}", style="bold cyan", markup=False, highlight=False, soft_wrap=True
        )
        self.console.file.flush()

    def dbt(self, *args: str) -> None:
        """Run dbt, showing its last line only, unless it fails."""
        self.prompt(shlex.join(("dbt", *args)))
        done = subprocess.run(  # noqa: S603 - our own command
            [BIN / "dbt", "--no-use-colors", *args],
            cwd=self.shop,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        output = done.stdout.strip()
        shown = output if done.returncode else output.rpartition("\n")[2]
        self.console.print(shown, style="dim", markup=False, highlight=False)
        if done.returncode:
            raise NotAsPromisedError(f"dbt {args[0]} failed with exit code {done.returncode}")

    def sentinel(self, *args: str, exits: Collection[int]) -> None:
        """Run sentinel with its own output, and check its exit code."""
        self.prompt(shlex.join(("sentinel", *args)))
        done = subprocess.run(  # noqa: S603 - our own command
            [BIN / "sentinel", *args],
            cwd=self.shop,
            env=environment(),
            stdin=subprocess.DEVNULL,
            check=False,
        )
        self.console.print(f"[dim](exit code {done.returncode})", highlight=False)
        if done.returncode not in exits:
            wanted = " or ".join(map(str, exits))
            raise NotAsPromisedError(
                f"sentinel {args[0]} ended with exit code {done.returncode}, not {wanted}"
            )


def environment() -> dict[str, str]:
    """This environment without settings for other dbt projects, and with no usage statistics."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DBT_", "SENTINEL_"))}
    return {**kept, "DO_NOT_TRACK": "1"}


def add_late_payments(shop: Path) -> None:
    """Append the late file, without its header, to the seed of payments."""
    late = (shop / "late/card_payments.csv").read_text(encoding="utf-8")
    with (shop / "seeds/raw_payments.csv").open("a", encoding="utf-8", newline="") as seed:
        seed.write(late.partition("\n")[2])


def play(session: Session) -> None:
    """The session itself; raises NotAsPromisedError."""
    log = NotificationLog(session.shop / "target/notifications.jsonl")

    session.title("1. A small shop, built by dbt")
    session.say(
        "Alerts are dbt models: dbt builds them with the other models and Sentinel's tables."
    )
    session.dbt("deps")
    session.dbt("build")

    session.title("2. The finance alerts run for the first time")
    session.say("Yesterday's card payments are missing, and four payments have no order.")
    session.sentinel(*FINANCE, exits=[SOMETHING_FIRES])
    check_notified(log, ("firing", "revenue_drop"), ("firing", "orphan_payments"))
    session.say("\nFinance's notifications are also in target/notifications.jsonl: 2 lines.")

    session.title("3. They run again: still firing, and nobody is notified twice")
    session.sentinel(*FINANCE, exits=[SOMETHING_FIRES])
    check_notified(log)
    session.say("\ntarget/notifications.jsonl has no new line.")

    session.title("4. The late card payments arrive, and are loaded")
    session.prompt("tail -n +2 late/card_payments.csv >> seeds/raw_payments.csv")
    add_late_payments(session.shop)
    session.dbt("build", "--select", "raw_payments+")

    session.title("5. Revenue is back: revenue_drop resolves")
    session.sentinel(*FINANCE, exits=[SOMETHING_FIRES])
    check_notified(log, ("resolved", "revenue_drop"))
    session.say("\norphan_payments still fires (exit code 1), and finance was already notified.")

    session.title("6. History and current states")
    session.sentinel("history", exits=[0])
    session.sentinel("status", exits=[0, SOMETHING_FIRES])


def show_next_steps(session: Session) -> None:
    steps = (
        (f'export PATH={shlex.quote(str(BIN))}:"$PATH"', ""),
        (f"cd {shlex.quote(str(session.shop))}", "the scratch copy, to try things in"),
        ("sentinel list", "all eleven alerts"),
        ("sentinel run", "the operations alerts too: late orders, low stock"),
        ("sentinel run -s order_backlog --vars '{max_open_orders: 40}'", "make one fire"),
        ("sentinel validate", "after changing something in models/alerts"),
        ("dbt docs generate && dbt docs serve", "from model to alert: the lineage"),
    )
    session.title("What to try next")
    for command, why in steps:
        note = f"  # {why}" if why else ""
        session.console.print(
            f"{command}{note}", markup=False, highlight=False, soft_wrap=True, style="cyan"
        )
    session.say("\nIn your own dbt project: `sentinel init`, then write an alert.")
    session.say(f"When done: rm -rf {shlex.quote(str(session.shop.parent))}")


def main() -> int:
    console = Console(width=None if sys.stdout.isatty() else 100)
    missing = [name for name in ("dbt", "sentinel") if not (BIN / name).exists()]
    if missing:
        names = " and ".join(missing)
        console.print(f"{names} not found next to {sys.executable}: run `make demo`.", markup=False)
        return 1
    started = time.monotonic()
    session = Session(scratch_copy(Path(tempfile.mkdtemp(prefix="sentinel-demo-"))), console)
    try:
        play(session)
    except NotAsPromisedError as problem:
        console.print(f"\nThe demo failed: {problem}.", style="bold red")
        console.print(f"The scratch copy is in {session.shop}", markup=False, soft_wrap=True)
        return 1
    show_next_steps(session)
    console.print(
        f"\nAll steps succeeded, in {time.monotonic() - started:.0f} seconds.", style="green"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
