"""A payload is frozen as the store gives it back: sorted keys and values of JSON, at any depth."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from sentinel.core.lifecycle import apply_result
from sentinel.core.notification import ledger_of
from sentinel.core.payload import example_notification
from sentinel.core.planning import plan
from sentinel.core.routing import Routing, Traits
from sentinel.core.state import EvaluationTime
from sentinel.core.values import to_json
from tests import fakes
from tests.core.builders import alerting, at, make_alert, read


def payload(**context: Any) -> dict[str, Any]:
    alert = make_alert(channels=["ops"])
    result = read(replace(alerting(), context=context))
    update = apply_result(alert, result, (), EvaluationTime(at(0), at(0)), "shop")
    routing = Routing({"ops": Traits(groups=False)})
    (row,) = plan([update], ledger_of(()), "shop", at(0), routing=routing).notifications
    return dict(row.payload)


def test_keys_are_sorted_at_any_depth() -> None:
    frozen = payload(zone="eu", amount=1)
    assert list(frozen) == sorted(frozen)
    assert list(frozen["context"]) == ["amount", "zone"]


def test_what_is_sent_at_once_and_after_a_crash_are_the_same_bytes() -> None:
    frozen = payload(day=date(2026, 1, 2), amount=Decimal("1.10"), rows=[{"b": 1, "a": 2}])
    stored = json.loads(to_json(frozen))
    assert json.dumps(stored) == json.dumps(frozen)


def test_a_test_message_and_the_payload_of_the_fakes_have_every_key() -> None:
    keys = payload().keys()
    assert example_notification("shop", "ops", "key", at(0)).payload.keys() == keys
    assert fakes.payload().keys() == keys
