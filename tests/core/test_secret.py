"""Secrets are scrubbed in every spelling in which a library prints them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
import requests
from sqlalchemy import URL

from sentinel.core.secret import REDACTED, Scrubber

SECRET = '"p@ss" w/ö + \\n'


def engine_url(secret: str) -> str:
    return URL.create("postgresql", "me", secret, "db").render_as_string(hide_password=False)


def requested_url(secret: str) -> str:
    prepared = requests.Request("GET", "http://example.org", params={"key": secret}).prepare()
    return str(prepared.url)


@pytest.mark.parametrize(
    "spell",
    [
        lambda secret: f"login with {secret} failed",
        lambda secret: f"{[secret]!r}",
        lambda secret: json.dumps({"key": secret}),
        lambda secret: json.dumps({"key": secret}, ensure_ascii=False),
        lambda secret: f"key={quote_plus(secret)}",
        lambda secret: f"https://example.org/{quote(secret, safe='')}/path",
        engine_url,
        requested_url,
    ],
)
def test_a_secret_is_scrubbed_however_it_is_spelled(spell: Callable[[str], str]) -> None:
    assert Scrubber([SECRET])(spell(SECRET)) == spell("SECRET").replace("SECRET", REDACTED)


def test_a_secret_of_several_lines_is_scrubbed_from_a_repr() -> None:
    key = "-----BEGIN KEY-----\nabcd\n-----END KEY-----\n"

    assert Scrubber([key])(f"bad value {key!r}") == f"bad value '{REDACTED}'"


def test_a_secret_within_another_leaves_nothing_of_the_longer_one() -> None:
    assert Scrubber(["token", "token-of-mail"])("token-of-mail, token") == f"{REDACTED}, {REDACTED}"


def test_a_word_too_short_for_a_secret_is_left() -> None:
    assert Scrubber(["dbt", "", "1234"])("dbt is 1234") == f"dbt is {REDACTED}"


def test_what_replaces_a_secret_says_nothing_of_its_length() -> None:
    assert Scrubber(["hunter22"])("hunter22") == Scrubber(["correct horse"])("correct horse")
    assert set(REDACTED) == {"*"}


def test_text_without_secrets_is_left() -> None:
    assert Scrubber(["hunter22"])("nothing here") == "nothing here"
    assert Scrubber()("nothing here") == "nothing here"


@pytest.mark.parametrize("user", ["", "u", "me", "you"])
def test_nothing_of_a_secret_is_left_in_base64(user: str) -> None:
    """As in `Authorization: Basic`, and in SMTP's AUTH PLAIN."""
    secret = "correct horse battery"
    for sent in (f"{user}:{secret}", f"\0{user}\0{secret}"):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            notified = encode(sent.encode()).decode()
            left = (
                Scrubber([secret])(f"AUTH {notified}").removeprefix("AUTH ").replace(REDACTED, "")
            )
            assert len(left) <= 4 + len(encode(f"{user}::".encode()))


HOOK = (
    "https://me:pa55w0rd@hooks.example.com/services/T012/B0123456/aBcDeF0123456789?sig=Zz9Yy8Xx7Ww"
)


@pytest.mark.parametrize(
    "printed",
    [
        "Max retries exceeded with url: /services/T012/B0123456/aBcDeF0123456789?sig=Zz9Yy8Xx7Ww (x)",
        "POST /services/T012/B0123456/aBcDeF0123456789 failed",
        "no such key aBcDeF0123456789",
        "bad signature Zz9Yy8Xx7Ww",
        "login of me with pa55w0rd refused",
        "Authorization: Basic bWU6cGE1NXcwcmQ=",
    ],
)
def test_a_part_of_a_secret_url_is_scrubbed(printed: str) -> None:
    left = Scrubber([HOOK])(printed)
    assert REDACTED in left
    for part in ("aBcDeF", "Zz9Yy8", "pa55w0rd", "bWU6cGE1NXcwcmQ"):
        assert part not in left


def test_the_key_in_a_header_is_scrubbed_by_itself() -> None:
    assert Scrubber(["Bearer abcd1234efgh"])("key abcd1234efgh") == f"key {REDACTED}"


def test_words_of_a_secret_url_are_left_elsewhere() -> None:
    text = "models/services/webhooks of hooks.example.com: https"
    assert Scrubber([HOOK, "https://example.com/webhooks", "http://[::1"])(text) == text
