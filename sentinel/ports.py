"""The ports: Protocols that the use cases depend on and adapters implement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from sentinel.core.evaluation import Excerpt, Outcome, QueryResult
from sentinel.core.evaluation import QueryDescription as QueryDescription
from sentinel.core.history import HistoryRow
from sentinel.core.notification import Notification, Status
from sentinel.core.project import AlertSource, Compiled, Location, Selection, StoreTables
from sentinel.core.routing import Traits
from sentinel.core.silence import Silence
from sentinel.core.state import State

T = TypeVar("T")


class Project(Protocol):
    """A dbt project as its manifest shows it."""

    @property
    def name(self) -> str:
        """The project's name in dbt_project.yml; it scopes rows in a shared store."""

    def alerts(self) -> Sequence[AlertSource]:
        """Every model with `config.meta.sentinel`, in order of unique_id.

        Raises ProjectError if dbt can't parse the project.
        """

    def select(self, selection: Selection) -> frozenset[str]:
        """The unique_ids of all models that dbt selects.

        Raises ProjectError if dbt rejects the selection.
        """

    def compile(self, unique_ids: Iterable[str]) -> Mapping[str, Compiled]:
        """The current SQL of each model. A model that doesn't compile has an error instead.

        Raises ProjectError if dbt can't parse the project.
        """

    def tables(self) -> StoreTables:
        """The relations of Sentinel's models. Raises ProjectError like `alerts`."""

    def locate(self, source: AlertSource, *keys: str) -> Location:
        """The location of an alert's `meta.sentinel.<keys...>`, or the nearest known line."""

    def hidden_block(self, source: AlertSource) -> Location | None:
        """The location of a `sentinel` block in YAML that a block in the SQL file replaces."""


@dataclass(frozen=True)
class Query:
    """An alert's SQL and its limits.

    `max_bytes_billed` applies if the warehouse bills by bytes, `labels` if it supports labels of
    queries. `own` is the alert's statement if `sql` is a query around it.
    """

    sql: str
    timeout: timedelta
    max_bytes_billed: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    own: str | None = None


@dataclass(frozen=True)
class Relation:
    """A table or view, as named in dbt's manifest; a part is None if the warehouse has no such part."""

    database: str | None
    schema: str
    name: str


@dataclass(frozen=True)
class Rights:
    """The user's privileges beyond reading, as text, and the statements that remove them.

    With `new_user`, the statements create a read-only user. `unchecked` is the reason why privileges
    were not checked.
    """

    beyond_reading: tuple[str, ...] = ()
    remedy: tuple[str, ...] = ()
    new_user: bool = False
    unchecked: str | None = None


class Session(Protocol):
    """An open warehouse. Safe to use from several threads."""

    def describe(self, query: Query) -> QueryDescription:
        """A query's columns and estimated bytes, without running it.

        Raises QueryError if the warehouse rejects the query.
        """

    def fetch(self, query: Query, limit: int, excerpt: Excerpt | None = None) -> QueryResult:
        """At most `limit` rows of a read-only query, complete or limited by an excerpt.

        Raises QueryError if it isn't a single SELECT, if the warehouse rejects it, if a value can't be
        read, or if it exceeds its limits; after its timeout it is cancelled on the warehouse.
        """

    def count(
        self,
        query: Query,
        dimensions: Sequence[str],
        limit: int,
        excerpt: Excerpt | None = None,
    ) -> QueryResult:
        """A query's number of rows for each combination of `dimensions`: their values, then the count.

        An excerpt refers to the columns of `dimensions`. Raises QueryError like `fetch`.
        """

    def sample(
        self,
        query: Query,
        dimensions: Sequence[str],
        size: int,
        excerpt: Excerpt | None = None,
    ) -> QueryResult:
        """Up to `size` rows of a query for each combination of `dimensions`.

        Raises QueryError like `fetch`.
        """


class Warehouse(Protocol):
    """The database that alerts read.

    If it is `exclusive`, nothing can be written to the same database while a session is open.
    """

    exclusive: bool

    def open(self) -> AbstractContextManager[Session]:
        """A session for one batch.

        Raises WarehouseError if it can't be reached, WarehouseLocked if another process holds it.
        """

    def timestamp_literal(self, moment: datetime) -> str:
        """An aware time as an SQL expression with the type of `sentinel.as_of()`."""


@dataclass(frozen=True)
class Snapshot:
    """The store's rows for the requested alerts, and its clock, in one transaction.

    `silences` are those in force. `recorded` has, by alert id, the history of the requested slots; a
    missing slot was never evaluated.
    """

    states: tuple[State, ...]
    ledger: tuple[Notification, ...]
    now: datetime
    silences: tuple[Silence, ...] = ()
    recorded: Mapping[str, RecordedSlot] = field(default_factory=dict)

    def silence_of(self, state: State) -> Silence | None:
        """The silence that mutes an instance now; of several the one that ends last."""
        names = (state.alert_id, state.unique_id)
        muting = [each for each in self.silences if each.mutes(names, state.dimensions, self.now)]
        return max(muting, key=lambda each: each.ends_at, default=None)


@dataclass(frozen=True)
class RecordedSlot:
    """The last recorded attempt to evaluate an alert's slot."""

    attempt: int
    outcome: Outcome


@dataclass(frozen=True)
class Lease:
    """One row of sentinel_leases: the columns, in their order.

    Times are the store's. `token` grows with every change of holder.
    """

    lease: str
    holder: str | None
    token: int
    acquired_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Batch:
    """The rows that one transaction writes.

    Each of `states` has the version that was read (0: a new row). `superseded` are ids of unsent
    notifications that will not be sent, `revived` ids of dead notifications to retry, `dropped` rows
    of the state to delete, with the version that was read. With a `lease`, nothing is written unless
    the lease is still held; it is renewed until its `expires_at`.
    """

    states: tuple[State, ...] = ()
    history: tuple[HistoryRow, ...] = ()
    notifications: tuple[Notification, ...] = ()
    superseded: tuple[str, ...] = ()
    revived: tuple[str, ...] = ()
    dropped: tuple[State, ...] = ()
    lease: Lease | None = None


@dataclass(frozen=True)
class Decision(Generic[T]):
    """A decision on a snapshot: the batch to write, and the result for the caller."""

    batch: Batch
    result: T


@dataclass(frozen=True)
class Outbox:
    """The number of waiting notifications, the oldest of them, and the number of dead ones."""

    waiting: int = 0
    oldest: datetime | None = None
    dead: int = 0


@dataclass(frozen=True)
class Attempt:
    """The outcome of one attempt to send a message.

    `not_before` is the time of the next attempt; of a dead notification only during its episode.
    `tried` is False if it was released without an attempt. `handed_on` are rows for the fallback
    channel about dead notifications; existing rows are not changed.
    """

    status: Status
    error: str | None = None
    not_before: datetime | None = None
    remote_ref: str | None = None
    recipients_done: tuple[str, ...] = ()
    tried: bool = True
    handed_on: tuple[Notification, ...] = ()


@dataclass(frozen=True)
class HistoryQuery:
    """A query of history: at most `limit` rows, newest first.

    `changes_only` omits evaluations without an event or a phase change.
    """

    alert_ids: frozenset[str] | None = None
    since: datetime | None = None
    outcomes: frozenset[str] = frozenset()
    changes_only: bool = False
    limit: int = 100


@dataclass(frozen=True)
class PrunedRows:
    """The number of deleted rows per table."""

    history: int
    notifications: int
    silences: int


class StoreClock(Protocol):
    """The clock that all decisions use."""

    def now(self) -> datetime:
        """The store's clock, in UTC, which all decisions use."""


class StateReader(StoreClock, Protocol):
    """Reads state and ledger."""

    def snapshot(
        self, alert_ids: Iterable[str] | None = None, episodes: Iterable[str] = ()
    ) -> Snapshot:
        """State and ledger of these alerts, or of all, and the silences in force.

        The ledger has their open episodes and `episodes`.
        """


class StateStore(StateReader, Protocol):
    """Reads, decides and records, for evaluation, planning and acknowledgement."""

    def check(self, *, writing: bool = False) -> None:
        """Check that the dbt package created these tables here, with this version's columns.

        Raises TablesMissing, TablesForeign or TablesOutdated, and with `writing` TablesReadOnly if
        rows can't be written.
        """

    def active_alert_ids(self) -> frozenset[str]:
        """The ids of alerts that are pending, firing, recovering or failing."""

    def orphaned_alert_ids(self, known: Iterable[str]) -> frozenset[str]:
        """The ids of alerts with rows that are not in `known`, or that are marked as removed."""

    def commit(
        self,
        alert_ids: Iterable[str],
        decide: Callable[[Snapshot], Decision[T]],
        slots: Mapping[str, datetime] | None = None,
    ) -> T:
        """Read, decide and write in one transaction: the whole batch or nothing.

        `decide` is pure; it is called again with a new snapshot if another writer was first. Returns
        the result of the decision that was written. `slots` are the evaluated slots by alert id, whose
        history the snapshot includes. Raises LeaseLost if the batch's lease is no longer held.
        """


class HistoryReader(Protocol):
    """Reads history and the outbox."""

    def history(self, query: HistoryQuery) -> Sequence[HistoryRow]:
        """Rows of sentinel_history."""

    def notifications(
        self, statuses: Iterable[Status], limit: int = 1_000
    ) -> Sequence[Notification]:
        """Rows of the outbox in these statuses, the oldest first."""

    def outbox(self) -> Outbox:
        """The outbox's counts."""


class DeliveryStore(StateReader, Protocol):
    """The outbox, for delivery."""

    def claim(
        self,
        holder: str,
        lease: timedelta,
        limit: int,
        only: Iterable[str] | None = None,
        skip: Iterable[str] = (),
    ) -> Sequence[Notification]:
        """Claim complete messages that are due for sending, at most about `limit` rows.

        A row is due if it is pending and its time has come, or if its claim has expired, and no
        earlier row of the same episode and channel is unfinished. `only` limits message ids, `skip`
        excludes channels.
        """

    def cancel(self, reasons: Mapping[str, str], holder: str) -> frozenset[str]:
        """Cancel notifications that this holder has claimed.

        `reasons` are by notification id. Returns the ids of those whose claim was still valid.
        """

    def mark(self, attempts: Mapping[str, tuple[int, Attempt]]) -> frozenset[str]:
        """Record attempts by message id, each with its claim's token, in one transaction.

        Returns the messages whose claim was still valid; a later claimer records the others.
        """

    @property
    def mark_delay(self) -> timedelta:
        """How long to collect attempts before calling `mark`; zero if writing is cheap."""

    def notifications(
        self, statuses: Iterable[Status], limit: int = 1_000
    ) -> Sequence[Notification]:
        """Rows of the outbox in these statuses, the oldest first."""


class SilenceStore(StoreClock, Protocol):
    """Silences."""

    def silences(self, at: datetime | None = None) -> Sequence[Silence]:
        """The silences in force at a time, or all of them, oldest first."""

    def add_silence(self, silence: Silence) -> None:
        """Add a silence. Raises StateConflict if its id exists."""

    def end_silences(self, silence_ids: Iterable[str], by: str) -> frozenset[str]:
        """End silences now. Returns the ids of those that had not ended."""


class LeaseStore(Protocol):
    """Leases, by the store's clock."""

    def acquire_lease(self, name: str, holder: str, ttl: timedelta) -> Lease | None:
        """Acquire a lease, or renew it for `ttl`; None while another holder's lease is valid.

        Only the store's clock decides. A new holder gets a new token.
        """

    def release_lease(self, lease: Lease) -> None:
        """Release a lease immediately; no effect if it is no longer held."""

    def lease(self, name: str) -> Lease | None:
        """The lease's current row, expired or not; None if nobody ever held it."""

    @property
    def lease_ttl(self) -> timedelta:
        """The default duration of a lease."""


class Retention(Protocol):
    """Deletes old rows."""

    def prune(self, before: datetime) -> PrunedRows:
        """Delete older history, finished notifications and ended silences.

        History and notifications of open episodes are kept, whatever their age.
        """


class Store(
    StateStore, HistoryReader, DeliveryStore, SilenceStore, LeaseStore, Retention, Protocol
):
    """The tables that dbt manages, for one project: all of the above.

    Every method raises StoreError on failure, and WarehouseLocked if another process holds the
    database; nothing was written then.
    """


class Leadership(Protocol):
    """Elects one of several daemons on a store.

    Correctness doesn't depend on it: what two daemons evaluate is recorded once.
    """

    def hold(self) -> bool:
        """Become or stay the leader; False while another daemon leads. Raises StoreError."""

    @property
    def lease(self) -> Lease | None:
        """The lease that fences off a leader after a suspension; None if there can be none."""

    def let_go(self) -> None:
        """Release leadership immediately. Raises StoreError."""


@dataclass(frozen=True)
class Message:
    """Notifications that share a `message_id`, with fixed payloads.

    `earlier` has, by episode id, the receiver's reference of the episode's first message, for channels
    that follow their episodes.
    """

    message_id: str
    channel: str
    notifications: tuple[Notification, ...]
    earlier: Mapping[str, str] = field(default_factory=dict)

    @property
    def recipients_done(self) -> frozenset[str]:
        """Recipients that received the message in earlier attempts."""
        return frozenset(one for row in self.notifications for one in row.recipients_done)


@dataclass(frozen=True)
class Receipt:
    """An accepted message; `remote_ref` is the receiver's reference."""

    remote_ref: str | None = None
    recipients_done: tuple[str, ...] = ()


class Channel(Protocol):
    """A named destination."""

    @property
    def name(self) -> str:
        """The name in sentinel.yml."""

    @property
    def traits(self) -> Traits:
        """The channel's properties that delivery needs."""

    def send(self, message: Message) -> Receipt:
        """Send once, within the channel's deadline.

        Raises DeliveryError, which says whether a retry can help. A message that is sent twice has the
        same id.
        """
