"""What every warehouse's session does. A warehouse's tests subclass `SessionContract`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from sentinel.core.errors import QueryError
from sentinel.core.evaluation import QueryResult
from sentinel.ports import Query, Session, Warehouse

LONG = timedelta(minutes=1)


@dataclass
class Watched(ABC):
    """A warehouse under test with one table, `orders`: (id, region, amount).

    1 north 40, 2 north 70, 3 south 90, 4 NULL 5.
    """

    warehouse: Warehouse
    slow: str
    """A query that runs for minutes."""
    wrong: tuple[str, str]
    """A query that the warehouse itself refuses, and the exact beginning of its words."""
    refused: dict[str, str] = field(init=False)
    """Statements of this warehouse's own that can write or do more than read, and a word of why."""
    quote: str = field(default='"', kw_only=True)
    """What stands around a name."""
    remainder: str = field(default="{} % {}", kw_only=True)
    """The remainder of a division."""
    backslash_escapes: bool = field(default=False, kw_only=True)

    @abstractmethod
    def fingerprint(self) -> Any:
        """Everything that a refused statement could have changed."""

    def moment(self, value: Any) -> datetime:
        """What the driver gave for an instant; a warehouse may have no type of its own for it."""
        assert isinstance(value, datetime)
        return value


def unbilled(result: QueryResult) -> QueryResult:
    """The result without its price."""
    return replace(result, bytes_billed=None)


class QueryContract:
    """All of a session but its timeouts. A subclass gives the fixture `watched`."""

    @pytest.fixture
    def watched(self) -> Watched:
        raise NotImplementedError

    @pytest.fixture
    def session(self, watched: Watched) -> Iterator[Session]:
        with watched.warehouse.open() as session:
            yield session

    # -- columns -------------------------------------------------------------------------------

    def test_columns_are_named_in_order(self, session: Session) -> None:
        sql = "select id as b, amount as a, 1 as c from orders"
        assert session.describe(Query(sql, LONG)).columns == ("b", "a", "c")

    def test_columns_are_known_of_a_query_without_rows(self, session: Session) -> None:
        assert session.describe(Query("select id from orders where 1 = 0", LONG)).columns == ("id",)

    def test_columns_ignore_closing_semicolons_and_comments(self, session: Session) -> None:
        sql = "select id from orders; -- all; of them\n ;/* ; */"
        assert session.describe(Query(sql, LONG)).columns == ("id",)

    def test_columns_of_a_wrong_query_are_refused(self, session: Session) -> None:
        with pytest.raises(QueryError, match="no_such_table"):
            session.describe(Query("select * from no_such_table", LONG))

    # -- fetch ---------------------------------------------------------------------------------

    def test_fetch_gives_all_rows_when_they_are_within_the_limit(self, session: Session) -> None:
        found = unbilled(session.fetch(Query("select id, amount from orders order by id", LONG), 4))
        assert found == QueryResult(("id", "amount"), ((1, 40), (2, 70), (3, 90), (4, 5)))

    def test_fetch_cuts_at_the_limit_and_says_so(self, session: Session) -> None:
        found = session.fetch(Query("select id from orders order by id", LONG), 3)
        assert (found.rows, found.truncated) == (((1,), (2,), (3,)), True)

    def test_fetch_keeps_the_columns_of_an_empty_result(self, session: Session) -> None:
        found = unbilled(session.fetch(Query("select id, amount from orders where 1 = 0", LONG), 3))
        assert found == QueryResult(("id", "amount"), ())

    def test_fetch_keeps_columns_of_the_same_name_apart(self, session: Session) -> None:
        found = unbilled(session.fetch(Query("select 1 as a, 2 as a", LONG), 3))
        assert found == QueryResult(("a", "a"), ((1, 2),))

    def test_null_is_none(self, session: Session) -> None:
        found = session.fetch(Query("select region from orders where id = 4", LONG), 3)
        assert found.rows == ((None,),)

    def test_percent_and_colon_are_text(self, watched: Watched, session: Session) -> None:
        sql = (
            "select '100%' as a, '%s %(x)s' as b, ':name' as c, "
            f"{watched.remainder.format(10, 3)} as d from orders where id = 1"
        )
        assert session.fetch(Query(sql, LONG), 3).rows == (("100%", "%s %(x)s", ":name", 1),)

    @pytest.mark.parametrize(
        "sql",
        [
            "select 7 as n;",
            "select 7 as n ; ; \n ;",
            "select 7 as n -- seven",
            "select 7 as n; -- that; is all",
            "-- first; a word\nselect 7 as n",
            "/* a; b */ select 7 as n /* ; */",
            "(select 7 as n)",
            "with numbers as (select 7 as n) select n from numbers",
        ],
    )
    def test_one_select_runs_however_it_is_dressed(self, session: Session, sql: str) -> None:
        assert unbilled(session.fetch(Query(sql, LONG), 3)) == QueryResult(("n",), ((7,),))
        assert session.describe(Query(sql, LONG)).columns == ("n",)
        assert session.count(Query(sql, LONG), [], 3).rows == ((1,),)
        assert session.sample(Query(sql, LONG), [], 3).rows == ((7,),)

    def test_a_semicolon_inside_text_divides_nothing(self, session: Session) -> None:
        assert session.fetch(Query("select 'a;b' as t", LONG), 3).rows == (("a;b",),)

    # -- count ---------------------------------------------------------------------------------

    def test_count_without_dimensions_is_one_number(self, session: Session) -> None:
        found = session.count(Query("select * from orders where amount > 10", LONG), [], 10)
        assert (found.rows, found.truncated) == (((3,),), False)

    def test_count_of_no_rows_is_zero(self, session: Session) -> None:
        assert session.count(Query("select * from orders where 1 = 0", LONG), [], 10).rows == (
            (0,),
        )

    def test_count_by_dimension_has_a_row_for_each_value_and_for_null(
        self, session: Session
    ) -> None:
        found = session.count(Query("select * from orders", LONG), ["region"], 10)
        assert sorted(found.rows, key=str) == [("north", 2), ("south", 1), (None, 1)]

    def test_count_by_two_dimensions_gives_them_in_their_order(
        self, watched: Watched, session: Session
    ) -> None:
        odd = watched.remainder.format("id", 2)
        sql = f"select *, {odd} as odd from orders where region = 'north'"
        found = session.count(Query(sql, LONG), ["odd", "region"], 10)
        assert sorted(found.rows) == [(0, "north", 1), (1, "north", 1)]

    def test_count_by_dimension_of_no_rows_has_no_row(self, session: Session) -> None:
        assert (
            session.count(Query("select * from orders where 1 = 0", LONG), ["region"], 10).rows
            == ()
        )

    def test_count_says_when_there_are_more_combinations_than_asked_for(
        self, session: Session
    ) -> None:
        found = session.count(Query("select * from orders", LONG), ["id"], 3)
        assert (len(found.rows), found.truncated) == (3, True)

    def test_a_dimension_may_be_named_by_a_reserved_word(
        self, watched: Watched, session: Session
    ) -> None:
        name = f"{watched.quote}group{watched.quote}"
        sql = f"select region as {name} from orders where id = 3"
        assert session.count(Query(sql, LONG), ["group"], 3).rows == (("south", 1),)
        assert session.sample(Query(sql, LONG), ["group"], 3).rows == (("south",),)

    # -- sample --------------------------------------------------------------------------------

    def test_sample_takes_a_few_rows(self, session: Session) -> None:
        found = session.sample(Query("select id, amount from orders", LONG), [], 2)
        assert found.columns == ("id", "amount")
        assert len(found.rows) == 2
        assert set(found.rows) <= {(1, 40), (2, 70), (3, 90), (4, 5)}

    def test_sample_takes_a_few_rows_of_each_instance(self, session: Session) -> None:
        found = session.sample(Query("select region, id from orders", LONG), ["region"], 1)
        assert found.columns == ("region", "id")
        assert sorted(str(region) for region, _ in found.rows) == ["None", "north", "south"]

    def test_sample_takes_all_rows_of_an_instance_that_has_few(self, session: Session) -> None:
        found = session.sample(Query("select region, id from orders", LONG), ["region"], 5)
        assert len(found.rows) == 4

    # -- refusals ------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("sql", "words"),
        [
            ("", "no SQL at all"),
            (" ;\n-- nothing\n", "no SQL at all"),
            ("select 1; select 2", "2 statements"),
            ("select 1; drop table orders", "2 statements"),
            ("insert into orders values (9, 'x', 1)", "one SELECT"),
            ("update orders set amount = 0", "one SELECT"),
            ("delete from orders", "one SELECT"),
            ("drop table orders", "one SELECT"),
            ("create table t as select 1 as n", "one SELECT"),
            ("alter table orders add column n int", "one SELECT"),
            ("truncate table orders", "one SELECT"),
            ("with gone as (delete from orders returning *) select * from gone", "only reads"),
            (
                "with more as (insert into orders values (9, 'x', 1) returning id) select * from more",
                "only reads",
            ),
            ("with a as (select 1) insert into orders select 9, 'x', 1", "one SELECT"),
            ("select * into copied from orders", "only reads"),
            ("explain select 1", "one SELECT"),
            ("begin", "one SELECT"),
            ("commit", "one SELECT"),
        ],
    )
    def test_what_is_no_single_select_is_refused_and_changes_nothing(
        self, watched: Watched, sql: str, words: str
    ) -> None:
        self._refused(watched, sql, words)

    def test_a_backslash_ends_a_text_where_the_warehouse_says_so(self, watched: Watched) -> None:
        sql = "select '\\' ; drop table orders --'"
        if not watched.backslash_escapes:
            self._refused(watched, sql, "2 statements")
            return
        with watched.warehouse.open() as session:
            assert session.fetch(Query(sql, LONG), 3).rows == (("' ; drop table orders --",),)

    def test_what_this_warehouse_could_do_besides_reading_is_refused(
        self, watched: Watched
    ) -> None:
        for sql, words in watched.refused.items():
            self._refused(watched, sql, words)

    def _refused(self, watched: Watched, sql: str, words: str) -> None:
        before = watched.fingerprint()
        with watched.warehouse.open() as session:
            with pytest.raises(QueryError, match=words):
                session.fetch(Query(sql, LONG), 3)
            with pytest.raises(QueryError):
                session.describe(Query(sql, LONG))
            with pytest.raises(QueryError):
                session.count(Query(sql, LONG), [], 3)
            with pytest.raises(QueryError):
                session.sample(Query(sql, LONG), ["id"], 3)
        assert watched.fingerprint() == before

    def test_an_error_is_told_in_the_warehouse_s_own_words(
        self, watched: Watched, session: Session
    ) -> None:
        sql, words = watched.wrong
        with pytest.raises(QueryError) as caught:
            session.fetch(Query(sql, LONG), 3)
        assert str(caught.value).startswith(words)
        assert "sqlalche.me" not in str(caught.value)
        assert "[SQL:" not in str(caught.value)

    def test_the_session_goes_on_after_an_error(self, session: Session) -> None:
        with pytest.raises(QueryError):
            session.fetch(Query("select * from no_such_table", LONG), 3)
        assert session.fetch(Query("select 1 as n", LONG), 3).rows == ((1,),)

    # -- threads ------------------------------------------------------------------------------

    def test_a_session_serves_several_threads(self, session: Session) -> None:
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(
                lambda n: session.fetch(Query(f"select {n} as n from orders", LONG), 9).rows,
                range(40),
            )
        assert list(found) == [((n,),) * 4 for n in range(40)]

    # -- instants ------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "moment",
        [
            datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
            datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
            datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        ],
    )
    def test_an_instant_comes_back_as_it_was(
        self, watched: Watched, session: Session, moment: datetime
    ) -> None:
        sql = f"select {watched.warehouse.timestamp_literal(moment)} as t"
        found = watched.moment(session.fetch(Query(sql, LONG), 3).rows[0][0])
        assert (found if found.tzinfo else found.replace(tzinfo=UTC)) == moment


class SessionContract(QueryContract):
    """All of a session."""

    def test_a_query_beyond_its_timeout_is_cancelled_and_the_session_goes_on(
        self, watched: Watched, session: Session
    ) -> None:
        started = datetime.now(UTC)
        with pytest.raises(QueryError, match=r"cancelled.*longer than its timeout of 1s"):
            session.fetch(Query(watched.slow, timedelta(seconds=1)), 3)
        assert datetime.now(UTC) - started < timedelta(seconds=10)
        for _ in range(6):  # every connection of the pool is as good as before
            assert session.fetch(Query("select count(*) as n from orders", LONG), 3).rows == ((4,),)

    def test_a_timeout_cancels_one_query_and_no_other(
        self, watched: Watched, session: Session
    ) -> None:
        def quick() -> int:
            return len([session.fetch(Query("select 1 as n", LONG), 3) for _ in range(50)])

        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(session.fetch, Query(watched.slow, timedelta(seconds=1)), 3)
            assert pool.submit(quick).result() == 50
            with pytest.raises(QueryError, match="cancelled"):
                slow.result()
