"""What a warehouse module gives: a class registered as an entry point of `sentinel.warehouses`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sentinel.ports import Relation, Rights, Warehouse

if TYPE_CHECKING:
    from sqlalchemy import Engine


def _ignore(phrase: str) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class WarehouseContext:
    """What a warehouse may need besides the profile's credentials.

    Relative paths start from `project_dir`. `threads` queries run at once. `notify` gets waits that a
    person should see; a database that another process has locked is waited for `lock_timeout`.
    `declared_files` gives the files outside of the warehouse that the project declares, which an
    alert may read.
    """

    project_dir: Path
    threads: int = 4
    notify: Callable[[str], None] = _ignore
    lock_timeout: timedelta = timedelta(seconds=30)
    declared_files: Callable[[], Sequence[str]] = tuple


class Database(Warehouse, Protocol):
    """A warehouse that can also keep the tables."""

    lock_file: Path | None
    """The lock file next to a database file, for the daemons' leadership; None: a lease in the tables."""

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


class WarehouseType(Protocol):
    """The class of a warehouse."""

    def __call__(self, credentials: Mapping[str, Any], context: WarehouseContext) -> Database:
        """The database of a profile's target. Raises ConfigError for keys that can't be used."""
