"""The reference names every key of a mail channel's login."""

from __future__ import annotations

from sentinel.channels.oauth2 import OAuth2Settings
from tests.docs.pages import reference


def test_every_key_of_oauth2_is_described_and_no_other() -> None:
    rows = {row[0].strip("`"): row for row in reference("configuration").sections["oauth2"].rows()}
    assert list(rows) == list(OAuth2Settings.model_fields)
    for name, field in OAuth2Settings.model_fields.items():
        assert ("secret" in rows[name][1]) == ("SecretStr" in str(field.annotation)), rows[name]
