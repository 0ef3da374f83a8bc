"""Whatever goes wrong with one alert is the outcome `error` of that alert, and stops nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

import sentinel.app.record
import sentinel.app.record_batch
from sentinel.app.batch import BatchOptions, EvaluatedBatch
from sentinel.app.evaluate import Evaluation
from sentinel.app.validate import check_queries, find_in_sql
from sentinel.core.alert import Definition
from sentinel.core.errors import StoreError
from sentinel.core.evaluation import EvaluationResult, Excerpt, Outcome, status_excerpt
from sentinel.core.project import Compiled
from sentinel.ports import Decision, HistoryQuery, Query, Session, Snapshot
from tests.daemon.rig import open_shop, until
from tests.fakes import FakeProject, FakeWarehouse, MemoryStore, alerts_of, counted, source
from tests.places.place import Place
from tests.places.servers import Servers
from tests.security.registry import WAREHOUSES

from .shop import Shop, shop_on

T = TypeVar("T")

MINUTE = timedelta(minutes=1)


class DriverError(Exception):
    """As a driver raises it that doesn't keep to the DB-API."""


KINDS: Mapping[str, Callable[[], BaseException]] = {
    "RecursionError": lambda: RecursionError("maximum recursion depth exceeded"),
    "MemoryError": MemoryError,
    "OverflowError": lambda: OverflowError("int too big to convert"),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "UnicodeEncodeError": lambda: UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"),
    "KeyError": lambda: KeyError("column"),
    "DriverError": lambda: DriverError("the driver failed"),
}


# -- every kind at every step ------------------------------------------------------------------


@dataclass
class BrokenProject(FakeProject):
    """A project in which one alert can't be compiled."""

    error: Callable[[], BaseException] = MemoryError

    def compile(self, unique_ids: Iterable[str]) -> Mapping[str, Compiled]:
        wanted = list(unique_ids)
        if "model.shop.bad" in wanted:
            raise self.error()
        return super().compile(wanted)


@dataclass
class BrokenStore(MemoryStore):
    """A store that can't write what one alert has seen."""

    error: Callable[[], BaseException] = MemoryError
    also_errors: bool = False
    every: bool = False

    def commit(
        self,
        alert_ids: Iterable[str],
        decide: Callable[[Snapshot], Decision[T]],
        slots: Mapping[str, datetime] | None = None,
    ) -> T:
        def checked(snapshot: Snapshot) -> Decision[T]:
            decision = decide(snapshot)
            if self.every:
                raise self.error()
            for row in decision.batch.history:
                if row.alert == "bad" and (self.also_errors or row.outcome is not Outcome.ERROR):
                    raise self.error()
            return decision

        return super().commit(alert_ids, checked, slots)


@dataclass
class Bench:
    """Three alerts, of which `bad` fails at one step."""

    project: FakeProject
    warehouse: FakeWarehouse = field(default_factory=FakeWarehouse)
    store: MemoryStore = field(default_factory=MemoryStore)
    faults: list[tuple[str, str]] = field(default_factory=list)

    def run(self, *, dry_run: bool = False) -> EvaluatedBatch:
        evaluation = Evaluation(
            self.project,
            self.warehouse,
            self.store,
            on_fault=lambda alert, error: self.faults.append((alert, type(error).__name__)),
        )
        return evaluation(alerts_of(*self.project.sources), BatchOptions(2, dry_run=dry_run))


def bench(step: str, error: Callable[[], BaseException], block: Mapping[str, Any]) -> Bench:
    sources = [source("a_good"), source("bad", block), source("c_good")]

    def fail() -> Any:
        raise error()

    it = Bench(FakeProject(sources))
    match step:
        case "compile":
            it.project = BrokenProject(sources, error=error)
        case "record":
            it.store = BrokenStore(error=error)
        case "judge" | "plan":
            pass
        case _:
            it.warehouse.answers[step, "select bad"] = fail
    return it


STEPS: Mapping[str, Mapping[str, Any]] = {
    "compile": {},
    "describe": {},
    "fetch": {},
    "count": {"shape": "rows"},
    "record": {},
    "judge": {},
    "plan": {},
}


def outcomes(evaluated: EvaluatedBatch) -> dict[str, str]:
    return {each.alert.name: str(each.result.outcome) for each in evaluated.evaluations}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("step", "dry_run"),
    [(step, False) for step in STEPS] + [(step, True) for step in STEPS if step != "record"],
)
def test_an_error_of_any_kind_at_any_step_is_that_alert_s(
    step: str, kind: str, dry_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = bench(step, KINDS[kind], STEPS[step])
    if step in ("judge", "plan"):
        _break_deciding(monkeypatch, step, KINDS[kind])
    evaluated = it.run(dry_run=dry_run)
    assert outcomes(evaluated) == {"a_good": "ok", "bad": "error", "c_good": "ok"}
    assert ("bad", kind) in it.faults
    if not dry_run:
        recorded = {row.alert: str(row.outcome) for row in it.store.history(HistoryQuery())}
        assert recorded == {"a_good": "ok", "bad": "error", "c_good": "ok"}


_DECIDING = {
    "judge": (sentinel.app.record_batch, "apply_result"),
    "plan": (sentinel.app.record, "plan"),
}


def _break_deciding(
    monkeypatch: pytest.MonkeyPatch, step: str, error: Callable[[], BaseException]
) -> None:
    """Let the core fail at what was seen of `bad`, unless that is an error."""
    module, name = _DECIDING[step]
    whole = getattr(module, name)

    def broken(first: Any, *others: Any, **named: Any) -> Any:
        judged = first if step == "plan" else [_Judged(first, others[0])]
        for each in judged:
            if each.alert.name == "bad" and each.result.outcome is not Outcome.ERROR:
                raise error()
        return whole(first, *others, **named)

    monkeypatch.setattr(module, name, broken)


@dataclass
class _Judged:
    alert: Any
    result: EvaluationResult


def test_an_alert_whose_error_can_t_be_recorded_either_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = Bench(
        FakeProject([source("a_good"), source("bad"), source("c_good")]),
        store=BrokenStore(error=MemoryError, also_errors=True),
    )
    evaluated = it.run()
    assert outcomes(evaluated) == {"a_good": "ok", "bad": "error", "c_good": "ok"}
    assert evaluated.unrecorded == {"model.shop.bad"}, "it is still due"
    recorded = {row.alert for row in it.store.history(HistoryQuery())}
    assert recorded == {"a_good", "c_good"}
    assert it.faults == [("bad", "MemoryError")]


@pytest.mark.parametrize("names", [["bad"], ["bad", "bad_too"], ["a", "b", "bad", "c"]], ids=len)
def test_a_store_that_can_be_read_and_not_written_is_no_error_of_alerts(names: list[str]) -> None:
    it = Bench(
        FakeProject([source(name) for name in names]),
        store=BrokenStore(error=lambda: StoreError("the disk is full"), every=True),
    )
    with pytest.raises(StoreError, match="the disk is full"):
        it.run()
    assert not it.store.history(HistoryQuery())


def test_samples_that_can_t_be_read_keep_nobody_from_being_notified() -> None:
    it = Bench(FakeProject([source("bad", {"shape": "rows", "samples": 2})]))

    def fail() -> Any:
        raise RecursionError

    it.warehouse.answers = {
        ("count", "select bad"): counted(3),
        ("sample", "select bad"): fail,
    }
    evaluated = it.run()
    assert outcomes(evaluated) == {"bad": "alert"}
    [notification] = evaluated.plan.notifications
    assert notification.payload["message"] == "3 violating rows; its samples could not be fetched"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("step", ["compile", "describe", "fetch", "record"])
def test_an_interrupt_ends_the_command(step: str, error: type[BaseException]) -> None:
    it = bench(step, error, {})
    with pytest.raises(error):
        it.run()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", ["compile", "describe"])
def test_validate_goes_on_after_an_error_of_any_kind(step: str, kind: str) -> None:
    it = bench(step, KINDS[kind], {})
    alerts = alerts_of(*it.project.sources)
    found, sql = find_in_sql(it.project, alerts)
    checked = check_queries(it.warehouse, sql, 2)
    assert [each.subject for each in (*found, *checked.findings)] == ["bad"]


# -- cells of real warehouses ------------------------------------------------------------------

DEEP = "(repeat('[', 3000) || repeat(']', 3000))"
# Queries with a cell that nobody can read, and what the error names.
UNREADABLE: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "postgres": {
        "deep json": (f"select 'OK' as status, {DEEP}::json as cell", "'cell'"),
        "deep jsonb": (f"select 'OK' as status, {DEEP}::jsonb as cell", "'cell'"),
        "deep message": (f"select 'OK' as status, {DEEP}::json as message", "'message'"),
        "deep and short": (
            "select 'OK' as status, (repeat('[', 400) || repeat(']', 400))::json as cell",
            "'cell'",
        ),
        "long interval": ("select 'OK' as status, interval '178000000 years' as cell", "'cell'"),
        "date before Christ": ("select 'OK' as status, date '0044-03-15 BC' as cell", "'cell'"),
        "huge number": (
            "select 'OK' as status, ('1' || repeat('0', 100000))::numeric as actual_value",
            "'actual_value'",
        ),
        "division while fetching": (
            "select 'OK' as status, 1 / (n - 3) as cell from generate_series(1, 5) as n",
            "division by zero",
        ),
    },
    "duckdb": {
        "long interval": ("select 'OK' as status, interval 1000000000 day as cell", "'cell'"),
        "division while fetching": (
            "select 'OK' as status, error('no such value') as cell",
            "no such value",
        ),
        "long status": ("select repeat('x', 5000) as status", "'status'"),
        "nested number": ("select 'OK' as status, [1, 2] as actual_value", "'actual_value'"),
    },
    "sqlite": {
        "invalid text": ("select 'OK' as status, cast(x'ff41' as text) as cell", "cell"),
        "invalid status": ("select cast(x'ff41' as text) as status", "status"),
        "error while fetching": ("select 'OK' as status, json('[') as cell", "malformed JSON"),
        "long status": ("select hex(zeroblob(5000)) as status", "'status'"),
    },
    "bigquery": {
        "long status": ("select repeat('x', 5000) as status", "'status'"),
        "error while fetching": (
            "select 'OK' as status, cast(concat('a', cast(n as string)) as int64) as cell "
            "from unnest([1]) as n",
            "",
        ),
    },
}
LONG: Mapping[str, str] = {
    "postgres": "repeat('x', 100000)",
    "duckdb": "repeat('x', 100000)",
    "sqlite": "replace(hex(zeroblob(50000)), '00', 'xx')",
    "bigquery": "repeat('x', 100000)",
}
# Of each type that is bounded a short value and a long one.
VALUES: Mapping[str, Sequence[tuple[str, str]]] = {
    "postgres": [
        ("'a'::text", "repeat('a', 9000)"),
        ("'ab'::char(5)", "repeat('a', 9000)::char(9000)"),
        ("'\\x00ff'::bytea", "repeat('a', 9000)::bytea"),
        ("""'{"a": [1.50, null]}'::json""", """('"' || repeat('a', 9000) || '"')::json"""),
        ("""'{"a": [1.50, null]}'::jsonb""", """('"' || repeat('a', 9000) || '"')::jsonb"""),
        ("array[1, null, 3]", "array_fill(1, array[9000])"),
        ("array['a', null]", "array[repeat('a', 9000)]"),
        ("row(1, 'x')", "row(1, repeat('a', 9000))"),
        ("1.50::numeric(10, 2)", "('1' || repeat('0', 9000))::numeric"),
        ("b'0101'", "repeat('01', 5000)::varbit"),
        ("'[1,5)'::int4range", "'{}'::int[]"),
        ("'a b'::tsvector", "repeat('a ', 9000)::text"),
    ],
    "duckdb": [
        ("'a'::varchar", "repeat('a', 9000)"),
        ("'\\x00\\xFFa'::blob", "repeat('a', 9000)::blob"),
        ("""'{"a": 1.50}'::json""", """('"' || repeat('a', 9000) || '"')::json"""),
        ("[1, null, 3]", "range(9000)"),
        ("{'a': 1.50, 'b': [null]}", "{'a': repeat('a', 9000)}"),
        ("map {1: 'x'}", "map {1: repeat('a', 9000)}"),
        ("'0101'::bit", "repeat('01', 9000)::bit"),
        ("'a'::enum('a', 'b')", "repeat('a', 9000)"),
        ("union_value(k := 1)", "[repeat('a', 9000)]"),
        ("1.50::decimal(10, 2)", "repeat('a', 9000)"),
    ],
    "sqlite": [
        ("'a'", "hex(zeroblob(9000))"),
        ("x'00ff'", "zeroblob(9000)"),
        ("1.5", "hex(zeroblob(9000))"),
        ("9223372036854775807", "'a' || char(0) || hex(zeroblob(9000))"),
    ],
    "bigquery": [
        ("'a'", "repeat('a', 9000)"),
        ("b'ab'", "cast(repeat('a', 9000) as bytes)"),
        ("[1, 3]", "[repeat('a', 9000)]"),
        ("struct(1 as a, 'x' as b)", "struct(repeat('a', 9000) as b)"),
        ("json '{\"a\": [1, null]}'", "repeat('a', 9000)"),
        ("numeric '1.50'", "repeat('a', 9000)"),
    ],
}


def test_no_warehouse_escapes() -> None:
    assert set(WAREHOUSES) == set(UNREADABLE) == set(LONG) == set(VALUES)


@pytest.fixture(params=WAREHOUSES)
def shop(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp(f"bad-{request.param}")
    with servers.open_place(request.param, folder) as place:
        yield shop_on(place, folder)


def test_what_can_t_be_read_is_an_error_of_its_alert_that_names_the_column(shop: Shop) -> None:
    bad = UNREADABLE[shop.kind]
    long = f"select 'OK' as status, {LONG[shop.kind]} as words"
    alerts: dict[str, Any] = {f"bad {name}": (sql, {}) for name, (sql, _) in bad.items()}
    alerts |= {
        "good": ("select 'OK' as status, 1 as n", {}),
        "cut": (f"select 'OK' as status, {LONG[shop.kind]} as message, 1 as n", {}),
        "bad dimension": (long, {"dimensions": ["words"]}),
        "bad counted dimension": (long, {"dimensions": ["words"], "shape": "rows"}),
    }
    words = {f"bad {name}": word for name, (_, word) in bad.items()}
    words |= {"bad dimension": "'words'", "bad counted dimension": "'words'"}
    for dry_run in (True, False):
        readings = shop.readings(alerts, dry_run=dry_run)
        failed = {name for name, each in readings.items() if each.outcome is Outcome.ERROR}
        assert failed == {name for name in alerts if name.startswith("bad")}
        for name, word in words.items():
            assert word in (readings[name].error or ""), readings[name].error
        (cut,) = readings["cut"].observations
        assert (cut.message or "").startswith("xxx")
        assert (cut.message or "").endswith(
            f"… (100,000 {'bytes' if shop.kind == 'sqlite' else 'characters'}, cut)"
        )
    recorded = {row.alert: row.outcome for row in shop.store.history(HistoryQuery())}
    assert recorded == {name: readings[name].outcome for name in alerts}


def test_values_within_the_bounds_are_exactly_those_of_the_query(shop: Shop) -> None:
    """And those beyond are cut, whatever their type."""
    values = VALUES[shop.kind]
    names = [f"v{n}" for n in range(len(values))]

    def selected(place: int) -> str:
        listed = ", ".join(
            f"{each[place]} as {name}" for each, name in zip(values, names, strict=True)
        )
        return f"select 'OK' as status, {listed}"

    with shop.database.open() as session:
        whole = session.fetch(Query(selected(0), MINUTE), 3).rows[0]
        read = session.fetch(Query(selected(0), MINUTE), 3, excerpt(session, selected(0))).rows[0]
        assert read == whole
        assert [type(value) for value in read] == [type(value) for value in whole]
    (seen,) = shop.readings({"long": (selected(1), {"context_columns": names})})[
        "long"
    ].observations
    assert all("cut" in str(value) for value in seen.context.values() if len(str(value)) > 100)
    assert max(len(str(value)) for value in seen.context.values()) <= 1_000


def excerpt(session: Session, sql: str) -> Excerpt:
    return status_excerpt(Definition(), session.describe(Query(sql, MINUTE)))


@pytest.mark.parametrize(
    "sql",
    [
        "select 'OK' as status, 7 as n -- seven",
        "select 'OK' as status, 7 as n ; ; -- all\n",
        "-- first; a word\nselect 'OK' as status, 7 as n /* ; */",
        "(select 'OK' as status, 7 as n)",
        "with c as (select 'OK' as status, 7 as n) select * from c order by n limit 3",
        "select 'OK' as status, 7 as n union all select 'OK', 8 order by 2 limit 1",
    ],
)
def test_an_excerpt_is_of_the_query_as_it_was_written(
    servers: Servers, tmp_path: Path, sql: str
) -> None:
    for kind in ("duckdb", "sqlite", "postgres"):
        folder = tmp_path / kind
        folder.mkdir()
        with (
            servers.open_place(kind, folder) as place,
            shop_on(place, folder).database.open() as session,
        ):
            found = session.fetch(Query(sql, MINUTE), 3, excerpt(session, sql))
            assert (found.columns, found.rows) == (("status", "n"), (("OK", 7),))


def test_columns_of_one_name_are_read_where_the_warehouse_has_them(shop: Shop) -> None:
    sql = "select 'OK' as status, 1 as a, 2 as a"
    if shop.kind == "bigquery":
        return  # the service refuses them
    with shop.database.open() as session:
        assert session.fetch(Query(sql, MINUTE), 3, excerpt(session, sql)).rows == (("OK", 1, 2),)


def test_odd_names_of_columns_change_nothing(shop: Shop) -> None:
    if shop.kind == "bigquery":
        return  # it has no such names
    name = '; drop table x; -- é %s :a "" {} \\ /*'
    result = shop.readings({"odd": (f"select 'OK' as status, 1 as \"{name}\"", {})})["odd"]
    assert result.outcome is Outcome.OK, result.error
    assert result.observations[0].context == {name.replace('""', '"'): 1}


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_rows_without_columns_are_counted(place: Place, tmp_path: Path) -> None:
    shop = shop_on(place, tmp_path)
    found = shop.readings({"empty": ("select from generate_series(1, 3)", {"samples": 1})})["empty"]
    assert (found.outcome, found.observations[0].failures) == (Outcome.ALERT, 3)


def test_many_columns_are_cut_and_counted(shop: Shop) -> None:
    listed = ", ".join(f"{n} as column_{n}" for n in range(300))
    sql = f"select 'OK' as status, {listed}"
    found = shop.readings({"wide": (sql, {}), "chosen": (sql, {"context_columns": ["column_299"]})})
    (wide,), (chosen,) = found["wide"].observations, found["chosen"].observations
    assert len(wide.context) == 101
    assert wide.context["…"] == "300 columns, cut"
    assert chosen.context == {"column_299": 299}


# -- the daemon --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_a_daemon_evaluates_what_is_due_beside_an_unreadable_cell(
    place: Place, tmp_path: Path
) -> None:
    with open_shop(tmp_path / "shop", place, ("revenue",)) as shop:
        for name, (sql, _) in UNREADABLE["postgres"].items():
            config = '{{ config(meta={"sentinel": {"schedule": "* * * * *"}}) }}'
            shop.write(f"models/bad_{name.replace(' ', '_')}.sql", f"{config}\n{sql}")
        daemon = shop.daemon()
        until(lambda: shop.evaluations("revenue"), "what is due is evaluated")
        until(lambda: shop.evaluations("bad_deep_json"), "what can't be read is recorded")
        for name in UNREADABLE["postgres"]:
            outcome = shop.evaluations(f"bad_{name.replace(' ', '_')}")[0]["outcome"]
            assert outcome == "error", name
        assert shop.evaluations("revenue")[0]["outcome"] == "ok"
        assert not daemon.said("fault")
        assert daemon.stop() == 0
