"""The reference names everything there is, and nothing else."""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from sentinel.app.delivery.claims import LEASE
from sentinel.app.report import EXIT_FAILED, EXIT_FIRING, EXIT_OK, EXIT_UNDELIVERABLE
from sentinel.channels import webhook
from sentinel.channels.contract import ChannelContext
from sentinel.channels.file import FileChannel
from sentinel.channels.http import Answer, Requests
from sentinel.channels.registry import channel_types
from sentinel.channels.text import headline
from sentinel.cli.main import COMMANDS, EXIT_UNWRITTEN, cli
from sentinel.config.settings import (
    FileSettings,
    HeartbeatSettings,
    SchedulerSettings,
    StoreSettings,
    WebSettings,
)
from sentinel.core.alert import KEYS, Definition
from sentinel.core.definition_types import HoldPeriod
from sentinel.core.duration import format_duration
from sentinel.core.errors import ConfigError, NothingSelected, SentinelError
from sentinel.core.evaluation import ROW_CAP
from sentinel.core.notification import Notification
from sentinel.core.schedule import NAMED, Cron
from sentinel.core.state import Event
from sentinel.core.transport import DEFAULT_TIMEOUT
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.setup.scaffold import scaffold
from sentinel.ports import Message
from sentinel.store.tables import TABLES
from sentinel.warehouses.contract import WarehouseContext
from sentinel.warehouses.duckdb import DuckDb
from tests.core.builders import Story, alerting, make_alert
from tests.docs.pages import DOCS, ROOT, Text, read, reference

# -- commands ----------------------------------------------------------------------------------


def command_named(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def documented_rows(section: Text) -> list[list[str]]:
    """The rows of a command's options, those of the groups that it links to included."""
    rows = [row for row in section.rows() if row[0].startswith("`-")]
    page = reference("commands")
    for link in dict.fromkeys(section.links):
        if link.startswith("#options"):
            rows += page.at(link.removeprefix("#")).rows()
    return rows


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_described_and_no_other(name: str) -> None:
    rows = documented_rows(reference("commands").sections[name])
    described = [flag for row in rows for flag in re.findall(r"`(-[\w-]+)`", row[0])]
    options = [each for each in command_named(name).params if isinstance(each, click.Option)]
    there_are = [flag for each in options for flag in (*each.opts, *each.secondary_opts)]
    assert sorted(described) == sorted(there_are)


@pytest.mark.parametrize("name", COMMANDS)
def test_choices_and_defaults_of_options_are_those_of_the_command(name: str) -> None:
    rows = documented_rows(reference("commands").sections[name])
    options = [each for each in command_named(name).params if isinstance(each, click.Option)]
    for option in options:
        row = next(row for row in rows if f"`{option.opts[0]}`" in row[0])
        if isinstance(option.type, click.Choice):
            assert row[0].split()[-1] == "|".join(option.type.choices)
        elif isinstance(option, click.Option) and option.show_default:
            assert (
                f"{option.default}"
                in row[-1].replace("`", "").replace("(", " ").replace(")", " ").split()
            )


def test_the_list_of_commands_is_complete() -> None:
    assert reference("commands").names()[: len(COMMANDS)] == list(COMMANDS)


def test_the_variables_of_dbt_that_are_named_have_an_effect(tmp_path: Path) -> None:
    pages = (reference("commands"), read(DOCS / "how-to" / "run-in-ci-or-cron.md"))
    named = {name for page in pages for name in re.findall(r"`(DBT_[A-Z_]+)`", page.prose)}
    without = DbtOptions.from_environment({}, tmp_path)
    assert len(named) > 5
    for name in named:
        assert DbtOptions.from_environment({name: "1"}, tmp_path) != without, name


# -- exit codes --------------------------------------------------------------------------------

MEANINGS = {
    EXIT_OK: "no alert fires",
    EXIT_FIRING: "an alert fires",
    SentinelError.exit_code: "usage, configuration or connection",
    EXIT_FAILED: "an alert could not be evaluated",
    EXIT_UNDELIVERABLE: "a notification",
    NothingSelected.exit_code: "the selection matches no alert",
    EXIT_UNWRITTEN: "the result can't be written",
}


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "reference" / "exit-codes.md"])
def test_exit_codes_are_those_of_the_code(page: Path) -> None:
    rows = {int(row[0]): row[1] for row in read(page).rows() if row[0].isdigit()}
    assert set(rows) - {130} == set(MEANINGS)
    for code, meaning in MEANINGS.items():
        assert meaning in rows[code]


# -- definition and configuration --------------------------------------------------------------


def test_every_key_of_a_definition_is_described_and_no_other() -> None:
    assert tuple(reference("alert-definition").sections["Keys"].names()) == KEYS


def as_written(value: Any) -> str | None:
    """A default as the reference writes it; None for what it says in words."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, HoldPeriod):
        value = value.length
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Enum | str | int):
        return str(value)
    return None


@pytest.mark.parametrize("name", Definition.model_fields)
def test_the_default_of_a_key_is_the_one_described(name: str) -> None:
    field = Definition.model_fields[name]
    described = reference("alert-definition").sections["Keys"].row(field.alias or name)[2]
    default = as_written(field.default)
    if default is None:
        assert described == "none" or not re.fullmatch(r"`[^`]*`", described)
    else:
        assert described == f"`{default}`"


def keys_of(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def test_every_key_of_sentinel_yml_is_described_and_no_other() -> None:
    sections = reference("configuration").sections
    assert [row[0].strip("`") for row in sections["Keys"].rows()] == keys_of(FileSettings)
    for name, model in (
        ("store", StoreSettings),
        ("scheduler", SchedulerSettings),
        ("web", WebSettings),
        ("heartbeat", HeartbeatSettings),
    ):
        rows = {row[0].strip("`"): row for row in sections[name].rows()}
        assert sorted(rows) == sorted(keys_of(model))
        for key, field in model.model_fields.items():
            default = as_written(field.default)
            assert ("secret" in rows[key][1]) == is_secret(field), key
            assert (rows[key][2] == "required") == field.is_required(), key
            if default is not None:
                assert rows[key][2] == f"`{default}`", key


@pytest.mark.parametrize("kind", channel_types())
def test_every_key_of_a_channel_is_described_and_no_other(kind: str) -> None:
    settings: type[BaseModel] = channel_types()[kind].load().Settings
    page = DOCS / "how-to" / f"notify-{kind}.md"
    described = reference("configuration").sections
    section = described[kind] if kind in described else read(page).sections["Keys"]
    rows = {row[0].strip("`"): row for row in section.rows()}
    assert sorted(rows) == sorted(["type", *keys_of(settings)])
    assert rows["type"][1] == f"`{kind}`"
    for name, field in settings.model_fields.items():
        row = rows[field.alias or name]
        assert ("secret" in row[1]) == is_secret(field), row
        assert (row[2] == "required") == field.is_required(), row


def is_secret(field: FieldInfo) -> bool:
    return SecretStr.__name__ in str(field.annotation)


def test_names_of_schedules_are_those_that_cron_knows() -> None:
    rows = list(reference("alert-definition").sections["Schedules"].rows())
    described = {name: row[1].strip("`") for row in rows for name in re.findall(r"\w+", row[0])}
    assert described == NAMED
    for name in described:
        Cron.parse(name)
        Cron.parse(f"@{name}")


def test_keys_of_a_duckdb_profile_that_are_said_to_be_refused_are(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "connect-duckdb-and-sqlite.md").read_text(encoding="utf-8")
    found = re.search(r"^(`remote`.*?) are refused\.", page, re.MULTILINE | re.DOTALL)
    assert found
    refused = re.findall(r"`(\w+)`", found[1])
    assert len(refused) > 3
    for key in refused:
        with pytest.raises(ConfigError, match=key):
            DuckDb({"path": "shop.duckdb", key: True}, WarehouseContext(tmp_path))
    with pytest.raises(ConfigError):
        DuckDb({"path": ":memory:"}, WarehouseContext(tmp_path))


def test_init_writes_the_files_and_the_block_that_are_described(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    done = scaffold(tmp_path, env={})
    section = reference("configuration").sections["The dbt side"]
    block = next(
        block.code for block in reference("configuration").blocks if block.code in section.text
    )
    written = yaml.safe_load((tmp_path / "dbt_project.yml").read_text())["models"]["sentinel"]
    assert yaml.safe_load(block)["models"]["sentinel"] == written
    tutorial = read(DOCS / "tutorial" / "first-alert.md")
    shown = next(block.code for block in tutorial.blocks if block.code.startswith("created"))
    for change in done.changes:
        assert re.search(rf"^{change.action} +{re.escape(change.path)} ", shown, re.MULTILINE)


# -- messages ----------------------------------------------------------------------------------


@pytest.fixture
def notification() -> Notification:
    """An instance begins to fire."""
    seen = Story(make_alert(dimensions=["region"])).see(alerting(region="west"), 0)
    return seen.plan.notifications[0]


def test_the_payload_of_a_firing_instance_is_as_its_schema_says(notification: Notification) -> None:
    schema = json.loads((ROOT / "sentinel/schemas/payload.json").read_text(encoding="utf-8"))
    jsonschema.validate(dict(notification.payload), schema)


def test_the_example_of_a_webhook_has_all_keys(notification: Notification) -> None:
    example = next(
        json.loads(block.code) for block in reference("messages").blocks if block.language == "json"
    )
    assert list(example) == ["type", "timestamp", "data"]
    assert sorted(example["data"]) == list(notification.payload)


def test_a_line_of_the_file_channel_has_the_keys_described(
    tmp_path: Path, notification: Notification
) -> None:
    channel = FileChannel(
        "log", FileChannel.Settings(path="log.jsonl"), ChannelContext(tmp_path, print)
    )
    channel.send(Message("m", "log", (notification,)))
    line = json.loads((tmp_path / "log.jsonl").read_text())
    described = reference("messages").sections["File"].names()
    assert set(line) == {*described, *notification.payload}


Request = tuple[Mapping[str, str], bytes]
SECRET = "whsec_" + base64.b64encode(b"a key of the receiver, long").decode()


@pytest.fixture
def request_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, notification: Notification
) -> Request:
    """Headers and body of a signed webhook."""
    sent: list[Request] = []

    def post(self: Requests, url: str, body: bytes, headers: Mapping[str, str], *_: Any) -> Answer:
        sent.append((headers, body))
        return Answer(200, "")

    monkeypatch.setattr(Requests, "post", post)
    settings = webhook.WebhookChannel.Settings(
        url=SecretStr("https://hooks.example.com"), secret=(SecretStr(SECRET),)
    )
    channel = webhook.WebhookChannel("hook", settings, ChannelContext(tmp_path, print))
    channel.send(Message("m", "hook", (notification,)))
    return sent[0]


def test_every_header_of_a_webhook_is_described(request_sent: Request) -> None:
    section = reference("messages").sections["Webhook"]
    headers = [name for name in section.names() if name in request_sent[0] or "-" in name]
    assert set(request_sent[0]) == {name for name in headers if not name.startswith("dbt")}


def test_the_code_that_verifies_signatures_does(request_sent: Request) -> None:
    page = read(DOCS / "how-to" / "notify-by-webhook.md")
    code = next(block.code for block in page.blocks if block.language == "python")
    scope: dict[str, Any] = {}
    exec(compile(code, str(page), "exec"), scope)
    headers, body = request_sent
    verified = scope["verified"]
    assert verified(SECRET, headers, body)
    assert not verified(SECRET, headers, body + b" ")
    assert not verified("whsec_" + base64.b64encode(b"another").decode(), headers, body)
    assert not verified(SECRET, {**headers, "webhook-timestamp": "1700000000"}, body)


def test_every_event_is_described_with_its_word(notification: Notification) -> None:
    rows = {
        row[0].strip("`"): row[2].strip("`")
        for row in reference("messages").sections["Events"].rows()
    }
    assert list(rows) == [str(event) for event in Event]
    for event, word in rows.items():
        assert headline({**notification.payload, "event": event}).startswith(f"{word} ")


# The modules of the lifecycle and of planning; other modules of core give no reasons.
CODE_OF_REASONS = [
    *(
        path
        for path in (ROOT / "sentinel/core").glob("*.py")
        if re.search("lifecycle|state|health|removal|planning|notification|fallback", path.stem)
    ),
    ROOT / "sentinel/app/report.py",
]
ALSO_WITH_REASONS = ROOT / "sentinel" / "app" / "removal.py"
CALLS_WITH_REASONS = {"decide", "tell", "Transition", "_fire", "_resolve"}


def reasons_given() -> set[str]:
    """The names of reasons that the code hands on: arguments, and what conditions choose from."""
    parts: list[ast.AST] = []
    for node in (
        each for path in CODE_OF_REASONS for each in ast.walk(ast.parse(path.read_text()))
    ):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            parts += node.args if name in CALLS_WITH_REASONS else []
        elif isinstance(node, ast.IfExp | ast.BoolOp):
            parts.append(node)
    texts = [
        each.value for part in parts for each in ast.walk(part) if isinstance(each, ast.Constant)
    ]
    return {
        text for text in texts if isinstance(text, str) and re.fullmatch("[a-z]+(_[a-z]+)+", text)
    }


def test_every_reason_is_described_and_no_other() -> None:
    described = reference("messages").sections["Reasons"].names()
    code = "".join(path.read_text() for path in (*CODE_OF_REASONS, ALSO_WITH_REASONS))
    assert reasons_given() <= set(described)
    assert [name for name in described if f'"{name}"' not in code] == []


# -- tables and macros -------------------------------------------------------------------------

MODELS = {
    model["name"]: model
    for path in sorted(ROOT.glob("dbt_package/models/*/*.yml"))
    for model in yaml.safe_load(path.read_text())["models"]
}


@pytest.mark.parametrize("name", MODELS)
def test_every_column_is_described_and_no_other(name: str) -> None:
    rows = reference("tables").sections[name].rows()
    assert [row[0].strip("`") for row in rows] == [each["name"] for each in MODELS[name]["columns"]]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.model))
def test_the_types_of_columns_are_those_that_are_written(table: Any) -> None:
    rows = reference("tables").sections[table.model].rows()
    described = {row[0].strip("`"): row[1].lower() for row in rows}
    assert described == dict(table.columns)


def test_the_list_of_tables_is_complete() -> None:
    tables = reference("tables")
    before = Text("", tables.text.split("\n## ")[0])
    assert set(before.names()) == set(MODELS)


def test_every_public_macro_is_described_and_no_other() -> None:
    listed = yaml.safe_load((ROOT / "macros" / "_macros.yml").read_text())["macros"]
    public = {each["name"] for each in listed if each.get("docs", {}).get("show", True)}
    sections = set(reference("macros").sections)
    assert {name for name in sections if name.islower() and " " not in name} == public


# -- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("reference/query-contract.md", f"more than {ROW_CAP:,} rows"),
        ("reference/messages.md", f"within {DEFAULT_TIMEOUT.total_seconds():.0f} seconds"),
        ("how-to/notify-by-webhook.md", f"within {DEFAULT_TIMEOUT.total_seconds():.0f} seconds"),
        ("explanation/never-twice.md", f"lease of {LEASE.total_seconds():.0f} seconds"),
        (
            "how-to/fix-tables-and-locks.md",
            f"After {StoreSettings().lock_timeout.total_seconds():.0f} seconds",
        ),
    ],
)
def test_numbers_in_sentences_are_those_of_the_code(page: str, sentence: str) -> None:
    assert sentence in " ".join(read(DOCS / page).text.split())
