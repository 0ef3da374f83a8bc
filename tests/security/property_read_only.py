"""`make security-fuzz`: hostile SQL on every warehouse for so many minutes, and what became of it."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.places.place import PlaceMissing
from tests.places.servers import Servers

from .hostile_sql import DIALECTS, TARGETS, Target, open_target, texts

BATCH = 500


def attack(target: Target, name: str, examples: int, from_seed: int) -> None:
    """Try so many generated texts. Raises AssertionError with the smallest text that did harm."""

    @seed(from_seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(text=texts(DIALECTS[name]))
    def each(text: str) -> None:
        target.attack(text)

    each()


def main() -> None:
    minutes = float(os.environ.get("MINUTES", "60"))
    names = sys.argv[1:] or list(TARGETS)
    servers = Servers()
    failed = False
    print(f"hostile SQL for {minutes:g} minutes on {', '.join(names)}", flush=True)  # noqa: T201
    with servers.running:
        for name in names:
            failed |= not _for_a_while(servers, name, minutes * 60 / len(names))
    sys.exit(failed)


def _for_a_while(servers: Servers, name: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    first = number = int(os.environ.get("SEED", time.time_ns() % 1_000_000_000))
    harmless = True
    with tempfile.TemporaryDirectory() as folder:
        try:
            with open_target(name, servers, Path(folder)) as target:
                while time.monotonic() < deadline:
                    try:
                        attack(target, name, BATCH, number)
                    except AssertionError as error:
                        harmless = False
                        print(f"{name}, SEED={number}: {error}", flush=True)  # noqa: T201
                    number += 1
                print(f"{name}: {target.tally} (from SEED={first})", flush=True)  # noqa: T201
        except PlaceMissing as error:
            print(f"{name}: left out, {error}", flush=True)  # noqa: T201
    return harmless


if __name__ == "__main__":
    main()
