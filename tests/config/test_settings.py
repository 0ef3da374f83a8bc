"""sentinel.yml as a whole."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from sentinel.config.settings import Settings, load_settings
from sentinel.core.errors import ConfigError

SECRET = "t0ps3cret"


def load(folder: Path, text: str) -> Settings:
    (folder / "sentinel.yml").write_text(text)
    return load_settings(folder)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value).splitlines()


def test_all_that_can_be_said_is_read(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """\
timezone: Europe/Paris
defaults: {severity: warning, for: 2, channels: [log]}
channels:
  log: {type: file, path: told.jsonl}
  hook:
    type: webhook
    url: https://example.com
store: {target: meta, lock_timeout: 5m}
""",
    )
    assert settings.timezone == "Europe/Paris"
    assert settings.defaults == {"severity": "warning", "for": 2, "channels": ["log"]}
    assert list(settings.channels) == ["log", "hook"]
    log, hook = settings.channels.values()
    assert (log.name, log.type, log.render()) == ("log", "file", {"path": "told.jsonl"})
    assert (hook.type, str(hook.locate())) == ("webhook", "sentinel.yml:5")
    assert (settings.store.target, settings.store.lock_timeout) == ("meta", timedelta(minutes=5))
    assert settings.path == tmp_path / "sentinel.yml"


@pytest.mark.parametrize(
    "text", ["", "# nothing yet\n", "timezone:\ndefaults:\nchannels:\n  # log: {}\nstore:\n"]
)
def test_what_is_not_said_has_a_default(tmp_path: Path, text: str) -> None:
    settings = load(tmp_path, text)
    assert (settings.timezone, settings.defaults, settings.channels) == ("UTC", {}, {})
    assert settings.store.target is None


def test_values_outside_of_channels_come_from_outside_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZONE", "Asia/Tokyo")
    text = "timezone: {env: ZONE}\ndefaults: {owner: \"{{ env_var('WHO', 'data') }}\"}\n"
    settings = load(tmp_path, text)
    assert (settings.timezone, settings.defaults) == ("Asia/Tokyo", {"owner": "data"})


def test_a_channel_is_not_rendered_before_it_is_built(tmp_path: Path) -> None:
    settings = load(tmp_path, "channels:\n  hook:\n    type: webhook\n    url: {env: UNSEEN}\n")
    with pytest.raises(ConfigError, match=r"sentinel\.yml:4: `channels\.hook\.url` needs"):
        settings.channels["hook"].render()


def test_a_project_without_the_file_is_told_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no sentinel\.yml in ") as caught:
        load_settings(tmp_path)
    assert "sentinel init" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\n", "sentinel.yml:1: unknown key `a`"),
        ("\nchanels: {}\n", "sentinel.yml:2: unknown key `chanels`; did you mean `channels`?"),
        ("timezone: Mars\n", "sentinel.yml:1: `timezone`: 'Mars' is not a time zone"),
        ("timezone: 5\n", "sentinel.yml:1: `timezone`: input should be a valid string"),
        ("defaults: daily\n", "sentinel.yml:1: `defaults`: input should be a valid dictionary"),
        ("defaults: [a]\n", "sentinel.yml:1: `defaults`: input should be a valid dictionary"),
        (
            "defaults:\n  severity: info\n  chanels: [log]\n",
            "sentinel.yml:3: unknown key `chanels` in `defaults`; did you mean `channels`?",
        ),
        ("store:\n  traget: x\n", "sentinel.yml:2: unknown key `traget`"),
        ("store: {lock_timeout: 5}\n", "sentinel.yml:1: `store.lock_timeout`: 5 is not a duration"),
        ("channels:\n  log: console\n", "sentinel.yml:2: the channel `log` needs a `type`"),
        ("channels:\n  log:\n", "sentinel.yml:2: the channel `log` needs a `type`"),
        ("channels:\n  log: {path: x}\n", "sentinel.yml:2: the channel `log` needs a `type`"),
        ("channels:\n  log: {type: [x]}\n", "sentinel.yml:2: the channel `log` needs a `type`"),
    ],
)
def test_a_fault_is_said_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    [found] = faults(tmp_path, text)
    assert found.startswith(fault)


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    text = """\
timezone: {env: UNSEEN}
zone: x
defaults:
  chanels: [log]
  owner: {file: nowhere}
channels:
  log: {tpye: console}
  hook: {type: webhook, url: {env: UNSEEN}}
store: {target: [x]}
"""
    found = faults(tmp_path, text)
    assert sorted(line.split(": ")[0] for line in found) == [
        "sentinel.yml:1",
        "sentinel.yml:2",
        "sentinel.yml:5",
        "sentinel.yml:7",
        "sentinel.yml:9",
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"channels: https://{SECRET}\n",
        f"channels: [{{type: webhook, url: https://{SECRET}}}]\n",
        f"channels:\n  hook: https://{SECRET}\n",
        f"channels:\n  hook: {{type: {{a: {SECRET}}}}}\n",
        f"defaults: [{SECRET}]\n",
        f"store: {SECRET}\n",
        f"store: {{target: [{SECRET}]}}\n",
    ],
)
def test_a_fault_never_shows_a_value(tmp_path: Path, text: str) -> None:
    assert SECRET not in "\n".join(faults(tmp_path, text))
