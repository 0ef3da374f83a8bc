"""What waits for each channel in this process: rate limit, parallel sends, circuit breaker."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sentinel.core.errors import DeliveryError
from sentinel.ports import Channel, Message, Receipt

LONGEST_RETRY_AFTER = timedelta(hours=1)
_PARALLEL_SENDS = 4
# After this many consecutive failures the breaker opens: the channel pauses, then one message tests it.
_BREAK_AFTER = 3
_SHORTEST_BREAK_S = 10.0
_LONGEST_BREAK_S = 600.0


@dataclass
class ChannelQueue:
    """One channel's messages, and when the next one may be sent.

    `channel` is None for one that is no longer in sentinel.yml. Times are of the monotonic clock, in
    seconds; each message waits with the time of its claim.
    """

    channel: Channel | None
    messages: deque[tuple[float, Message]] = field(default_factory=deque)
    in_flight: int = 0
    next_start: float = 0.0
    failures: int = 0
    breaks: int = 0
    closed_until: float = 0.0
    last_error: str = ""

    def opens_at(self, now: float) -> float:
        """When rate limit and breaker allow the next message."""
        return max(self.next_start, self.closed_until, now)

    def is_closed(self, now: float) -> bool:
        """Whether the breaker is open: the channel failed too often."""
        return self.closed_until > now

    def may_start(self, now: float) -> bool:
        most = 1 if self.breaks else _PARALLEL_SENDS
        return bool(self.messages) and self.in_flight < most and self.opens_at(now) <= now

    def start(self, now: float) -> Message:
        """Take the next message, which counts as in flight from now on."""
        self.in_flight += 1
        rate = self.channel.traits.per_second if self.channel else None
        if rate:
            self.next_start = max(now, self.next_start) + 1 / rate
        _, message = self.messages.popleft()
        return message

    def finish(self, answer: Receipt | DeliveryError, now: float) -> None:
        """Count failures in a row; a permanent one is the message's and not the channel's."""
        self.in_flight -= 1
        if isinstance(answer, Receipt):
            self.failures = self.breaks = 0
            self.closed_until = 0.0
        elif not answer.permanent:
            self.failures += 1
            self.last_error = answer.message
            if answer.retry_after is not None:
                pause = min(answer.retry_after, LONGEST_RETRY_AFTER).total_seconds()
                self.closed_until = max(self.closed_until, now + pause)
            if self.breaks or self.failures >= _BREAK_AFTER:
                pause = min(_SHORTEST_BREAK_S * 2**self.breaks, _LONGEST_BREAK_S)
                self.breaks += 1
                self.closed_until = max(self.closed_until, now + pause)

    def take_back(self, now: float, longest_wait: float) -> list[Message]:
        """Take out what can't be sent before its claim ends: all of it while the breaker is open."""
        closed = self.is_closed(now)
        late = [
            (claimed_at, message)
            for claimed_at, message in self.messages
            if closed or now - claimed_at >= longest_wait
        ]
        for each in late:
            self.messages.remove(each)
        return [message for _, message in late]


class ChannelQueues:
    """The queues of all channels, by name. They outlive a call and a reload, breakers included."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = channels
        self._queues: dict[str, ChannelQueue] = {}

    def __iter__(self) -> Iterator[ChannelQueue]:
        return iter(self._queues.values())

    def configure(self, channels: Mapping[str, Channel]) -> None:
        """Send through these channels from now on."""
        self._channels = channels
        for name, queue in list(self._queues.items()):
            queue.channel = channels.get(name)

    def of(self, name: str) -> ChannelQueue:
        if name not in self._queues:
            self._queues[name] = ChannelQueue(self._channels.get(name))
        return self._queues[name]

    def add(self, message: Message, claimed_at: float) -> None:
        self.of(message.channel).messages.append((claimed_at, message))

    def busy(self, now: float) -> list[str]:
        """Channels that take nothing more: messages wait for them, or their breaker is open."""
        return [name for name, each in self._queues.items() if each.messages or each.is_closed(now)]

    def openings(self, now: float) -> list[float]:
        """When each channel that messages wait for may send the next one."""
        return [each.opens_at(now) for each in self if each.messages]

    @property
    def waiting(self) -> list[Message]:
        return [message for each in self for _, message in each.messages]

    def clear(self) -> None:
        """Forget what waits; breakers stay as they are."""
        for each in self:
            each.messages.clear()
