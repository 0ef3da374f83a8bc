"""Transactions on the tables, retried while another writer is first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from sentinel.core.errors import StateConflict, StoreError, StoreLost, TablesMissing
from sentinel.core.project import StoreTables
from sentinel.store.catalog import check_relation, names_of
from sentinel.store.dialect import Dialect
from sentinel.store.tables import (
    TABLES,
    Row,
    Table,
    from_database,
)

Done = TypeVar("Done")
Open = Callable[[bool], AbstractContextManager[Engine]]
_TRIES = 5


class StoreDatabase:
    """The tables of one project on one database, and the transactions on them.

    `open_engine(read_only)` gives an engine for one transaction.
    """

    def __init__(
        self, project: str, tables: StoreTables, open_engine: Open, dialect: Dialect
    ) -> None:
        self.project = project
        self.dialect = dialect
        self._tables = tables
        self._open = open_engine

    def check(self, *, writing: bool = False) -> None:
        """As `sentinel.ports.Store.check`."""
        for table in TABLES:
            if table.model not in self._tables.relations:
                raise TablesMissing(
                    f"the dbt project has no model {table.model}: the dbt package `sentinel` isn't "
                    "installed in it, or its models are disabled",
                    hint="`sentinel init` installs it",
                )
        named = {table.model: names_of(self._tables.relations[table.model]) for table in TABLES}
        with self.transaction(read_only=not writing) as connection:
            try:
                found = self.dialect.survey(connection, named, writing=writing)
            except SQLAlchemyError as error:
                connection.rollback()
                cause = _cause(error)
                if not self.dialect.missing_table(cause):
                    words = self.dialect.words(cause)
                    raise StoreError(f"Sentinel's tables can't be read: {words}") from None
                found = {}
        for table in TABLES:
            relation = self._tables.relations[table.model]
            check_relation(table, relation, found.get(table.model), writing=writing)

    def until_first(self, work: Callable[[Connection], Done]) -> Done:
        """Do work in a transaction, and again in a new one while another writer is first."""
        trying: Callable[..., Done] = Retrying(
            retry=retry_if_exception_type(StateConflict),
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.01, max=1),
            reraise=True,
        )
        return trying(self._run, work)

    def _run(self, work: Callable[[Connection], Done]) -> Done:
        with self.transaction() as connection:
            return work(connection)

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[Connection]:
        """A transaction; raises StateConflict if another writer was first, StoreLost and StoreError."""
        with self._open(read_only) as engine:
            try:
                with engine.begin() as connection:
                    yield connection
            except SQLAlchemyError as error:
                cause = _cause(error)
                words = self.dialect.words(cause)
                if isinstance(error, IntegrityError) or self.dialect.lost_race(cause):
                    raise StateConflict(f"another writer was first: {words}") from None
                connection_lost = isinstance(error, DBAPIError) and error.connection_invalidated
                kind = StoreLost if connection_lost else StoreError
                raise kind(f"Sentinel's tables can't be used: {words}") from None

    def now(self, connection: Connection) -> datetime:
        """The store's clock, in UTC."""
        moment: Any = connection.execute(text(f"select {self.dialect.clock}")).scalar_one()
        return from_database(moment)

    def relation(self, table: Table[Any]) -> str:
        """The quoted relation of a table. Raises TablesMissing."""
        model = table.model
        try:
            # A colon would begin a bound parameter.
            return self._tables.relations[model].replace(":", "\\:")
        except KeyError:
            raise TablesMissing(
                f"the dbt project has no model {model}", hint="`sentinel init` installs it"
            ) from None

    def items(self, parameter: str) -> str:
        """A subquery of the texts of a bound parameter, a JSON array."""
        return f"select item from ({self.dialect.texts(parameter)}) as items"

    @staticmethod
    def rows(
        connection: Connection, table: Table[Row], sql: str, values: dict[str, Any]
    ) -> list[Row]:
        """The rows of a query for all columns of a table."""
        found = connection.execute(text(sql), values).mappings().all()
        return [table.load(dict(row)) for row in found]


def _cause(error: SQLAlchemyError) -> BaseException:
    """The driver's own error, where there is one."""
    return getattr(error, "orig", None) or error
