"""Values that sentinel.yml takes from variables and files: used, and never shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from sentinel.channels.contract import ChannelContext
from sentinel.channels.registry import build_channel, channel_types, check_channel
from sentinel.config.settings import FileSettings, HeartbeatSettings, WebSettings, load_settings
from sentinel.core.alert import KEYS, Definition, DefinitionContext, parse_definitions
from sentinel.core.errors import DeliveryError, SentinelError
from sentinel.core.origin import is_secret
from sentinel.dbt.files import read_project
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.profile import read_profile
from sentinel.dbt.rendering import Renderer
from tests.channels.contract import Said
from tests.cli.conftest import Project
from tests.fakes import message, source
from tests.security.registry import (
    CHANNELS,
    HTTP_CHANNELS,
    LOCAL_CHANNELS,
    SMTP_CHANNELS,
    channel_type,
)

VALUE = "Kanarienvogel-93712/x y"
PIECES = [VALUE.lower()[n : n + 6] for n in range(len(VALUE) - 5)]
# How a value gets into sentinel.yml, and what it is then.
WAYS: dict[str, Any] = {
    "env": {"env": "BIRD"},
    "file": {"file": "bird.txt"},
    "env_var": "{{ env_var('BIRD') }}",
    "in other text": "a {{ env_var('BIRD') }} b",
    "by a filter": "{{ env_var('BIRD')|list|join('.') }}",
    "in other letters": "{{ env_var('BIRD')|lower }}",
    "from behind": "{{ env_var('BIRD')|reverse }}",
    "by set": "{% set a = env_var('BIRD') %}{{ a ~ a }}",
    "as a default": "{{ env_var('UNSET', env_var('BIRD')) }}",
    "as a name": "{{ {}[env_var('BIRD')] }}",
    "as a number": "{{ env_var('BIRD')|int(base=16) + env_var('BIRD') }}",
}
SECRET_WAYS = {
    name: json.loads(json.dumps(way).replace("BIRD", "DBT_ENV_SECRET_BIRD"))
    for name, way in WAYS.items()
    if name != "file"
}


@pytest.fixture(autouse=True)
def bird(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIRD", VALUE)
    monkeypatch.setenv("DBT_ENV_SECRET_BIRD", VALUE)
    monkeypatch.delenv("UNSET", raising=False)
    (tmp_path / "bird.txt").write_text(VALUE)


def is_quiet(text: str) -> bool:
    """Whether a text shows nothing of the value, however it was taken apart."""
    low = text.lower()
    letters = "".join(sign for sign in low if sign not in ".")
    return not any(
        piece in each or piece[::-1] in each for piece in PIECES for each in (low, letters)
    )


def write(folder: Path, document: dict[str, Any]) -> None:
    with (folder / "sentinel.yml").open("w") as file:
        YAML().dump(document, file)


def paths(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """The keys of a model's values, those of lists and mappings with one entry."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        yield (key,)
        yield (key, "0")
        yield (key, "key")
        for part in ("match", "store", "scheduler"):
            if key == part and isinstance(field.annotation, type):
                yield from ((key, *inner) for inner in paths(field.annotation))


def put(value: Any, *keys: str) -> Any:
    for key in reversed(keys):
        value = [value] if key.isdecimal() else {key: value}
    return value


ROUTES = [("routes", "0", *keys) for keys in (("channels",), ("channels", "0"), ("continue",))]
ROUTES += [("routes", "0", "match", key) for key in ("name", "severity", "tag", "nowhere")]
LATE = {"channels", "web", "heartbeat"}
KEYS_OF_FILE = [*(each for each in paths(FileSettings) if each[0] not in LATE), *ROUTES]


def errors_of_file(folder: Path, document: dict[str, Any]) -> str:
    """All that is found wrong with a sentinel.yml, its alerts included."""
    write(folder, document)
    try:
        settings = load_settings(folder)
    except SentinelError as error:
        return f"{error.message} {error.hint}"
    assert settings.document is not None
    around = DefinitionContext(
        settings.timezone, settings.defaults, origins=settings.document.origins.under("defaults")
    )
    _, broken = parse_definitions([source("revenue", {})], around)
    return " ".join(fault.message for each in broken for fault in each.faults)


@pytest.mark.parametrize("way", WAYS)
def test_no_error_about_a_key_shows_a_value_from_elsewhere(way: str, tmp_path: Path) -> None:
    found = {}
    for keys in KEYS_OF_FILE:
        shown = errors_of_file(tmp_path, put(WAYS[way], *keys))
        if not is_quiet(shown):
            found[".".join(keys)] = shown
    assert found == {}
    wrong = errors_of_file(tmp_path, {"timezone": WAYS[way]})
    assert "sentinel.yml:1" in wrong
    assert "timezone" in wrong


@pytest.mark.parametrize("way", WAYS)
def test_no_error_about_an_alert_shows_what_defaults_have_from_elsewhere(
    way: str, tmp_path: Path
) -> None:
    assert set(KEYS) > {"schedule", "severity"}
    found = {}
    for keys in paths(Definition):
        shown = errors_of_file(tmp_path, {"defaults": put(WAYS[way], *keys)})
        if not is_quiet(shown):
            found[".".join(keys)] = shown
    assert found == {}


def values_of(kind: str) -> dict[str, Any]:
    for name, values in HTTP_CHANNELS.items():
        if channel_type(name) == kind:
            return values("http://127.0.0.1:9/")
    return dict(SMTP_CHANNELS[kind](9) if kind in SMTP_CHANNELS else LOCAL_CHANNELS[kind])


@pytest.mark.parametrize("way", ["env", "file", "in other text", "by a filter", "from behind"])
@pytest.mark.parametrize("kind", CHANNELS)
def test_no_error_of_a_channel_shows_a_value_from_elsewhere(
    kind: str, way: str, tmp_path: Path
) -> None:
    """Neither where it is built nor where it sends: its host, its address, its file."""
    model: type[BaseModel] = channel_types()[kind].load().Settings
    found = {}
    for keys in paths(model):
        block = {"type": kind, **values_of(kind), **put(WAYS[way], *keys)}
        write(tmp_path, {"channels": {"it": block}})
        settings = load_settings(tmp_path)
        it = settings.channels["it"]
        try:
            values = it.render()
            around = ChannelContext(tmp_path, Said())
            channel, _ = build_channel("it", it.type, values, it.locate, around, it.origins)
            channel.send(message())
            shown = ""
        except DeliveryError as error:
            shown = settings.withheld(error.message)
        except SentinelError as error:
            shown = f"{error.message} {error.hint}"
        if not is_quiet(shown):
            found[".".join(keys)] = shown
    assert found == {}


@pytest.mark.parametrize("way", SECRET_WAYS)
def test_a_secret_variable_is_refused_at_keys_that_are_not_secret(way: str, tmp_path: Path) -> None:
    def refused(document: dict[str, Any], read: Any) -> bool:
        write(tmp_path, document)
        try:
            read(load_settings(tmp_path))
        except SentinelError as error:
            assert is_quiet(error.message)
            return "DBT_ENV_SECRET_BIRD" in error.message or "can't be rendered" in error.message
        return False

    def build(settings: Any) -> None:
        it = settings.channels["it"]
        around = ChannelContext(tmp_path, Said())
        build_channel("it", it.type, it.render(), it.locate, around, it.origins)

    passed = [
        keys for keys in KEYS_OF_FILE if not refused(put(SECRET_WAYS[way], *keys), lambda _: None)
    ]
    for block, model in (("web", WebSettings), ("heartbeat", HeartbeatSettings)):
        for keys in paths(model):
            document = {block: put(SECRET_WAYS[way], *keys)}
            secret = is_secret(model, keys) or keys[1:]
            if not secret and not refused(
                document, lambda found, block=block: getattr(found, block)
            ):
                passed.append((block, *keys))
    for kind in CHANNELS:
        model = channel_types()[kind].load().Settings
        for keys in paths(model):
            values = {"type": kind, **values_of(kind), **put(SECRET_WAYS[way], *keys)}
            allowed = is_secret(model, keys[:1]) or is_secret(model, keys)
            if not allowed and not refused({"channels": {"it": values}}, build):
                passed.append((kind, *keys))
    assert passed == []


def test_a_secret_variable_may_be_used_at_keys_that_are_secret(tmp_path: Path) -> None:
    block = {
        "type": "webhook",
        "url": "https://example.com/{{ env_var('DBT_ENV_SECRET_PATH') }}",
        "headers": {"X-Key": {"env": "DBT_ENV_SECRET_PATH"}},
    }
    os.environ["DBT_ENV_SECRET_PATH"] = "abcdef123456"
    try:
        write(tmp_path, {"channels": {"it": block}})
        it = load_settings(tmp_path).channels["it"]
        _, found = build_channel(
            "it", it.type, it.render(), it.locate, ChannelContext(tmp_path, Said()), it.origins
        )
    finally:
        del os.environ["DBT_ENV_SECRET_PATH"]
    assert "https://example.com/abcdef123456" in found
    assert "abcdef123456" in found


@pytest.mark.parametrize("path", ["fifo", "/dev/zero", "/dev/tty", ".", "large", "/proc/kmsg"])
def test_a_file_that_is_no_text_of_a_value_is_refused_and_not_read(
    path: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_text("a" * 200_000)
    write(tmp_path, {"timezone": {"file": path}})
    code = (
        "from pathlib import Path; from sentinel.config.settings import load_settings; "
        f"load_settings(Path({str(tmp_path)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "ConfigError: sentinel.yml:" in done.stderr
    assert f"needs the file {path}" in done.stderr


def test_a_name_that_dbt_s_files_have_from_a_variable_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: a\nprofile: \"{{ env_var('BIRD') }}\"\n")
    profiles = tmp_path / "profiles.yml"
    options = DbtOptions(project_dir=tmp_path, profiles_dir=tmp_path)
    env = {"BIRD": VALUE}
    project = read_project(tmp_path, lambda _: Renderer(env, {}))
    profiles.write_text("a: {outputs: {b: {type: duckdb}}}\n")
    with pytest.raises(SentinelError) as caught:
        read_profile(options, project.profile, env=env, cwd=tmp_path)
    assert is_quiet(str(caught.value))
    profiles.write_text(
        "a: {target: \"{{ env_var('BIRD') }}\", outputs: {b: {type: duckdb, path: x}}}\n"
    )
    with pytest.raises(SentinelError) as caught:
        read_profile(options, "a", env=env, cwd=tmp_path)
    assert is_quiet(str(caught.value))


# -- offline -----------------------------------------------------------------------------------

# Runs the command line, and writes down each file that is opened and each connection.
WATCHED = """
import sys
log = open(sys.argv.pop(1), "w", buffering=1)
def see(event, args):
    if event in ("open", "os.open", "socket.connect", "socket.getaddrinfo"):
        log.write(f"{event} {args[0] if event == 'open' else args[1:]!r}\\n")
sys.addaudithook(see)
from sentinel.cli.main import main
main()
"""


def test_offline_looks_up_no_variable_and_no_file_and_connects_to_nothing(
    acme: Project,
    tmp_path: Path,
) -> None:
    os.mkfifo(acme.root / "pipe.txt")
    write(
        acme.root,
        {
            "timezone": "{{ env_var('UNSET')|upper }}",
            "defaults": {"channels": ["it"], "severity": {"env": "BIRD"}},
            "fallback_channel": {"file": "pipe.txt"},
            "routes": [{"match": {"severity": {"env": "BIRD"}}, "channels": {"env": "BIRD"}}],
            "web": {"token": {"file": "pipe.txt"}, "port": {"env": "BIRD"}},
            "heartbeat": {"url": {"env": "BIRD"}},
            "store": {"target": {"env": "BIRD"}, "lock_timeout": {"env": "BIRD"}},
            "channels": {
                "it": {"type": "console"},
                **{
                    f"c{n}": {
                        "type": channel_type(name),
                        **{key: {"file": "pipe.txt"} for key in values("http://127.0.0.1:9/")},
                    }
                    for n, (name, values) in enumerate(HTTP_CHANNELS.items())
                },
                "mail": {"type": "email", "host": {"env": "UNSET"}, "from": {"env": "BIRD"}},
                "odd": {"type": "file", "path": {"env": "BIRD"}, "nowhere": 1},
            },
        },
    )
    log = tmp_path / "audit.log"
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(log), "validate", "--offline"],
        cwd=acme.root, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    shown = done.stdout + done.stderr
    assert "unknown key `nowhere`" in shown, shown
    assert is_quiet(shown)
    assert "UNSET" not in shown
    assert [line for line in shown.splitlines() if "fault" in line and "c0" in line] == []
    seen = log.read_text().splitlines()
    assert any("sentinel.yml" in line for line in seen)
    assert [line for line in seen if "pipe.txt" in line or line.startswith("socket")] == []


def test_a_channel_is_checked_offline_as_far_as_its_values_are_known(tmp_path: Path) -> None:
    block = {"type": "webhook", "url": {"env": "UNSET"}, "allow_private": "perhaps"}
    write(tmp_path, {"channels": {"it": block}})
    it = load_settings(tmp_path, offline=True).channels["it"]
    with pytest.raises(SentinelError, match="allow_private") as caught:
        check_channel(
            "it", it.type, it.render(), it.locate, ChannelContext(tmp_path, Said()), it.origins
        )
    assert "url" not in str(caught.value)
