"""Acknowledging open episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sentinel.app.acknowledge import (
    Acknowledged,
    Acknowledgement,
    acknowledge_alerts,
    claimed,
)
from sentinel.core.notification import Status
from sentinel.core.routing import Routing, Traits
from sentinel.core.severity import Severity
from sentinel.core.state import Event, Phase, State
from sentinel.core.values import to_json
from sentinel.ports import Batch, HistoryQuery
from tests.fakes import NOW, MemoryStore, alerts_of, notification, source, state, write

ROUTING = Routing({"log": Traits(groups=False, acknowledges=True), "chat": Traits()})


def firing(region: Any = None, **others: Any) -> State:
    given: dict[str, Any] = {
        "phase": Phase.FIRING,
        "episode_id": "episode",
        "episode_started": NOW,
        "peak_severity": Severity.WARNING,
    }
    if region is not None:
        name = f"region={to_json(region)}"
        given |= {"state_key": name, "instance": name, "dimensions": {"region": region}}
        given |= {"episode_id": name}
    return state(**given | others)


def acknowledge(
    store: MemoryStore,
    *,
    dimensions: Mapping[str, str] | None = None,
    block: Mapping[str, Any] | None = None,
) -> Acknowledged:
    alerts = alerts_of(source("revenue", block)).all
    request = Acknowledgement("ada", "on it", dimensions)
    return acknowledge_alerts(store, "shop", ROUTING, alerts, request, "me")


def store_with(*rows: State) -> MemoryStore:
    store = MemoryStore()
    write(store, Batch(states=rows))
    return store


def acknowledged_by(store: MemoryStore) -> dict[str, str | None]:
    return {row.instance: row.acked_by for row in store.snapshot().states}


def test_an_open_episode_gets_who_when_and_why() -> None:
    store = store_with(firing())
    result = acknowledge(store)
    [row] = store.snapshot().states
    assert (row.acked_by, row.acked_at, row.ack_comment) == ("ada", NOW, "on it")
    assert [each.instance for each in result.now] == [""]
    assert result.before == ()


def test_it_is_in_history_as_an_acknowledgement_without_an_outcome() -> None:
    store = store_with(firing())
    acknowledge(store)
    [row] = store.history(HistoryQuery())
    assert (row.kind, row.triggered_by, row.outcome) == ("acknowledgement", "manual", None)


def test_what_is_acknowledged_already_stays_with_its_first_author() -> None:
    store = store_with(firing(acked_by="bob", acked_at=NOW - timedelta(hours=1)))
    result = acknowledge(store)
    assert result.now == ()
    assert [row.acked_by for row in result.before] == ["bob"]
    assert acknowledged_by(store) == {"": "bob"}
    assert store.history(HistoryQuery()) == []


def test_calm_alerts_and_other_alerts_are_left_alone() -> None:
    store = store_with(state(phase=Phase.OK), firing(alert="stock"))
    assert acknowledge(store) == Acknowledged()
    assert set(acknowledged_by(store).values()) == {None}


def test_dimensions_narrow_it_to_instances_with_these_values() -> None:
    store = store_with(firing("eu"), firing("us"), firing(7))
    assert [row.dimensions for row in acknowledge(store, dimensions={"region": "us"}).now] == [
        {"region": "us"}
    ]
    assert acknowledged_by(store) == {'region="eu"': None, 'region="us"': "ada", "region=7": None}
    assert len(acknowledge(store, dimensions={"region": "7"}).now) == 1, "as people write a number"
    assert acknowledge(store, dimensions={"country": "us"}).now == ()


def test_rows_under_the_id_from_before_are_acknowledged_too() -> None:
    store = store_with(firing())
    assert len(acknowledge(store, block={"id": "daily"}).now) == 1


def test_a_channel_that_keeps_acknowledgements_is_notified_at_once() -> None:
    store = store_with(firing())
    write(store, Batch(notifications=(notification(status=Status.SENT),)))
    result = acknowledge(store)
    [new] = result.notifications
    assert (new.event, new.channel) == (Event.ACKNOWLEDGED, "log")
    assert claimed(result.notifications) == [new]
    assert store.notifications([Status.CLAIMED]) == [new]


def test_it_waits_for_an_earlier_message_that_is_just_being_sent() -> None:
    store = store_with(firing())
    earlier = notification(status=Status.CLAIMED, claimed_by="other", claim_until=NOW)
    write(store, Batch(notifications=(earlier,)))
    result = acknowledge(store)
    assert [row.event for row in result.notifications] == [Event.ACKNOWLEDGED]
    assert claimed(result.notifications) == []


def test_the_result_is_of_the_try_that_was_written() -> None:
    store = store_with(firing())

    class Racing(MemoryStore):
        """Somebody else acknowledges first."""

        raced = False

        def _write(self, batch: Batch) -> None:
            if not self.raced:
                self.raced = True
                [row] = self.snapshot().states
                write(self, Batch(states=(replace(row, acked_by="bob", acked_at=NOW),)))
            super()._write(batch)

    result = acknowledge(Racing(tables=store.tables))
    assert result.now == ()
    assert [row.acked_by for row in result.before] == ["bob"]
