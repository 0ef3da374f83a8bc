"""The store in SQL: one transaction a batch, rows as one JSON parameter, compare-and-swap on version.

What differs between warehouses is a `Dialect`; the statements are the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, RowMapping, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from sentinel.core.errors import (
    LeaseLost,
    StateConflict,
    StoreError,
    TablesMissing,
)
from sentinel.core.evaluation import Outcome
from sentinel.core.history import HistoryRow
from sentinel.core.lifecycle import State
from sentinel.core.planning import Notification, Status
from sentinel.core.project import StoreTables
from sentinel.core.silence import Silence
from sentinel.ports import (
    Attempt,
    Batch,
    HistoryQuery,
    Lease,
    Outbox,
    Pruned,
    Recorded,
    Snapshot,
)
from sentinel.store.catalog import Names, Relation, judge, names_of
from sentinel.store.tables import (
    HISTORY,
    LEASES,
    NOTIFICATIONS,
    SILENCES,
    STATE,
    TABLES,
    Kind,
    Row,
    Table,
    from_database,
    to_text,
)

Done = TypeVar("Done")

_TRIES = 5
_ATTEMPT: Mapping[str, Kind] = {
    "message_id": "text",
    "claim_token": "integer",
    "status": "text",
    "last_error": "text",
    "not_before": "time",
    "remote_ref": "text",
    "recipients_done": "json",
    "untried": "integer",
}
# How many rows go into one parameter: a database in this process needs many times its length.
_ROWS_AT_ONCE = 1_000
_DELETED = "another writer has deleted these rows before"


@dataclass(frozen=True)
class Change:
    """A statement that writes, with all that tells whether it did what it should.

    `found` counts the rows that are as the statement needs them, and `expected` says how many that
    has to be; `conflict` is what it means otherwise. `changed` is the column that names each row it
    has written: where it is None, the table's own key refuses what must not be.
    """

    sql: str
    values: Mapping[str, Any]
    found: str
    expected: int
    conflict: str
    changed: str | None = None


@dataclass(frozen=True)
class Taking:
    """A statement that writes whatever rows it finds; `taken` reads them again afterwards."""

    sql: str
    values: Mapping[str, Any]
    columns: str
    taken: str


class Dialect(Protocol):
    """What the statements need to know of one warehouse.

    `gate` is the relation of leases: where nothing else puts writers in a row, each transaction
    first writes there.
    """

    clock: str
    linger: timedelta
    lease_ttl: timedelta

    def words(self, error: BaseException) -> str:
        """What a driver's error says, without what only its driver needs."""

    def lost_race(self, error: BaseException) -> bool:
        """Whether a driver's error says that another transaction was first."""

    def missing_table(self, error: BaseException) -> bool:
        """Whether a driver's error says that there is no such table."""

    def survey(
        self, connection: Connection, names: Mapping[str, Names], *, writing: bool
    ) -> Mapping[str, Relation]:
        """What is at the place of each of these tables, by key; what isn't there is left out.

        `writing` says that it matters whether rows can be written; nothing is written.
        """

    def expand(self, parameter: str, columns: Mapping[str, Kind]) -> str:
        """A subquery with these columns from a bound parameter: a JSON array of objects."""

    def texts(self, parameter: str) -> str:
        """A subquery with one column `item` from a bound parameter: a JSON array of strings."""

    def moment(self, moment: datetime) -> Any:
        """A moment as the driver binds it to a column of times."""

    def apply(self, connection: Connection, changes: Sequence[Change], gate: str) -> None:
        """Write all of it, or raise StateConflict or an error of the driver."""

    def take(self, connection: Connection, taking: Taking, gate: str) -> Sequence[RowMapping]:
        """Write, and give the rows that were written."""


class Returning:
    """What dialects share whose statements can return the rows they have written."""

    linger = timedelta(0)
    lease_ttl = timedelta(seconds=30)

    def words(self, error: BaseException) -> str:
        return str(error).strip()

    def moment(self, moment: datetime) -> Any:
        return moment.astimezone(UTC).replace(tzinfo=None)

    def apply(self, connection: Connection, changes: Sequence[Change], gate: str) -> None:
        for change in changes:
            if change.changed is None:
                connection.execute(text(change.sql), change.values)
                continue
            returning = text(f"{change.sql} returning {change.changed}")
            if len(connection.execute(returning, change.values).fetchall()) != change.expected:
                raise StateConflict(change.conflict)

    def take(self, connection: Connection, taking: Taking, gate: str) -> Sequence[RowMapping]:
        returning = text(f"{taking.sql} returning {taking.columns}")
        return connection.execute(returning, taking.values).mappings().all()


Open = Callable[[bool], AbstractContextManager[Engine]]


class SqlStore:
    """The tables of one project. `open_engine(read_only)` gives an engine for one transaction."""

    def __init__(
        self, project: str, tables: StoreTables, open_engine: Open, dialect: Dialect
    ) -> None:
        self._project = project
        self._tables = tables
        self._open = open_engine
        self._dialect = dialect

    # -- reading -------------------------------------------------------------------------------

    def check(self, *, writing: bool = False) -> None:
        for table in TABLES:
            if table.model not in self._tables.relations:
                raise TablesMissing(
                    f"the dbt project has no model {table.model}: the dbt package `sentinel` isn't "
                    "installed in it, or its models are disabled",
                    hint="`sentinel init` installs it",
                )
        named = {table.model: names_of(self._tables.relations[table.model]) for table in TABLES}
        with self._transaction(read_only=not writing) as connection:
            try:
                found = self._dialect.survey(connection, named, writing=writing)
            except SQLAlchemyError as error:
                connection.rollback()
                cause = _cause(error)
                if not self._dialect.missing_table(cause):
                    words = self._dialect.words(cause)
                    raise StoreError(f"Sentinel's tables can't be read: {words}") from None
                found = {}
        for table in TABLES:
            relation = self._tables.relations[table.model]
            judge(table, relation, found.get(table.model), writing=writing)

    def now(self) -> datetime:
        with self._transaction(read_only=True) as connection:
            return self._now(connection)

    def snapshot(
        self, alert_ids: Iterable[str] | None = None, episodes: Iterable[str] = ()
    ) -> Snapshot:
        with self._transaction(read_only=True) as connection:
            return self._snapshot(connection, alert_ids, episodes)

    def active_alert_ids(self) -> frozenset[str]:
        sql = (
            f"select distinct alert_id from {self._relation(STATE)} where project = :project "
            "and (phase in ('pending', 'firing', 'recovering') or health = 'failing')"
        )
        with self._transaction(read_only=True) as connection:
            return frozenset(connection.execute(text(sql), {"project": self._project}).scalars())

    def orphaned_alert_ids(self, known: Iterable[str]) -> frozenset[str]:
        sql = (
            f"select distinct alert_id from {self._relation(STATE)} where project = :project "
            f"and (alert_id not in ({self._items('known')}) or removed_since is not null)"
        )
        # A list that may be empty holds a word that is no id: `not in` an empty one is unsure.
        values = {"project": self._project, "known": json.dumps(["", *sorted(known)])}
        with self._transaction(read_only=True) as connection:
            return frozenset(connection.execute(text(sql), values).scalars())

    def history(self, query: HistoryQuery) -> Sequence[HistoryRow]:
        conditions = ["project = :project"]
        values: dict[str, Any] = {"project": self._project}
        if query.alert_ids is not None:
            conditions.append(f"alert_id in ({self._items('alert_ids')})")
            values["alert_ids"] = json.dumps(sorted(query.alert_ids))
        if query.outcomes:
            conditions.append(f"outcome in ({self._items('outcomes')})")
            values["outcomes"] = json.dumps(sorted(query.outcomes))
        if query.changes_only:
            conditions.append(
                "(events <> '[]' or coalesce(phase_before, '') <> coalesce(phase_after, ''))"
            )
        if query.since:
            conditions.append("recorded_at >= :since")
        sql = (
            f"select * from {self._relation(HISTORY)} where {' and '.join(conditions)} "
            f"order by recorded_at desc, as_of desc, alert, instance limit {int(query.limit)}"
        )
        if query.since:
            values["since"] = self._dialect.moment(query.since)
        with self._transaction(read_only=True) as connection:
            return self._rows(connection, HISTORY, sql, values)

    def notifications(
        self, statuses: Iterable[Status], limit: int = 1_000
    ) -> Sequence[Notification]:
        sql = (
            f"select * from {self._relation(NOTIFICATIONS)} where project = :project "
            f"and status in ({self._items('statuses')}) "
            f"order by created_at, notification_id limit {int(limit)}"
        )
        values = {"project": self._project, "statuses": json.dumps([str(s) for s in statuses])}
        with self._transaction(read_only=True) as connection:
            return self._rows(connection, NOTIFICATIONS, sql, values)

    def _snapshot(
        self,
        connection: Connection,
        alert_ids: Iterable[str] | None,
        episodes: Iterable[str] = (),
    ) -> Snapshot:
        values: dict[str, Any] = {"project": self._project}
        chosen = ""
        if alert_ids is not None:
            chosen = f" and alert_id in ({self._items('alert_ids')})"
            values["alert_ids"] = json.dumps(sorted(alert_ids))
        sql = f"select * from {self._relation(STATE)} where project = :project{chosen}"
        states = self._rows(connection, STATE, sql, values)
        wanted = {
            episode
            for state in states
            for episode in (state.episode_id, state.health_episode_id)
            if episode
        }.union(episodes)
        ledger: Sequence[Notification] = ()
        if wanted:
            ledger = self._rows(
                connection,
                NOTIFICATIONS,
                f"select * from {self._relation(NOTIFICATIONS)} where project = :project "
                f"and episode_id in ({self._items('episodes')}) order by created_at, n",
                {"project": self._project, "episodes": json.dumps(sorted(wanted))},
            )
        now = self._now(connection)
        silences = self._silences(connection, now)
        return Snapshot(tuple(states), tuple(ledger), now, tuple(silences))

    # -- writing -------------------------------------------------------------------------------

    def commit(
        self,
        alert_ids: Iterable[str],
        decide: Callable[[Snapshot], Batch],
        slots: Mapping[str, datetime] | None = None,
    ) -> tuple[Snapshot, Batch]:
        wanted = tuple(alert_ids)

        def work(connection: Connection) -> tuple[Snapshot, Batch]:
            snapshot = self._snapshot(connection, wanted)
            if slots:
                recorded = self._recorded(connection, snapshot.states, slots)
                snapshot = replace(snapshot, recorded=recorded)
            batch = decide(snapshot)
            self._write(connection, batch)
            return snapshot, batch

        return self._until_first(work)

    def _recorded(
        self, connection: Connection, states: Iterable[State], slots: Mapping[str, datetime]
    ) -> dict[str, Recorded]:
        """What history has of slots that are no later than the last one of their alert."""
        last = {state.alert_id: state.last_slot for state in states if state.is_head}
        old = {
            alert_id: slot
            for alert_id, slot in slots.items()
            if (known := last.get(alert_id)) is not None and slot <= known
        }
        if not old:
            return {}
        rows = [{"alert_id": key, "slot": to_text(slot)} for key, slot in old.items()]
        asked = self._dialect.expand("asked", {"alert_id": "text", "slot": "time"})
        sql = (
            f"select kept.alert_id, kept.attempt, kept.outcome from {self._relation(HISTORY)} "
            f"as kept join ({asked}) as asked "
            "on kept.alert_id = asked.alert_id and kept.slot = asked.slot "
            "where kept.project = :project and kept.kind = 'evaluation' "
            "and kept.instance = '' and kept.outcome <> 'skipped' order by kept.attempt"
        )
        values = {"project": self._project, "asked": json.dumps(rows)}
        found = connection.execute(text(sql), values).mappings().all()
        # The last attempt of each is what stays.
        return {row["alert_id"]: Recorded(row["attempt"], Outcome(row["outcome"])) for row in found}

    def _write(self, connection: Connection, batch: Batch) -> None:
        ordered = sorted(batch.states, key=lambda state: state.state_key)
        changes = [
            *self._holding(connection, batch.lease),
            *self._updates([state for state in ordered if state.version > 0]),
            *self._inserts(
                STATE, [replace(each, version=1) for each in ordered if not each.version]
            ),
            *self._inserts(HISTORY, batch.history),
            *self._inserts(NOTIFICATIONS, batch.notifications),
            self._supersede(batch.superseded),
            self._revive(batch.revived),
            self._drop(batch.dropped),
        ]
        self._apply(connection, [change for change in changes if change.expected])

    def _apply(self, connection: Connection, changes: Sequence[Change]) -> None:
        if changes:
            self._dialect.apply(connection, changes, self._relation(LEASES))

    def _updates(self, states: Sequence[State]) -> Iterator[Change]:
        for n, part in enumerate(_parts(states)):
            yield self._update(part, f"changed_states_{n}")

    def _update(self, states: Sequence[State], parameter: str) -> Change:
        key, relation = STATE.key, self._relation(STATE)
        rows = self._dialect.expand(parameter, STATE.columns)
        settings = ", ".join(
            f"{name} = written.{name}" for name in STATE.columns if name not in (key, "version")
        )
        same = f"kept.{key} = written.{key} and kept.version = written.version"
        return Change(
            f"update {relation} as kept set {settings}, version = kept.version + 1 "
            f"from ({rows}) as written where {same}",
            {parameter: STATE.dump(states)},
            f"select count(*) from {relation} as kept join ({rows}) as written on {same}",
            len(states),
            "another writer has changed the state of these alerts",
            f"kept.{key}",
        )

    def _inserts(self, table: Table[Row], rows: Sequence[Row]) -> Iterator[Change]:
        for n, part in enumerate(_parts(rows)):
            yield self._insert(table, part, f"new_{table.model}_{n}")

    def _insert(self, table: Table[Row], rows: Sequence[Row], parameter: str = "new_row") -> Change:
        names = ", ".join(table.columns)
        relation, key = self._relation(table), table.key
        written = self._dialect.expand(parameter, table.columns)
        keys = self._dialect.expand(parameter, {key: "text"})
        return Change(
            f"insert into {relation} ({names}) select {names} from ({written}) as written",
            {parameter: table.dump(rows)},
            # Every row has a key of its own, and none of them is there yet.
            f"select count(distinct written.{key}) from ({keys}) as written "
            f"where written.{key} not in (select {key} from {relation})",
            len(rows),
            f"another writer has written these rows of {table.model} before",
        )

    def _supersede(self, ids: Sequence[str]) -> Change:
        relation = self._relation(NOTIFICATIONS)
        those = (
            f"notification_id in ({self._items('superseded')}) and status in ('pending', 'dead')"
        )
        return Change(
            f"update {relation} set status = 'superseded' where {those}",
            {"superseded": json.dumps(sorted(ids))},
            f"select count(*) from {relation} where {those}",
            len(ids),
            "a notification to be replaced is just being sent",
            "notification_id",
        )

    def _revive(self, ids: Sequence[str]) -> Change:
        relation = self._relation(NOTIFICATIONS)
        those = f"notification_id in ({self._items('revived')}) and status = 'dead'"
        return Change(
            f"update {relation} set status = 'pending', not_before = created_at where {those}",
            {"revived": json.dumps(sorted(ids))},
            f"select count(*) from {relation} where {those}",
            len(ids),
            "a notification to be tried again is so already",
            "notification_id",
        )

    def _drop(self, states: Sequence[State]) -> Change:
        key, relation = STATE.key, self._relation(STATE)
        read = self._dialect.expand("dropped", {key: "text", "version": "integer"})
        rows = [{key: getattr(state, key), "version": state.version} for state in states]
        those = (
            f"{key} in (select kept.{key} from {relation} as kept join ({read}) as dropped "
            f"on kept.{key} = dropped.{key} and kept.version = dropped.version)"
        )
        return Change(
            f"delete from {relation} where {those}",
            {"dropped": json.dumps(rows)},
            f"select count(*) from {relation} where {those}",
            len(states),
            "another writer has changed the state of these alerts",
            key,
        )

    # -- outbox --------------------------------------------------------------------------------

    @property
    def linger(self) -> timedelta:
        return self._dialect.linger

    @property
    def lease_ttl(self) -> timedelta:
        return self._dialect.lease_ttl

    def outbox(self) -> Outbox:
        sql = (
            "select status, count(*) as number, min(created_at) as oldest "
            f"from {self._relation(NOTIFICATIONS)} where project = :project "
            "and status in ('pending', 'claimed', 'dead') group by status"
        )
        with self._transaction(read_only=True) as connection:
            rows = connection.execute(text(sql), {"project": self._project}).mappings().all()
        waiting = [row for row in rows if row["status"] != "dead"]
        return Outbox(
            sum(row["number"] for row in waiting),
            min((from_database(row["oldest"]) for row in waiting), default=None),
            sum(row["number"] for row in rows if row["status"] == "dead"),
        )

    def claim(
        self,
        holder: str,
        lease: timedelta,
        limit: int,
        only: Iterable[str] | None = None,
        skip: Iterable[str] = (),
    ) -> Sequence[Notification]:
        relation = self._relation(NOTIFICATIONS)
        values: dict[str, Any] = {"project": self._project, "holder": holder}
        narrowed = ""
        if only is not None:
            narrowed = f" and mine.message_id in ({self._items('only')})"
            values["only"] = json.dumps(sorted(only))
        skipped = sorted(skip)
        if skipped:
            narrowed += f" and mine.channel not in ({self._items('skipped')})"
            values["skipped"] = json.dumps(skipped)
        # Joined, not looked up row by row: BigQuery can't relate a subquery by an inequality.
        blocked = (
            f"select part.message_id from {relation} as part join {relation} as earlier "
            "on earlier.project = part.project and earlier.episode_id = part.episode_id "
            "and earlier.channel = part.channel "
            "where earlier.created_at < part.created_at "
            "and earlier.message_id <> part.message_id "
            "and part.project = :project and part.status in ('pending', 'claimed') "
            "and earlier.status in ('pending', 'claimed')"
        )
        # The least tried first: what is tried in vain doesn't hold up what is new.
        free = (
            "((status = 'pending' and not_before <= :now) "
            "or (status = 'claimed' and claim_until <= :now))"
        )
        due = (
            f"select mine.message_id from {relation} as mine "
            f"where mine.project = :project{narrowed} and {free} "
            f"and mine.message_id not in ({blocked}) group by mine.message_id "
            f"order by min(mine.attempts), min(mine.created_at), mine.message_id limit {int(limit)}"
        )
        # One token for all that is taken: rows of a message may have been claimed without the others.
        token = (
            f"select coalesce(max(known.claim_token), 0) + 1 from {relation} as known "
            f"where known.message_id in ({due})"
        )
        sql = (
            f"update {relation} set status = 'claimed', claimed_by = :holder, "
            f"claim_token = ({token}), claim_until = :until, attempts = attempts + 1 "
            f"where message_id in ({due}) and {free}"
        )
        taken = f"from {relation} where claimed_by = :holder and claim_until = :until"

        def work(connection: Connection) -> list[Notification]:
            now = self._now(connection)
            moments = {
                "now": self._dialect.moment(now),
                "until": self._dialect.moment(now + lease),
            }
            taking = Taking(sql, values | moments, "*", f"select * {taken}")
            rows = self._dialect.take(connection, taking, self._relation(LEASES))
            return [NOTIFICATIONS.load(dict(row)) for row in rows]

        rows = self._until_first(work)
        return sorted(rows, key=lambda row: (row.created_at, row.notification_id))

    def cancel(self, reasons: Mapping[str, str], holder: str) -> frozenset[str]:
        relation = self._relation(NOTIFICATIONS)
        given = self._dialect.expand("reasons", {"notification_id": "text", "reason": "text"})
        same = "kept.notification_id = given.notification_id"
        sql = (
            f"update {relation} as kept set status = 'cancelled', last_error = given.reason, "
            f"claim_until = null from ({given}) as given where {same} "
            "and kept.status = 'claimed' and kept.claimed_by = :holder"
        )
        rows = [{"notification_id": key, "reason": reason} for key, reason in reasons.items()]
        taken = (
            f"select kept.notification_id from {relation} as kept join ({given}) as given "
            f"on {same} where kept.status = 'cancelled' and kept.claimed_by = :holder"
        )
        values = {"reasons": json.dumps(rows), "holder": holder}

        def work(connection: Connection) -> frozenset[str]:
            taking = Taking(sql, values, "kept.notification_id", taken)
            found = self._dialect.take(connection, taking, self._relation(LEASES))
            return frozenset(row["notification_id"] for row in found)

        return self._until_first(work) if reasons else frozenset()

    def mark(self, attempts: Mapping[str, tuple[int, Attempt]]) -> frozenset[str]:
        relation = self._relation(NOTIFICATIONS)
        done = self._dialect.expand("done", _ATTEMPT)
        ours = "kept.message_id = done.message_id and kept.claim_token = done.claim_token"
        sql = (
            f"update {relation} as kept set status = done.status, last_error = done.last_error, "
            "not_before = coalesce(done.not_before, kept.not_before), "
            "remote_ref = done.remote_ref, recipients_done = done.recipients_done, "
            "attempts = kept.attempts - done.untried, claim_until = null, "
            "sent_at = case when done.status = 'sent' then :now else kept.sent_at end "
            f"from ({done}) as done where {ours} and kept.status = 'claimed'"
        )
        rows = [_attempt_row(key, token, each) for key, (token, each) in attempts.items()]
        taken = (
            f"from {relation} as kept join ({done}) as done on {ours} and kept.status = done.status"
        )
        handed_on = [row for _, each in attempts.values() for row in each.handed_on]

        def work(connection: Connection) -> frozenset[str]:
            # First what tells of a dead message: it may be told in vain, but it is never lost.
            self._hand_on(connection, handed_on)
            now = self._dialect.moment(self._now(connection))
            taking = Taking(
                sql,
                {"done": json.dumps(rows, ensure_ascii=False), "now": now},
                "kept.message_id",
                f"select kept.message_id {taken}",
            )
            found = self._dialect.take(connection, taking, self._relation(LEASES))
            return frozenset(row["message_id"] for row in found)

        return self._until_first(work) if attempts else frozenset()

    def _hand_on(self, connection: Connection, rows: Sequence[Notification]) -> None:
        if not rows:
            return
        ids = json.dumps([row.notification_id for row in rows])
        sql = (
            f"select notification_id from {self._relation(NOTIFICATIONS)} "
            f"where notification_id in ({self._items('ids')})"
        )
        known: set[str] = set(connection.execute(text(sql), {"ids": ids}).scalars())
        new = [row for row in rows if row.notification_id not in known]
        if new:
            self._apply(connection, [self._insert(NOTIFICATIONS, new)])

    # -- silences ------------------------------------------------------------------------------

    def silences(self, at: datetime | None = None) -> Sequence[Silence]:
        with self._transaction(read_only=True) as connection:
            return self._silences(connection, at)

    def _silences(self, connection: Connection, at: datetime | None) -> Sequence[Silence]:
        sql = f"select * from {self._relation(SILENCES)} where project = :project "
        values: dict[str, Any] = {"project": self._project}
        if at is not None:
            sql += "and starts_at <= :at and ends_at > :at and coalesce(ended_at, ends_at) > :at "
            values["at"] = self._dialect.moment(at)
        return self._rows(connection, SILENCES, f"{sql}order by created_at, silence_id", values)

    def add_silence(self, silence: Silence) -> None:
        with self._transaction() as connection:
            self._apply(connection, [self._insert(SILENCES, [silence])])

    def end_silences(self, silence_ids: Iterable[str], by: str) -> frozenset[str]:
        relation = self._relation(SILENCES)
        those = f"project = :project and silence_id in ({self._items('ids')})"
        sql = (
            f"update {relation} set ended_at = :now, ended_by = :by "
            f"where {those} and ended_at is null and ends_at > :now"
        )
        values = {"project": self._project, "ids": json.dumps(sorted(silence_ids)), "by": by}

        def work(connection: Connection) -> frozenset[str]:
            moment = {"now": self._dialect.moment(self._now(connection))}
            taken = f"select silence_id from {relation} where {those} and ended_at = :now"
            taking = Taking(sql, values | moment, "silence_id", taken)
            found = self._dialect.take(connection, taking, self._relation(LEASES))
            return frozenset(row["silence_id"] for row in found)

        return self._until_first(work)

    # -- leases --------------------------------------------------------------------------------

    def lead(self, name: str, holder: str, ttl: timedelta) -> Lease | None:
        def work(connection: Connection) -> Lease | None:
            now, found = self._now(connection), self._lease(connection, name)
            if found is None:
                taken = Lease(name, holder, 1, now, now + ttl)
                self._apply(connection, [self._insert(LEASES, [taken])])
                return taken
            if found.holder == holder:
                taken = replace(found, expires_at=now + ttl)
            elif found.expires_at is not None and found.expires_at > now:
                return None
            else:
                taken = Lease(name, holder, found.token + 1, now, now + ttl)
            self._apply(connection, [self._hold(found, taken)])
            return taken

        return self._until_first(work)

    def give_up(self, lease: Lease) -> None:
        def work(connection: Connection) -> None:
            found = self._lease(connection, lease.lease)
            if found is not None and _same(found, lease):
                now = self._now(connection)
                self._apply(connection, [self._hold(found, replace(found, expires_at=now))])

        self._until_first(work)

    def lease(self, name: str) -> Lease | None:
        with self._transaction(read_only=True) as connection:
            return self._lease(connection, name)

    def _lease(self, connection: Connection, name: str) -> Lease | None:
        sql = f"select * from {self._relation(LEASES)} where lease = :lease"
        return next(iter(self._rows(connection, LEASES, sql, {"lease": name})), None)

    def _hold(self, found: Lease, taken: Lease) -> Change:
        relation = self._relation(LEASES)
        those = "lease = :lease and token = :old_token"
        return Change(
            f"update {relation} set holder = :lease_holder, token = :lease_token, "
            f"acquired_at = :acquired_at, expires_at = :expires_at where {those}",
            {
                "lease": found.lease,
                "old_token": found.token,
                "lease_holder": taken.holder,
                "lease_token": taken.token,
                "acquired_at": taken.acquired_at and self._dialect.moment(taken.acquired_at),
                "expires_at": taken.expires_at and self._dialect.moment(taken.expires_at),
            },
            f"select count(*) from {relation} where {those}",
            1,
            f"another holder has taken the lease {found.lease}",
            "lease",
        )

    def _holding(self, connection: Connection, lease: Lease | None) -> list[Change]:
        """Writes the lease as well, so that of two who do so one is refused."""
        if lease is None:
            return []
        found = self._lease(connection, lease.lease)
        if found is None or not _same(found, lease):
            raise LeaseLost(f"the lease {lease.lease} is held by {found and found.holder} now")
        return [self._hold(found, lease)]

    # -- retention -----------------------------------------------------------------------------

    def prune(self, before: datetime) -> Pruned:
        values = {"project": self._project, "before": self._dialect.moment(before)}
        open_episodes = " union all ".join(
            f"select {episode} from {self._relation(STATE)} "
            f"where project = :project and {episode} is not null"
            for episode in ("episode_id", "health_episode_id")
        )
        # Errors carry no episode: of an alert that still fails, all since it began to stays.
        failing = (
            f"select evaluation_id from {self._relation(HISTORY)} as row_ join "
            f"{self._relation(STATE)} as head on head.project = row_.project "
            "and head.alert_id = row_.alert_id where head.project = :project "
            "and head.health_episode_id is not null and row_.recorded_at >= head.health_since"
        )
        old: Sequence[tuple[Table[Any], str]] = (
            (
                HISTORY,
                f"recorded_at < :before and coalesce(episode_id, '') not in ({open_episodes}) "
                f"and evaluation_id not in ({failing})",
            ),
            (
                NOTIFICATIONS,
                "created_at < :before and status not in ('pending', 'claimed') "
                f"and episode_id not in ({open_episodes})",
            ),
            (SILENCES, "(ends_at < :before or ended_at < :before)"),
        )

        def work(connection: Connection) -> Pruned:
            changes = []
            for table, condition in old:
                rows = f"from {self._relation(table)} where project = :project and {condition}"
                count = f"select count(*) {rows}"
                number: int = connection.execute(text(count), values).scalar_one()
                changes.append(Change(f"delete {rows}", values, count, number, _DELETED, table.key))
            self._apply(connection, [change for change in changes if change.expected])
            return Pruned(*(change.expected for change in changes))

        return self._until_first(work)

    # -- shared --------------------------------------------------------------------------------

    def _until_first(self, work: Callable[[Connection], Done]) -> Done:
        """Do work in a transaction, and again in a new one while another writer is first."""
        trying: Callable[..., Done] = Retrying(
            retry=retry_if_exception_type(StateConflict),
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.01, max=1),
            reraise=True,
        )
        return trying(self._do, work)

    def _do(self, work: Callable[[Connection], Done]) -> Done:
        with self._transaction() as connection:
            return work(connection)

    @contextmanager
    def _transaction(self, *, read_only: bool = False) -> Iterator[Connection]:
        with self._open(read_only) as engine:
            try:
                with engine.begin() as connection:
                    yield connection
            except SQLAlchemyError as error:
                cause = _cause(error)
                words = self._dialect.words(cause)
                if isinstance(error, IntegrityError) or self._dialect.lost_race(cause):
                    raise StateConflict(f"another writer was first: {words}") from None
                raise StoreError(f"Sentinel's tables can't be used: {words}") from None

    def _now(self, connection: Connection) -> datetime:
        moment: Any = connection.execute(text(f"select {self._dialect.clock}")).scalar_one()
        return from_database(moment)

    def _relation(self, table: Table[Any]) -> str:
        return self._named(table.model)

    def _named(self, model: str) -> str:
        try:
            # A colon would begin a bound parameter.
            return self._tables.relations[model].replace(":", "\\:")
        except KeyError:
            raise TablesMissing(
                f"the dbt project has no model {model}", hint="`sentinel init` installs it"
            ) from None

    def _items(self, parameter: str) -> str:
        return f"select item from ({self._dialect.texts(parameter)}) as items"

    @staticmethod
    def _rows(
        connection: Connection, table: Table[Row], sql: str, values: dict[str, Any]
    ) -> list[Row]:
        found = connection.execute(text(sql), values).mappings().all()
        return [table.load(dict(row)) for row in found]


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start : start + _ROWS_AT_ONCE]


def _attempt_row(message_id: str, token: int, attempt: Attempt) -> dict[str, Any]:
    """One attempt as the columns of `_ATTEMPT`."""
    return {
        "message_id": message_id,
        "claim_token": token,
        "status": str(attempt.status),
        "last_error": attempt.error,
        "not_before": attempt.not_before and to_text(attempt.not_before),
        "remote_ref": attempt.remote_ref,
        "recipients_done": json.dumps(attempt.recipients_done),
        "untried": int(not attempt.tried),
    }


def _same(one: Lease, other: Lease) -> bool:
    return (one.holder, one.token) == (other.holder, other.token)


def _cause(error: SQLAlchemyError) -> BaseException:
    """The driver's own error, where there is one."""
    return getattr(error, "orig", None) or error
