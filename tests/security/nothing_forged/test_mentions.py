"""Nobody is called by a value, in any channel and any service behind Apprise."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentinel.channels.escape import unpinged
from sentinel.channels.registry import channel_types
from sentinel.ports import Message
from tests.channels.contract import build
from tests.channels.examples import strings_in
from tests.channels.receiver import receiving
from tests.channels.services import every_service
from tests.channels.slack_stub import slack
from tests.fakes import message, notification, payload
from tests.security.registry import EXAMPLES, HTTP_CHANNELS, HTTP_EXAMPLES, acceptance, channel_type

# By the service in whose text it calls somebody, or makes a link with another text.
MENTIONS = {
    "discord": ["@everyone", "@here", "<@123456789>", "<@!123456789>", "<@&987654321>", "@123456789"],
    "slack": [
        "<!here>", "<!channel>", "<!everyone>", "<!subteam^S012AB>", "<@U012AB3CD>", "<@U012AB3CD|x>",
        "<#C012AB>", "!here>", "!channel|x>", "@U012AB3CD>", "<https://evil.example.org|x>",
        "https://evil.example.org|x>", "< !here>", "&lt;!here&gt;",
    ],
    "google chat": ["<users/all>", "<users/123456789>"],
    "teams": ["<at>Jane</at>", "<AT>jane@example.org</AT>", '<at id="0">Jane</at>'],
    "telegram": ["@jane_doe", "[x](tg://user?id=123)", '<a href="tg://user?id=123">x</a>'],
    "zulip": ["@**all**", "@**Jane**", "@_**Jane**", "@*team*", "@**all** @**channel**"],
    "matrix": ["@room", "@jane:example.org", "[x](https://matrix.to/#/@jane:example.org)"],
    "mattermost": ["@all", "@channel", "x.@all", "(@all)", '"@all"', "a@all"],
    "rocket.chat": ["@all", "@here", "@jane.doe"],
    "webex": ["<@all>", "<@personEmail:jane@example.org>", "<@personId:abc|x>"],
    "mastodon": ["@jane", "@jane@example.org"],
    "twist": ["[Everyone](twist-mention://EVERYONE)", "[Jane](twist-mention://123)"],
    "kook": ["(met)all(met)", "(met)here(met)", "(met)123(met)", "(rol)123(rol)"],
    "lark": ['<at user_id="all">all</at>', "<at id=all></at>", '<at email="jane@example.org"></at>'],
    "nextcloud": ["@all", '@"jane doe"', "@jane"],
    "zoom": ["<!all|all>", "<!jane@example.org|Jane>"],
    "flock": ['<user userId="u:123"/>', '<userGroup userGroupId="g:1" />', "@all"],
    "threema": ["@[@@@@@@@@]", "@[ECHOECHO]"],
    "jira": ["[~jane]", "[~accountid:123]"],
    "qq": ["[CQ:at,qq=all]", "@at=123@"],
    "humhub": ['[x](mention:123 "/u/x")'],
    "reddit": ["u/jane", "/u/jane"],
    "others": ["@team", "@@all", "\\@everyone", "\\u0040everyone", "&#64;everyone", "&commat;all",
               "＠everyone", "﹫here", "＜!here＞", "＜@U012AB3CD>", "a@everyone.example.org",
               "a@123456789.example.org", "a@all", "jane@example.org|x>", "[x][1]", "[1]: tg://user?id=1",
               "=?utf-8?q?=40everyone?="],
}  # fmt: skip
ALL = [text for texts in MENTIONS.values() for text in texts]
# Those whose text alone is one, whatever is around it: Reddit's are words.
ANYWHERE = [text for text in ALL if text not in MENTIONS["reddit"]]
# A mark of a mention before what it would call, in any service.
CALLING = re.compile(
    r"@[\w*\"'\[{(@]|<\s*[@!#&/A-Za-z](?!\u200b)|![A-Za-z][^|\s]*[>|]|\]\(|\[~|\[CQ:|\((met|rol|chn)\)|=\?|&#?\w+;|"
    r"(?<![\w/])/?u/\w|://[^\s|]+[ \t]*\||\\u0040"
)
# An address of a mailbox, which stays readable; what a chat takes of it is nobody.
MAILBOX = "o.k+x@mail.example.org"


def hostile(*texts: str, **others: Any) -> Message:
    text = "\n".join(texts)
    keys = ["alert", "instance", "message", "description", "owner", "project", "path"]
    sent = payload(
        **dict.fromkeys(keys, text),
        **{key: [text] for key in ("exposures", "depends_on", "tags")},
        context={text: text, "samples": [{text: text}]},
        dimensions={text: text},
    )
    return message(notification(payload=sent, **others))


def document_in(body: bytes) -> Any:
    """A body as its reader gets it: JSON, a form whose fields may be JSON, or text."""
    text = body.decode("utf-8")
    if re.match(r"[\w-]+=[^\s]*$", text):
        return {name: [_parsed(each) for each in values] for name, values in parse_qs(text).items()}
    return _parsed(text)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def texts_in(body: bytes) -> Iterator[str]:
    """Every text of a body."""
    return strings_in(document_in(body))


def readings(text: str) -> set[str]:
    """A text as services may read it: with entities, escapes and forms of Unicode resolved."""
    return {
        fold(resolve(text))
        for resolve in (str, html.unescape, unquote)
        for fold in (str, lambda each: unicodedata.normalize("NFKC", each))
    }


def surviving(text: str) -> list[str]:
    """The mentions of the table that are left in a text."""
    return [each for each in ANYWHERE for reading in readings(text) if each in reading]


# -- one text ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mention", sorted(set(ALL)))
def test_a_mention_is_none_in_plain_text(mention: str) -> None:
    for text in (mention, f"x {mention} y", f"({mention})", f"{mention} {mention}"):
        shown = unpinged(text)
        assert mention not in shown
        for reading in readings(shown):
            assert not CALLING.search(reading.replace("jane@example.org", "")), ascii(reading)


@pytest.mark.parametrize(
    "text",
    [
        MAILBOX, f"({MAILBOX})", f'"{MAILBOX}", x', f"Jane: {MAILBOX}, and so on", f"mailto:{MAILBOX}.",
        "8,120 (threshold 10,000)",
        "-12.50", "1e-300", "2026-01-02 09:00:00 UTC", "+1 (555) 010-9999", "[region=north, store=12] ",
        "s3://bucket/path/u/x.csv", "https://example.com/a?b=c&d=e#f", '{"a": [1, null]} ', "R&D", "x <= 3",
        "a < 5", "x <> y", "x != y", "late_orders", "SELECT * FROM a WHERE b = 'c' ", "C:\\temp\\x.csv",
        "żółw 😀", "50 %", "a == b",
    ],
)  # fmt: skip
def test_text_that_calls_nobody_stays_as_it_is(text: str) -> None:
    assert unpinged(text) == text


PIECES = st.lists(
    st.sampled_from([*ALL, "@", "<", "!", "here", ">", "]", "(", "[", "~", "u/", "=", "?", "&", "#", "\\",
                     " ", "\n", "\\n", "a", "1", ".", "|", "://", "＠", "＜", "\u200b", "\u2060"]),
    max_size=8,
).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@example(first="", second="@jane:example.org@jane.doe")
@given(first=PIECES, second=PIECES)
def test_no_mention_is_made_of_two_values_side_by_side(first: str, second: str) -> None:
    """As a template may put them."""
    shown = unpinged(first) + unpinged(second)
    marked = [each for each in ALL if each[0] in "@<!＠＜﹫"]
    # The address of a mailbox stays readable, and calls nobody.
    bare = re.sub(r"(?<![\w@:.+%-])[A-Za-z0-9][\w.+%-]*@[A-Za-z][\w-]*(?:\.[\w-]+)+", "", shown)
    assert [each for each in marked if each in bare] == []
    # Nothing is lost, and nothing is added but what can't be seen.
    visible = re.compile("[\u200b ]")
    assert visible.sub("", shown) == visible.sub("", first + second)


# -- channels ----------------------------------------------------------------------------------


def calls_nobody(document: Any) -> None:
    assert [found for text in strings_in(document) for found in surviving(text)] == []


CHECKED_EXAMPLES = {
    name: example for name, example in HTTP_EXAMPLES.items() if not example.mentions_allowed
}


def test_every_channel_is_checked_or_exempt_for_a_reason() -> None:
    assert {name for name, example in EXAMPLES.items() if not example.mentions_allowed} == set(
        CHECKED_EXAMPLES
    )


def _settings_of(name: str) -> set[str]:
    return set(channel_types()[channel_type(name)].load().Settings.model_fields)


CHECKED = [
    (name, number, template)
    for name in CHECKED_EXAMPLES
    for number in (1, 3)
    for template in (False, True)
    if not template or "template" in _settings_of(name)
]


@pytest.mark.parametrize(("name", "number", "template"), CHECKED)
def test_values_call_nobody(name: str, number: int, template: bool, tmp_path: Path) -> None:
    kind = channel_type(name)
    values: dict[str, Any] = {}
    if template:
        (tmp_path / "t").write_text("{{ first.message }}{{ first.instance }} {{ first.alert }}")
        values = {"template": "t"}
    bodies: list[bytes] = []
    # A few in a message, since long ones are cut; Apprise's process is slow to start.
    size = 40 if kind == "apprise" else 4
    for begin in range(0, len(ALL), size):
        rows = hostile(*ALL[begin : begin + size]).notifications * number
        bodies += _sent(name, message(*rows), values, tmp_path)
    assert bodies
    for body in bodies:
        (CHECKED_EXAMPLES[name].check_mentions or calls_nobody)(document_in(body))


def _sent(name: str, sent: Message, values: dict[str, Any], folder: Path) -> list[bytes]:
    """The bodies that a receiver gets."""
    if name == "slack by token":
        with slack("token") as stub:
            build("slack", HTTP_CHANNELS[name](stub.url) | values, folder)[0].send(sent)
            return [json.dumps(content).encode() for _, content in stub.calls]
    with receiving() as receiver:
        receiver.answers = [acceptance(name)] * (2 * len(sent.notifications))
        kind = channel_type(name)
        build(kind, HTTP_CHANNELS[name](receiver.url) | values, folder)[0].send(sent)
        return [got.body for got in receiver.got]


@pytest.mark.parametrize(
    ("name", "text", "written"),
    [
        (
            "apprise",
            "@here <!here> <users/all>: {{ first.message }}",
            "@here <!here> <users/all>: ",
        ),
        ("slack by webhook", "<!here> <@U012AB3CD> {{ first.message }}", "<!here> <@U012AB3CD> "),
        ("slack by token", "<!subteam^S012AB> {{ first.message }}", "<!subteam^S012AB> "),
    ],
)
def test_a_mention_that_a_template_holds_stays_one(
    name: str, text: str, written: str, tmp_path: Path
) -> None:
    (tmp_path / "t").write_text(text)
    sent = message(notification(payload=payload(message="<!channel> @everyone")))
    [body] = _sent(name, sent, {"template": "t"}, tmp_path)
    assert [each for each in texts_in(body) if written in each]
    assert not [each for each in texts_in(body) if "<!channel>" in each]


# -- services behind Apprise -------------------------------------------------------------------

SERVICES = [
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general?blocks=yes",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general?format=text",
    "discord://417429632418316298/JHZ7lQml277CDHmQKMHI8qBe7bk2ZwO5UKjCiOAF7711o33MyqU344Qpgv7YTpadV",
    "discord://417429632418316298/JHZ7lQml277CDHmQKMHI8qBe7bk2ZwO5UKjCiOAF7711o33MyqU344Qpgv7YTpadV"
    "?format=markdown",
    "gchat://workspace/key/token",
    "gchat://workspace/key/token?format=text",
    "zulip://botname@apprise/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "tgram://123456789:abcdefg_hijklmnop/12315544",
    "tgram://123456789:abcdefg_hijklmnop/12315544?format=markdown",
    "tgram://123456789:abcdefg_hijklmnop/12315544?format=text",
    "mmosts://mm.example.org/3ccdd113474722377935511fc85d3dd4",
    "rockets://aaaabbbb/cccc@rc.example.org/#general",
    "workflows://wf.example.org:443/aaaaaaaa/bbbbbbbb",
    "wxteams://" + "a" * 80,
    "matrixs://user:token@mx.example.org?mode=slack",
    "matrixs://user:token@mx.example.org?mode=matrix",
    "mastodons://token@ma.example.org",
    "mastodons://token@ma.example.org?format=markdown",
    "misskeys://token@mi.example.org",
    "nctalks://user:pass@nc.example.org/roomid",
    "kook://abcdefgh/12345678",
    "dingtalk://aaaaaaaa",
    "dingtalk://aaaaaaaa?format=markdown",
    "wecombot://aaaaaaaa-bbbb",
    "lark://aaaaaaaaaaaaaaaa",
    "feishu://aaaaaaaaaaaaaaaa",
    "flock://aaaaaaaaaaaaaaaaaaaaaaaa",
    "zoom://aaaaaaaa/bbbbbbbb",
    "synologys://sy.example.org/token",
    "ryver://apprise/ckhrjW8w672m6HG",
    "ntfys://topic",
    "line://token/user",
]
HOSTS = {
    "hooks.slack.com", "discord.com", "chat.googleapis.com", "apprise.zulipchat.com",
    "api.telegram.org", "mm.example.org", "rc.example.org", "wf.example.org", "api.ciscospark.com",
    "mx.example.org", "ma.example.org", "mi.example.org", "nc.example.org", "www.kookapp.cn",
    "oapi.dingtalk.com", "qyapi.weixin.qq.com", "open.larksuite.com", "open.feishu.cn",
    "api.flock.com", "inbots.zoom.us", "sy.example.org", "apprise.ryver.com", "ntfy.sh",
    "api.line.me",
}  # fmt: skip


def test_values_call_nobody_in_a_service_behind_apprise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the library writes it, which finds mentions of its own accord for some services."""
    channel = build("apprise", {"urls": SERVICES, "timeout": "25s"}, tmp_path)[0]
    with every_service(tmp_path, monkeypatch) as services:
        channel.send(hostile(*ALL))
    found = {
        place: [text for body in bodies for text in texts_in(body)]
        for place, bodies in services.by_host().items()
    }
    assert set(found) >= HOSTS
    for host in HOSTS:
        shown = " ".join(found[host])
        assert "FIRING" in shown, host
        assert [each for each in ANYWHERE if each in shown] == [], host
        assert not re.search(r"(?<!\w)@[A-Za-z0-9]", shown), host
