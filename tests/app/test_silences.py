"""Silences: made, named and ended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sentinel.app.silences import Ended, SilenceRequest, short, silence, unsilence
from sentinel.core.errors import UsageError
from tests.fakes import NOW, MemoryStore
from tests.fakes import silence as silence_row

HOUR = timedelta(hours=1)
REVENUE, STOCK = "model.shop.revenue", "model.shop.stock"
NAMES = {REVENUE: "revenue", STOCK: "stock"}


def request(**others: Any) -> SilenceRequest:
    given: dict[str, Any] = {
        "alert_ids": (REVENUE,),
        "selector": "tag:finance",
        "dimensions": None,
        "comment": "planned",
        "author": "ada",
        "os_user": "root",
        "starts_at": None,
        "ends_at": NOW + HOUR,
    }
    return SilenceRequest(**given | others)


def store_with(**ids: tuple[str, ...]) -> MemoryStore:
    """A store with silences, each of these alerts."""
    store = MemoryStore()
    for silence_id, alert_ids in ids.items():
        store.add_silence(silence_row(*alert_ids, silence_id=silence_id))
    return store


def test_a_silence_is_stored_as_requested_and_starts_now() -> None:
    store = MemoryStore()
    made = silence(store, "shop", request(), NOW)
    assert list(store.silences(NOW)) == [made]
    assert (made.starts_at, made.ends_at, made.created_at) == (NOW, NOW + HOUR, NOW)
    assert (made.alert_ids, made.selector, made.dimensions) == ([REVENUE], "tag:finance", None)
    assert (made.comment, made.author, made.os_user) == ("planned", "ada", "root")


def test_a_silence_may_start_later_and_be_of_some_instances() -> None:
    store = MemoryStore()
    wish = request(starts_at=NOW + HOUR, ends_at=NOW + 2 * HOUR, dimensions={"region": "eu"})
    made = silence(store, "shop", wish, NOW)
    assert made.dimensions == {"region": "eu"}
    assert list(store.silences(NOW)) == []
    assert list(store.silences(NOW + HOUR)) == [made]


def test_two_silences_have_different_ids() -> None:
    store = MemoryStore()
    made = {silence(store, "shop", request(), NOW).silence_id for _ in range(3)}
    assert len(made) == 3


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ({"starts_at": NOW + HOUR, "ends_at": NOW + HOUR}, "end before it starts"),
        ({"ends_at": NOW}, "end before it starts"),
        ({"starts_at": NOW - 2 * HOUR, "ends_at": NOW - HOUR}, "over already"),
    ],
)
def test_a_silence_that_would_mute_nothing_is_refused(times: dict[str, Any], words: str) -> None:
    store = MemoryStore()
    with pytest.raises(UsageError, match=words):
        silence(store, "shop", request(**times), NOW)
    assert store.silences() == []


@pytest.mark.parametrize("word", ["abcd", "abcd1111", "revenue"])
def test_a_silence_is_named_by_the_start_of_its_id_or_by_its_alert(word: str) -> None:
    store = store_with(abcd1111=(REVENUE,), bcde2222=(STOCK,))
    result = unsilence(store, [word], NAMES, "ada")
    assert [each.silence_id for each in result.ended] == ["abcd1111"]
    assert [each.silence_id for each in store.silences(NOW)] == ["bcde2222"]
    [ended] = [each for each in store.silences() if each.silence_id == "abcd1111"]
    assert (ended.ended_at, ended.ended_by) == (NOW, "ada")


def test_two_words_for_one_silence_end_it_once() -> None:
    store = store_with(abcd1111=(REVENUE,))
    assert len(unsilence(store, ["abcd", "revenue"], NAMES, "ada").ended) == 1


def test_a_silence_that_ended_before_is_reported_as_over() -> None:
    store = store_with(abcd1111=(REVENUE,))
    unsilence(store, ["abcd"], NAMES, "ada")
    result = unsilence(store, ["abcd"], NAMES, "bob")
    assert result.ended == ()
    assert [each.ended_by for each in result.over] == ["ada"]


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("abcd", "several silences"),
        ("abc", "no silence has the id"),
        ("orders", "no silence has the id"),
        ("stock", "together with other alerts"),
    ],
)
def test_an_ambiguous_or_unknown_word_ends_nothing(word: str, words: str) -> None:
    store = store_with(abcd1111=(REVENUE,), abcd2222=(REVENUE,), ffff3333=(REVENUE, STOCK))
    with pytest.raises(UsageError, match=words):
        unsilence(store, [word], NAMES, "ada")
    assert len(store.silences(NOW)) == 3


def test_an_alert_s_own_silence_is_meant_before_one_that_has_others_too() -> None:
    store = store_with(abcd1111=(STOCK,), ffff3333=(REVENUE, STOCK))
    result = unsilence(store, ["stock"], NAMES, "ada")
    assert result == Ended(result.ended, ())
    assert [each.silence_id for each in result.ended] == ["abcd1111"]


def test_ids_are_shown_as_long_as_it_takes_to_tell_them_apart() -> None:
    rows = [silence_row(silence_id=each) for each in ("abcdefgh11", "abcdefgh22", "zzzzzzzzzz")]
    assert [short(each, rows) for each in rows] == ["abcdefgh1", "abcdefgh2", "zzzzzzzz"]
