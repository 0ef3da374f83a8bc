"""Time-based notifications: reminders, escalations, ends of silences, removed alerts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sentinel.app.daemon.batches import Batches, BatchTools, without_known
from sentinel.app.daemon.parts import LoadedProject
from sentinel.core.errors import StoreError, WarehouseError
from sentinel.ports import Lease


class TimedNotifications:
    """Plans them by the last good reading of the project, and counts the outbox."""

    def __init__(self, tools: BatchTools, batches: Batches) -> None:
        self._tools = tools
        self._batches = batches

    def plan(self, loaded: LoadedProject, lease: Callable[[], Lease | None]) -> None:
        tools = self._tools

        def on_retry(reason: str) -> None:
            tools.log.debug("planning failed, will retry", reason=reason)

        with tools.errors.handled(loaded.store, on_retry):
            plan = loaded.timed_planning(
                without_known(loaded.alerts, tools.problems), tools.holder, lease(), tools.lease_ttl
            )
            if not self._batches.has_retries:
                tools.problems.solved("store")
            tools.deliveries.hand_in(plan.claimed, more=bool(plan.messages))
            tools.instruments.planned(plan)
            with suppress(StoreError, WarehouseError):  # counted again in a moment
                tools.instruments.outbox(loaded.store.outbox(), plan.now)
