"""`make security-fuzz`: hostile SQL on every warehouse for so many minutes, and what became of it."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.places.place import PlaceMissing
from tests.places.servers import Servers

from .hostile_sql import DECIDING, TARGETS, Target, open_target, texts, without_guard

BATCH = 500
UNGUARDED = " alone"  # behind the name of a warehouse that decides without Sentinel's guard


def attack(target: Target, examples: int, from_seed: int) -> None:
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
    @given(text=texts(target.dialect))
    def each(text: str) -> None:
        target.attack(text)

    each()


def main() -> None:
    logging.disable()  # sqlglot warns of what it can't parse
    minutes = float(os.environ.get("MINUTES", "60"))
    names = sys.argv[1:] or [*TARGETS, *(f"{name}{UNGUARDED}" for name in DECIDING)]
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
            with (
                open_target(name.removesuffix(UNGUARDED), servers, Path(folder)) as target,
                ExitStack() as stack,
            ):
                if name.endswith(UNGUARDED):
                    stack.enter_context(without_guard(target))
                while time.monotonic() < deadline:
                    try:
                        attack(target, BATCH, number)
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
