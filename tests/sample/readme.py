"""Writes the README's samples anew: `make readme`.

The terminal output is that of the demo's two runs, the picture that of the message in Slack.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sentinel.core.notification import Notification, Status
from sentinel.core.state import Event
from sentinel.ports import Message
from tests.channels.contract import build
from tests.channels.receiver import receiving
from tests.fakes import NOW

from .conftest import ROOT, BuiltShop, load_script, run_dbt

README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "images" / "slack-message.svg"
RUNS = ("first run", "second run")
_SAMPLE = re.compile(r"(<!-- demo: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# What differs from run to run: times, dates and durations, and the width of their columns.
_VARYING = re.compile(
    r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?|\b\d+(\.\d+)?[smh]\b|(?<=in )\d+\.\d+ s|[ \t]+"
)
_WIDTH, _LINE, _FONT = 760, 22, 15


def run_finance(shop: Path, bin_dir: Path) -> str:
    """A run's output as a terminal shows it."""
    demo = load_script("demo")
    command = ["sentinel", *demo.FINANCE]
    done = subprocess.run(
        [bin_dir / command[0], *command[1:]],
        cwd=shop,
        env=demo.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == demo.SOMETHING_FIRES, done.stdout
    lines = (line.rstrip() for line in done.stdout.rstrip().splitlines())
    return "\n".join((f"$ {' '.join(command)}", *lines))


def samples(shop: BuiltShop) -> dict[str, str]:
    """The output of the demo's first two runs. The shop is built, and has not been evaluated."""
    return {name: run_finance(shop.path, shop.place.bin) for name in RUNS}


def slack_lines(shop: Path) -> list[str]:
    """The message that Slack shows for the first notification, in Slack's markup."""
    log = shop / "target/notifications.jsonl"
    payload: dict[str, Any] = json.loads(log.read_text(encoding="utf-8").splitlines()[0])
    row = Notification(
        notification_id="example",
        message_id="example",
        project="shop",
        channel="slack",
        event=Event(payload["event"]),
        n=0,
        episode_id=payload["episode_id"],
        alert_id=payload["alert_id"],
        instance="",
        incident_id=None,
        reason=payload["reason"],
        payload=payload,
        status=Status.PENDING,
        created_at=NOW,
        not_before=NOW,
    )
    with receiving((200, "text/plain", "ok")) as receiver, tempfile.TemporaryDirectory() as folder:
        channel, _ = build(
            "slack", {"webhook_url": receiver.url, "allow_private": True}, Path(folder)
        )
        channel.send(Message("example", "slack", (row,)))
        blocks = json.loads(receiver.got[0].body)["blocks"]
    return [line for block in blocks for line in block["text"]["text"].splitlines()]


def picture(lines: list[str]) -> str:
    """A message as Slack lays it out, as SVG."""
    head, *rest = lines
    rows = [part for line in rest for part in _folded(line)]
    height = 88 + _LINE * len(rows)
    text = "\n".join(
        f'  <text x="76" y="{94 + _LINE * place}" font-size="{_FONT}">{row}</text>'
        for place, row in enumerate(rows)
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" \
font-family="Lato, 'Helvetica Neue', Arial, sans-serif" fill="#1d1c1d">
  <rect width="{_WIDTH}" height="{height}" rx="8" fill="#ffffff" stroke="#dddddd"/>
  <rect x="20" y="18" width="40" height="40" rx="6" fill="#4a154b"/>
  <text x="40" y="45" font-size="20" fill="#ffffff" text-anchor="middle">S</text>
  <text x="76" y="34" font-size="{_FONT}" font-weight="900">Sentinel</text>
  <text x="76" y="66" font-size="19" font-weight="900">{html.escape(head)}</text>
{text}
</svg>
"""


def _folded(line: str, most: int = 88) -> Iterator[str]:
    """A line of Slack's markup as lines of SVG text."""
    label, bold, rest = re.match(r"(\*[^*]+\*)?()(.*)", line).groups()  # type: ignore[union-attr]  # always matches
    plain = re.sub(r"<[^|>]*\|([^>]*)>", r"\1", html.unescape(rest)).replace("`", "")
    words = plain.split(" ")
    name = (label or bold).strip("*")
    shown = f'<tspan font-weight="700">{html.escape(name)}</tspan>' if name else ""
    width = len(name)
    for word in words:
        if width + len(word) > most:
            yield shown
            shown, width = "", 0
        shown += html.escape(word) + " "
        width += len(word) + 1
    yield shown.rstrip()


def written(text: str, outputs: dict[str, str]) -> str:
    """The README with these outputs."""
    return _SAMPLE.sub(
        lambda found: f"{found[1]}\n```text\n{outputs[found[2]]}\n```\n\n{found[3]}", text
    )


def essence(text: str) -> str:
    """A text without what differs from run to run."""
    return _VARYING.sub(" ", text)


def main() -> None:
    """Build the shop, run it twice, and write README and picture."""
    demo = load_script("demo")
    from tests.places.duckdb import DuckDbPlace

    with tempfile.TemporaryDirectory() as folder:
        path: Path = demo.scratch_copy(Path(folder))
        shop = run_dbt(path, DuckDbPlace(path / "shop.duckdb"), ["deps"], ["build"])
        outputs = samples(shop)
        README.write_text(written(README.read_text(encoding="utf-8"), outputs), encoding="utf-8")
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(picture(slack_lines(path)), encoding="utf-8")


if __name__ == "__main__":
    main()
