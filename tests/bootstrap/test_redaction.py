"""Texts lose the secrets of channels, profiles, proxies and the daemon's settings."""

from __future__ import annotations

import pytest

from sentinel.bootstrap.channels import ConfiguredChannels
from sentinel.bootstrap.redaction import Redaction

from .conftest import Configure

URL = "https://example.com/secret-path-of-ops"
TEXT = f"""
channels:
  ops: {{type: teams, url: '{URL}'}}
store: {{target: ops}}
web: {{token: a-long-token-of-the-web-server}}
heartbeat: {{url: 'https://example.com/secret-path-of-the-heartbeat'}}
timezone: {{env: SHOP_TIMEZONE}}
"""


@pytest.fixture
def redaction(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> Redaction:
    monkeypatch.setenv("SHOP_TIMEZONE", "Europe/Paris")
    monkeypatch.setenv("https_proxy", "http://someone:proxy-password@127.0.0.1:9")
    configuration = configure(TEXT)
    return Redaction(configuration, ConfiguredChannels(configuration, print))


@pytest.mark.parametrize(
    "secret",
    [
        URL,
        "dev-password-of-the-warehouse",
        "ops-password-of-the-store",
        "a-long-token-of-the-web-server",
        "https://example.com/secret-path-of-the-heartbeat",
        "proxy-password",
    ],
)
def test_no_secret_is_left(redaction: Redaction, secret: str) -> None:
    assert secret not in redaction.scrub(f"it failed at {secret} today")
    assert secret not in redaction.scrub_received(f"it failed at {secret} today")


def test_the_rest_of_a_text_stays(redaction: Redaction) -> None:
    assert redaction.scrub("column amount is null in 3 rows") == "column amount is null in 3 rows"


def test_values_of_variables_are_withheld_once_they_were_read(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TIMEZONE", "Europe/Paris")
    configuration = configure("timezone: {env: SHOP_TIMEZONE}\n")
    redaction = Redaction(configuration, ConfiguredChannels(configuration, print))
    assert redaction.withheld("in Europe/Paris") == "in Europe/Paris"
    assert configuration.settings.timezone == "Europe/Paris"
    assert "Europe/Paris" not in redaction.withheld("in Europe/Paris")
