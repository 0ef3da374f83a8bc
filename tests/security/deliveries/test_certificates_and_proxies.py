"""Certificates, proxies, signing keys, and secrets on their way: the settings of every HTTP channel."""

from __future__ import annotations

import base64
import os
import ssl
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import yaml
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from sentinel.channels.contract import ChannelContext
from sentinel.channels.registry import build_channel
from sentinel.core.errors import ConfigError, DeliveryError
from sentinel.ports import Receipt
from tests.channels.contract import HERE, build
from tests.channels.receiver import receiving
from tests.cli.conftest import Project, acme, template  # noqa: F401 - fixtures
from tests.fakes import message

from ..registry import HTTP_CHANNELS, acceptance, channel_type
from .peers import Authority, Peer, Proxy, peer, read_head

PASSWORD = "pr0xy-s3cret"
CREDENTIALS = f"me:{PASSWORD}"


def accepting(channel: str) -> Any:
    """A receiver that reads one request and accepts as a channel's receiver does."""
    response = acceptance(channel)
    body = response.get_data()
    head = f"HTTP/1.1 {response.status_code} X\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def serve(peer_: Peer, connection: Any, stop: Any) -> None:
        request = read_head(connection)
        peer_.heads.append(request)
        [length] = [
            int(line.split(b":")[1])
            for line in request.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        while length > 0:
            length -= len(connection.recv(length))
        connection.sendall(head + body)

    return serve


def send(channel: str, url: str, folder: Path, **values: Any) -> Receipt | DeliveryError:
    built, _ = build(channel_type(channel), {**HTTP_CHANNELS[channel](url), **values}, folder)
    try:
        return built.send(message())
    except DeliveryError as error:
        return error


@pytest.fixture
def client(authority: Authority, tmp_path: Path) -> dict[str, str]:
    """A client's certificate and its key, in two files of the project."""
    made = authority.ca.issue_cert("client@example.org")
    made.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    made.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    return {"client_cert": "client.pem", "client_key": "client.key"}


# -- certificates ------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", HTTP_CHANNELS)
def test_an_authority_of_one_s_own_is_trusted_if_it_is_named(
    channel: str, authority: Authority, tmp_path: Path
) -> None:
    with peer(accepting(channel), authority.server()) as receiver:
        url = f"https://127.0.0.1:{receiver.port}/hook"
        refused = send(channel, url, tmp_path)
        assert isinstance(refused, DeliveryError)
        assert receiver.heads == [], "nothing is sent to whom nobody vouches for"
        if channel != "apprise":
            assert "its certificate was not accepted" in refused.message
            assert not refused.permanent
        assert isinstance(send(channel, url, tmp_path, ca_file=authority.ca_file), Receipt)


@pytest.mark.parametrize("channel", HTTP_CHANNELS)
def test_a_receiver_that_asks_for_a_certificate_gets_it(
    channel: str, authority: Authority, tmp_path: Path, client: dict[str, str]
) -> None:
    with peer(accepting(channel), authority.server(client_ca=True)) as receiver:
        url = f"https://127.0.0.1:{receiver.port}/hook"
        values = {"ca_file": authority.ca_file}
        assert isinstance(send(channel, url, tmp_path, **values), DeliveryError)
        both = (tmp_path / "client.pem").read_text() + (tmp_path / "client.key").read_text()
        (tmp_path / "both.pem").write_text(both)
        assert isinstance(send(channel, url, tmp_path, **values, **client), Receipt)
        assert isinstance(
            send(channel, url, tmp_path, **values, client_cert="both.pem"), Receipt
        ), "the key may be in the certificate's file"


@pytest.mark.parametrize("channel", HTTP_CHANNELS)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_of_another_host_is_refused(
    channel: str, host: str, authority: Authority, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.ca.issue_cert("receiver.example.org").configure_cert(context)
    with peer(accepting(channel), context) as receiver:
        url = f"https://{host}:{receiver.port}/hook"
        assert isinstance(send(channel, url, tmp_path, ca_file=authority.ca_file), DeliveryError)
        assert receiver.heads == []


def broken_files(authority: Authority, folder: Path) -> None:
    key = load_pem_private_key((folder / "client.key").read_bytes(), None)
    (folder / "locked.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a password"))
    )
    other = authority.ca.issue_cert("other@example.org")
    other.private_key_pem.write_to_path(str(folder / "other.key"))
    (folder / "empty.pem").write_text("")
    (folder / "text.pem").write_text(f"no certificate but {PASSWORD}\n")
    (folder / "a folder").mkdir()
    os.mkfifo(folder / "pipe")


@pytest.mark.parametrize("channel", HTTP_CHANNELS)
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ca_file": "nowhere.pem"}, "`ca_file`: there is no file nowhere.pem"),
        ({"ca_file": "a folder"}, "`ca_file`: there is no file a folder"),
        ({"ca_file": "pipe"}, "`ca_file`: there is no file pipe"),
        ({"ca_file": "/dev/zero"}, "`ca_file`: there is no file /dev/zero"),
        ({"ca_file": "empty.pem"}, "`ca_file`: empty.pem holds no certificate in PEM"),
        ({"ca_file": "text.pem"}, "`ca_file`: text.pem holds no certificate in PEM"),
        ({"client_cert": "nowhere.pem"}, "`client_cert`: there is no file nowhere.pem"),
        ({"client_cert": "text.pem"}, "`client_cert`: text.pem holds no certificate in PEM"),
        ({"client_cert": "client.pem"}, "`client_cert`: client.pem holds no key in PEM"),
        ({"client_key": "client.key"}, "`client_key`: it needs `client_cert`"),
        (
            {"client_cert": "client.pem", "client_key": "nowhere.key"},
            "`client_key`: there is no file nowhere.key",
        ),
        (
            {"client_cert": "client.pem", "client_key": "text.pem"},
            "`client_key`: text.pem holds no key in PEM",
        ),
        (
            {"client_cert": "client.pem", "client_key": "other.key"},
            "`client_key`: the key in other.key doesn't belong to client.pem",
        ),
        (
            {"client_cert": "client.pem", "client_key": "locked.key"},
            "`client_key`: locked.key is protected by a password",
        ),
    ],
)
def test_files_that_can_t_be_used_are_named_before_anything_is_sent(
    channel: str,
    values: dict[str, str],
    words: str,
    authority: Authority,
    tmp_path: Path,
    client: dict[str, str],
) -> None:
    assert client
    broken_files(authority, tmp_path)
    settings = {**HTTP_CHANNELS[channel]("https://example.org/hook"), **values}
    with pytest.raises(ConfigError) as caught:
        build(channel_type(channel), settings, tmp_path)
    assert f"{HERE}: the channel `it`: {words}" in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("channel", HTTP_CHANNELS)
@pytest.mark.parametrize("key", ["verify", "verify_ssl", "insecure", "tls_verify"])
def test_verification_can_t_be_switched_off(channel: str, key: str, tmp_path: Path) -> None:
    settings = {**HTTP_CHANNELS[channel]("https://example.org/hook"), key: False}
    with pytest.raises(ConfigError, match=f"unknown key `{key}`"):
        build(channel_type(channel), settings, tmp_path)


@pytest.mark.parametrize("value", ["no", "false", "0", "No"])
def test_verification_can_t_be_switched_off_in_an_apprise_url(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        build("apprise", {"urls": [f"jsons://example.org/x?verify={value}"]}, tmp_path)
    assert "url 1 says `verify=no`" in str(caught.value)


def warnings_of(channel: str, values: dict[str, Any], folder: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    around = ChannelContext(folder, print, lambda key, words: found.append((key, words)))
    build_channel("it", channel_type(channel), values, lambda *_: HERE, around)
    return found


@pytest.mark.parametrize("channel", HTTP_CHANNELS)
@pytest.mark.parametrize(
    ("days", "words"), [((-9, -2), "expired on 20"), ((3, 9), "is not valid before 20")]
)
def test_certificates_out_of_date_are_warned_of(
    channel: str, days: tuple[int, int], words: str, authority: Authority, tmp_path: Path
) -> None:
    """No error: one that expires at night must not end every evaluation."""
    start, end = (datetime.now(UTC) + timedelta(days=each) for each in days)
    made = authority.ca.issue_cert("c@example.org", not_before=start, not_after=end)
    made.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "old.pem"))
    settings = {**HTTP_CHANNELS[channel]("https://example.org/hook"), "client_cert": "old.pem"}
    [(key, text)] = warnings_of(channel, settings, tmp_path)
    assert key == "client_cert"
    assert f"old.pem {words}" in text
    (tmp_path / "ca.pem").write_bytes(made.cert_chain_pems[0].bytes())
    settings = {**HTTP_CHANNELS[channel]("https://example.org/hook"), "ca_file": "ca.pem"}
    assert [key for key, _ in warnings_of(channel, settings, tmp_path)] == ["ca_file"]


# -- secrets over plain HTTP -------------------------------------------------------------------


@pytest.mark.parametrize("channel", [*HTTP_CHANNELS, "apprise with a password"])
def test_a_secret_over_plain_http_to_another_host_is_warned_of(
    channel: str, tmp_path: Path
) -> None:
    def values(url: str) -> dict[str, Any]:
        if channel == "apprise with a password":
            return {"urls": [url.replace("http", "json", 1).replace("//", f"//{CREDENTIALS}@")]}
        found = HTTP_CHANNELS[channel](url)
        return {**found, "headers": {"x": "y"}} if channel == "alertmanager" else found

    warned = warnings_of(channel, values("http://receiver.example.org/hook"), tmp_path)
    assert len(warned) == (0 if channel == "apprise" else 1)
    assert not any("hook" in words or PASSWORD in words for _, words in warned)
    for url in ("https://receiver.example.org/hook", "http://127.0.0.1/hook", "http://[::1]/hook"):
        assert warnings_of(channel, values(url), tmp_path) == []


def test_an_alertmanager_that_gets_no_secret_is_not_warned_of(tmp_path: Path) -> None:
    values = {"url": "http://alertmanager.example.org:9093/prefix"}
    assert warnings_of("alertmanager", values, tmp_path) == []


def test_validate_and_run_show_the_warnings(acme: Project) -> None:  # noqa: F811
    acme.write(
        "sentinel.yml",
        yaml.safe_dump(
            {
                "defaults": {"channels": ["hook"]},
                "channels": {
                    "hook": {"type": "webhook", "url": f"http://example.org/{PASSWORD}"},
                },
                "heartbeat": {"url": f"http://example.org/{PASSWORD}"},
            }
        ),
    )
    checked = acme.sentinel("validate", "--output", "json")
    assert checked.code == 0, checked.err
    found = [each for each in checked.document["findings"] if "plain http" in each["message"]]
    keys = [each["message"].split(": it sends")[0] for each in found]
    assert keys == ["the channel `hook`: `url`", "`heartbeat.url`"]
    assert {(each["level"], each["path"]) for each in found} == {("warning", "sentinel.yml")}
    assert PASSWORD not in checked.out
    ran = acme.sentinel("run", "--dry-run")
    assert "over plain http" in ran.err
    assert PASSWORD not in ran.err


# -- proxies -----------------------------------------------------------------------------------


def proxied(monkeypatch: pytest.MonkeyPatch, port: int, no_proxy: str = "") -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://{CREDENTIALS}@127.0.0.1:{port}")
    monkeypatch.setenv("NO_PROXY", no_proxy)


@pytest.mark.parametrize("channel", HTTP_CHANNELS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_of_the_environment_is_used_with_its_password(
    channel: str,
    scheme: str,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tls = authority.server() if scheme == "https" else None
    proxy = Proxy(CREDENTIALS)
    with ExitStack() as stack:
        receiver = stack.enter_context(peer(accepting(channel), tls))
        between = stack.enter_context(peer(proxy))
        proxied(monkeypatch, between.port)
        url = f"{scheme}://127.0.0.1:{receiver.port}/hook"
        outcome = send(channel, url, tmp_path, ca_file=authority.ca_file)
        assert isinstance(outcome, Receipt)
        assert len(proxy.targets) == len(receiver.heads) == 1
        assert all(b"roxy-" not in head for head in receiver.heads), "its password goes no further"


@pytest.mark.parametrize("channel", [name for name in HTTP_CHANNELS if name != "apprise"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named_and_tried_again(
    channel: str, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with peer(Proxy("another:password")) as between:
        proxied(monkeypatch, between.port)
        outcome = send(channel, f"{scheme}://receiver.example.org/hook", tmp_path)
    assert isinstance(outcome, DeliveryError)
    assert "proxy" in outcome.message
    assert "407" in outcome.message
    assert (outcome.permanent, PASSWORD in outcome.message) == (False, False)


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [
        ("127.0.0.1", True),
        ("127.0.0.0/8", True),
        ("127.0.0.1:{port}", True),
        ("10.0.0.0/8, 127.0.0.0/8", True),
        ("*", True),
        ("10.0.0.0/8", False),
        ("127.0.0.1:1", False),
        ("example.org", False),
    ],
)
def test_no_proxy_takes_hosts_ports_and_ranges(
    no_proxy: str, direct: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(CREDENTIALS)
    with peer(accepting("webhook")) as receiver, peer(proxy) as between:
        proxied(monkeypatch, between.port, no_proxy.format(port=receiver.port))
        url = f"http://127.0.0.1:{receiver.port}/hook"
        assert isinstance(send("webhook", url, tmp_path), Receipt)
    assert (proxy.targets == []) is direct


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:9", "http://[", "ftp://127.0.0.1", "http://"]
)
def test_a_proxy_that_can_t_be_used_is_named_and_tried_again(
    proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    outcome = send("webhook", "https://receiver.example.org/hook", tmp_path)
    assert isinstance(outcome, DeliveryError)
    assert "proxy" in outcome.message
    assert not outcome.permanent


def test_the_password_of_a_proxy_is_in_no_output(
    acme: Project,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A proxy that answers with what it was sent, in base64 too."""
    with peer(Proxy("another:password")) as between:
        proxied(monkeypatch, between.port)
        channels = {
            "hook": {"type": "webhook", "url": "http://receiver.example.org/hook"},
            "tunnel": {"type": "webhook", "url": "https://receiver.example.org/hook"},
        }
        acme.write(
            "sentinel.yml",
            yaml.safe_dump({"defaults": {"channels": [*channels]}, "channels": channels}),
        )
        ran = acme.sentinel(
            "run", "--select", "revenue", "--vars", "{floor: 500}", "--delivery-timeout", "0s"
        )
    assert ran.code == 4, ran.err
    shown = acme.sentinel("status", "--output", "json")
    encoded = base64.b64encode(CREDENTIALS.encode()).decode()
    for text in (ran.out, ran.err, shown.out, shown.err):
        assert PASSWORD not in text
        assert encoded not in text


# -- signing keys ------------------------------------------------------------------------------


def key_of(size: int) -> str:
    return "whsec_" + base64.b64encode(bytes(range(1, size + 1))).decode()


@pytest.mark.parametrize("size", [1, 16, 23, 65, 200])
@pytest.mark.parametrize("listed", [False, True])
def test_a_signing_key_of_another_length_is_refused(
    size: int, listed: bool, tmp_path: Path
) -> None:
    secret = [key_of(32), key_of(size)] if listed else key_of(size)
    with pytest.raises(ConfigError) as caught:
        build("webhook", {"url": "https://example.org", "secret": secret}, tmp_path)
    assert f"the secret's key has {size} bytes" in str(caught.value)
    assert "24 to 64" in str(caught.value)


@pytest.mark.parametrize("size", [24, 32, 64])
def test_each_of_several_keys_signs(size: int, tmp_path: Path) -> None:
    """While a key is changed, receivers know the old one or the new one."""
    old, new = key_of(size), key_of(40)
    with receiving() as receiver:
        values = {"url": receiver.url, "allow_private": True, "secret": [new, old]}
        built, secrets = build("webhook", values, tmp_path)
        built.send(message())
        [got] = receiver.got
    assert {old, new} <= set(secrets)
    signatures = got.headers["webhook-signature"].split(" ")
    assert len(signatures) == 2
    assert all(each.startswith("v1,") for each in signatures)
    for key in (old, new):
        standardwebhooks.Webhook(key).verify(got.body, got.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(key_of(48)).verify(got.body, got.headers)
