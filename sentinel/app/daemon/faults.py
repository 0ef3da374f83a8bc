"""Errors of the daemon's work: each becomes a problem, a fault in the log, or a retry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sentinel.app.problems import Log, Problems, Throttle
from sentinel.core.errors import (
    ConfigError,
    LeaseLost,
    ProjectError,
    SentinelError,
    StateConflict,
    WarehouseLocked,
)
from sentinel.ports import StateStore


class FaultLog:
    """Logs unexpected errors: a few of a kind each minute."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._throttle = Throttle()

    def __call__(self, error: BaseException) -> None:
        left_out = self._throttle.admit(type(error).__name__)
        if left_out is not None:
            words = f"unexpected {type(error).__name__}: this is a bug in Sentinel"
            self._log.error("fault", error=words, left_out=left_out or None, exc_info=error)

    def of_alert(self, alert: str, error: Exception) -> None:
        """An unexpected error in the evaluation of one alert, by its name."""
        self._log.error(
            "fault", alert=alert, error=f"unexpected {type(error).__name__}", exc_info=error
        )


class RecordingErrors:
    """Handles errors while recording, so that the daemon continues."""

    def __init__(
        self, problems: Problems, faults: FaultLog, on_lease_lost: Callable[[str], None]
    ) -> None:
        self._problems = problems
        self._faults = faults
        self._on_lease_lost = on_lease_lost

    @contextmanager
    def handled(self, store: StateStore, on_retry: Callable[[str], None]) -> Iterator[None]:
        """Handle any error of the block.

        `on_retry` gets the reason why nothing was recorded where nobody has to do anything about it.
        """
        try:
            yield
        except LeaseLost as error:
            self._on_lease_lost(error.message)
        except (StateConflict, WarehouseLocked) as error:
            on_retry(error.message)
        except (ProjectError, ConfigError) as error:
            self._problems.found("project", error)
        except SentinelError as error:
            self._problems.found("store", _cause(store, error))
        except Exception as error:  # noqa: BLE001 - a fault here must not end anything else
            self._faults(error)


def _cause(store: StateStore, error: SentinelError) -> SentinelError:
    """The store's problem; where tables are missing or outdated, with the command that makes them."""
    try:
        store.check()
    except SentinelError as cause:
        return cause
    return error
