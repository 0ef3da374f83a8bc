"""The bytes of a mail, made so that no value becomes a header, and checked before they are sent.

Python's email package folds and refolds headers by rules that differ between its patch releases,
several of which let an encoded word in a value become lines of its own. So the few headers that a
mail needs are written here, and the package only reads the result back.
"""

from __future__ import annotations

import base64
import email
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from email import policy
from email.header import decode_header, make_header
from email.utils import formatdate
from typing import Any

from sentinel.core.errors import DeliveryError
from sentinel.core.text import line, plain
from sentinel.core.values import hash_id

_HEADERS = (
    "Subject", "From", "To", "Date", "Message-ID", "References", "Auto-Submitted",
    "MIME-Version", "Content-Type",
)  # fmt: skip
_PARTS = (("text/plain", "text"), ("text/html", "html"))
_PART_HEADERS = ("Content-Type", "Content-Transfer-Encoding")
# Bytes of one encoded word: with what is around them it is shorter than 76 (RFC 2047, section 2).
_WORD = 42
_WIDTH = 72
_LONGEST_LINE = 998
# RFC 5321: a dot-atom at a host's name or at an IPv4 address in brackets.
_ADDRESS = re.compile(
    r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*"
    r"@(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9.]+\])",
    re.ASCII,
)
_LONGEST_LOCAL, _LONGEST_ADDRESS = 64, 254
_NAMED = re.compile(r'(?P<name>"(?:[^"\\]|\\.)*"|[^"<>()\[\]@,;:\\]*?)\s*<(?P<mailbox>[^<>]*)>')
_SEPARATED = re.compile(r"[,;]|>\s*\S")
# Unicode's control and format characters, halves of pairs, and what separates lines.
_UNFIT = ("Cc", "Cf", "Cs", "Zl", "Zp")
_ID = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
# Tab, CR, LF and ASCII that can be printed.
_ALLOWED = bytes((9, 10, 13, *range(32, 127)))


@dataclass(frozen=True)
class Mailbox:
    """An address, and the name before it as people read it."""

    address: str
    name: str = ""

    def __str__(self) -> str:
        return f"{_phrase(self.name)} <{self.address}>" if self.name else self.address


def parse_mailbox(text: str) -> Mailbox:
    """One address, alone or as `Name <address>`. Raises ValueError for anything else."""
    if any(unicodedata.category(sign) in _UNFIT for sign in text):
        raise ValueError("an address can't hold a line break or another control character")
    bare = text.strip()
    named = _NAMED.fullmatch(bare)
    address = named["mailbox"] if named else bare
    if not _ADDRESS.fullmatch(address):
        if _ADDRESS.fullmatch(re.sub(r"[^\x00-\x7f]", "x", address)):
            raise ValueError("the address has signs beyond ASCII; only a name before it may")
        if text.count("@") > 1 and _SEPARATED.search(bare):
            raise ValueError("this is more than one address: write them as a list")
        raise ValueError("this is no address of a mailbox")
    if len(address.rpartition("@")[0]) > _LONGEST_LOCAL or len(address) > _LONGEST_ADDRESS:
        raise ValueError("the address is longer than an address can be")
    name = named["name"] if named else ""
    if name.startswith('"'):
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return Mailbox(address, line(name))


@dataclass(frozen=True)
class Mail:
    """What a mail holds, as people read it; `date` is a POSIX timestamp, `sender` and `to` are
    addresses, alone or as `Name <address>`."""

    subject: str
    sender: str
    to: Sequence[str]
    date: float
    message_id: str
    thread: str
    text: str
    html: str

    @property
    def shown_subject(self) -> str:
        """One line without control characters, in which no encoded word is left."""
        # Not even within an encoded word: a gateway may read and write it anew.
        return _single_line(self.subject).replace("=?", "=\N{ZERO WIDTH SPACE}?") or "(no subject)"

    @property
    def sender_address(self) -> str:
        return parse_mailbox(self.sender).address

    @property
    def recipients(self) -> list[str]:
        """Their addresses."""
        return [parse_mailbox(each).address for each in self.to]

    def as_bytes(self) -> bytes:
        """The mail as it is sent: the same bytes for the same mail. Raises DeliveryError."""
        domain = self.sender_address.rpartition("@")[2]
        boundary = f"=-{_token(self.message_id)}"
        values = (
            _text_header("Subject", self.shown_subject),
            str(parse_mailbox(self.sender)),
            ",\r\n ".join(str(parse_mailbox(each)) for each in self.to),
            formatdate(self.date, usegmt=True),
            f"<{_token(self.message_id)}@{domain}>",
            # One thread for each episode, whatever the subject of its first mail.
            f"<{_token(self.thread)}@{domain}>",
            "auto-generated",
            "1.0",
            f'multipart/alternative;\r\n boundary="{boundary}"',
        )
        lines = [f"{name}: {value}" for name, value in zip(_HEADERS, values, strict=True)]
        for kind, text in ((kind, getattr(self, key)) for kind, key in _PARTS):
            lines += [
                "",
                f"--{boundary}",
                f'Content-Type: {kind}; charset="utf-8"',
                "Content-Transfer-Encoding: base64",
                "",
                *_base64_lines(text),
            ]
        lines += ["", f"--{boundary}--", ""]
        raw = "\r\n".join(lines).encode("ascii", "replace")
        check(raw, self)
        return raw


def check(raw: bytes, mail: Mail) -> None:
    """Read back what goes over the wire. Raises DeliveryError, permanent, if it has another header,
    recipient or part than the mail."""
    found = _difference(raw, mail)
    if found:
        raise DeliveryError(
            f"the mail is not sent, since it came out wrong: {found}", permanent=True
        )


def _difference(raw: bytes, mail: Mail) -> str:
    if not _has_plain_lines(raw):
        return "it has a line that mail can't have"
    head = raw.partition(b"\r\n\r\n")[0]
    names = [each.partition(b":")[0].decode() for each in re.split(rb"\r\n(?![ \t])", head)]
    try:
        read: Any = email.message_from_bytes(raw, policy=policy.default)
        same_names = names == list(read.keys()) == list(_HEADERS)
        if not same_names:
            return "its headers are others"
        old: Any = email.message_from_bytes(head, policy=policy.compat32)
        subject = re.sub(r"\r\n(?=[ \t])", "", old["Subject"])
        if str(make_header(decode_header(subject))) != mail.shown_subject:
            return "its subject is another"
        addresses = [[each.addr_spec for each in read[name].addresses] for name in ("From", "To")]
        if addresses != [[mail.sender_address], mail.recipients]:
            return "its addresses are others"
        parts = read.get_payload()
        same_parts = read.get_content_type() == "multipart/alternative" and [
            (part.get_content_type(), tuple(part.keys()), part.get_payload(decode=True))
            for part in parts
        ] == [(kind, _PART_HEADERS, _utf8(getattr(mail, key))) for kind, key in _PARTS]
        between = any((read.preamble, read.epilogue, read.defects, *(p.defects for p in parts)))
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        return f"it can't be read back ({type(error).__name__})"
    return "" if same_parts and not between else "its parts are others"


def _has_plain_lines(raw: bytes) -> bool:
    """Lines of printable ASCII, none too long, none that begins with a dot, each ended by CRLF."""
    return (
        not raw.translate(None, _ALLOWED)
        and raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
        and not raw.startswith(b".")
        and b"\n." not in raw
        and raw.endswith(b"\r\n")
        and max(map(len, raw.split(b"\r\n"))) <= _LONGEST_LINE
    )


# -- one header ------------------------------------------------------------------------------------


def _single_line(text: str) -> str:
    return " ".join(line(text).split())


def _text_header(name: str, text: str) -> str:
    """The value of a header: as it is if it is short ASCII, otherwise encoded as a whole."""
    if text.isascii() and len(text) <= _WIDTH - len(name):
        return text
    return _encoded(text)


def _phrase(name: str) -> str:
    """A name before an address."""
    shown = _single_line(name).replace("=?", "=\N{ZERO WIDTH SPACE}?")
    if not shown.isascii() or len(shown) > _WIDTH - 20:
        return _encoded(shown)
    if re.fullmatch(r"[\w!#$%&'*+/=?^`{|}~ -]+", shown):
        return shown
    return '"' + re.sub(r'(["\\])', r"\\\1", shown) + '"'


def _encoded(text: str) -> str:
    """RFC 2047, all of the text, in words that each hold whole characters."""
    words = [b""]
    for each in text:
        piece = each.encode("utf-8", "replace")
        if len(words[-1]) + len(piece) > _WORD:
            words.append(b"")
        words[-1] += piece
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in words)


def _token(identity: str) -> str:
    """An id as a part of a Message-ID. Ids are hashes; what isn't one is made one."""
    fits = len(identity) <= _LONGEST_LOCAL and _ID.fullmatch(identity)
    return identity if fits else hash_id(identity)


# -- parts -----------------------------------------------------------------------------------------


def _utf8(text: str) -> bytes:
    """Lines end as in mail, and a last one too."""
    lines = plain(text.replace("\r\n", "\n")).removesuffix("\n").split("\n")
    return "".join(f"{each}\r\n" for each in lines).encode("utf-8", "replace")


def _base64_lines(text: str) -> list[str]:
    return base64.encodebytes(_utf8(text)).decode("ascii").splitlines()
