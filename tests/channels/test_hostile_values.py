"""What a warehouse may hold, on its way from the query through the store to every channel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentinel.app.batch import BatchOptions
from sentinel.app.delivery.delivery import Delivery
from sentinel.app.evaluate import Evaluation
from sentinel.core.notification import Status
from sentinel.core.project import Compiled
from sentinel.core.routing import Routing, Traits
from sentinel.ports import Channel, HistoryQuery, Store
from sentinel.store.postgres import PostgresDialect
from sentinel.warehouses.contract import Database, WarehouseContext
from sentinel.warehouses.duckdb import DuckDb
from sentinel.warehouses.postgres import Postgres
from tests.fakes import FakeProject, alerts_of, source
from tests.places.place import Place
from tests.security.registry import (
    EXAMPLES,
    HTTP_CHANNELS,
    HTTP_EXAMPLES,
    LOCAL_CHANNELS,
    SMTP_CHANNELS,
    channel_type,
)
from tests.store import made

from .contract import Said, build
from .receiver import receiving
from .slack_stub import slack
from .smtp_server import mail_server

BOTH = pytest.mark.parametrize("place", ["duckdb", "postgres"], indirect=True)
TOO_LONG = ("megabyte", "huge")
COMMON = {
    "megabyte": "repeat('x<&*', 250000)",
    "rtl": "chr(8238) || 'gnp.exe' || chr(27) || '[2J' || chr(10) || chr(13) || 'X: y'",
    "decimal": "cast('-12.50' as decimal(18, 2))",
    "whole": "cast('99999999999999999999999999999999999999' as decimal(38, 0))",
    "last": "cast('9999-12-31 23:59:59.999999' as timestamp)",
    "last_east": "cast('9999-12-31 12:59:59.999999-11' as timestamptz)",
    "day": "cast('9999-12-31' as date)",
    "hour": "cast('23:59:59.5' as time)",
    "some_time": "interval '3 days 2 hours'",
    "id": "cast('00000000-0000-0000-0000-000000000001' as uuid)",
    "nothing": "null",
    "yes": "true",
}
OWN = {
    "duckdb": {
        "nan": "'nan'::double",
        "infinite": "'-infinity'::double",
        "bytes": "'\\x00\\xFFa'::blob",
        "nul": "chr(0) || 'x'",
        "huge": "170141183460469231731687303715884105727::hugeint",
        "list": "[1, null, 'nan'::double]",
        "struct": "{'a': {'b': chr(0)}}",
        "map": "map {1: 'x'}",
        "forever": "'infinity'::timestamp",
        "kind": "'a'::enum('a', 'b')",
        "zoned": "'12:00:00+02'::timetz",
        "bits": "'0101'::bit",
    },
    "postgres": {
        "nan": "'nan'::numeric",
        "infinite": "'-infinity'::float8",
        "bytes": "'\\x00ff61'::bytea",
        "huge": "('1' || repeat('0', 6000))::numeric",
        "list": "array[1, null]",
        "struct": """'{"a": {"b": "\\\\u0001"}}'::jsonb""",
        "row": "row(1, 'x')",
        "address": "'::1'::inet",
        "range": "'[1,5)'::int4range",
        "zoned": "'12:00:00+02'::timetz",
        "bits": "b'0101'",
        "forever": "'infinity'::timestamptz",
        "never": "'-infinity'::date",
    },
}


def columns(kind: str) -> dict[str, str]:
    return COMMON | OWN[kind]


@contextlib.contextmanager
def every_channel(folder: Path) -> Iterator[dict[str, Channel]]:
    """One channel of each type, and its receiver on loopback."""
    with contextlib.ExitStack() as stack:
        stub = stack.enter_context(slack("token"))
        mailbox = stack.enter_context(mail_server(folder, "none"))
        urls = {
            name: stack.enter_context(receiving(each.accepts)).url
            for name, each in HTTP_EXAMPLES.items()
        }
        urls["slack by token"] = stub.url
        blocks: dict[str, dict[str, Any]] = {
            **LOCAL_CHANNELS,
            **{name: settings(mailbox.port) for name, settings in SMTP_CHANNELS.items()},
            **{name: settings(urls[name]) for name, settings in HTTP_CHANNELS.items()},
        }
        yield {
            name: build(channel_type(name), block, folder, Said(), name)[0]
            for name, block in blocks.items()
        }


def _traits(channels: dict[str, Channel]) -> dict[str, Traits]:
    return {name: channel.traits for name, channel in channels.items()}


class Shop:
    """A warehouse that is its own store."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.database: Database
        if place.name == "duckdb":
            path = Path(place.output["path"])
            made.create_tables(path)
            self.database = DuckDb(place.output, WarehouseContext(folder))
            relations = made.relations_of(path.stem, made.declared_columns())
            self.store: Store = made.open_store(self.database, relations)
        else:
            place.execute("; ".join(made.create_statements("postgres")))
            self.database = Postgres(place.output, WarehouseContext(folder))
            relations = made.relations_of(
                place.output["dbname"], made.declared_columns("postgres"), place.schema
            )
            self.store = made.open_store(self.database, relations, dialect=PostgresDialect())

    def tell(
        self, folder: Path, queries: dict[str, tuple[str, dict[str, Any]]]
    ) -> dict[str, list[Status]]:
        """Evaluate alerts and tell every channel; what became of the messages by channel."""
        sources = [source(name, block) for name, (_, block) in queries.items()]
        compiled = {
            f"model.shop.{n}": Compiled(f"model.shop.{n}", q[0]) for n, q in queries.items()
        }
        with every_channel(folder) as channels:
            project, routing = FakeProject(sources, compiled), Routing(_traits(channels))
            evaluate = Evaluation(project, self.database, self.store, routing=routing)
            evaluated = evaluate(alerts_of(*sources, channels=channels), BatchOptions(2))
            errors = {each.alert.name: each.result.error for each in evaluated.evaluations}
            assert not any(errors.values()), errors
            Delivery(self.store, channels, "here")()
        found: dict[str, list[Status]] = {}
        for row in self.store.notifications(Status):
            assert row.last_error is None, (row.channel, row.last_error)
            found.setdefault(row.channel, []).append(row.status)
        return found


def assert_all_sent(found: dict[str, list[Status]], each: int) -> None:
    assert {name: set(states) for name, states in found.items()} == {
        name: {Status.SENT} for name in found
    }
    assert set(found) == set(EXAMPLES)
    assert {len(states) for states in found.values()} == {each}


@BOTH
def test_whatever_a_column_holds_is_told_by_every_channel(place: Place, tmp_path: Path) -> None:
    shop = Shop(place, tmp_path)
    listed = ", ".join(f"{sql} as {name}_" for name, sql in columns(place.name).items())
    sql = f"select 'ALERT' as status, {listed}, {COMMON['megabyte']} as message"
    assert_all_sent(shop.tell(tmp_path, {"odd": (sql, {})}), 1)
    [row] = [each for each in shop.store.history(HistoryQuery()) if each.context]
    assert row.context is not None
    assert row.context["decimal_"] == -12.5
    assert row.context["megabyte_"].endswith("… (1,000,000 characters, cut)")
    assert len(str(row.context)) < 12_000
    assert (row.message or "").endswith("characters, cut)")


@BOTH
def test_whatever_a_dimension_holds_is_told_by_every_channel(place: Place, tmp_path: Path) -> None:
    shop = Shop(place, tmp_path)
    # Longer ones are refused: tests/security/one_bad_thing.
    names = {name: sql for name, sql in columns(place.name).items() if name not in TOO_LONG}
    listed = ", ".join(f"{sql} as {name}_" for name, sql in names.items())
    block = {"dimensions": [f"{name}_" for name in names]}
    sql = f"select 'ALERT' as status, {listed}"
    assert_all_sent(shop.tell(tmp_path, {"odd": (sql, block)}), 1)


@BOTH
def test_whatever_stands_in_a_sample_is_told_by_every_channel(place: Place, tmp_path: Path) -> None:
    shop = Shop(place, tmp_path)
    listed = ", ".join(f"{sql} as {name}_" for name, sql in columns(place.name).items())
    assert_all_sent(shop.tell(tmp_path, {"odd": (f"select {listed}", {"samples": 5})}), 1)
    sent = shop.store.notifications(Status)[0].payload
    [sample] = sent["context"]["samples"]
    assert sample["megabyte_"].endswith("… (1,000,000 characters, cut)")
    assert len(str(sample)) < 12_000


@BOTH
def test_whatever_a_message_holds_is_told_by_every_channel(place: Place, tmp_path: Path) -> None:
    """Many at once, so that chats get them as one message too."""
    shop = Shop(place, tmp_path)
    queries: dict[str, tuple[str, dict[str, Any]]] = {
        f"odd_{name}": (f"select 'ALERT' as status, {sql} as message", {})
        for name, sql in columns(place.name).items()
    }
    assert_all_sent(shop.tell(tmp_path, queries), len(queries))
