from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from sentinel.core.errors import ConfigError, DeliveryError
from sentinel.core.state import Event
from tests.fakes import message, notification, payload

from .by_http import many
from .contract import SECRET, RemoteChannelContract, RemoteUnderTest, build
from .examples import SmtpExample
from .receiver import closed_port
from .smtp_server import Mailbox, mail_server

ANN, BOB = "ann@example.org", "bob@example.org"


EXAMPLE = SmtpExample(
    name="email",
    settings=lambda port: {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "from": "a@example.org",
        "to": "b@example.org",
    },
    mentions_allowed="a mail goes to its envelope's recipients, which test_mail.py checks",
)


@dataclass
class ByMail(RemoteUnderTest):
    mailbox: Mailbox = field(default_factory=Mailbox)

    def __post_init__(self) -> None:
        self.kind = "email"
        self.values = {
            "host": "127.0.0.1",
            "port": self.mailbox.port,
            "username": "sentinel",
            "password": SECRET,
            "from": "Sentinel <sentinel@example.org>",
            "to": [ANN, BOB],
            "ca_file": self.mailbox.ca_file,
        }

    def arrived(self) -> list[str]:
        found = []
        for _, mail in self.mailbox.mails:
            text = text_of(mail)
            lines = [line for line in text.splitlines() if line.startswith("- ")]
            found += lines or [text]
        return found

    def break_down(self) -> None:
        self.values["port"] = closed_port()


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part is not None
    text: str = part.get_content()
    return text


@pytest.fixture
def it(tmp_path: Path) -> Iterator[ByMail]:
    with mail_server(tmp_path, sentinel=SECRET) as mailbox:
        yield ByMail(tmp_path, mailbox=mailbox)


class TestEmail(RemoteChannelContract):
    example = EXAMPLE

    @pytest.fixture
    def it(self, tmp_path: Path) -> Iterator[RemoteUnderTest]:
        with mail_server(tmp_path, sentinel=SECRET) as mailbox:
            yield ByMail(tmp_path, mailbox=mailbox)


def failure(it: ByMail) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        it.build().send(message())
    return caught.value


# -- the mail ----------------------------------------------------------------------------------


def test_a_mail_is_text_and_html_over_tls(it: ByMail) -> None:
    receipt = it.build().send(message())
    [(to, mail)] = it.mailbox.mails
    assert (to, it.mailbox.tls_used) == ([ANN, BOB], [True])
    assert mail["Subject"] == "[shop] FIRING revenue (critical)"
    assert mail["From"] == "Sentinel <sentinel@example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "8,120 (threshold 10,000)" in text_of(mail)
    assert "8,120 (threshold 10,000)" in text_of(mail, "html")
    assert receipt.recipients_done == (ANN, BOB)


def test_a_mail_keeps_its_id_and_mails_of_an_episode_make_a_thread(it: ByMail) -> None:
    channel, first = it.build(), message(notification("e"))
    channel.send(first)
    channel.send(first)
    channel.send(message(notification("e", event=Event.RESOLVED)))
    one, again, over = (mail for _, mail in it.mailbox.mails)
    assert one["Message-ID"] == again["Message-ID"] == f"<{first.message_id}@example.org>"
    assert one.get_boundary() == again.get_boundary()
    assert one["Message-ID"] != over["Message-ID"]
    assert one["References"] == over["References"] == "<e@example.org>"


def test_values_are_only_shown_in_html(it: ByMail) -> None:
    evil = '<script>alert(1)</script> & "x"'
    sent = payload(message=evil, instance=evil, runbook='https://x.org/"><b>')
    it.build().send(message(notification(payload=sent)))
    html = text_of(it.mailbox.mails[0][1], "html")
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot;" in html
    assert "<b>" not in html


def test_a_line_break_in_a_value_makes_no_header(it: ByMail) -> None:
    it.build().send(message(notification(payload=payload(instance="x\r\nBcc: eve@evil.org"))))
    [(to, mail)] = it.mailbox.mails
    assert (to, mail["Bcc"]) == ([ANN, BOB], None)
    assert "x Bcc: eve@evil.org" in mail["Subject"]


def test_a_mail_of_many_holds_them_all(it: ByMail) -> None:
    it.build().send(message(*many(50)))
    [(_, mail)] = it.mailbox.mails
    assert mail["Subject"].strip() == (
        "[shop] 50 firing: alert_0000, alert_0001, alert_0002 and 47 more (critical)"
    )
    for kind in ("plain", "html"):
        assert text_of(mail, kind).count("sentinel silence") == 50
    for place in range(50):
        assert f"alert_{place:04}" in text_of(mail)
        assert f"alert_{place:04}" in text_of(mail, "html")


def test_templates_of_the_project_make_subject_and_texts(tmp_path: Path, it: ByMail) -> None:
    (tmp_path / "s.txt").write_text("{{ first.severity }}: {{ first.message }}")
    (tmp_path / "t.txt").write_text("{% for each in notifications %}{{ each.alert }}\n{% endfor %}")
    (tmp_path / "h.html").write_text("<p>{{ first.message }}</p>")
    it.values |= {"subject_template": "s.txt", "template": "t.txt", "html_template": "h.html"}
    it.build().send(message(notification(payload=payload(message="a\n<b>"))))
    [(_, mail)] = it.mailbox.mails
    assert mail["Subject"] == "critical: a <b>"
    assert text_of(mail).strip() == "revenue"
    assert text_of(mail, "html").split() == ["<p>a", "&lt;b&gt;</p>"]


# -- recipients --------------------------------------------------------------------------------


def test_who_is_refused_for_ever_is_named_and_the_others_have_it(it: ByMail) -> None:
    it.mailbox.refuse = {BOB: "550 no such user"}
    error = failure(it)
    assert (error.permanent, error.recipients_done) == (True, (ANN,))
    assert error.message == f"the mail server refused {BOB}: 550 no such user"
    assert [to for to, _ in it.mailbox.mails] == [[ANN]]


def test_who_is_refused_for_now_is_tried_again_alone(it: ByMail) -> None:
    it.mailbox.refuse = {BOB: "451 later"}
    error = failure(it)
    assert (error.permanent, error.recipients_done) == (False, (ANN,))
    it.mailbox.refuse = {}
    receipt = it.build().send(message(notification(recipients_done=[ANN])))
    assert [to for to, _ in it.mailbox.mails] == [[ANN], [BOB]]
    assert receipt.recipients_done == (ANN, BOB)


def test_one_for_ever_and_one_for_now_are_tried_again(it: ByMail) -> None:
    it.mailbox.refuse = {ANN: "550 no", BOB: "451 later"}
    error = failure(it)
    assert (error.permanent, error.recipients_done) == (False, ())
    assert it.mailbox.mails == []


def test_an_owner_is_told_instead_of_the_recipients(it: ByMail) -> None:
    channel: Any = it.build()
    channel.addressed("own@example.org").send(message())
    assert it.mailbox.mails[0][0] == ["own@example.org"]


# -- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "permanent"), [("451 greylisted", False), ("552 too large", True), ("421 bye", False)]
)
def test_what_the_server_says_of_the_mail_decides(it: ByMail, reply: str, permanent: bool) -> None:
    it.mailbox.data_reply = reply
    error = failure(it)
    assert (error.permanent, error.recipients_done) == (permanent, ())
    assert error.message == f"the mail server answered {reply[:3]}: {reply[4:]}"


def test_a_connection_that_breaks_off_after_the_mail_is_tried_again_under_its_id(
    it: ByMail,
) -> None:
    it.mailbox.drop_after_data = 1
    assert not failure(it).permanent
    it.build().send(message())
    first, second = (mail["Message-ID"] for _, mail in it.mailbox.mails)
    assert first == second


def test_a_wrong_password_is_for_ever_and_not_shown(it: ByMail) -> None:
    it.values["password"] = SECRET + "x"
    error = failure(it)
    assert error.permanent
    assert "535" in error.message
    assert SECRET not in error.message


def test_a_server_without_starttls_gets_nothing_in_the_clear(tmp_path: Path) -> None:
    with mail_server(tmp_path, "none") as mailbox:
        it = ByMail(tmp_path, mailbox=mailbox)
        error = failure(it)
        assert (error.permanent, mailbox.mails) == (True, [])
        assert "no STARTTLS" in error.message
        del it.values["username"], it.values["password"]
        it.values["security"] = "none"
        it.build().send(message())
        assert len(mailbox.mails) == 1


def test_tls_from_the_start(tmp_path: Path) -> None:
    with mail_server(tmp_path, "tls", sentinel=SECRET) as mailbox:
        it = ByMail(tmp_path, mailbox=mailbox)
        it.values["security"] = "tls"
        it.build().send(message())
        assert mailbox.tls_used == [True]


def test_a_certificate_that_nobody_trusts_is_not_accepted(it: ByMail) -> None:
    del it.values["ca_file"]
    error = failure(it)
    assert "TLS with the mail server failed" in error.message
    assert it.mailbox.mails == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"to": "ann@example.org\r\nBcc: eve@evil.org"}, "can't hold a line break"),
        ({"to": ["nobody"]}, "no address"),
        ({"to": "ann@example.org, bob@example.org"}, "more than one address: write them as a list"),
        ({"to": "\u0142@example.org"}, "beyond ASCII"),
        ({"to": "x\x85 <ann@example.org>"}, "another control character"),
        ({"to": "x\ud800 <ann@example.org>"}, "another control character"),
        ({"from": "x\u202e <ann@example.org>"}, "another control character"),
        ({"host": "a..b"}, "`host`: it can't be the name of a host"),
        ({"host": "mail.example.org\r\nX: y"}, "`host`: it can't be the name of a host"),
        ({"username": "me", "password": "\u0142"}, "`password`: it has signs beyond ASCII"),
        ({"to": []}, "at least one address"),
        ({"from": "a@b.org\n"}, "can't hold a line break"),
        ({"port": 0}, "`port`"),
        ({"security": "ssl"}, "`security`"),
        ({"username": "me"}, "`username` and `password` go together"),
        ({"ca_file": "nowhere.pem"}, "there is no file nowhere.pem"),
        ({"template": "nowhere.txt"}, "the template nowhere.txt can't be read"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    valid = {"host": "mail.example.org", "from": "s@example.org", "to": [ANN]}
    with pytest.raises(ConfigError) as caught:
        build("email", valid | values, tmp_path)
    assert str(caught.value).startswith("sentinel.yml:7: the channel `it`: ")
    assert words in str(caught.value)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    values = {"host": "mail.example.org", "from": "s@example.org", "to": ANN, "ca_file": "ca.pem"}
    with pytest.raises(ConfigError, match=r"`ca_file`: ca\.pem holds no certificate in PEM"):
        build("email", values, tmp_path)


def test_names_beyond_ascii_arrive(it: ByMail) -> None:
    it.values |= {"from": "Żółw <z@example.org>", "to": '"Doe, Łucja" <ann@example.org>'}
    it.build().send(message())
    [(to, mail)] = it.mailbox.mails
    assert (to, mail["From"]) == ([ANN], "Żółw <z@example.org>")
    assert mail["To"].addresses[0].display_name == "Doe, Łucja"


def test_a_subject_keeps_its_letters_and_signs(it: ByMail) -> None:
    name = "Łódź \N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN} הזמנות 注文 " * 5
    it.build().send(message(notification(payload=payload(alert="a", instance=name))))
    [(_, mail)] = it.mailbox.mails
    assert name[:60] in mail["Subject"]
