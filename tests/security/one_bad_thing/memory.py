"""The peak memory of one evaluation, in a process of its own.

python -m tests.security.one_bad_thing.memory [WORD ...]
                                                     all measurements that have one of these words
                                                     in their names (`1 GB on duckdb`), as a table
python -m tests.security.one_bad_thing.memory CASE KIND PROFILE
                                                     one, of which the parent reads the peak
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.peak import peak_bytes
from tests.places.place import ROOT, Place
from tests.places.servers import Servers

from .shop import Definition, Shop, make_tables, opened, store_of

MODULE = "tests.security.one_bad_thing.memory"  # which is `__main__` when it is run
KINDS = ("duckdb", "postgres", "sqlite")
MEGABYTE = 1_000_000
COLUMNS = {"postgres": 1_600, "sqlite": 1_900}


@dataclass(frozen=True)
class Case:
    """One evaluation. `sql` makes its query for a kind of warehouse; `setup` is run before."""

    sql: Callable[[str], str]
    block: Mapping[str, Any] = field(default_factory=dict)
    setup: Callable[[str], list[str]] = field(default=lambda _: [])


def repeated(kind: str, size: int) -> str:
    """A text of so many characters, made by the warehouse."""
    if kind == "sqlite":
        return f"replace(hex(zeroblob({size // 2})), '00', 'xx')"
    return f"repeat('x', {size})"


def numbers(kind: str, count: int) -> str:
    """A relation with a column n, from 0."""
    return {
        "duckdb": f"(select range as n from range({count})) as numbers",
        "postgres": f"generate_series(0, {count - 1}) as numbers(n)",
        "sqlite": "(with recursive numbers(n) as (select 0 union all select n + 1 from numbers "
        f"where n < {count - 1}) select n from numbers) as numbers",
        "bigquery": f"unnest(generate_array(0, {count - 1})) as n",
    }[kind]


def _stored(size: int) -> Callable[[str], list[str]]:
    """A table with one long text, as data has it: nothing that a planner could compute."""

    def statements(kind: str) -> list[str]:
        return [f"create table SCHEMA.long_texts as select {repeated(kind, size)} as words"]

    return statements


def _wide(kind: str) -> str:
    listed = ", ".join(f"{n} as column_{n}" for n in range(COLUMNS.get(kind, 5_000)))
    return f"select 'ALERT' as status, {listed}"


def _instances(kind: str) -> str:
    name = "cast(n as string)" if kind == "bigquery" else "cast(n as varchar)"
    return (
        f"select 'ALERT' as status, {name} as name, {repeated(kind, 900)} as a, "
        f"{repeated(kind, 900)} as b, {repeated(kind, 1900)} as message "
        f"from {numbers(kind, 10_000)}"
    )


CASES = {
    "small": Case(lambda _: "select 'ALERT' as status, 1 as n"),
    "dimension of 50 MB": Case(
        lambda _: "select 'ALERT' as status, words as d from SCHEMA.long_texts",
        {"dimensions": ["d"]},
        _stored(50 * MEGABYTE),
    ),
    "message of 200 MB": Case(
        lambda _: "select 'ALERT' as status, words as message from SCHEMA.long_texts",
        setup=_stored(200 * MEGABYTE),
    ),
    "message of 1 GB": Case(
        lambda _: "select 'ALERT' as status, words as message from SCHEMA.long_texts",
        setup=_stored(999 * MEGABYTE),
    ),
    "rows with a dimension of 50 MB": Case(
        lambda _: "select words as d from SCHEMA.long_texts",
        {"dimensions": ["d"]},
        _stored(50 * MEGABYTE),
    ),
    "5,000 columns": Case(_wide),
    "10,000 instances": Case(_instances, {"dimensions": ["name"]}),
    "10 million rows": Case(
        lambda kind: f"select n from {numbers(kind, 10_000_000)}", {"shape": "rows"}
    ),
    "10 million rows of a status query": Case(
        lambda kind: f"select 'ALERT' as status, n from {numbers(kind, 10_000_000)}",
        {"dimensions": ["n"]},
    ),
    "10 million rows of 10,000 instances": Case(
        lambda kind: (
            f"select {'mod(n, 10000)' if kind == 'bigquery' else 'n % 10000'} as d "
            f"from {numbers(kind, 10_000_000)}"
        ),
        {"dimensions": ["d"]},
    ),
}


def measured(case: str, place: Place) -> tuple[float, dict[str, Any]]:
    """(peak in megabytes, what the evaluation came to) of a child process."""
    make_tables(place)
    _set_up(place, [each.replace("SCHEMA", place.schema) for each in CASES[case].setup(place.name)])
    started = subprocess.Popen(
        [sys.executable, "-m", MODULE, case, place.name, json.dumps(place.output)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert started.stdout is not None
    said = started.stdout.read()
    if started.wait() != 0:
        raise AssertionError(f"{case} on {place.name} ended with {started.returncode}")
    found = json.loads(said)
    return found["peak_mb"], found


def _set_up(place: Place, statements: list[str]) -> None:
    """Make what is long. SQLite's limit holds for a process that has evaluated there before."""
    if place.name != "sqlite":
        for statement in statements:
            place.execute(statement)
    elif statements:
        file = place.output["schemas_and_paths"]["main"]
        script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])"
        words = [sys.executable, "-c", script, file, ";".join(statements)]
        subprocess.run(words, check=True)


def evaluate(case: str, kind: str, output: Mapping[str, Any]) -> None:
    schema = str(output.get("dataset") or output["schema"])
    alert: Definition = (CASES[case].sql(kind).replace("SCHEMA", schema), CASES[case].block)
    database = opened(kind, output, ROOT)
    shop = Shop(kind, database, store_of(kind, output, database))
    evaluated = shop.evaluate({"measured": alert})
    (seen,) = evaluated.evaluations
    first = next(iter(seen.result.observations), None)
    print(  # noqa: T201 - what it is for
        json.dumps(
            {
                "peak_mb": peak_bytes() / 1024**2,
                "outcome": str(seen.result.outcome),
                "error": seen.result.error,
                "instances": len(seen.result.observations),
                "failures": first and first.failures,
                "message": first and first.message,
                "context": first and dict(first.context),
                "notifications": len(evaluated.plan.notifications),
            }
        )
    )


def _measure_all(words: list[str]) -> None:
    with ExitStack() as running:
        servers = Servers(running)
        for case in CASES:
            for kind in KINDS:
                if words and not any(word in f"{case} on {kind}" for word in words):
                    continue
                with (
                    tempfile.TemporaryDirectory() as folder,
                    servers.open_place(kind, Path(folder)) as place,
                ):
                    peak, said = measured(case, place)
                result = said["error"] or f"{said['outcome']}, {said['instances']} instances"
                line = f"{case:<36} {kind:<9} {peak:>6.0f} MB  {result[:90]!r}"
                print(line, flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    if len(sys.argv) == 4:
        evaluate(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    else:
        _measure_all(sys.argv[1:])
