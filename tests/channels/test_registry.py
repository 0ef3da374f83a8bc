from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from sentinel.channels.contract import ChannelContext, secrets_in
from sentinel.channels.registry import build_channel, channel_types
from sentinel.config.settings import load_settings
from sentinel.core.errors import ConfigError

from .contract import SECRET, Said, build


def test_the_types_that_come_with_sentinel_are_known() -> None:
    assert {"console", "file", "webhook"} <= set(channel_types())


def test_an_unknown_type_is_named_with_its_line_and_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        build("webhok", {}, tmp_path)
    assert str(caught.value) == (
        "sentinel.yml:7: the channel `it` has the unknown type 'webhok'; did you mean `webhook`?"
    )


def test_a_type_like_no_other_is_answered_with_all_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"known are .*console.*file.*webhook"):
        build("telegraph", {}, tmp_path)


def test_an_unknown_key_is_answered_with_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key `pth`; did you mean `path`"):
        build("file", {"path": "x", "pth": "y"}, tmp_path)


def test_all_that_is_wrong_with_a_channel_is_said_at_once_and_no_value_of_it(
    tmp_path: Path,
) -> None:
    values = {"urll": SECRET, "secret": [SECRET], "headers": {"a": {"b": SECRET}}}
    with pytest.raises(ConfigError) as caught:
        build("webhook", values, tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert all(line.startswith("sentinel.yml:7: the channel `it`: ") for line in lines)
    for words in ("`url` is missing", "unknown key `urll`; did you mean `url`?", "`secret`"):
        assert any(words in line for line in lines)
    assert SECRET not in str(caught.value)


def from_file(folder: Path, text: str) -> tuple[Any, list[str]]:
    (folder / "sentinel.yml").write_text(text)
    block = load_settings(folder).channels["hook"]
    context = ChannelContext(folder, Said())
    return build_channel("hook", block.type, block.render(), block.locate, context)


def test_a_missing_environment_variable_is_named_with_key_and_line(tmp_path: Path) -> None:
    text = "channels:\n  hook:\n    type: webhook\n    url: {env: NO_SUCH_HOOK}\n"
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path, text)
    assert str(caught.value) == (
        "sentinel.yml:4: `channels.hook.url` needs the environment variable NO_SUCH_HOOK, "
        "which is not set"
    )


@pytest.mark.parametrize("form", ["{env: HOOK}", "\"{{ env_var('HOOK') }}\"", "{file: hook.txt}"])
def test_a_secret_may_come_from_outside_and_is_known_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    url = f"https://example.com/{SECRET}"
    monkeypatch.setenv("HOOK", url)
    (tmp_path / "hook.txt").write_text(url + "\n")
    channel, secrets = from_file(
        tmp_path, f"channels:\n  hook:\n    type: webhook\n    url: {form}\n"
    )
    assert channel.name == "hook"
    assert secrets == [url]


def test_secrets_are_found_at_any_depth() -> None:
    class Inner(BaseModel):
        key: SecretStr

    class Outer(BaseModel):
        plain: str
        one: Inner
        many: list[Inner]
        named: dict[str, SecretStr]
        none: SecretStr | None = None

    secret = SecretStr
    found = secrets_in(
        Outer(
            plain="plain",
            one=Inner(key=secret("a")),
            many=[Inner(key=secret("b")), Inner(key=secret("c"))],
            named={"x": secret("d")},
        )
    )
    assert sorted(found) == ["a", "b", "c", "d"]


def test_a_channel_that_is_not_used_is_not_imported() -> None:
    script = (
        "import sys\n"
        "from sentinel.channels.registry import channel_types\n"
        "assert {'console', 'webhook'} <= set(channel_types())\n"
        "loaded = {'sentinel.channels.webhook', 'sentinel.channels.console', 'requests'}\n"
        "assert not loaded & set(sys.modules), loaded & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
