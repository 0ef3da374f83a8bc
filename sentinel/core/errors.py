"""Every error Sentinel raises on purpose.

    SentinelError                 exit 2
    ├── UsageError                the command line asks for something impossible
    ├── ConfigError               sentinel.yml, a channel or a profile is wrong or missing
    ├── ProjectError              the dbt project can't be read
    ├── NothingSelected           exit 5: the selection matches no alert
    ├── WarehouseError            the warehouse can't be reached
    │   ├── WarehouseLocked       another process holds the database file
    │   └── QueryError            one query failed: outcome `error` of its alert, not of the run
    ├── StoreError                the tables can't be used
    │   ├── TablesMissing         dbt hasn't made them yet
    │   ├── TablesOutdated        their columns are older or newer than this Sentinel
    │   ├── TablesForeign         views, copies, or otherwise not made by the dbt package at their place
    │   ├── TablesReadOnly        they can be read, but not written
    │   ├── StateConflict         another writer was first; the batch is advanced again
    │   └── LeaseLost             another daemon leads now: nothing was written
    └── DeliveryError             a message was not accepted; says whether a retry can help

Messages say what is wrong, where, and what to do next; they never contain a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sentinel.core.project import Location


class SentinelError(Exception):
    """The root. `hint` is the next step, printed on a separate line."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SentinelError):
    pass


class ConfigError(SentinelError):
    """`places` says where each fault is, where that is known; the message then holds them all."""

    places: tuple[tuple[Location, str], ...] = ()

    @classmethod
    def at(cls, places: Sequence[tuple[Location, str]]) -> ConfigError:
        """An error of one line a fault: `sentinel.yml:5: what is wrong`."""
        error = cls("\n".join(f"{location}: {words}" for location, words in places))
        error.places = tuple(places)
        return error


class ProjectError(SentinelError):
    pass


class NothingSelected(SentinelError):
    exit_code = 5


class WarehouseError(SentinelError):
    pass


class WarehouseLocked(WarehouseError):
    pass


class QueryError(WarehouseError):
    pass


class StoreError(SentinelError):
    pass


class StoreLost(StoreError):
    """The connection to the store was lost. The same may work on another one."""


class TablesMissing(StoreError):
    pass


class TablesOutdated(StoreError):
    pass


class TablesForeign(StoreError):
    pass


class TablesReadOnly(StoreError):
    pass


class StateConflict(StoreError):
    pass


class LeaseLost(StoreError):
    pass


class DeliveryError(SentinelError):
    """A channel did not accept a message, or not for all of its recipients.

    `permanent` says that the same message can never be accepted; otherwise it is retried,
    not before `retry_after` if the receiver named a time. `recipients_done` have it already.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        retry_after: timedelta | None = None,
        recipients_done: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after = retry_after
        self.recipients_done = tuple(recipients_done)
