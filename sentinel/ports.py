"""The seams: what the use cases need from the world. Adapters implement these Protocols."""

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
        """Every model with `config.meta.sentinel`, by unique id.

        Raises ProjectError if dbt can't parse the project.
        """

    def select(self, selection: Selection) -> frozenset[str]:
        """The unique ids of all models that dbt's own selection names.

        Raises ProjectError if dbt refuses the selection.
        """

    def compile(self, unique_ids: Iterable[str]) -> Mapping[str, Compiled]:
        """The current SQL of each model. A model that doesn't compile has an error instead.

        Raises ProjectError if dbt can't parse the project.
        """

    def tables(self) -> StoreTables:
        """The relations of Sentinel's own models. Raises ProjectError as `alerts` does."""

    def locate(self, source: AlertSource, *keys: str) -> Location:
        """Where `meta.sentinel.<keys...>` of an alert is written; the nearest line known."""

    def hidden_block(self, source: AlertSource) -> Location | None:
        """Where an alert has a `sentinel` block in YAML that one in its SQL file replaces."""


@dataclass(frozen=True)
class Query:
    """An alert's SQL and its bounds.

    `max_bytes_billed` holds where the warehouse bills by bytes. `labels` go along where the
    warehouse keeps such words beside its own record of a query. `own` is the alert's own statement
    where `sql` is a query that Sentinel has made around it.
    """

    sql: str
    timeout: timedelta
    max_bytes_billed: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    own: str | None = None


@dataclass(frozen=True)
class Relation:
    """A table or view on the warehouse, as dbt's manifest names it; None: the warehouse has no such part."""

    database: str | None
    schema: str
    name: str


@dataclass(frozen=True)
class Rights:
    """What the profile's user may do beyond reading, in words, and the steps that end it.

    With `new_user` these steps make another user, who only reads. `unchecked` says why nothing is known.
    """

    beyond_reading: tuple[str, ...] = ()
    remedy: tuple[str, ...] = ()
    new_user: bool = False
    unchecked: str | None = None


class Session(Protocol):
    """An open warehouse. Safe to use from several threads."""

    def describe(self, query: Query) -> QueryDescription:
        """What is known of a query without its rows.

        Raises QueryError if the warehouse refuses the query.
        """

    def fetch(self, query: Query, limit: int, excerpt: Excerpt | None = None) -> QueryResult:
        """At most `limit` rows of a query that can only read.

        Without an excerpt, whole rows. Raises QueryError if it is no single SELECT, if the warehouse
        refuses it, if a value can't be read, or if it goes beyond its bounds; after its timeout it is
        cancelled on the warehouse.
        """

    def count(
        self,
        query: Query,
        dimensions: Sequence[str],
        limit: int,
        excerpt: Excerpt | None = None,
    ) -> QueryResult:
        """How many rows a query has, for each combination of `dimensions`: these, then the number.

        An excerpt is of the columns of `dimensions`. Raises QueryError as `fetch` does.
        """

    def sample(
        self,
        query: Query,
        dimensions: Sequence[str],
        size: int,
        excerpt: Excerpt | None = None,
    ) -> QueryResult:
        """Up to `size` rows of a query for each combination of `dimensions`.

        Raises QueryError as `fetch` does.
        """


class Warehouse(Protocol):
    """The place that is watched.

    Where it is `exclusive`, nothing can be written to the same database while a session is open.
    """

    exclusive: bool

    def open(self) -> AbstractContextManager[Session]:
        """A session for one batch.

        Raises WarehouseError if it can't be reached, WarehouseLocked if another process holds it.
        """

    def timestamp_literal(self, moment: datetime) -> str:
        """An aware moment as an SQL expression of the type that `sentinel.as_of()` has."""


@dataclass(frozen=True)
class Snapshot:
    """The store as one transaction sees it: rows of the alerts asked for, and its clock.

    `silences` are those in force. `recorded` is what history has already of the slots asked for,
    by alert id; a slot that isn't there was never evaluated.
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
    """What history holds of an alert's slot: the last attempt to evaluate it."""

    attempt: int
    outcome: Outcome


@dataclass(frozen=True)
class Lease:
    """One row of sentinel_leases: the columns, in their order.

    By the store's clock. `token` grows whenever another holder takes it over.
    """

    lease: str
    holder: str | None
    token: int
    acquired_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Batch:
    """What one transaction writes.

    Each of `states` carries the version it was read with (0: it is new). `superseded` are ids of
    notifications that were never sent and no longer will be, `revived` of dead ones that are tried
    again, `dropped` are rows of the state that go, with the version they were read with. With a
    `lease`, nothing is written unless it still holds; it is kept until its `expires_at`.
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
    """What is decided on a snapshot: the batch to write, and what the caller gets of it."""

    batch: Batch
    result: T


@dataclass(frozen=True)
class Outbox:
    """How many notifications wait, the oldest of them, and how many are dead."""

    waiting: int = 0
    oldest: datetime | None = None
    dead: int = 0


@dataclass(frozen=True)
class Attempt:
    """The outcome of one attempt to send a message.

    `not_before` is when it is tried again: of a dead one, while its episode lasts. `tried` is False
    if it was given back without an attempt. `handed_on` are rows for another channel that tell of a
    dead one; those that are there already stay as they are.
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
    """Which rows of history: the newest first, at most `limit`.

    `changes_only` leaves out evaluations without an event or a new phase.
    """

    alert_ids: frozenset[str] | None = None
    since: datetime | None = None
    outcomes: frozenset[str] = frozenset()
    changes_only: bool = False
    limit: int = 100


@dataclass(frozen=True)
class PrunedRows:
    """How many rows of each table were deleted."""

    history: int
    notifications: int
    silences: int


class StoreClock(Protocol):
    """The clock that all decisions use."""

    def now(self) -> datetime:
        """The store's clock, in UTC, which all decisions use."""


class StateReader(StoreClock, Protocol):
    """The rows of state and ledger."""

    def snapshot(
        self, alert_ids: Iterable[str] | None = None, episodes: Iterable[str] = ()
    ) -> Snapshot:
        """State and ledger of these alerts, or of all, and the silences in force.

        The ledger holds their open episodes, and `episodes` besides.
        """


class StateStore(StateReader, Protocol):
    """What evaluation, planning and acknowledgement need: to read, decide and record."""

    def check(self, *, writing: bool = False) -> None:
        """Whether these are the tables that the dbt package made here, with the columns known here.

        Raises TablesMissing, TablesForeign or TablesOutdated; `writing` says that rows will be
        written, and raises TablesReadOnly if they can't be.
        """

    def active_alert_ids(self) -> frozenset[str]:
        """The ids of alerts that aren't calm: pending, firing, recovering or failing."""

    def orphaned_alert_ids(self, known: Iterable[str]) -> frozenset[str]:
        """The ids of alerts with rows in the state that are not known, or were noted as removed."""

    def commit(
        self,
        alert_ids: Iterable[str],
        decide: Callable[[Snapshot], Decision[T]],
        slots: Mapping[str, datetime] | None = None,
    ) -> T:
        """Read, decide and write in one transaction: all of a batch, or nothing.

        `decide` is pure; it is called again on a new snapshot when another writer was first. Returns
        the result of the decision that was written. `slots` are those that were evaluated, by alert
        id: the snapshot says what history has of them. Raises LeaseLost if the batch's lease no
        longer holds.
        """


class HistoryReader(Protocol):
    """What happened, and what is still to be sent."""

    def history(self, query: HistoryQuery) -> Sequence[HistoryRow]:
        """Rows of sentinel_history."""

    def notifications(
        self, statuses: Iterable[Status], limit: int = 1_000
    ) -> Sequence[Notification]:
        """Rows of the outbox in these statuses, the oldest first."""

    def outbox(self) -> Outbox:
        """How much is in the outbox."""


class DeliveryStore(StateReader, Protocol):
    """The outbox, as delivery needs it."""

    def claim(
        self,
        holder: str,
        lease: timedelta,
        limit: int,
        only: Iterable[str] | None = None,
        skip: Iterable[str] = (),
    ) -> Sequence[Notification]:
        """Take messages that are due for sending, whole ones, at most about `limit` rows.

        A row is due when it is pending and its time has come, or its claim has run out, and no
        earlier row of the same episode and channel is unfinished. `only` names message ids, `skip`
        channels that nothing is taken for.
        """

    def cancel(self, reasons: Mapping[str, str], holder: str) -> frozenset[str]:
        """Cancel notifications that this holder has claimed.

        `reasons` are by notification id. Returns the ids of those whose claim was still valid.
        """

    def mark(self, attempts: Mapping[str, tuple[int, Attempt]]) -> frozenset[str]:
        """Record attempts to send, by message id: the token of the claim, and what became of it.

        All of them in one transaction. Gives the messages whose claim still held: what is recorded
        of the others is what a later claimer does.
        """

    @property
    def mark_delay(self) -> timedelta:
        """How long `mark` is worth waiting for further attempts; zero where writing is cheap."""

    def notifications(
        self, statuses: Iterable[Status], limit: int = 1_000
    ) -> Sequence[Notification]:
        """Rows of the outbox in these statuses, the oldest first."""


class SilenceStore(StoreClock, Protocol):
    """Silences."""

    def silences(self, at: datetime | None = None) -> Sequence[Silence]:
        """The silences in force at a moment, or all of them, the oldest first."""

    def add_silence(self, silence: Silence) -> None:
        """Raises StateConflict if there is one of this id already."""

    def end_silences(self, silence_ids: Iterable[str], by: str) -> frozenset[str]:
        """End silences now. Gives the ids of those that were not over yet."""


class LeaseStore(Protocol):
    """Leases, by the store's clock."""

    def acquire_lease(self, name: str, holder: str, ttl: timedelta) -> Lease | None:
        """Take a lease, or keep it for another `ttl`; None while another holder's has not run out.

        Only the store's clock decides. Whoever takes it from another one gets a new token.
        """

    def release_lease(self, lease: Lease) -> None:
        """Release a lease immediately; nothing happens if it is no longer held."""

    def lease(self, name: str) -> Lease | None:
        """The lease's current row, expired or not; None if nobody ever held it."""

    @property
    def lease_ttl(self) -> timedelta:
        """How long a lease lasts unless the configuration says otherwise."""


class Retention(Protocol):
    """Deletes what is old."""

    def prune(self, before: datetime) -> PrunedRows:
        """Delete history, finished notifications and ended silences that are older.

        History and notifications of an episode that is still open stay, as old as they are.
        """


class Store(
    StateStore, HistoryReader, DeliveryStore, SilenceStore, LeaseStore, Retention, Protocol
):
    """The tables that dbt manages, for one project: all of the above.

    Every method raises StoreError if it can't. WarehouseLocked says that another process holds the
    database: nothing was written.
    """


class Leadership(Protocol):
    """Which of several daemons on one store does the work.

    Correctness doesn't rest on it: what two would record is recorded once in any case.
    """

    def hold(self) -> bool:
        """Become or stay the leader; False while another one is. Raises StoreError."""

    @property
    def lease(self) -> Lease | None:
        """What fences off a leader that was stopped for too long; None where none can be."""

    def let_go(self) -> None:
        """Release leadership immediately. Raises StoreError."""


@dataclass(frozen=True)
class Message:
    """What a channel sends: notifications that share a `message_id`, their payloads frozen.

    `earlier` is what the receiver called the first message of the same episode, by episode id; it
    is filled in for channels that follow their episodes.
    """

    message_id: str
    channel: str
    notifications: tuple[Notification, ...]
    earlier: Mapping[str, str] = field(default_factory=dict)

    @property
    def recipients_done(self) -> frozenset[str]:
        """Those of several recipients who have it already, from attempts before."""
        return frozenset(one for row in self.notifications for one in row.recipients_done)


@dataclass(frozen=True)
class Receipt:
    """A message was accepted; `remote_ref` is what the receiver calls it."""

    remote_ref: str | None = None
    recipients_done: tuple[str, ...] = ()


class Channel(Protocol):
    """A named destination."""

    @property
    def name(self) -> str:
        """Its name in sentinel.yml."""

    @property
    def traits(self) -> Traits:
        """What delivery needs to know of it."""

    def send(self, message: Message) -> Receipt:
        """Send once, within the channel's own deadline (see `SEND_DEADLINE`).

        Raises DeliveryError, which says whether trying again can help. Sending the same message
        twice carries the same id.
        """
