"""A dbt project that can't be read notifies like an alert that can't be evaluated."""

from __future__ import annotations

from collections.abc import Sequence

from sentinel.app.project_health import project_alert_id, record_project
from sentinel.core.notification import Notification, Status
from sentinel.core.routing import Routing, Traits
from sentinel.core.state import Event, Health
from sentinel.ports import Attempt, Batch, HistoryQuery
from tests.fakes import MemoryStore, mark, state, write

ROUTING = Routing({"log": Traits(groups=False), "chat": Traits()})


def record(store: MemoryStore, error: str | None) -> Sequence[Notification]:
    """Record a reading of the project, and send what is to be sent."""
    rows = record_project(store, "shop", error, ("log", "chat"), ROUTING, "me")
    for row in rows:
        mark(store, [row], Attempt(Status.SENT))
    return rows


def test_a_project_that_can_t_be_read_notifies_its_channels_at_once() -> None:
    store = MemoryStore()
    rows = record(store, "no such model")
    assert {(row.channel, row.event, row.status) for row in rows} == {
        ("log", Event.ERROR, Status.CLAIMED),
        ("chat", Event.ERROR, Status.CLAIMED),
    }
    [head] = store.snapshot().states
    assert (head.alert_id, head.alert, head.health) == (
        project_alert_id("shop"),
        "dbt_project",
        Health.FAILING,
    )
    [row] = store.history(HistoryQuery())
    assert (row.triggered_by, row.error) == ("reload", "no such model")


def test_the_same_error_again_writes_and_sends_nothing() -> None:
    store = MemoryStore()
    record(store, "no such model")
    commits = store.commits
    assert record(store, "no such model") == ()
    assert store.commits == commits


def test_a_readable_project_of_which_nothing_is_known_writes_nothing() -> None:
    store = MemoryStore()
    assert record(store, None) == ()
    assert store.commits == 0


def test_a_project_that_can_be_read_again_resolves_and_its_rows_are_dropped() -> None:
    store = MemoryStore()
    record(store, "no such model")
    assert {row.event for row in record(store, None)} == {Event.ERROR_RESOLVED}
    assert store.snapshot().states == ()
    assert len(store.history(HistoryQuery())) == 2


def test_a_row_that_another_daemon_dropped_first_is_not_made_anew() -> None:
    store = MemoryStore()
    record(store, "no such model")

    class Racing(MemoryStore):
        """Another daemon reads the project first."""

        raced = False

        def _write(self, batch: Batch) -> None:
            if not self.raced:
                self.raced = True
                record(MemoryStore(self.clock, tables=self.tables), None)
            super()._write(batch)

    rival = Racing(store.clock, tables=store.tables)
    assert record(rival, None) == (), "its notification is the other daemon's"
    assert rival.snapshot().states == ()


def test_other_alerts_rows_stay() -> None:
    store = MemoryStore()
    write(store, Batch(states=(state(),)))
    record(store, "no such model")
    record(store, None)
    assert [row.alert for row in store.snapshot().states] == ["revenue"]
