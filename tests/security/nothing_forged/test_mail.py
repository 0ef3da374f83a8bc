"""Whatever a value is: a mail has the expected headers, each once, and the expected recipients."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from email import policy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.channels.mime import Mail, check
from sentinel.core.errors import ConfigError, DeliveryError
from sentinel.ports import Channel, Message
from tests.channels.contract import build
from tests.channels.smtp_server import Mailbox, mail_server
from tests.fakes import message, notification, payload
from tests.security.registry import SMTP_CHANNELS, channel_type

HEADERS = [
    "Subject", "From", "To", "Date", "Message-ID", "References", "Auto-Submitted",
    "MIME-Version", "Content-Type",
]  # fmt: skip
PART_HEADERS = {"Content-Type", "Content-Transfer-Encoding", "MIME-Version"}
SENDER, RECIPIENT = "a@example.org", "b@example.org"
HOSTILE = (
    "=?utf-8?q?x=0d=0aBcc:_evil=40example.com?=",
    "=?utf-8?b?eA0KQmNjOiBldmlsQGV4YW1wbGUuY29t?=",
    "=?utf-8?q?=3D=3Futf-8=3Fq=3Fx=3D0d=3D0aBcc:_evil=3F=3D?=",
    "=?utf-8?q?a?= =?utf-8?q?=0d=0aBcc:_e@x.org?=",
    "=?us-ascii?Q?x=0a=0aBcc:_evil?=",
    "=?utf-7?q?x+AA0ACg-Bcc:_evil?=",
    "=?x?=?utf-8?q?=0aBcc:_e?=?=",
    "=?utf-8?q?" + "=41" * 400 + "=0d=0aBcc:_evil@example.com?=",
    "x\r\nBcc: evil@example.com",
    "x\nBcc: evil@example.com",
    "x\rBcc: evil@example.com",
    "x\r\n\r\nBody",
    "x\x00\r\n Bcc: e@x.org",
    "x\x0bBcc: e@x.org\x0cBcc: e@x.org\x1c\x1d\x1eBcc: e@x.org",
    "x\x85Bcc: e@x.org\u2028Bcc: e@x.org\u2029Bcc: e@x.org",
    "\ud800\udfff\udc0dBcc: e@x.org\udc0a",
    "\u202eofni\u202c <evil@example.com>",
    "a" * 2_000,
    "é" * 2_000,
    ("word " * 60).strip(),
    "x\r\n.\r\nMAIL FROM:<e@x.org>\r\nRCPT TO:<v@x.org>\r\nDATA\r\nSubject: forged\r\n\r\nx\r\n.\r\n",
    "x\n.\r\nMAIL FROM:<e@x.org>",
    "x\r.\r\nMAIL FROM:<e@x.org>\r.\r",
    ".\r\n..\r\n.",
    "x=\r\n=0D=0ABcc: e@x.org\r\n--=-boundary--\r\nContent-Type: text/html\r\n\r\n<b>",
    "Content-Type: multipart/mixed; boundary=x",
    '"; boundary="x"\r\nX-Evil: 1',
    "evil@example.com, c@example.org",
    "group: evil@example.com, c@example.org;",
    "b%evil.com@example.org",
    "",
    " ",
    "\t\r\n ",
)
EVERYWHERE = (
    "alert", "instance", "message", "description", "owner", "runbook", "project", "path", "severity"
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailbox]:
    with mail_server(tmp_path_factory.mktemp("mail"), "none") as mailbox:
        yield mailbox


@pytest.fixture
def mailbox(server: Mailbox) -> Mailbox:
    empty(server)
    return server


def empty(mailbox: Mailbox) -> None:
    mailbox.mails.clear()
    mailbox.raw.clear()
    mailbox.senders.clear()


@pytest.fixture(params=SMTP_CHANNELS)
def channel(request: pytest.FixtureRequest, mailbox: Mailbox, tmp_path: Path) -> Channel:
    name: str = request.param
    return build(channel_type(name), SMTP_CHANNELS[name](mailbox.port), tmp_path)[0]


def hostile(value: str, **others: Any) -> Message:
    """A message in which every text that may come from the data, or near it, is the value."""
    sent = payload(
        **dict.fromkeys(EVERYWHERE, value),
        context={value: value, "samples": [{value: value}]},
        dimensions={value: value},
        exposures=[value],
        depends_on=[value],
        tags=[value],
    )
    sent["severity"] = "critical"
    return message(notification(payload=sent, **others))


def header_block(raw: bytes) -> list[tuple[str, str]]:
    """Names and raw values, by the letter of RFC 5322 and nothing that a library makes of it."""
    head, _, _ = raw.partition(b"\r\n\r\n")
    unfolded = re.sub(rb"\r\n[ \t]", b" ", head).split(b"\r\n")
    return [(name.decode("ascii"), value.decode("ascii").strip())
            for name, _, value in (line.partition(b":") for line in unfolded)]  # fmt: skip


def assert_as_expected(mailbox: Mailbox) -> None:
    """One mail has arrived, for one recipient, with exactly the expected headers; takes it."""
    [raw], [(to, _)], [sender] = mailbox.raw, mailbox.mails, mailbox.senders
    empty(mailbox)
    assert (sender, to) == (SENDER, [RECIPIENT])
    assert raw.isascii()
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\x00", raw)
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    block = header_block(raw)
    assert sorted(name for name, _ in block) == sorted(HEADERS)
    assert (dict(block)["From"], dict(block)["To"]) == (SENDER, RECIPIENT)
    for rules in (policy.default, policy.SMTP, policy.compat32):
        parsed: Any = email.message_from_bytes(raw, policy=rules)
        # What a gateway makes of it that reads and writes it anew.
        for mail in (parsed, email.message_from_bytes(parsed.as_bytes(), policy=rules)):
            assert sorted(mail.keys()) == sorted(HEADERS)
            parts: Any = mail.get_payload()
            assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
            assert {name for part in parts for name, _ in part.items()} <= PART_HEADERS
            assert not any(part.is_multipart() for part in parts)


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:40])
def test_no_value_adds_a_header_or_a_recipient(
    channel: Channel, mailbox: Mailbox, value: str
) -> None:
    channel.send(hostile(value))
    assert_as_expected(mailbox)


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:40])
@pytest.mark.parametrize("name", SMTP_CHANNELS)
def test_no_value_adds_a_header_through_a_template(
    name: str, mailbox: Mailbox, tmp_path: Path, value: str
) -> None:
    (tmp_path / "t").write_text("{{ first.message }}\r\n{{ first.instance }}{{ first.alert }}")
    templates = dict.fromkeys(["subject_template", "template", "html_template"], "t")
    values = SMTP_CHANNELS[name](mailbox.port) | templates
    build(channel_type(name), values, tmp_path)[0].send(hostile(value))
    assert_as_expected(mailbox)


@pytest.mark.parametrize("value", ["e\r\nBcc: evil@example.com", "=?utf-8?q?=0aBcc:_e?=", "a b>"])
def test_no_id_of_the_outbox_adds_a_header(channel: Channel, mailbox: Mailbox, value: str) -> None:
    """Ids are hashes; one that isn't, in a table that somebody else wrote, does no harm."""
    channel.send(message(notification(value, message_id=value)))
    assert_as_expected(mailbox)


TEXTS = st.lists(
    st.sampled_from([
        "=?", "?=", "utf-8", "?q?", "?b?", "=0d=0a", "=0A", "\r", "\n", "\r\n", "Bcc:", " ", "\t", ":",
        "e@x.org", "<", ">", ",", ";", '"', "\\", ".", "\r\n.\r\n", "\x00", "\x0b", "\x0c", "\x85",
        "\u2028", "\udc0a", "\u202e", "é", "😀", "--", "=-", "=", "%0a", "a" * 80, "w " * 50,
    ]) | st.text(max_size=10),
    max_size=12,
).map("".join)  # fmt: skip


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=TEXTS)
def test_no_generated_value_adds_a_header_or_a_recipient(
    channel: Channel, mailbox: Mailbox, value: str
) -> None:
    empty(mailbox)
    channel.send(hostile(value))
    assert_as_expected(mailbox)


@pytest.mark.parametrize("name", SMTP_CHANNELS)
@pytest.mark.parametrize(
    "owner",
    [
        "x\r\nBcc: evil@example.com <o@example.org>",
        "o@example.org\r\nBcc: evil@example.com",
        "o@example.org>\r\nRCPT TO:<evil@example.com",
        "o@example.org, evil@example.com",
        "o@example.org; evil@example.com",
        "o@example.org evil@example.com",
        "team: o@example.org, evil@example.com;",
        "team: o@example.org;",
        "o@example.org (comment) <evil@example.com>",
        "<o@example.org> <evil@example.com>",
        "o@example.org <evil@example.com>, x",
        "<@relay.example.org:o@example.org>",
        "o@żółw.example.org",
        "o\u2028@example.org",
        "o@example.org\x00",
        "=?utf-8?q?o=40example.org?=",
        "o@[127.0.0.1\r\n]",
        "Doe, Jane <o@example.org>",
        "=?utf-8?q?x=0d=0aBcc:_evil=40example.com?= <o@example.org>",
        "o@" + "a." * 200 + "org",
        "o@",
        "@example.org",
        "",
    ],
)
def test_an_owner_that_is_no_single_address_gets_nothing(
    name: str, mailbox: Mailbox, tmp_path: Path, owner: str
) -> None:
    channel: Any = build(channel_type(name), SMTP_CHANNELS[name](mailbox.port), tmp_path)[0]
    with pytest.raises(KeyError):
        channel.addressed(owner)


@pytest.mark.parametrize("name", SMTP_CHANNELS)
@pytest.mark.parametrize(
    ("owner", "mailbox_address", "display_name"),
    [
        ("=?utf-8?q?x=0d=0aBcc=3A_evil=40example.com?= <o@example.org>", "o@example.org", None),
        ('"evil@example.com, x" <o@example.org>', "o@example.org", "evil@example.com, x"),
        ('"<evil@example.com>" <o@example.org>', "o@example.org", "<evil@example.com>"),
        ('"a\\"b\\\\" <o@example.org>', "o@example.org", 'a"b\\'),
        ('"Żółw, Łucja" <o@example.org>', "o@example.org", "Żółw, Łucja"),
        ("w " * 300 + "<o@example.org>", "o@example.org", ("w " * 300).strip()),
        ("b%evil.com@example.org", "b%evil.com@example.org", ""),
    ],
)
def test_a_name_before_an_address_is_only_a_name(
    name: str,
    mailbox: Mailbox,
    tmp_path: Path,
    owner: str,
    mailbox_address: str,
    display_name: str | None,
) -> None:
    channel: Any = build(channel_type(name), SMTP_CHANNELS[name](mailbox.port), tmp_path)[0]
    channel.addressed(owner).send(message())
    [(to, mail)], [raw] = mailbox.mails, mailbox.raw
    assert to == [mailbox_address]
    assert sorted(name for name, _ in header_block(raw)) == sorted(HEADERS)
    [shown] = mail["To"].addresses
    assert shown.addr_spec == mailbox_address
    # Python 3.11 leaves the spaces between encoded words in a name.
    assert display_name is None or shown.display_name.split() == display_name.split()


def test_a_value_is_escaped_in_every_place_of_the_html(channel: Channel, mailbox: Mailbox) -> None:
    evil = (
        """"><img src=x onerror=a()><a href='javascript:a()'>x</a>' onmouseover=a() <!-- ]]> &lt;"""
    )
    channel.send(hostile(evil))
    [(_, mail)] = mailbox.mails
    part = mail.get_body(("html",))
    assert part is not None
    tags = re.findall(r"<[^>]*>", part.get_content())
    allowed = re.compile(
        r"<!doctype html>|</?(html|head|body|h2|h3|table|tr|td|ul|li|code)( style=\"[^\"<>]*\")?>"
        r'|<meta charset="utf-8">'
    )
    assert [tag for tag in tags if not allowed.fullmatch(tag)] == []


# -- the check before it is sent -----------------------------------------------------------------

MAIL = Mail(
    subject="s", sender=SENDER, to=(RECIPIENT,), date=0.0, message_id="m", thread="t",
    text="text\n", html="<p>",
)  # fmt: skip


def test_a_mail_as_it_is_made_passes_the_check() -> None:
    check(MAIL.as_bytes(), MAIL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"To:", b"Bcc: evil@example.com\r\nTo:"),
        (b"To:", b"X-Evil: 1\r\nTo:"),
        (b"To:", b"Subject: other\r\nTo:"),
        (b"To: b@example.org", b"To: b@example.org, evil@example.com"),
        (b"From: a@example.org", b"From: evil@example.com"),
        (b"Subject: s", b"Subject: t"),
        (b"Subject: s", b"Subject: =?utf-8?q?s=0d=0aBcc:_evil?="),
        (b"Subject: s\r\n", b"Subject: s\n"),
        (b"Subject: s\r\n", b"Subject: s\r\n\r\n"),
        (b"Subject: s", b"Subject: s\rBcc: evil@example.com"),
        (b"Subject: s", b"Subject: s\x00"),
        (b"Subject: s", "Subject: ś".encode()),
        (b"Subject: s", b"Subject: s" + b" " * 1_000),
        (b"text/plain", b"text/html"),
        (b"multipart/alternative", b"multipart/mixed"),
        (b"dGV4dA0K", b"ZXZpbAo="),
        (b"PHA+", b"PGI+"),
        (b"\r\n\r\n--", b"\r\n\r\nevil\r\n--"),
        (b"dGV4dA0K", b"dGV4dA0K\r\n.\r\nMAIL FROM:<e@x.org>"),
    ],
)
def test_a_mail_that_is_not_what_it_should_be_is_never_sent(old: bytes, new: bytes) -> None:
    raw = MAIL.as_bytes()
    assert raw.count(old) >= 1
    with pytest.raises(DeliveryError) as caught:
        check(raw.replace(old, new, 1), MAIL)
    assert caught.value.permanent


@pytest.mark.parametrize("key", ["from", "to"])
@pytest.mark.parametrize(
    "value", ["a@b.org\r\nBcc: e@x.org", "x\r\nBcc: e <a@b.org>", "g: a@b.org;", "a@b.org, e@x.org"]
)
def test_a_setting_that_holds_more_than_an_address_is_refused(
    tmp_path: Path, key: str, value: str
) -> None:
    with pytest.raises(ConfigError):
        build("email", SMTP_CHANNELS["email"](25) | {key: value}, tmp_path)
