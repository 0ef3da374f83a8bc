"""The daemon with many alerts: its memory over a long time, and a minute in which all are due.

`python -m tests.daemon.soak ALERTS SLOTS` needs no waiting: the clock is one that is moved. The tables
are on a real PostgreSQL, the queries are stubs that take 50 ms.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sentinel.app.alerts import select_alerts
from sentinel.app.daemon.parts import Intervals, LoadedProject
from sentinel.app.delivery.delivery import Delivery
from sentinel.app.evaluate import Evaluation
from sentinel.app.timed_planning import TimedPlanning
from sentinel.bootstrap.daemon_parts import assemble_daemon
from sentinel.core.alert import DefinitionContext
from sentinel.core.evaluation import Excerpt, QueryDescription
from sentinel.core.project import AlertSource, Selection
from sentinel.core.routing import Routing, Traits
from sentinel.ports import Query, Session
from sentinel.store.leadership import TableLeadership
from sentinel.store.postgres import PostgresDialect
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.postgres import Postgres
from sentinel.web.metrics import Metrics
from tests.fakes import FakeChannel, FakeProject, status
from tests.places.place import Place
from tests.places.postgres import run_postgres
from tests.store import made

MINUTE = timedelta(minutes=1)
ROUTING = Routing({"log": Traits(groups=False)})
_THREADS = 32
_QUERY_S = 0.05


@dataclass
class Stub:
    """Answers OK to every query after a while, and remembers when each began."""

    pause: float = 0.0
    began: list[float] = field(default_factory=list)
    exclusive: bool = False

    @contextmanager
    def open(self) -> Iterator[Session]:
        yield self

    def timestamp_literal(self, moment: datetime) -> str:
        return f"timestamp '{moment:%Y-%m-%d %H:%M}'"

    def describe(self, query: Query) -> QueryDescription:
        return QueryDescription(("status",))

    def fetch(self, query: Query, limit: int, excerpt: Excerpt | None = None) -> Any:
        self.began.append(time.monotonic())
        time.sleep(self.pause)
        return status("OK", actual_value=1.0, threshold=2.0)

    def count(
        self,
        query: Query,
        dimensions: Sequence[str],
        limit: int,
        excerpt: Excerpt | None = None,
    ) -> Any:
        return self.fetch(query, limit)

    def sample(
        self,
        query: Query,
        dimensions: Sequence[str],
        size: int,
        excerpt: Excerpt | None = None,
    ) -> Any:
        return self.fetch(query, size)


class Silent:
    """A log that keeps nothing."""

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None: ...

    def error(self, event: str, **fields: Any) -> None:
        raise AssertionError(f"{event}: {fields}")


@dataclass
class Measured:
    """What came of it: memory in MiB, lags in seconds."""

    loaded_mib: float
    settled_mib: float
    ended_mib: float
    evaluations: int
    expected: int
    lag_p99_s: float
    burst: int

    def __str__(self) -> str:
        growth = self.ended_mib / self.settled_mib - 1
        return (
            f"memory: {self.loaded_mib:.0f} MiB loaded, {self.settled_mib:.0f} MiB after the first "
            f"third of {self.evaluations:,} evaluations, {self.ended_mib:.0f} MiB after all of them: "
            f"{growth:+.1%}\n"
            f"all due in one minute: {self.burst:,} evaluated; of the first 1,000 the start lagged by "
            f"{self.lag_p99_s:.2f} s at the 99th percentile"
        )


def sources(number: int) -> list[AlertSource]:
    """Alerts as a project may have them, each hourly at a minute of its own."""
    return [
        AlertSource(
            f"model.shop.alert_{each:05d}",
            f"alert_{each:05d}",
            f"models/alerts/alert_{each:05d}.sql",
            {"schedule": f"{each % 60} * * * *", "shape": "status", "owner": "Finance"},
            description="Revenue of the last closed day is below what that weekday usually brings.",
            tags=("finance", "daily"),
            depends_on=(f"model.shop.orders_{each % 100}",),
            exposures=("dashboard",),
        )
        for each in range(number)
    ]


def soak(place: Place, number: int, slots: int) -> Measured:
    """Load so many alerts, let so many minutes pass, then let all be due in one."""
    for statement in made.create_statements("postgres"):
        place.execute(statement)
    database = Postgres(place.output, WarehouseContext(Path()))
    relations = made.relations_of(place.output["dbname"], made.declared_columns(), place.schema)
    store = made.open_store(database, relations, dialect=PostgresDialect())
    stub, clock = Stub(), Moving()
    alerts = sources(number)

    def load() -> LoadedProject:
        project = FakeProject(alerts)
        around = DefinitionContext(defaults={"channels": ["log"]}, routing=ROUTING)
        return LoadedProject(
            select_alerts(project, around, Selection()),
            Evaluation(project, stub, store, routing=ROUTING),
            TimedPlanning(store, "shop", ROUTING),
            store,
            "shop",
            ROUTING,
            {"log": FakeChannel()},
            threads=_THREADS,
        )

    ttl = timedelta(hours=1)
    daemon = assemble_daemon(
        load,
        TableLeadership(lambda: store, "shop", "me", ttl),
        lambda loaded: Delivery(loaded.store, loaded.channels, "me"),
        Metrics(),
        Silent(),
        "me",
        Intervals(lease_ttl=ttl),
        clock=lambda: clock.moment,
    )
    daemon.load_first()
    daemon.elect()
    daemon.start_due()
    daemon.parts.batches.settle()
    loaded = memory_mib()
    first = len(stub.began)
    settled = loaded
    for minute in range(slots):
        clock.moment += MINUTE
        daemon.start_due()
        daemon.parts.batches.settle()
        daemon.plan_timed()
        if minute == slots // 3:
            settled = memory_mib()
    ended, seen = memory_mib(), len(stub.began)
    # All of them are due at once.
    alerts[:] = [_every_minute(each) for each in alerts]
    daemon.parts.project.load_again()
    stub.began.clear()
    stub.pause = _QUERY_S
    clock.moment += MINUTE
    started = time.monotonic()
    daemon.start_due()
    daemon.parts.batches.settle()
    lags = sorted(began - started for began in sorted(stub.began)[:1_000])
    daemon.parts.batches.shutdown()
    due = sum(
        1 for minute in range(1, slots + 1) for each in range(number) if each % 60 == minute % 60
    )
    return Measured(
        loaded,
        settled,
        ended,
        seen,
        first + due,
        lags[int(len(lags) * 0.99) - 1],
        len(stub.began),
    )


@dataclass
class Moving:
    moment: datetime = datetime(2026, 1, 5, tzinfo=UTC)


def _every_minute(source: AlertSource) -> AlertSource:
    return replace(source, block={**source.block, "schedule": "* * * * *"})


def memory_mib() -> float:
    """The resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError("the system doesn't say")


def main(number: int, slots: int) -> None:
    with run_postgres() as server, server.database() as place:
        print(soak(place, number, slots))  # noqa: T201 - what it is for


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
