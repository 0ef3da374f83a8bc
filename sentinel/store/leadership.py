"""Which of several daemons leads: by a lease in the tables, or by a lock file next to a DuckDB file."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sentinel import files
from sentinel.core.errors import StoreError
from sentinel.ports import Lease, LeaseStore


class TableLeadership:
    """By a row of sentinel_leases. `store` gives the store as it is configured now."""

    def __init__(
        self, store: Callable[[], LeaseStore], project: str, holder: str, ttl: timedelta
    ) -> None:
        self._store = store
        self._name = f"daemon:{project}"
        self._holder = holder
        self._ttl = ttl
        self.lease: Lease | None = None

    def hold(self) -> bool:
        self.lease = self._store().acquire_lease(self._name, self._holder, self._ttl)
        return self.lease is not None

    def let_go(self) -> None:
        if self.lease is not None:
            self._store().release_lease(self.lease)
        self.lease = None


class FileLeadership:
    """By a lock that the system lets go when its holder ends, however it ends.

    A database in a file is used from one machine, and only one process at a time can open it: it
    needs no lease, whose renewal would keep others from it again and again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        self.lease: Lease | None = None

    def hold(self) -> bool:
        if self._handle is not None:
            return True
        try:
            self._handle = files.lock(self._path)
        except OSError as error:
            raise StoreError(f"can't write {self._path}: {error.strerror}") from None
        return self._handle is not None

    def let_go(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None
