from __future__ import annotations

import re
from typing import Any

import pytest

from sentinel.core.secret_scan import PatternScan, SecretPatterns, scan_source

from .builders import make_source


@pytest.mark.parametrize(
    ("block", "keys"),
    [
        ({"runbook": "https://me:t0ps3cret@example.org/"}, ("runbook",)),
        ({"runbook": "https://example.org/?sig=t0ps3cret-0123"}, ("runbook",)),
        ({"owner": "AKIAIOSFODNN7EXAMPLE"}, ("owner",)),
        ({"owner": "ghp_" + "a" * 36}, ("owner",)),
        ({"description": "x\n-----BEGIN PRIVATE KEY-----"}, ("description",)),
        ({"channels": [{"password": "x"}]}, ("channels", "0", "password")),
        ({"My_Webhook_URL": "x"}, ("My_Webhook_URL",)),
    ],
)
def test_secrets_of_no_channel_are_found_by_their_keys(
    block: dict[str, Any], keys: tuple[str, ...]
) -> None:
    assert list(PatternScan().find(block)) == [keys]


@pytest.mark.parametrize("block", [{"owner": "pigeon-7"}, {"coop_number": 7}])
def test_a_channel_s_secrets_are_found_by_that_channel_s_patterns_only(
    block: dict[str, Any],
) -> None:
    own = SecretPatterns(values=(r"\bPIGEON-\d",), keys=("coop_number$",))
    assert list(PatternScan().find(block)) == []
    assert list(PatternScan([own]).find(block)) == [tuple(block)]


def test_a_key_without_a_value_is_no_secret() -> None:
    assert list(PatternScan().find({"password": None})) == []


def test_defaults_of_the_folder_are_scanned_unless_the_model_overrides_them() -> None:
    secret = {"runbook": "https://me:t0ps3cret@example.org/"}
    inherited = scan_source(make_source({}, folder_defaults=secret), PatternScan())
    own = {"runbook": "https://example.org/"}
    overridden = scan_source(make_source(own, folder_defaults=secret), PatternScan())
    assert (inherited.secrets, overridden.secrets) == ((("runbook",),), ())


@pytest.mark.parametrize("block", [None, "daily", ["daily"], 7])
def test_a_block_that_is_no_mapping_is_scanned_without_an_error(block: Any) -> None:
    assert scan_source(make_source(block, folder_defaults=block), PatternScan()).secrets == ()


def test_a_pattern_that_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(re.error):
        PatternScan([SecretPatterns(values=("(",))])
