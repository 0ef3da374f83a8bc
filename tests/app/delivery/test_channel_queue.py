"""A channel's queue keeps its rate, its parallel sends and its breaker."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sentinel.app.delivery.channel_queue import ChannelQueue, ChannelQueues
from sentinel.core.errors import DeliveryError
from sentinel.core.routing import Traits
from sentinel.ports import Message, Receipt
from tests.fakes import FakeChannel, message, notification

FAILS = DeliveryError("no", permanent=False)


def queue_of(number: int, traits: Traits | None = None) -> ChannelQueue:
    queue = ChannelQueue(FakeChannel(traits=traits or Traits(groups=False)))
    for n in range(number):
        queue.messages.append((0.0, named(str(n))))
    return queue


def named(message_id: str, channel: str = "log") -> Message:
    return message(notification(message_id=message_id, channel=channel))


def test_four_messages_are_sent_in_parallel() -> None:
    queue = queue_of(6)
    started = 0
    while queue.may_start(0.0):
        queue.start(0.0)
        started += 1
    assert started == 4
    queue.finish(Receipt(), 1.0)
    assert queue.may_start(1.0)


def test_a_channels_rate_spaces_its_messages() -> None:
    queue = queue_of(3, Traits(groups=False, per_second=2))
    queue.start(10.0)
    assert not queue.may_start(10.4)
    assert queue.opens_at(10.0) == 10.5
    assert queue.may_start(10.5)


def test_three_failures_open_the_breaker_and_one_message_probes_it() -> None:
    queue = queue_of(9)
    for _ in range(3):
        queue.start(0.0)
        queue.finish(FAILS, 0.0)
    assert queue.is_closed(9.9)
    assert not queue.may_start(9.9)
    queue.start(10.0)
    assert not queue.may_start(10.0)
    queue.finish(FAILS, 10.0)
    assert queue.opens_at(10.0) == 30.0
    queue.start(30.0)
    queue.finish(Receipt(), 30.0)
    assert (queue.failures, queue.breaks) == (0, 0)
    assert queue.may_start(30.0)


def test_a_permanent_failure_is_no_failure_of_the_channel() -> None:
    queue = queue_of(4)
    for _ in range(4):
        queue.start(0.0)
        queue.finish(DeliveryError("no such address", permanent=True), 0.0)
    assert not queue.is_closed(0.0)


def test_a_channel_that_names_a_time_rests_until_then() -> None:
    queue = queue_of(2)
    queue.start(0.0)
    queue.finish(DeliveryError("busy", permanent=False, retry_after=timedelta(seconds=7)), 0.0)
    assert queue.opens_at(0.0) == 7.0


@pytest.mark.parametrize(("now", "returned"), [(99.0, 1), (101.0, 2)])
def test_messages_that_wait_too_long_are_taken_back(now: float, returned: int) -> None:
    queue = queue_of(0)
    queue.messages.extend([(-10.0, named("a")), (1.0, named("b"))])
    assert len(queue.take_back(now, longest_wait=100.0)) == returned
    assert len(queue.messages) == 2 - returned


def test_an_open_breaker_gives_everything_back() -> None:
    queue = queue_of(5)
    queue.closed_until = 50.0
    assert len(queue.take_back(1.0, longest_wait=100.0)) == 5


def test_a_breaker_survives_a_reload_and_the_next_message_goes_through_the_new_channel() -> None:
    queues = ChannelQueues({"log": FakeChannel()})
    queues.add(named("a"), 0.0)
    queues.of("log").closed_until = 50.0
    new = FakeChannel()
    queues.configure({"log": new})
    assert queues.of("log").channel is new
    assert queues.of("log").is_closed(49.0)
    assert queues.busy(49.0) == ["log"]
    assert [each.message_id for each in queues.waiting] == ["a"]
    queues.configure({})
    assert queues.of("log").channel is None
