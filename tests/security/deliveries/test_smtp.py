"""A mail server that is slow, lies, or changes its logins: deliveries end, and only 250 counts."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import trustme
from werkzeug.wrappers import Response

from sentinel.channels.contract import ChannelContext
from sentinel.channels.registry import build_channel
from sentinel.core.errors import ConfigError, DeliveryError
from sentinel.ports import Channel, Receipt
from tests.channels.contract import HERE, Said, build
from tests.channels.receiver import Receiver, answering, receiving
from tests.channels.scripted_smtp import CLOSE, ScriptedServer, scripted_server
from tests.channels.smtp_server import Mailbox, mail_server
from tests.fakes import message, notification
from tests.security.registry import SMTP_CHANNELS, channel_type

BY_SMTP = pytest.mark.parametrize("name", SMTP_CHANNELS)
PHASES = {
    "none": ["banner", "ehlo", "mail", "rcpt", "data", "end"],
    "starttls": [
        "banner", "ehlo", "starttls", "handshake", "ehlo over tls", "auth", "mail", "rcpt", "data",
        "end",
    ],
    "tls": ["handshake", "banner", "ehlo over tls", "auth", "mail", "rcpt", "data", "end"],
}  # fmt: skip
# Far more than a delivery may take, and less than it would take without a deadline.
KILL_S = 30


def channel_for(
    name: str, server: ScriptedServer | Mailbox, folder: Path, **values: Any
) -> Channel:
    given = SMTP_CHANNELS[name](server.port) | {"ca_file": server.ca_file or None} | values
    return build(channel_type(name), given, folder)[0]


def send(channel: Channel, row: Any = None) -> Receipt | DeliveryError:
    """What comes of a message, in time."""
    found: list[Receipt | DeliveryError] = []

    def run() -> None:
        try:
            found.append(channel.send(message(row or notification())))
        except DeliveryError as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(KILL_S)
    assert found, "the delivery didn't end"
    return found[0]


# -- deadlines ---------------------------------------------------------------------------------


@BY_SMTP
@pytest.mark.parametrize("how", ["trickles", "silent"])
@pytest.mark.parametrize("security", PHASES)
def test_a_delivery_ends_whatever_phase_the_server_is_slow_in(
    name: str, security: str, how: str, tmp_path: Path
) -> None:
    login = {} if security == "none" else {"username": "sentinel", "password": "t0ps3cret"}

    def run(phase: str) -> tuple[bool, bool, str]:
        with scripted_server(tmp_path / phase, security, **{how: phase}) as server:
            channel = channel_for(name, server, tmp_path, security=security, timeout="1s", **login)
            outcome = send(channel)
            assert isinstance(outcome, DeliveryError)
            return outcome.permanent, bool(outcome.recipients_done), outcome.message

    phases = PHASES[security]
    for phase in phases:
        (tmp_path / phase).mkdir()
    with ThreadPoolExecutor(len(phases)) as pool:
        outcomes = dict(zip(phases, pool.map(run, phases), strict=True))
    assert {phase: outcome[:2] for phase, outcome in outcomes.items()} == dict.fromkeys(
        phases, (False, False)
    )
    assert all("took longer than 1 s" in words for _, _, words in outcomes.values()), outcomes
    assert "it may be delivered twice" in outcomes["end"][2]


@BY_SMTP
@pytest.mark.parametrize("how", ["trickles", "silent"])
@pytest.mark.parametrize("security", PHASES)
def test_a_mail_that_was_accepted_is_delivered_however_the_session_ends(
    name: str, security: str, how: str, tmp_path: Path
) -> None:
    with scripted_server(tmp_path, security, **{how: "quit"}) as server:
        outcome = send(channel_for(name, server, tmp_path, security=security))
        assert isinstance(outcome, Receipt)
        assert len(server.mails) == 1


@BY_SMTP
def test_a_name_that_takes_for_ever_to_resolve_ends_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()

    def wait(*_: Any, **__: Any) -> Any:
        stop.wait(KILL_S)
        raise socket.gaierror("late")

    for function in ("getaddrinfo", "gethostbyname", "getfqdn", "gethostbyaddr"):
        monkeypatch.setattr(socket, function, wait)
    server = ScriptedServer(port=25)
    outcome = send(channel_for(name, server, tmp_path, host="mail.example.org", timeout="1s"))
    stop.set()
    assert isinstance(outcome, DeliveryError)
    assert "took longer than 1 s" in outcome.message
    assert not outcome.permanent


@BY_SMTP
def test_an_unknown_outcome_is_sent_again_as_the_same_mail(name: str, tmp_path: Path) -> None:
    with scripted_server(tmp_path, silent="end") as server:
        first = send(channel_for(name, server, tmp_path, timeout="1s"))
        assert isinstance(first, DeliveryError)
        assert (first.permanent, first.recipients_done) == (False, ())
        server.silent = ""
        assert isinstance(send(channel_for(name, server, tmp_path)), Receipt)
    [(_, before), (_, after)] = server.mails
    assert before == after
    assert re.search(rb"(?m)^Message-ID: <\w+@example\.org>\r$", before)


@BY_SMTP
def test_each_try_at_a_slow_server_reaches_more_of_many_recipients(
    name: str, tmp_path: Path
) -> None:
    many = [f"r{number}@example.org" for number in range(120)]
    with scripted_server(tmp_path, rcpt_pause_s=0.02) as server:
        channel = channel_for(name, server, tmp_path, to=many, timeout="1s")
        done: tuple[str, ...] = ()
        for _ in range(20):
            outcome = send(channel, notification(recipients_done=done))
            assert len(outcome.recipients_done) > len(done)
            done = outcome.recipients_done
            if isinstance(outcome, Receipt):
                break
            assert not outcome.permanent
    assert sorted(done) == sorted(many)
    reached = [each for to, _ in server.mails for each in to]
    assert sorted(reached) == sorted(many)


@BY_SMTP
def test_more_recipients_than_a_transaction_takes_each_get_one_mail(
    name: str, tmp_path: Path
) -> None:
    many = [f"r{number}@example.org" for number in range(250)]
    with scripted_server(tmp_path) as server:
        outcome = send(channel_for(name, server, tmp_path, to=many))
    assert isinstance(outcome, Receipt)
    assert [len(to) for to, _ in server.mails] == [100, 100, 50]
    assert len({mail for _, mail in server.mails}) == 1


# -- acceptance --------------------------------------------------------------------------------


@BY_SMTP
@pytest.mark.parametrize(
    ("answers", "permanent"),
    [
        ({"end": b"251 forwarded\r\n"}, False),
        ({"end": b"354 go on\r\n"}, False),
        ({"end": b"200 OK\r\n"}, False),
        ({"end": b"221 bye\r\n"}, False),
        ({"end": b"2500 ok\r\n"}, False),
        ({"end": b"250ok\r\n"}, False),
        ({"end": b" 250 ok\r\n"}, False),
        ({"end": b"+250 ok\r\n"}, False),
        ({"end": b"250-first\r\n550 no\r\n"}, False),
        ({"end": b"550-no\r\n250 ok\r\n"}, False),
        ({"end": b"550-no\r\n550 really\r\n"}, True),
        ({"end": b"451-later\r\n451 really\r\n"}, False),
        ({"end": b"421 bye\r\n"}, False),
        ({"end": b"552 too large\r\n"}, True),
        ({"end": b"OK\r\n"}, False),
        ({"end": b"\r\n"}, False),
        ({"end": b"\xff\x00\xfe\r\n"}, False),
        ({"end": b"<html>250 ok</html>\r\n"}, False),
        ({"end": b"250-" + b"x" * 2_000_000}, False),
        ({"end": b"250-more\r\n" * 200_000}, False),
        ({"end": CLOSE}, False),
        ({"data": CLOSE}, False),
        ({"data": b"250 ok\r\n"}, False),
        ({"data": b"503 no recipients\r\n"}, True),
        ({"rcpt": b"250-a\r\n550 b\r\n"}, False),
        ({"rcpt": b"354 go\r\n"}, False),
        ({"mail": b"354 go\r\n"}, False),
        ({"mail": b"550 no\r\n"}, True),
        ({"banner": b"250 ok\r\n"}, False),
        ({"banner": b"554 go away\r\n"}, True),
        ({"banner": b"HTTP/1.1 200 OK\r\n\r\n"}, False),
        ({"banner": CLOSE}, False),
        (dict.fromkeys(("banner", "ehlo", "mail", "rcpt", "data", "end"), b"250 ok\r\n"), False),
        (dict.fromkeys(("ehlo", "mail", "rcpt", "data", "end"), b"250 ok\r\n"), False),
    ],
    ids=lambda value: ascii(value)[:50] if isinstance(value, dict) else "",
)
def test_only_250_after_the_mail_counts(
    name: str, answers: dict[str, bytes], permanent: bool, tmp_path: Path
) -> None:
    with scripted_server(tmp_path, answers=answers) as server:
        outcome = send(channel_for(name, server, tmp_path, timeout="5s"))
    assert isinstance(outcome, DeliveryError)
    assert (outcome.permanent, outcome.recipients_done) == (permanent, ())
    assert len(outcome.message) < 400
    assert outcome.message.isprintable()


@BY_SMTP
def test_an_answer_that_ends_before_its_line_does_is_none(name: str, tmp_path: Path) -> None:
    class Broken(ScriptedServer):
        def _answer(self, connection: Any, phase: str) -> bytes:
            if phase == "end":
                connection.sendall(b"250 acc")
                connection.shutdown(socket.SHUT_RDWR)
            return super()._answer(connection, phase)

    broken = Broken()
    listener = socket.create_server(("127.0.0.1", 0))
    broken.port = listener.getsockname()[1]
    thread = threading.Thread(target=lambda: broken.serve(listener.accept()[0]))
    thread.start()
    outcome = send(channel_for(name, broken, tmp_path))
    thread.join()
    listener.close()
    assert isinstance(outcome, DeliveryError)
    assert (outcome.permanent, outcome.recipients_done) == (False, ())


@BY_SMTP
@pytest.mark.parametrize("answer", [b"250 ok\r\n", b"250-a\r\n250 b\r\n", b"250\r\n", b"250 ok\n"])
def test_250_after_the_mail_is_acceptance(name: str, answer: bytes, tmp_path: Path) -> None:
    with scripted_server(tmp_path, answers={"end": answer}) as server:
        assert isinstance(send(channel_for(name, server, tmp_path)), Receipt)


@BY_SMTP
def test_what_a_server_sends_before_tls_is_not_read_after_it(name: str, tmp_path: Path) -> None:
    """Answers that somebody on the way adds to the one to STARTTLS."""
    added = b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n535 no\r\n"
    with scripted_server(tmp_path, "starttls", answers={"starttls": added}) as server:
        values = {"security": "starttls", "username": "u", "password": "t0ps3cret", "timeout": "5s"}
        outcome = send(channel_for(name, server, tmp_path, **values))
    # Either they were dropped, or the handshake failed on them.
    assert isinstance(outcome, Receipt) or not outcome.permanent
    assert not [line for line in server.lines if line.startswith("AUTH") and server.mails == []]


# -- tls ---------------------------------------------------------------------------------------


@BY_SMTP
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_that_asks_for_a_client_certificate_gets_it(
    name: str, security: str, tmp_path: Path
) -> None:
    with mail_server(tmp_path, security, mutual=True) as mailbox:
        certificate = {"client_cert": mailbox.client_cert, "client_key": mailbox.client_key}
        refused = send(channel_for(name, mailbox, tmp_path, security=security))
        assert isinstance(refused, DeliveryError)
        assert not refused.permanent
        outcome = send(channel_for(name, mailbox, tmp_path, security=security, **certificate))
        assert isinstance(outcome, Receipt)
        assert mailbox.tls_used == [True]


@BY_SMTP
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"timeout": "1h"}, "at most 25s"),
        ({"timeout": "0s"}, "timeout"),
        ({"client_cert": "nowhere.pem"}, "there is no file nowhere.pem"),
        ({"client_key": "key.pem"}, "`client_cert`"),
    ],
)
def test_a_wrong_setting_of_the_connection_is_named(
    name: str, values: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        build(channel_type(name), SMTP_CHANNELS[name](25) | values, tmp_path)
    assert words in str(caught.value)


@BY_SMTP
@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ({"host": "mail.example.org", "security": "none"}, True),
        ({"host": "192.0.2.1", "security": "none"}, True),
        ({"host": "mail.example.org", "security": "starttls"}, False),
        ({"host": "127.0.0.1", "security": "none"}, False),
        ({"host": "localhost", "security": "none"}, False),
    ],
)
def test_a_password_that_leaves_without_tls_is_a_warning(
    name: str, values: dict[str, Any], warned: bool, tmp_path: Path
) -> None:
    warnings: list[tuple[str, str]] = []
    around = ChannelContext(tmp_path, Said(), lambda key, words: warnings.append((key, words)))
    given = SMTP_CHANNELS[name](25) | {"username": "u", "password": "t0ps3cret"} | values
    build_channel("it", channel_type(name), given, lambda *_: HERE, around)
    assert bool(warnings) is warned
    assert not [words for _, words in warnings if "t0ps3cret" in words]


# -- logging in --------------------------------------------------------------------------------

CLIENT_SECRET = "cl1ents3cret"
TOKEN = "eyJ0eXAiOiJKV1QifQ.t0ken-one"
TOKEN_2 = "eyJ0eXAiOiJKV1QifQ.t0ken-two"
USER = "sentinel@example.org"


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def given(token: str = TOKEN, **others: Any) -> Response:
    document = {"access_token": token, "token_type": "Bearer", "expires_in": 3599} | others
    return Response(json.dumps(document), content_type="application/json")


def refusal(status: int, error: str, words: str = "why") -> Response:
    document = {"error": error, "error_description": words}
    return Response(json.dumps(document), status=status, content_type="application/json")


def application(endpoint: Receiver, **others: Any) -> dict[str, Any]:
    return {
        "token_url": endpoint.url,
        "client_id": "the-id",
        "client_secret": CLIENT_SECRET,
        "scope": "https://outlook.office365.com/.default",
        "allow_private": True,
    } | others


def by_token(
    name: str, mailbox: Mailbox, folder: Path, oauth2: dict[str, Any], **others: Any
) -> Channel:
    values = {"security": "starttls", "username": USER, "oauth2": oauth2} | others
    return channel_for(name, mailbox, folder, **values)


def fields_of(receiver: Receiver, place: int = 0) -> dict[str, str]:
    body = receiver.got[place].body.decode()
    return {key: values[0] for key, values in parse_qs(body, strict_parsing=True).items()}


@BY_SMTP
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_an_application_logs_in_by_a_token_that_is_kept(
    name: str, security: str, mechanism: str, endpoint: Receiver, tmp_path: Path
) -> None:
    endpoint.answers = [given()]
    with mail_server(tmp_path, security, mechanisms=[mechanism]) as mailbox:
        mailbox.tokens = {USER: TOKEN}
        channel = by_token(name, mailbox, tmp_path, application(endpoint), security=security)
        assert isinstance(send(channel), Receipt)
        assert isinstance(send(channel), Receipt)
        assert mailbox.token_logins == [(mechanism, TOKEN)] * 2
        assert mailbox.tls_used == [True, True]
    assert len(endpoint.got) == 1
    assert endpoint.got[0].headers["content-type"] == "application/x-www-form-urlencoded"
    assert fields_of(endpoint) == {
        "grant_type": "client_credentials",
        "client_id": "the-id",
        "client_secret": CLIENT_SECRET,
        "scope": "https://outlook.office365.com/.default",
    }


@BY_SMTP
def test_the_sender_is_the_user_if_none_is_named(
    name: str, endpoint: Receiver, tmp_path: Path
) -> None:
    endpoint.answers = [given()]
    with mail_server(tmp_path, mechanisms=["XOAUTH2"]) as mailbox:
        mailbox.tokens = {USER: TOKEN}
        values = {"username": None, "from": f"Sentinel <{USER}>"}
        channel = by_token(name, mailbox, tmp_path, application(endpoint), **values)
        assert isinstance(send(channel), Receipt)


@BY_SMTP
def test_a_refresh_token_gets_tokens(name: str, endpoint: Receiver, tmp_path: Path) -> None:
    endpoint.answers = [given()]
    with mail_server(tmp_path, mechanisms=["XOAUTH2"]) as mailbox:
        mailbox.tokens = {USER: TOKEN}
        oauth2 = application(endpoint, refresh_token="r3fresh", scope=None)
        assert isinstance(send(by_token(name, mailbox, tmp_path, oauth2)), Receipt)
    assert fields_of(endpoint) == {
        "grant_type": "refresh_token",
        "client_id": "the-id",
        "client_secret": CLIENT_SECRET,
        "refresh_token": "r3fresh",
    }


@BY_SMTP
def test_a_google_service_account_gets_tokens_for_a_mailbox(
    name: str, endpoint: Receiver, tmp_path: Path
) -> None:
    jwt = pytest.importorskip("google.auth.jwt")
    pair = trustme.CA(key_type=trustme.KeyType.RSA).issue_cert(
        "account.example.org", key_type=trustme.KeyType.RSA
    )
    key = {
        "type": "service_account",
        "client_email": "alerts@project.iam.gserviceaccount.com",
        "private_key": pair.private_key_pem.bytes().decode(),
        "private_key_id": "k1",
        "token_uri": endpoint.url,
    }
    endpoint.answers = [given()]
    with mail_server(tmp_path, mechanisms=["XOAUTH2"]) as mailbox:
        mailbox.tokens = {USER: TOKEN}
        oauth2 = {"service_account_key": json.dumps(key), "allow_private": True}
        assert isinstance(send(by_token(name, mailbox, tmp_path, oauth2)), Receipt)
    fields = fields_of(endpoint)
    assert fields["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    certificate = pair.cert_chain_pems[0].bytes()
    claims = jwt.decode(fields["assertion"], certs=certificate, audience=endpoint.url)
    assert claims["iss"] == key["client_email"]
    assert (claims["sub"], claims["scope"]) == (USER, "https://mail.google.com/")


@BY_SMTP
def test_a_token_is_renewed_before_it_expires(
    name: str, endpoint: Receiver, tmp_path: Path
) -> None:
    endpoint.answers = [given(expires_in=60), given(TOKEN_2, expires_in="3599"), given("unused")]
    with mail_server(tmp_path, mechanisms=["XOAUTH2"]) as mailbox:
        channel = by_token(name, mailbox, tmp_path, application(endpoint))
        for token in (TOKEN, TOKEN_2, TOKEN_2):
            mailbox.tokens = {USER: token}
            assert isinstance(send(channel), Receipt)
    assert len(endpoint.got) == 2


@BY_SMTP
def test_a_token_that_was_revoked_is_renewed_once(
    name: str, endpoint: Receiver, tmp_path: Path
) -> None:
    endpoint.answers = [given(), given(TOKEN_2), given("unused")]
    with mail_server(tmp_path, mechanisms=["XOAUTH2"]) as mailbox:
        channel = by_token(name, mailbox, tmp_path, application(endpoint))
        mailbox.tokens = {USER: TOKEN}
        assert isinstance(send(channel), Receipt)
        mailbox.tokens = {USER: TOKEN_2}
        assert isinstance(send(channel), Receipt)
        assert len(endpoint.got) == 2
        mailbox.tokens = {}
        outcome = send(channel)
        assert isinstance(outcome, DeliveryError)
        assert outcome.permanent
        assert "`oauth2.scope`" in outcome.message
    assert len(endpoint.got) == 3


@BY_SMTP
def test_a_new_token_that_is_refused_is_not_requested_again(
    name: str, endpoint: Receiver, tmp_path: Path
) -> None:
    endpoint.answers = [given(), given("unused")]
    with mail_server(tmp_path, mechanisms=["XOAUTH2"]) as mailbox:
        mailbox.login_refusal = f"535 5.7.3 Authentication unsuccessful: {TOKEN}"
        outcome = send(by_token(name, mailbox, tmp_path, application(endpoint)))
    assert isinstance(outcome, DeliveryError)
    assert outcome.permanent
    assert TOKEN not in outcome.message
    assert len(endpoint.got) == 1


@BY_SMTP
def test_deliveries_at_once_share_a_token(name: str, endpoint: Receiver, tmp_path: Path) -> None:
    endpoint.answers = [given()]
    with mail_server(tmp_path, mechanisms=["XOAUTH2"]) as mailbox:
        mailbox.tokens = {USER: TOKEN}
        channel = by_token(name, mailbox, tmp_path, application(endpoint))
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(lambda _: send(channel), range(8)))
    assert all(isinstance(each, Receipt) for each in outcomes)
    assert len(endpoint.got) == 1


@BY_SMTP
@pytest.mark.parametrize(
    ("answer", "permanent", "words"),
    [
        (refusal(400, "invalid_client"), True, "oauth2.client_secret"),
        (refusal(401, "invalid_client"), True, "oauth2.client_secret"),
        (refusal(400, "invalid_grant"), True, "refresh token"),
        (refusal(400, "invalid_scope"), True, "oauth2.scope"),
        (refusal(400, "unauthorized_client"), True, "grant"),
        (refusal(400, "temporarily_unavailable"), False, "temporarily_unavailable"),
        (refusal(503, "temporarily_unavailable"), False, "temporarily_unavailable"),
        (Response("busy", status=429), False, "429"),
        (Response("oops", status=500), False, "500"),
        (Response("oops", status=502), False, "502"),
        (Response(status=302, headers={"location": "http://evil.example.org"}), True, "302"),
        (Response("nothing", status=404), True, "404"),
        (Response("<html>log in</html>"), False, "no token"),
        (Response("{}"), False, "no token"),
        (Response("[" * 50_000), False, "no token"),
        (Response('{"access_token": 1}'), False, "no token"),
        (given("a\x01auth=Bearer b"), False, "no token"),
        (given("a\r\nMAIL FROM:<e@x.org>"), False, "no token"),
        (given(""), False, "no token"),
        (given(token_type="mac"), False, "no token"),
        (refusal(400, "invalid_client", f"the secret {CLIENT_SECRET}\r\nis wrong"), True, "secret"),
    ],
)  # fmt: skip
def test_why_there_is_no_token_is_named(
    name: str, answer: Response, permanent: bool, words: str, endpoint: Receiver, tmp_path: Path
) -> None:
    endpoint.answers = [answer]
    with mail_server(tmp_path, mechanisms=["XOAUTH2"]) as mailbox:
        outcome = send(by_token(name, mailbox, tmp_path, application(endpoint)))
        assert mailbox.token_logins == []
    assert isinstance(outcome, DeliveryError)
    assert outcome.permanent is permanent
    assert words in outcome.message
    assert outcome.message.isprintable()
    assert len(endpoint.got) == 1


@BY_SMTP
def test_a_token_endpoint_that_trickles_ends_with_the_delivery(name: str, tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
    with (
        mail_server(tmp_path, mechanisms=["XOAUTH2"]) as mailbox,
        answering(head, then=b"{", every=0.05) as url,
    ):
        oauth2 = application(Receiver(url))
        outcome = send(by_token(name, mailbox, tmp_path, oauth2, timeout="1s"))
    assert isinstance(outcome, DeliveryError)
    assert not outcome.permanent


@BY_SMTP
def test_a_token_is_requested_at_checked_addresses_only(
    name: str, endpoint: Receiver, tmp_path: Path
) -> None:
    with mail_server(tmp_path, mechanisms=["XOAUTH2"]) as mailbox:
        oauth2 = application(endpoint, allow_private=False)
        outcome = send(by_token(name, mailbox, tmp_path, oauth2))
    assert isinstance(outcome, DeliveryError)
    assert outcome.permanent
    assert endpoint.got == []


@BY_SMTP
def test_a_server_that_takes_tokens_only_is_a_permanent_error_that_names_the_setting(
    name: str, tmp_path: Path
) -> None:
    values = {"security": "starttls", "username": USER, "password": "t0ps3cret"}
    with mail_server(tmp_path, mechanisms=["XOAUTH2", "OAUTHBEARER"]) as mailbox:
        outcome = send(channel_for(name, mailbox, tmp_path, **values))
    assert isinstance(outcome, DeliveryError)
    assert outcome.permanent
    assert "XOAUTH2" in outcome.message
    assert "`oauth2`" in outcome.message


@BY_SMTP
@pytest.mark.parametrize(
    "reply",
    [
        "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
        "535-5.7.139 Authentication unsuccessful\r\n535 5.7.139 see https://aka.ms",
        "550 5.7.30 Basic authentication is not supported for Client Submission.",
        "454 4.7.0 Basic authentication is disabled for this tenant",
    ],
)
def test_a_server_that_has_ended_passwords_is_a_permanent_error_that_names_the_setting(
    name: str, reply: str, tmp_path: Path
) -> None:
    values = {"security": "starttls", "username": USER, "password": "t0ps3cret"}
    with mail_server(tmp_path, sentinel="x") as mailbox:
        mailbox.login_refusal = reply
        outcome = send(channel_for(name, mailbox, tmp_path, **values))
    assert isinstance(outcome, DeliveryError)
    assert outcome.permanent
    assert "set `oauth2` instead of `password`" in outcome.message


@BY_SMTP
def test_a_server_that_takes_no_tokens_is_a_permanent_error_that_names_the_setting(
    name: str, endpoint: Receiver, tmp_path: Path
) -> None:
    endpoint.answers = [given()]
    with mail_server(tmp_path, sentinel="x") as mailbox:
        outcome = send(by_token(name, mailbox, tmp_path, application(endpoint)))
    assert isinstance(outcome, DeliveryError)
    assert outcome.permanent
    assert "set `password` instead of `oauth2`" in outcome.message


@BY_SMTP
@pytest.mark.parametrize("encoded", [False, True])
def test_credentials_that_a_server_repeats_are_not_shown(
    name: str, encoded: bool, tmp_path: Path
) -> None:
    password = "t0ps3cret-p4ssword"
    repeated = base64.b64encode(f"\0{USER}\0{password}".encode()).decode() if encoded else password
    for padding in (0, 150, 190):
        refusal = f"550 {'x' * padding} {repeated} is wrong"
        answers = {"auth": f"{refusal}\r\n".encode()}
        with scripted_server(tmp_path, "starttls", answers=answers) as server:
            values = {"security": "starttls", "username": USER, "password": password}
            outcome = send(channel_for(name, server, tmp_path, **values))
        assert isinstance(outcome, DeliveryError)
        for place in range(len(repeated) - 7):
            assert repeated[place : place + 8] not in outcome.message


@BY_SMTP
@pytest.mark.parametrize(
    ("oauth2", "words"),
    [
        ({}, "`token_url` and `client_id`"),
        ({"token_url": "https://x.org"}, "`token_url` and `client_id`"),
        ({"token_url": "https://x.org", "client_id": "i"}, "`client_secret`, or `refresh_token`"),
        ({"token_url": "ftp://x.org", "client_id": "i", "client_secret": "s3"}, "https://"),
        ({"service_account_key": "{}"}, "not the JSON of a service account's key"),
        (
            {"service_account_key": '{"client_email": "a", "private_key": "t0ps3cret", '
             '"token_uri": "https://x.org"}'},
            "the private key of the service account is damaged",
        ),
        ({"tenant": "x"}, "unknown key"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_oauth2_is_named(
    name: str, oauth2: dict[str, Any], words: str, tmp_path: Path
) -> None:
    values = SMTP_CHANNELS[name](25) | {"oauth2": oauth2}
    with pytest.raises(ConfigError) as caught:
        build(channel_type(name), values, tmp_path)
    assert words in str(caught.value)
    assert "t0ps3cret" not in str(caught.value)


@BY_SMTP
def test_oauth2_and_a_password_exclude_each_other(
    name: str, endpoint: Receiver, tmp_path: Path
) -> None:
    values = {"oauth2": application(endpoint), "username": "u", "password": "t0ps3cret"}
    with pytest.raises(ConfigError, match="either `oauth2` or `password`"):
        build(channel_type(name), SMTP_CHANNELS[name](25) | values, tmp_path)


@BY_SMTP
def test_secrets_of_oauth2_are_known_as_such(name: str, endpoint: Receiver, tmp_path: Path) -> None:
    oauth2 = application(endpoint, refresh_token="r3freshtoken")
    values = SMTP_CHANNELS[name](25) | {"oauth2": oauth2}
    channel, secrets = build(channel_type(name), values, tmp_path)
    assert {CLIENT_SECRET, "r3freshtoken"} <= set(secrets)
    assert CLIENT_SECRET not in repr(vars(channel))
