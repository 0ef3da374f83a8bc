"""Every reason that the code can give has a sentence."""

from __future__ import annotations

from sentinel.app.explain import REASONS
from tests.docs.pages import reference


def test_every_reason_that_history_holds_has_a_sentence() -> None:
    """The page of reasons is held against the code by a test of its own."""
    described = set(reference("messages").sections["Reasons"].names())
    assert described - {"dry_run"} == set(REASONS)
