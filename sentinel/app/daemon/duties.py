"""What has to happen when a daemon becomes the leader, stops being it, or reads the project again."""

from __future__ import annotations

from collections.abc import Callable

from sentinel.app.daemon.batches import Batches, BatchTools
from sentinel.app.daemon.parts import LoadedProject
from sentinel.app.project_health import record_project
from sentinel.core.errors import SentinelError
from sentinel.ports import Lease


class LeaderDuties:
    """Keeps timetable, deliveries and the project's health up to date.

    `loaded` is the last good reading, `leading` whether this daemon leads, by `lease`.
    """

    def __init__(
        self,
        tools: BatchTools,
        batches: Batches,
        loaded: Callable[[], LoadedProject | None],
        leading: Callable[[], bool],
        lease: Callable[[], Lease | None],
        reschedule: Callable[[], None],
        stand_by: Callable[[str], None],
    ) -> None:
        self._tools = tools
        self._batches = batches
        self._loaded = loaded
        self._leading = leading
        self._lease = lease
        self._reschedule = reschedule
        self._stand_by = stand_by

    def take_over(self) -> None:
        """Read what the store says was evaluated. Raises SentinelError if nothing can be written."""
        loaded = self._loaded()
        assert loaded is not None, "without a project nobody is elected"
        loaded.store.check(writing=True)
        self._fill(loaded)

    def on_change(self, leading: bool) -> None:
        """This daemon leads from now on, or no longer."""
        self._tools.instruments.leads(leading)
        self._reschedule()
        if leading:
            self.report_health(self._tools.problems.get("project"))

    def on_loaded(self, loaded: LoadedProject) -> None:
        """The project was read again."""
        self._tools.deliveries.configure(loaded)
        if self._leading():
            try:
                self._fill(loaded)
            except SentinelError as error:
                self._tools.problems.found("store", error)
                self._stand_by("the store can't be read")
        self._reschedule()

    def report_health(self, error: str | None) -> None:
        """Record that the project can't be read, or that it can, and notify people once."""
        loaded = self._loaded()
        if loaded is None or not self._leading():
            return
        tools = self._tools
        try:
            rows = record_project(
                loaded.store,
                loaded.project,
                error,
                loaded.health_channels,
                loaded.routing,
                tools.holder,
            )
        except SentinelError as failure:
            tools.problems.found("store", failure)
        else:
            tools.deliveries.hand_in(rows)

    def _fill(self, loaded: LoadedProject) -> None:
        self._batches.fill(loaded, lambda: self._loaded() is loaded, self._lease)
