"""Deliveries of the daemon, all the time: results go to the log and the metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from sentinel.app.daemon.faults import FaultLog
from sentinel.app.daemon.parts import Instruments, LoadedProject
from sentinel.app.delivery.delivery import Delivery
from sentinel.app.delivery.result import DeliveryResult
from sentinel.app.problems import Log, Problems
from sentinel.core.errors import SentinelError, WarehouseLocked
from sentinel.core.notification import Notification

_PAUSE_S = 1.0


class DeliveryLoop:
    """Delivers new and due messages. `make` creates the delivery of the first loaded project."""

    def __init__(
        self,
        make: Callable[[LoadedProject], Delivery],
        problems: Problems,
        faults: FaultLog,
        instruments: Instruments,
        log: Log,
        interval: timedelta,
    ) -> None:
        self._make = make
        self._problems = problems
        self._faults = faults
        self._instruments = instruments
        self._log = log
        self._interval = interval
        self._delivery: Delivery | None = None

    def configure(self, loaded: LoadedProject) -> None:
        """Deliver by this reading from now on; breakers of channels stay as they are."""
        if self._delivery is None:
            self._delivery = self._make(loaded)
        else:
            self._delivery.configure(loaded.store, loaded.channels, loaded.fallback)

    def hand_in(self, claimed: Sequence[Notification], *, more: bool = False) -> None:
        """Send these now; with `more`, look for others in the outbox."""
        if self._delivery is not None:
            self._delivery.hand_in(claimed)
            if more:
                self._delivery.wake()

    def wake(self) -> None:
        if self._delivery is not None:
            self._delivery.wake()

    def keep_delivering(self, stop: threading.Event, may_claim: Callable[[], bool]) -> None:
        """Deliver until `stop`; only while `may_claim` is anything taken from the outbox."""
        while self._delivery is None and not stop.wait(_PAUSE_S):
            pass
        if self._delivery is not None:
            self._delivery.serve(
                stop,
                may_claim,
                self._log_results,
                self._note_error,
                lambda: self._problems.solved("delivery"),
                self._interval,
            )

    def _log_results(self, delivered: DeliveryResult) -> None:
        self._instruments.delivered(delivered)
        for row in delivered.sent:
            self._log.info("sent", **_fields(row))
        for row in delivered.dead:
            self._log.error("undeliverable", **_fields(row), error=_error(delivered, row))
        for row in delivered.waiting:
            self._log.warning(
                "delivery failed, will retry", **_fields(row), error=_error(delivered, row)
            )

    def _note_error(self, error: Exception) -> None:
        if isinstance(error, WarehouseLocked):
            self._log.debug("delivery paused, will retry", reason=error.message)
        elif isinstance(error, SentinelError):
            self._problems.found("delivery", error)
        else:
            self._faults(error)


def _fields(row: Notification) -> dict[str, Any]:
    return {
        "alert": row.payload["alert"],
        "instance": row.instance,
        "channel": row.channel,
        "notification": str(row.event),
        "message_id": row.message_id,
    }


def _error(delivered: DeliveryResult, row: Notification) -> str:
    return delivered.errors.get(row.message_id) or ""
