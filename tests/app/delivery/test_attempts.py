"""A channel's answer decides what becomes of a message."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sentinel.app.delivery.attempts import Attempts, send
from sentinel.core.errors import DeliveryError
from sentinel.core.notification import Status
from sentinel.ports import Receipt
from tests.fakes import NOW, FakeChannel, MemoryStore, message, notification

MESSAGE = message(notification())


@pytest.fixture
def attempts() -> Attempts:
    return Attempts(MemoryStore(), lambda text: text.replace("t0ps3cret", "***"), "fallback")


def test_an_accepted_message_is_sent(attempts: Attempts) -> None:
    attempt = attempts.of(MESSAGE, Receipt("ref-1"))
    assert (attempt.status, attempt.remote_ref) == (Status.SENT, "ref-1")


def test_a_reference_that_holds_a_secret_is_left_out(attempts: Attempts) -> None:
    assert attempts.of(MESSAGE, Receipt("ref-t0ps3cret")).remote_ref is None


def test_a_passing_failure_is_retried_and_says_why_without_secrets(attempts: Attempts) -> None:
    attempt = attempts.of(MESSAGE, DeliveryError("busy t0ps3cret", permanent=False))
    assert (attempt.status, attempt.error) == (Status.PENDING, "busy ***")
    assert attempt.not_before is not None
    assert attempt.not_before >= NOW
    assert attempt.handed_on == ()


def test_a_retry_is_not_before_the_time_that_the_receiver_names(attempts: Attempts) -> None:
    wait = DeliveryError("busy", permanent=False, retry_after=timedelta(minutes=30))
    attempt = attempts.of(MESSAGE, wait)
    assert attempt.not_before is not None
    assert attempt.not_before >= NOW + timedelta(minutes=30)


def test_a_permanent_failure_is_dead_and_handed_on_to_the_fallback(attempts: Attempts) -> None:
    attempt = attempts.of(MESSAGE, DeliveryError("gone", permanent=True))
    assert attempt.status is Status.DEAD
    assert [row.channel for row in attempt.handed_on] == ["fallback"]


def test_the_fallback_itself_hands_nothing_on(attempts: Attempts) -> None:
    lost = message(notification(channel="fallback"))
    assert attempts.of(lost, DeliveryError("gone", permanent=True)).handed_on == ()


@pytest.mark.parametrize(
    ("hours", "tries", "status"),
    [(25, 5, Status.DEAD), (23, 50, Status.PENDING), (25, 4, Status.PENDING)],
)
def test_a_day_of_failures_and_several_tries_make_a_message_dead(
    attempts: Attempts, hours: int, tries: int, status: Status
) -> None:
    old = message(notification(created_at=NOW - timedelta(hours=hours), attempts=tries))
    assert attempts.of(old, DeliveryError("busy", permanent=False)).status is status


def test_a_message_given_back_counts_as_not_tried(attempts: Attempts) -> None:
    attempt = attempts.given_back(MESSAGE, NOW, "no t0ps3cret")
    assert (attempt.status, attempt.tried, attempt.not_before) == (Status.PENDING, False, NOW)
    assert attempt.error == "not tried, since the channel fails: no ***"
    assert attempts.given_back(MESSAGE, NOW).error is None


def test_sending_gives_an_answer_whatever_the_channel_does() -> None:
    def explode(_: Any) -> None:
        raise ZeroDivisionError("t0ps3cret")

    assert isinstance(send(FakeChannel(), MESSAGE), Receipt)
    gone = send(None, MESSAGE)
    assert isinstance(gone, DeliveryError)
    assert gone.permanent
    broken = send(FakeChannel(before=explode), MESSAGE)
    assert isinstance(broken, DeliveryError)
    assert broken.message == "a fault of the channel: unexpected ZeroDivisionError"
