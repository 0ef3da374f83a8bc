"""Templates and YAML end: each attack is an error that names file and line, in little memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sentinel.channels.contract import SettingFault
from sentinel.channels.registry import channel_types
from sentinel.core.errors import SentinelError
from tests.channels.contract import build
from tests.fakes import message
from tests.security.registry import CHANNELS, HTTP_CHANNELS, LOCAL_CHANNELS, SMTP_CHANNELS

from .renders import DOCUMENTS, SURFACES, TEMPLATES

# Only kills what would never end.
KILL_S = 300
MOST_MEMORY = 300_000_000
PLACE = re.compile(
    r"(sentinel\.yml|t\.txt|dbt_project\.yml|profiles\.yml)(:\d+| can't be read: it is larger)"
)


@pytest.mark.parametrize("surface", SURFACES)
def test_each_attack_ends_in_an_error_that_names_file_and_line(
    surface: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.bounds.renders", surface, str(tmp_path)],
        capture_output=True, text=True, timeout=KILL_S, check=False,
    )  # fmt: skip
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"it ended after {lines[-1:]}: {done.stderr[-500:]}"
    sent = {line["attack"]: line["error"] for line in lines if "attack" in line}
    assert set(sent) == set(SURFACES[surface][1])
    unnamed = {name: error for name, error in sent.items() if not PLACE.search(error)}
    assert unnamed == {}
    assert lines[-1]["memory"] < MOST_MEMORY


def test_there_are_attacks() -> None:
    assert len(TEMPLATES) > 50
    assert len(DOCUMENTS) >= 10


def _templates(kind: str) -> list[str]:
    model: type[BaseModel] = channel_types()[kind].load().Settings
    return [name for name in model.model_fields if name.endswith("template")]


def _values(kind: str) -> dict[str, Any]:
    for name, values in HTTP_CHANNELS.items():
        if name.split()[0] == kind:
            return values("http://127.0.0.1:9/")
    return dict(SMTP_CHANNELS[kind](9) if kind in SMTP_CHANNELS else LOCAL_CHANNELS[kind])


@pytest.mark.parametrize(
    ("kind", "key"), [(kind, key) for kind in CHANNELS for key in _templates(kind)]
)
def test_every_template_of_every_channel_is_bounded(kind: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("{% for a in range(99999) %}{{ 'a' * 99999 }}{% endfor %}")
    with pytest.raises((SentinelError, SettingFault), match=r"t\.txt:1.*it makes more than"):
        build(kind, {**_values(kind), key: "t.txt"}, tmp_path)[0].send(message())


def test_a_template_outside_of_the_project_is_not_quoted(tmp_path: Path) -> None:
    """It may be no template: a file with credentials that a pull request names."""
    project = tmp_path / "project"
    project.mkdir()
    for text in ("{{ s3cret }}", "a {{ s3cret\n", "{% s3cret %}"):
        (tmp_path / "credentials").write_text(text)
        (project / "link").unlink(missing_ok=True)
        (project / "link").symlink_to(tmp_path / "credentials")
        for path in ("../credentials", str(tmp_path / "credentials"), "link"):
            with pytest.raises(SentinelError) as caught:
                build("console", {"template": path}, project)
            assert "s3cret" not in str(caught.value)
            assert "credentials:1" in str(caught.value) or "link:1" in str(caught.value)


def test_templates_as_people_write_them_are_none_of_this(tmp_path: Path) -> None:
    from sentinel.channels.contract import ChannelContext
    from sentinel.channels.template import Template
    from tests.fakes import notification, payload

    (tmp_path / "t.txt").write_text(
        "{% macro row(each) %}{{ headline(each) }}{% for k, v in details(each) %}"
        "\n  {{ '%-10s'|format(k) }}{{ v|replace('\\n', ' ')|truncate(200) }}{% endfor %}"
        "{% endmacro %}{% set worst = notifications|map(attribute='severity')|unique|join(', ') %}"
        "{{ notifications|length }} {{ worst|upper }}\n"
        "{% for name, rows in notifications|groupby('alert') %}{% for each in rows %}"
        "{{ row(each) }}\n{{ each.context|tojson(indent=2) }}{% if not loop.last %}; {% endif %}"
        "{% endfor %}{% endfor %}{{ notifications|sort(attribute='alert')|list|length }}"
    )
    context = {f"column_{n}": "v" * 500 for n in range(15)}
    rows = [
        notification(f"e{n}", message_id="m", payload=payload(alert=f"alert_{n}", context=context))
        for n in range(50)
    ]
    template = Template.load("template", "t.txt", ChannelContext(tmp_path, print), str)
    text = template.render(message(*rows))
    assert text.startswith("50 CRITICAL")
    assert text.endswith("50")
