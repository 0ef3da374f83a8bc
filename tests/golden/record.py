"""Writes the recorded files anew: `python -m tests.golden.record`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.golden import schedules
from tests.golden.stories import STORIES, play

FOLDER = Path(__file__).parent / "recorded"
PER_FILE = 40


def parts() -> dict[str, list[int]]:
    """The seeds of each file."""
    return {
        f"stories_{first:03}.json": list(range(first, min(first + PER_FILE, STORIES)))
        for first in range(0, STORIES, PER_FILE)
    }


def write(name: str, content: Any) -> None:
    lines = (f"{json.dumps(key)}: {json.dumps(each)}" for key, each in content.items())
    (FOLDER / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


if __name__ == "__main__":
    for file, seeds in parts().items():
        write(file, {str(seed): play(seed) for seed in seeds})
    write("slots.json", schedules.slots())
    write("refusals.json", schedules.refusals())
