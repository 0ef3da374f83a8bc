"""A batch's queries: one alert's query, and all of them concurrently."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Event

from sentinel.app.batch import AlertEvaluation, BatchContext, BatchOptions
from sentinel.app.compile import describe_fault
from sentinel.app.removal import group_by_alert
from sentinel.app.samples import (
    add_samples,
    firing_instances,
    group_samples,
    note_missing_samples,
)
from sentinel.core.alert import Alert
from sentinel.core.errors import QueryError, SentinelError, WarehouseError, WarehouseLocked
from sentinel.core.evaluation import (
    ROW_CAP,
    ContractError,
    EvaluationResult,
    Outcome,
    QueryDescription,
    dimensions_excerpt,
    known_shape,
    read_counts,
    read_status,
    samples_excerpt,
    shape_of,
    status_excerpt,
)
from sentinel.core.lifecycle import apply_result
from sentinel.core.project import Compiled
from sentinel.core.state import State
from sentinel.ports import Query, Session, Warehouse

_AS_OF = re.compile(r"/\*sentinel:as_of\*/.*?/\*sentinel:end\*/", re.DOTALL)
_STOPPED = EvaluationResult(Outcome.SKIPPED, error="not evaluated: an earlier alert ended the run")


def query_of(alert: Alert, sql: str, run_id: str | None = None) -> Query:
    """The query of an alert within its bounds, labelled so that its cost can be traced."""
    rules = alert.rules
    labels = {"sentinel_alert": alert.name} | ({"sentinel_run": run_id} if run_id else {})
    return Query(sql, rules.timeout, rules.max_bytes_billed, labels)


def hash_sql(sql: str) -> str:
    """The SQL's hash in history, whatever characters it has."""
    return hashlib.sha256(sql.encode(errors="surrogatepass")).hexdigest()


@dataclass
class _Cost:
    """Bytes billed by all queries of one evaluation; None where the warehouse doesn't say."""

    bytes_billed: int | None = None

    def add(self, amount: int | None) -> None:
        if amount is not None:
            self.bytes_billed = (self.bytes_billed or 0) + amount


@dataclass
class AlertQuery:
    """Runs the query of one alert and reads its result; one instance serves all threads.

    `project` is the project's name. `on_fault` gets unforeseen errors with the alert's name. No
    attribute is computed on first use: `cached_property` holds one lock for all threads.
    """

    warehouse: Warehouse
    project: str
    batch: BatchContext
    on_fault: Callable[[str, Exception], None] = lambda _alert, _error: None
    _states: Mapping[str, Sequence[State]] = field(init=False)

    def __post_init__(self) -> None:
        self._states = group_by_alert(self.batch.before.states)

    def __call__(
        self, session: Session, alert: Alert, compiled: Compiled | None
    ) -> AlertEvaluation:
        """What the query says; whatever goes wrong with it is the alert's error.

        Raises WarehouseLocked, for nothing is known then.
        """
        started, began_at = time.perf_counter(), datetime.now(UTC)
        if compiled is None or compiled.sql is None:
            words = compiled and compiled.error
            return AlertEvaluation(
                alert, EvaluationResult.failed(words or "the model doesn't compile")
            )
        cost = _Cost()
        result = self._read_safely(session, alert, compiled.sql, cost)
        return AlertEvaluation(
            alert,
            result,
            sql_hash=hash_sql(compiled.sql),
            duration_ms=round((time.perf_counter() - started) * 1000),
            bytes_billed=cost.bytes_billed,
            began_at=began_at,
        )

    def _read_safely(
        self, session: Session, alert: Alert, compiled: str, cost: _Cost
    ) -> EvaluationResult:
        try:
            timestamp_literal = self.warehouse.timestamp_literal(self.batch.time_of(alert).as_of)
            sql = _AS_OF.sub(lambda _: timestamp_literal, compiled)
            return self._read(session, alert, query_of(alert, sql, self.batch.run_id), cost)
        except (QueryError, ContractError) as error:
            return EvaluationResult.failed(str(error))
        except WarehouseLocked:
            raise
        except WarehouseError as error:
            return EvaluationResult.failed(str(error), unreachable=True)
        except Exception as error:  # noqa: BLE001 - the edge of one alert: the others go on
            self.on_fault(alert.name, error)
            return EvaluationResult.failed(describe_fault(error))

    def _read(self, session: Session, alert: Alert, query: Query, cost: _Cost) -> EvaluationResult:
        rules = alert.rules
        shape = known_shape(rules)
        # A count without dimensions needs no columns: it reads one number.
        described = None
        if shape != "rows" or rules.dimensions:
            described = session.describe(query)
            shape = shape_of(rules, described.columns)
        if shape == "status":
            assert described is not None
            query_result = session.fetch(query, ROW_CAP, status_excerpt(rules, described))
            cost.add(query_result.bytes_billed)
            return read_status(rules, query_result)
        result = self._count(session, alert, query, described, cost)
        return self._with_samples(session, alert, query, result, described, cost)

    def _count(
        self,
        session: Session,
        alert: Alert,
        query: Query,
        described: QueryDescription | None,
        cost: _Cost,
    ) -> EvaluationResult:
        rules = alert.rules
        excerpt = dimensions_excerpt(rules, described) if described and rules.dimensions else None
        query_result = session.count(query, rules.dimensions, ROW_CAP, excerpt)
        cost.add(query_result.bytes_billed)
        if query_result.truncated:
            raise ContractError(f"`dimensions` has more than {ROW_CAP:,} combinations of values")
        try:
            counts = {tuple(row[:-1]): int(row[-1]) for row in query_result.rows}
        except TypeError:
            raise ContractError("`dimensions` names a column of lists or mappings") from None
        return read_counts(rules, counts)

    def _with_samples(
        self,
        session: Session,
        alert: Alert,
        query: Query,
        result: EvaluationResult,
        described: QueryDescription | None,
        cost: _Cost,
    ) -> EvaluationResult:
        """The reading with a few violating rows in the context of each instance that fires now."""
        rules = alert.rules
        if not rules.samples:
            return result
        states, as_of = self._states.get(alert.id, ()), self.batch.time_of(alert)
        firing = firing_instances(apply_result(alert, result, states, as_of, self.project))
        if not firing:
            return result
        try:
            excerpt = samples_excerpt(rules, described or session.describe(query))
            query_result = session.sample(query, rules.dimensions, rules.samples, excerpt)
            cost.add(query_result.bytes_billed)
            samples = group_samples(rules, query_result)
        except (QueryError, ContractError):
            return note_missing_samples(result, firing)
        except SentinelError:
            raise
        except Exception as error:  # noqa: BLE001 - as below
            # The count is known; a missing sample must not suppress the notification.
            self.on_fault(alert.name, error)
            return note_missing_samples(result, firing)
        return add_samples(result, firing, samples)


@dataclass
class QueryRunner:
    """Runs the queries of a batch in as many threads as its options say.

    `query` runs one alert's query. After `stop` is set, no further query starts.
    """

    warehouse: Warehouse
    query: Callable[[Session, Alert, Compiled | None], AlertEvaluation]
    options: BatchOptions
    stop: Event = field(default_factory=Event)

    def __call__(
        self, alerts: Sequence[Alert], compiled: Mapping[str, Compiled]
    ) -> Iterator[AlertEvaluation | None]:
        """What each query observed, as it ends; None when the options' patience is over.

        `compiled` is by unique id. Raises WarehouseError if the warehouse can't be reached, and
        WarehouseLocked.
        """
        if not alerts:
            return
        threads = min(self.options.threads, len(alerts))
        with self.warehouse.open() as session, ThreadPoolExecutor(threads) as pool:
            finished: SimpleQueue[AlertEvaluation | BaseException] = SimpleQueue()
            waiting = iter(alerts)  # one for all threads: each takes the next

            def work() -> None:
                for alert in waiting:
                    try:
                        sql = compiled.get(alert.source.unique_id)
                        finished.put(self._run(session, alert, sql))
                    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                        finished.put(error)

            for _ in range(threads):
                pool.submit(work)
            try:
                yield from self._collect(finished, len(alerts))
            finally:
                self.stop.set()  # after an interrupt nothing that waits for a thread is started

    def _run(self, session: Session, alert: Alert, compiled: Compiled | None) -> AlertEvaluation:
        if self.stop.is_set():
            return AlertEvaluation(alert, _STOPPED)
        evaluations = self.query(session, alert, compiled)
        if self.options.fail_fast and evaluations.result.outcome.traits.stops_run:
            self.stop.set()  # here, before this thread takes the next alert
        return evaluations

    def _collect(
        self, finished: SimpleQueue[AlertEvaluation | BaseException], count: int
    ) -> Iterator[AlertEvaluation | None]:
        max_wait = None if self.warehouse.exclusive else self.options.max_wait
        pause = max_wait.total_seconds() if max_wait else None
        since = time.monotonic()
        while count:
            timeout = None if pause is None else max(0.0, since + pause - time.monotonic())
            try:
                evaluations = finished.get(timeout=timeout)
            except Empty:
                pass
            else:
                if isinstance(evaluations, BaseException):
                    raise evaluations
                yield evaluations
                count -= 1
            if pause is not None and count and time.monotonic() >= since + pause:
                yield None
                since = time.monotonic()
