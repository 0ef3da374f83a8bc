"""The files of `ca_file`, `client_cert` and `client_key`, checked before anything is sent."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sentinel.channels.contract import SettingFault
from sentinel.core.transport import TransportSettings

_CERTIFICATE = re.compile(
    r"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----.+?-----END (?:TRUSTED |X509 )?CERTIFICATE-----",
    re.DOTALL,
)
_LARGEST = 10_000_000
_KIND = re.compile("TRUSTED |X509 ")
_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0


@dataclass(frozen=True)
class Certificates:
    """Whom a channel trusts, and how it proves who it is: paths of files, None where unset."""

    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None

    @classmethod
    def load(
        cls, settings: TransportSettings, project_dir: Path, warn: Callable[[str, str], None]
    ) -> Certificates:
        """Those of settings, relative to the project. Raises SettingFault, which names the file.

        One that is out of date is a warning: it may be renewed while the channel is in use.
        """
        paths = {}
        for key in ("ca_file", "client_cert", "client_key"):
            given = getattr(settings, key)
            if given is None:
                continue
            path = project_dir / given
            paths[key] = str(path)
            text = _read(key, given, path)
            # A file of trusted ones may keep old ones; of a chain the first is the client's own.
            found = _certificates(text) if key == "ca_file" else _certificates(text)[:1]
            if key != "client_key" and (words := _out_of_date(found, datetime.now(UTC))):
                warn(key, f"{given} {words}")
        if "ca_file" in paths:
            try:
                context = ssl.create_default_context(cafile=paths["ca_file"])
            except (ssl.SSLError, ValueError):
                context = None
            if context is None or not context.cert_store_stats()["x509"]:
                raise SettingFault("ca_file", f"{settings.ca_file} holds no certificate in PEM")
        if "client_cert" in paths:
            _check_pair(settings, paths)
        return cls(**paths)


def _read(key: str, given: str, path: Path) -> str:
    if not path.is_file():
        raise SettingFault(key, f"there is no file {given}")
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST).decode("ascii", "replace")
    except OSError as error:
        raise SettingFault(key, f"{given} can't be read: {error.strerror}") from None


def _check_pair(settings: TransportSettings, paths: dict[str, str]) -> None:
    """Raises SettingFault unless the key is the certificate's, and can be used as it is."""
    key = "client_key" if settings.client_key else "client_cert"
    key_file = getattr(settings, key)
    asked = False

    def password() -> str:
        nonlocal asked
        asked = True
        return ""

    if not _certificates(
        _read("client_cert", str(settings.client_cert), Path(paths["client_cert"]))
    ):
        raise SettingFault("client_cert", f"{settings.client_cert} holds no certificate in PEM")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            paths["client_cert"], paths.get("client_key"), password
        )
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        if asked:
            words = f"{key_file} is protected by a password: store the key without one"
        elif reason == "KEY_VALUES_MISMATCH":
            words = f"the key in {key_file} doesn't belong to {settings.client_cert}"
        elif "PRIVATE KEY-----" not in _read(key, key_file, Path(paths[key])):
            words = f"{key_file} holds no key in PEM"
        else:
            words = f"{key_file} or {settings.client_cert} is damaged ({reason})"
        raise SettingFault(key, words) from None


# -- dates, which the standard library shows of verified peers only ----------------------------


def _out_of_date(certificates: Sequence[str], now: datetime) -> str:
    """The error in the dates of PEM certificates, if all of them have one."""
    try:
        periods = [_validity(ssl.PEM_cert_to_DER_cert(each)) for each in certificates]
    except (ValueError, IndexError, StopIteration):
        return ""
    if periods and all(end < now for _, end in periods):
        return f"expired on {max(end for _, end in periods):%Y-%m-%d}"
    if periods and all(start > now for start, _ in periods):
        return f"is not valid before {min(start for start, _ in periods):%Y-%m-%d}"
    return ""


def _certificates(text: str) -> list[str]:
    return [_KIND.sub("", each) for each in _CERTIFICATE.findall(text)]


def _validity(der: bytes) -> tuple[datetime, datetime]:
    """The period of a certificate in DER (RFC 5280, section 4.1). Raises ValueError, IndexError."""
    [(_, certificate)] = _elements(der)
    fields = list(_elements(next(_elements(certificate))[1]))
    if fields[0][0] == _VERSION:
        del fields[0]
    # Before it are the serial number, the algorithm and the issuer.
    start, end = _elements(fields[3][1])
    return _moment(*start), _moment(*end)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The tag and the content of each element of DER."""
    place = 0
    while place < len(data):
        tag, length = data[place], data[place + 1]
        place += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[place : place + size], "big")
            place += size
        yield tag, data[place : place + length]
        place += length


def _moment(tag: int, content: bytes) -> datetime:
    formats = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}
    return datetime.strptime(content.decode("ascii"), formats.get(tag, "")).replace(tzinfo=UTC)
