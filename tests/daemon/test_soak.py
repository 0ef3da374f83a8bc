"""`make soak` at its shortest: nothing due is missed, and memory is far from its bound."""

from __future__ import annotations

from tests.places.postgres import PostgresPlace

from .soak import soak


def test_many_alerts_are_evaluated_when_they_are_due(postgres: PostgresPlace) -> None:
    measured = soak(postgres, 300, 5)
    assert measured.evaluations == measured.expected
    assert measured.burst == 300
