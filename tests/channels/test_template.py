"""Texts that a project writes itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentinel.channels.contract import ChannelContext, SettingFault
from sentinel.channels.escape import html, markdown, mrkdwn, unpinged
from sentinel.channels.template import Template
from sentinel.core.errors import ConfigError, DeliveryError
from sentinel.core.text import line, plain
from tests.fakes import message, notification, payload

from .contract import Said, build
from .receiver import Receiver


def load(folder: Path, text: str) -> Template:
    (folder / "t.txt").write_text(text)
    return Template.load("template", "t.txt", ChannelContext(folder, Said()), html)


def test_values_are_escaped_and_the_template_s_own_text_is_not(tmp_path: Path) -> None:
    template = load(tmp_path, "<b>{{ first.message }}</b>{{ headline(first) }}")
    sent = message(notification(payload=payload(message="<i>&")))
    assert template.render(sent) == "<b>&lt;i&gt;&amp;</b>FIRING revenue (critical)"


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
        (
            "\n{{ first.alert | attr('__class__') }}",
            "t.txt:2: a template has no access to `__class_",
        ),
        ("{{ notifications | map(attribute='a.__class__') }}", "has no access to `__class__`"),
        ("{{ cycler.__init__.__globals__ }}", "has no access to"),
        ("{{ joiner['__init__'] }}", "has no access to `__init__`"),
        ("{{ self._TemplateReference__context }}", "has no access to"),
        (
            "\n{{ nowhere }}",
            "t.txt:2: there is no `nowhere` in a template; there are notifications",
        ),
        ("{{ lipsum(9999) }}", "there is no `lipsum`"),
        ("a\n{% include 't.txt' %}", "t.txt:2: a template can't take in other files"),
        ("{% from 't.txt' import a %}", "t.txt:1: a template can't take in other files"),
        (
            "{{ " + "(" * 3_000 + ")" * 3_000 + " }}",
            "t.txt:1: the template is not Jinja: it is nested too deeply",
        ),
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
        "{{ first.nowhere }}",
        "{{ first.mro }}",
        "{{ first.alert | attr('_' ~ '_class__') }}",
        "{{ first['_' ~ '_class__'] }}",
        "{{ '{0.__class__}'.format(first) }}",
        "{{ headline({'event': 3}) }}",
        "{{ 'x' * 10**10 }}",
        "{{ 7 ** 9999999999 }}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{{ 1 / 0 }}",
        "{{ range(999999999) | list }}",
        "{{ first.context.update({'a': 1}) }}",
    ],
)
def test_a_template_that_fails_is_a_permanent_failure(tmp_path: Path, text: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        load(tmp_path, text).render(message())
    assert caught.value.permanent
    assert "the template t.txt:1 can't be rendered" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in first.alert * 9999 %}{% for b in first.alert * 9999 %}{% endfor %}{% endfor %}",
        "{% macro a(n) %}{{ a(n - 1) ~ a(n - 1) if n }}{% endmacro %}{{ a(60) }}",
    ],
)
def test_a_template_that_would_go_on_for_ever_ends(tmp_path: Path, text: str) -> None:
    template = load(tmp_path, text)
    for _ in range(2):
        with pytest.raises(DeliveryError, match="takes more than 100,000 steps") as caught:
            template.render(message())
        assert caught.value.permanent


def test_loops_keep_what_jinja_gives_them(tmp_path: Path) -> None:
    template = load(
        tmp_path,
        "{% for each in notifications %}{{ loop.index }}/{{ loop.length }}{{ ' ' if not loop.last }}"
        "{% else %}none{% endfor %}{% for x in [1, [2]] recursive %}"
        "{{ loop(x) if x is iterable else x }}{% endfor %}",
    )
    rows = [notification(name, message_id="m") for name in "ab"]
    assert template.render(message(*rows)) == "1/2 2/212"


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
        (mrkdwn, "late_orders _x_ `y`", "late_orders \u200b_x\u200b_ \u200b`y\u200b`"),
        (mrkdwn, "> a\n> b", "\u200b&gt; a\n\u200b&gt; b"),
        (
            unpinged,
            "@here <!here> [a](b) a@b.c",
            "@\u200bhere <\u200b!\u200bhere> [a]\u200b(b) a@b.c",
        ),
        (markdown, "[a](b) `c` #d", "\\[a\\]\\(b\\) \\`c\\` \\#d"),
        (plain, "żółw 😀 \u05d0", "żółw 😀 \u05d0"),
    ],
)
def test_each_format_only_shows_values(escape: object, given: str, shown: str) -> None:
    assert callable(escape)
    assert escape(given) == shown
