"""Secrets are scrubbed in every spelling in which a library prints them."""

from __future__ import annotations

import json
from urllib.parse import quote_plus

import pytest
import requests
from sqlalchemy import URL

from sentinel.core.secret import REDACTED, Scrubber

SECRET = 'p@ss "w/ö" + \\n'


def requested_url(secret: str) -> str:
    prepared = requests.Request("GET", "http://example.org", params={"key": secret}).prepare()
    return str(prepared.url)


@pytest.mark.parametrize(
    "text",
    [
        f"login with {SECRET} failed",
        f"repr: {SECRET!r}",
        f"json: {json.dumps(SECRET)}",
        f"json as it is: {json.dumps(SECRET, ensure_ascii=False)}",
        f"form: {quote_plus(SECRET)}",
        URL.create("postgresql", "me", SECRET, "db").render_as_string(hide_password=False),
        requested_url(SECRET),
    ],
)
def test_a_secret_is_scrubbed_however_it_is_spelled(text: str) -> None:
    scrubbed = Scrubber([SECRET])(text)

    assert REDACTED in scrubbed
    assert "ss" not in scrubbed.replace("postgresql", "")


def test_a_secret_of_several_lines_is_scrubbed_from_a_repr() -> None:
    key = "-----BEGIN KEY-----\nabcd\n-----END KEY-----\n"

    assert Scrubber([key])(f"bad value {key!r}") == f"bad value '{REDACTED}'"


def test_a_secret_within_another_leaves_nothing_of_the_longer_one() -> None:
    assert Scrubber(["token", "token-of-mail"])("token-of-mail, token") == f"{REDACTED}, {REDACTED}"


def test_a_word_too_short_for_a_secret_is_left() -> None:
    assert Scrubber(["dbt", ""])("dbt is fine") == "dbt is fine"


def test_text_without_secrets_is_left() -> None:
    assert Scrubber(["hunter22"])("nothing here") == "nothing here"
    assert Scrubber()("nothing here") == "nothing here"
