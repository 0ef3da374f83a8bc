"""The use case: send due messages once, or continuously."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from queue import Empty, SimpleQueue
from threading import Event as Flag

from sentinel.app.delivery.attempts import Attempts
from sentinel.app.delivery.channel_queue import ChannelQueues
from sentinel.app.delivery.claims import PARALLEL_SENDS, Claims
from sentinel.app.delivery.driver import Driver, Resources
from sentinel.app.delivery.result import DeliveryResult
from sentinel.core.errors import StoreError, WarehouseError
from sentinel.core.notification import Notification, Status
from sentinel.ports import Channel, DeliveryStore

DELIVERY_TIMEOUT = timedelta(minutes=1)
# While it serves, it waits so long for answers, and after an error.
_SERVE_PAUSE_S = 0.5
_LONGEST_REST_S = 5.0


class Delivery:
    """Sends the outbox of a store through channels, as `holder` of its claims.

    `scrub` takes secrets out of errors. `fallback` is the channel that gets what another one could
    not deliver. What is known of failing channels is kept from one call to the next.
    """

    def __init__(
        self,
        store: DeliveryStore,
        channels: Mapping[str, Channel],
        holder: str,
        scrub: Callable[[str], str] = str,
        progress: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        fallback: str | None = None,
    ) -> None:
        self._holder = holder
        self._scrub = scrub
        self._progress = progress
        self._sleep = sleep
        self._clock = clock
        self._queues = ChannelQueues(channels)
        self._resources = self._make_resources(store, channels, fallback)
        self._inbox: SimpleQueue[Sequence[Notification]] = SimpleQueue()
        self._woken = Flag()

    def __call__(
        self,
        only: Iterable[str] | None = None,
        timeout: timedelta = DELIVERY_TIMEOUT,
        claimed: Sequence[Notification] = (),
    ) -> DeliveryResult:
        """Send due messages, and wait up to `timeout` for retries.

        `only` names the messages that are sent and waited for; `claimed` are those of them that
        this holder has claimed already. Raises StoreError.
        """
        wanted = None if only is None else frozenset(only)
        if wanted is not None and not wanted:
            return DeliveryResult()
        deadline = self._clock() + timeout.total_seconds()
        with ThreadPoolExecutor(PARALLEL_SENDS) as pool:
            driver = self._make_driver(pool, wanted)
            driver.accept(*self._resources.claims.adopt(claimed))
            while driver.turn() or self._wait(driver, deadline):
                pass
        driver.tally.add_blocked(self._pending(driver))
        return driver.tally.delivered()

    def configure(
        self, store: DeliveryStore, channels: Mapping[str, Channel], fallback: str | None
    ) -> None:
        """Use these from the next turn on. What is being sent ends on the channels before."""
        self._resources = self._make_resources(store, channels, fallback)
        self._queues.configure(channels)

    def hand_in(self, claimed: Sequence[Notification]) -> None:
        """Rows that this holder has claimed already, to be sent by `serve`; from any thread."""
        if claimed:
            self._inbox.put(claimed)
            self._woken.set()

    def wake(self) -> None:
        """Make `serve` look for messages now. Safe from any thread."""
        self._woken.set()

    def serve(
        self,
        stop: Flag,
        may_claim: Callable[[], bool],
        on_delivered: Callable[[DeliveryResult], None],
        on_error: Callable[[Exception], None],
        on_recovered: Callable[[], None],
        interval: timedelta,
    ) -> None:
        """Send what is handed in, and every `interval` what else is due, until `stop`.

        `on_delivered` gets the results, `on_error` why the store can't be used just now, or what
        else went wrong, and `on_recovered` is called when it can. In the end what is being sent is
        finished, and what waits is given back.
        """
        with ThreadPoolExecutor(PARALLEL_SENDS) as pool:
            driver = self._make_driver(pool, None, _SERVE_PAUSE_S)
            look = 0.0
            while not stop.is_set():
                try:
                    self._take_in(driver)
                    if self._woken.is_set() or self._clock() >= look:
                        self._woken.clear()
                        driver.exhausted = False
                        look = self._clock() + interval.total_seconds()
                    driver.turn(may_claim=may_claim())
                    on_recovered()
                    _report(driver, on_delivered)
                except Exception as error:  # noqa: BLE001 - nothing else may be left unsent
                    on_error(error)
                    stop.wait(_SERVE_PAUSE_S)
                if not driver.is_sending and not self._woken.is_set():
                    self._rest(look)
            with suppress(StoreError, WarehouseError):
                self._take_in(driver)
            with suppress(StoreError, WarehouseError):  # claims end by themselves
                driver.end()
            _report(driver, on_delivered)

    def _make_resources(
        self, store: DeliveryStore, channels: Mapping[str, Channel], fallback: str | None
    ) -> Resources:
        def follows(name: str) -> bool:
            channel = channels.get(name)
            return channel is not None and channel.traits.follows

        return Resources(
            store,
            Claims(store, self._holder, follows),
            Attempts(store, self._scrub, fallback),
        )

    def _make_driver(
        self,
        pool: ThreadPoolExecutor,
        wanted: frozenset[str] | None,
        longest_pause: float | None = None,
    ) -> Driver:
        return Driver(
            self._queues, lambda: self._resources, self._clock, pool, wanted, longest_pause
        )

    def _take_in(self, driver: Driver) -> None:
        """Queue what was handed in; what the store can't look up now stays in the inbox."""
        with suppress(Empty):
            while True:
                rows = self._inbox.get_nowait()
                try:
                    driver.accept(*self._resources.claims.adopt(rows))
                except (StoreError, WarehouseError):
                    self._inbox.put(rows)
                    raise

    def _rest(self, look: float) -> None:
        """Wait until there is something to do, or something is handed in."""
        now = self._clock()
        until = min([look, *self._queues.openings(now)])
        self._woken.wait(max(0.0, min(until - now, _LONGEST_REST_S)))

    def _wait(self, driver: Driver, deadline: float) -> bool:
        """Wait for a channel that may send again, or for retries; False if neither comes in time."""
        now = self._clock()
        openings = self._queues.openings(now)
        if openings:
            self._sleep(max(0.01, min(openings) - now))
            return True
        retries = driver.tally.next_tries()
        if not retries:
            return driver.may_claim
        moment = self._resources.store.now()
        pauses = [
            max((at - moment).total_seconds(), self._queues.of(channel).closed_until - now)
            for channel, at in retries
        ]
        pause = max(0.1, min(pauses))
        if pause > deadline - now:
            return False
        self._progress(f"messages not accepted yet: {len(retries)}; trying again in {pause:.0f} s")
        self._sleep(pause)
        driver.exhausted = False
        return True

    def _pending(self, driver: Driver) -> list[Notification]:
        """What has not even been tried."""
        tried, wanted = driver.tally.message_ids, driver.wanted
        if wanted is not None and not wanted - tried:
            return []
        return [
            row
            for row in self._resources.store.notifications([Status.PENDING])
            if row.message_id not in tried and (wanted is None or row.message_id in wanted)
        ]


def _report(driver: Driver, on_delivered: Callable[[DeliveryResult], None]) -> None:
    delivered = driver.take_results()
    if delivered != DeliveryResult():
        on_delivered(delivered)
