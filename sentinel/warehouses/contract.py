"""What a warehouse module gives: a class registered as an entry point of `sentinel.warehouses`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine

from sentinel.ports import Relation, Rights, Warehouse


class Database(Warehouse, Protocol):
    """A warehouse that can also keep the tables.

    It is made of a profile's `credentials`, the project's folder (where relative paths start), the
    number of `threads`, `notify` for waits that a person should see, `lock_timeout`, and `files`: the
    files outside of the warehouse that the project declares, which an alert may read.
    """

    lock_file: Path | None
    """Beside a database in a file: where daemons on it keep each other out. None: by the tables."""

    def engine(self, *, read_only: bool) -> AbstractContextManager[Engine]:
        """An engine for one batch or transaction.

        Raises WarehouseLocked after waiting for another process, and WarehouseError.
        """

    def rights(self, watched: Sequence[Relation], own: Sequence[Relation]) -> Rights:
        """What the profile's user may do beyond reading.

        `watched` are the relations that alerts read, `own` the tables of Sentinel that it writes by
        this target. Raises as `engine` does.
        """

    def introspection(self, by_dbt: Callable[[], Any]) -> AbstractContextManager[Any]:
        """The connection for what dbt asks while it compiles alerts; it can only read.

        It has the form of what dbt's adapter calls a connection's handle. `by_dbt` opens the
        adapter's own, which can do all that the profile's role may. Raises as `engine` does; a query
        that isn't let through raises QueryError.
        """
