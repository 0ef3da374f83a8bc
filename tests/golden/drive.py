"""Plays one story: the only module here that knows Sentinel's own modules."""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from sentinel.app.acknowledge import Acknowledgement, acknowledge_alerts
from sentinel.app.alerts import Alerts, select_alerts
from sentinel.app.batch import BatchOptions, EvaluatedBatch
from sentinel.app.delivery.delivery import Delivery
from sentinel.app.documents import run_document
from sentinel.app.evaluate import Evaluation
from sentinel.app.project_health import record_project
from sentinel.app.report import report
from sentinel.app.silences import SilenceRequest, silence, unsilence
from sentinel.app.slots import at_slot, due_now
from sentinel.app.timed_planning import TimedPlanning
from sentinel.core.alert import DefinitionContext
from sentinel.core.errors import DeliveryError, QueryError, SentinelError
from sentinel.core.evaluation import QueryResult
from sentinel.core.notification import Status
from sentinel.core.project import AlertSource, Selection
from sentinel.core.routing import Routing, Traits
from sentinel.core.values import to_json
from sentinel.ports import Batch, Decision, HistoryQuery, Lease
from tests.fakes import NOW, Clock, FakeChannel, FakeProject, FakeWarehouse, MemoryStore, Tables

PROJECT, HOLDER, TARGET = "shop", "me", "prod"
CHANNELS = ("ops", "oncall", "archive")
MINUTE = timedelta(minutes=1)


def plain(value: Any) -> Any:
    """Any of Sentinel's values as JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in sorted(value.items(), key=str)}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


class Racing(MemoryStore):
    """A store on which another writer may be first, once."""

    rival: Callable[[], None] | None = None

    def _write(self, batch: Batch) -> None:
        rival, self.rival = self.rival, None
        if rival is not None:
            rival()
        super()._write(batch)


class Story:
    """A project, its warehouse, its store and its channels, and all that happens to them."""

    def __init__(self, sources: Sequence[AlertSource], *, whole: bool = False) -> None:
        """With `whole`, what each step returned is recorded, else a digest of it."""
        self.whole = whole
        self.sources = list(sources)
        self.clock = Clock()
        self.store = Racing(self.clock, PROJECT, Tables())
        self.project = FakeProject(self.sources)
        self.warehouse = FakeWarehouse()
        self.channels = {
            name: FakeChannel(name, Traits(groups=name == "archive")) for name in CHANNELS
        }
        traits = {name: channel.traits for name, channel in self.channels.items()}
        self.routing = Routing(traits, (), "archive")
        self.delivery = Delivery(
            self.store,
            self.channels,
            HOLDER,
            sleep=self.clock.sleep,
            clock=self.clock.monotonic,
            fallback="archive",
        )
        self.lease: Lease | None = None
        self.records: list[Any] = []

    # -- what happens

    def evaluate(self, **options: Any) -> Any:
        slots = options.pop("slots", None)
        alerts = self._alerts(options.pop("names", ()))
        if slots == "due":
            slotted = due_now(alerts, self.store)
            alerts, options["slots"] = slotted.alerts, slotted.slots
            options["triggered_by"] = "schedule"
        elif isinstance(slots, datetime):
            slotted = at_slot(alerts, slots, self.store)
            alerts, options["slots"] = slotted.alerts, slotted.slots
        if options.pop("fenced", False):
            options |= {"lease": self.lease, "lease_ttl": MINUTE}
        evaluation = Evaluation(
            self.project, self.warehouse, self.store, routing=self.routing, target=TARGET
        )
        return self._evaluated(evaluation(alerts, BatchOptions(1, **options)), options)

    def _evaluated(self, evaluated: EvaluatedBatch, options: Mapping[str, Any]) -> Any:
        delivered = (
            self.delivery(evaluated.messages, timedelta(), evaluated.claimed)
            if (options.get("holder"))
            else self.delivery((), timedelta())
        )
        sent = report(evaluated, delivered, 0.0, dry_run=bool(options.get("dry_run")))
        document = run_document(sent)
        for each in document["results"]:
            each["duration_ms"] = each["duration_ms"] is not None
        return {
            "document": document,
            "exit": sent.exit_code(None),
            "before": evaluated.recorded_before,
        }

    def plan_by_time(self, fenced: bool = False) -> Any:
        planning = TimedPlanning(self.store, PROJECT, self.routing, TARGET)
        lease = self.lease if fenced else None
        planned = planning(self._alerts(()), HOLDER, lease, MINUTE)
        return {"messages": planned.messages, "claimed": len(planned.claimed)}

    def acknowledge(self, name: str, dimensions: Mapping[str, str] | None) -> Any:
        wish = Acknowledgement("ada", "on it", dimensions)
        done = acknowledge_alerts(
            self.store, PROJECT, self.routing, self._alerts((name,)).all, wish, HOLDER
        )
        return {
            "now": [row.instance for row in done.now],
            "before": [row.instance for row in done.before],
            "notifications": [row.channel for row in done.notifications],
        }

    def silence(self, name: str, minutes: int, dimensions: Mapping[str, str] | None) -> Any:
        now = self.clock.now()
        wish = SilenceRequest(
            (f"model.shop.{name}",), None, dimensions, "planned", "ada", "root", None,
            now + minutes * MINUTE,
        )  # fmt: skip
        return silence(self.store, PROJECT, wish, now).silence_id

    def end_silences(self) -> Any:
        words = [each.silence_id for each in self.store.silences(self.clock.now())]
        return len(unsilence(self.store, words, {}, "ada").ended) if words else 0

    def deliver(self) -> Any:
        delivered = self.delivery(None, timedelta())
        return {"complete": delivered.complete}

    def retry_dead(self) -> Any:
        dead = tuple(row.notification_id for row in self.store.notifications([Status.DEAD]))
        return self._commit(Batch(revived=dead)) if dead else None

    def project_health(self, error: str | None) -> Any:
        rows = record_project(self.store, PROJECT, error, ("ops",), self.routing, HOLDER)
        return [row.channel for row in rows]

    def lead(self, holder: str) -> Any:
        lease = self.store.acquire_lease("daemon", holder, MINUTE)
        if holder == HOLDER and lease is not None:
            self.lease = lease
        return lease and lease.token

    def race(self, name: str) -> None:
        """Another writer changes an alert's rows before the next commit."""

        def rival() -> None:
            rows = self.store.snapshot([f"model.shop.{name}"]).states
            self._commit(Batch(tuple(replace(row, held_s=row.held_s or 0) for row in rows)))

        self.store.rival = rival

    def answer(self, name: str, answer: QueryResult | str) -> None:
        refused = QueryError(answer) if isinstance(answer, str) else answer
        self.warehouse.answers["select " + name] = refused

    def fail_channel(self, name: str, permanent: bool) -> None:
        self.channels[name].failures.append(DeliveryError("no", permanent=permanent))

    def remove(self, name: str) -> None:
        self.sources[:] = [each for each in self.sources if each.name != name]

    def disable(self, name: str) -> None:
        self.sources[:] = [
            replace(each, block={**each.block, "enabled": False}) if each.name == name else each
            for each in self.sources
        ]

    def wait(self, minutes: float) -> None:
        self.clock.pass_by(minutes * MINUTE)

    # -- what is recorded

    def play(self, action: str, *args: Any, **options: Any) -> None:
        """Do something, and record what came of it and every row afterwards."""
        try:
            outcome = getattr(self, action)(*args, **options)
        except SentinelError as error:
            outcome = f"{type(error).__name__}: {error.message}"
        self.records.append(
            {
                "action": [action, plain(args), plain(options)],
                "outcome": plain(outcome) if self.whole else _digest(plain(outcome)),
                "rows": _digest(self.rows()),
            }
        )

    def rows(self) -> Any:
        """Every row of the tables, but for times that are this machine's."""
        history = [
            replace(row, duration_ms=None) for row in self.store.history(HistoryQuery(limit=9_999))
        ]
        return plain(
            {
                "states": sorted(self.store.snapshot().states, key=lambda row: row.state_key),
                "history": sorted(history, key=lambda row: (row.recorded_at, row.evaluation_id)),
                "notifications": self.store.notifications(Status, 9_999),
                "silences": self.store.silences(),
                "lease": self.store.lease("daemon"),
            }
        )

    def payloads(self) -> str:
        """A digest of the bytes of all payloads, in the order of the notifications."""
        rows = self.store.notifications(Status, 9_999)
        return hashlib.sha256("\n".join(to_json(row.payload) for row in rows).encode()).hexdigest()

    def sent(self) -> list[str]:
        return [
            f"{name}: {row.event} {row.payload['alert']} {row.instance}".strip()
            for name, channel in self.channels.items()
            for message in channel.accepted
            for row in message.notifications
        ]

    def _alerts(self, names: Sequence[str]) -> Alerts:
        context = DefinitionContext(
            defaults={"channels": ["ops"], "timezone": "UTC"}, routing=self.routing
        )
        found = select_alerts(self.project, context, Selection(), may_be_none=True)
        if not names:
            return found
        return replace(
            found,
            valid=tuple(each for each in found.valid if each.name in names),
            broken=tuple(each for each in found.broken if each.name in names),
        )

    def _commit(self, batch: Batch) -> None:
        self.store.commit([], lambda _: Decision(batch, None))


@contextmanager
def without_chance() -> Iterator[None]:
    """Random ids and delays, the same ones in each process."""
    numbers = random.Random(7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "random", lambda: 0.5)
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=numbers.getrandbits(128), version=4))
        yield


def _digest(rows: Any) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


__all__ = ["NOW", "Story", "without_chance"]
