"""Texts that a project writes itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentinel.channels.contract import ChannelContext, SettingFault
from sentinel.channels.escape import html, line, markdown, mrkdwn, plain
from sentinel.channels.template import Template
from sentinel.core.errors import ConfigError, DeliveryError
from tests.fakes import message, notification, payload

from .contract import Said, build
from .receiver import Receiver


def load(folder: Path, text: str) -> Template:
    (folder / "t.txt").write_text(text)
    return Template.load("template", "t.txt", ChannelContext(folder, Said()), html)


def test_values_are_escaped_and_the_template_s_own_text_is_not(tmp_path: Path) -> None:
    template = load(tmp_path, "<b>{{ first.message }}</b>{{ headline(first) }}")
    told = message(notification(payload=payload(message="<i>&")))
    assert template.render(told) == "<b>&lt;i&gt;&amp;</b>FIRING revenue (critical)"


def test_a_message_of_many_is_a_loop(tmp_path: Path) -> None:
    template = load(
        tmp_path, "{% for each in notifications %}{{ loop.index }} {{ each.alert }} {% endfor %}"
    )
    rows = [notification(name, message_id="m", payload=payload(alert=name)) for name in "ab"]
    assert template.render(message(*rows)) == "1 a 2 b "


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\n{% if %}", "t.txt:2: the template is not Jinja"),
        ("{{ first.__class__ }}", "t.txt:1: a template has no access to `__class__`"),
        ("\n\n{{ first['__class__'] }}", "t.txt:3: a template has no access to `__class__`"),
        ("{{ ''.__class__.__mro__ }}", "has no access to"),
    ],
)
def test_a_template_that_is_wrong_is_named_with_its_line(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(SettingFault) as caught:
        load(tmp_path, text)
    assert words in caught.value.message
    with pytest.raises(ConfigError) as refused:
        build("console", {"template": "t.txt"}, tmp_path)
    assert str(refused.value).startswith("sentinel.yml:7: the channel `it`: `template`: t.txt:")


def test_a_template_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the template nowhere\.txt can't be read"):
        build("console", {"template": "nowhere.txt"}, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "{{ nowhere }}",
        "{{ first.nowhere }}",
        "{{ first.alert | attr('__class__') }}",
        "{{ 1 / 0 }}",
        "{{ range(999999999) | list }}",
        "{{ first.context.update({'a': 1}) }}",
    ],
)
def test_a_template_that_fails_is_a_permanent_failure(tmp_path: Path, text: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        load(tmp_path, text).render(message())
    assert caught.value.permanent
    assert "the template t.txt can't be rendered" in caught.value.message


def test_a_webhook_s_body_can_be_the_project_s(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "body.json").write_text(
        '{"text": "{{ first.alert }}: {{ first.message }}", "value": {{ first.actual_value }}}'
    )
    values = {"url": receiver.url, "allow_private": True, "template": "body.json"}
    channel, _ = build("webhook", values, tmp_path)
    channel.send(message(notification(payload=payload(message='a "b"\n\\'))))
    assert json.loads(receiver.got[0].body) == {"text": 'revenue: a "b"\n\\', "value": 8120}


def test_a_webhook_s_body_that_is_no_json_is_a_permanent_failure(
    tmp_path: Path, receiver: Receiver
) -> None:
    (tmp_path / "body.json").write_text("{{ first.alert }}")
    values = {"url": receiver.url, "allow_private": True, "template": "body.json"}
    with pytest.raises(DeliveryError, match=r"the template body\.json makes no JSON"):
        build("webhook", values, tmp_path)[0].send(message())
    assert receiver.got == []


@pytest.mark.parametrize(
    ("escape", "given", "shown"),
    [
        (plain, "a\x1b[31mb\x00\u202e\ud800", "a\ufffd[31mb\ufffd\ufffd\ufffd"),
        (line, " a\r\n\tb ", "a b"),
        (html, '<a href="x">\'&', "&lt;a href=&quot;x&quot;&gt;&#x27;&amp;"),
        (mrkdwn, "<!here> & *b*", "&lt;!here&gt; &amp; \u200b*b\u200b*"),
        (markdown, "[a](b) `c` #d", "\\[a\\]\\(b\\) \\`c\\` \\#d"),
        (plain, "żółw 😀 \u05d0", "żółw 😀 \u05d0"),
    ],
)
def test_each_format_only_shows_values(escape: object, given: str, shown: str) -> None:
    assert callable(escape)
    assert escape(given) == shown
