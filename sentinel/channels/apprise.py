"""`apprise`: the Apprise library's services that have no channel module here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field, SecretStr

from sentinel.channels.address import is_loopback
from sentinel.channels.apprise_process import Service, Text, send
from sentinel.channels.certificates import Certificates
from sentinel.channels.contract import BaseChannel, ChannelContext, ChannelSettings, SettingFault
from sentinel.channels.deadline import Deadline
from sentinel.channels.escape import cut, unpinged
from sentinel.channels.template import Template
from sentinel.channels.text import EACH, brief, details, title
from sentinel.core.errors import DeliveryError
from sentinel.core.notification import Notification
from sentinel.core.state import Event
from sentinel.core.text import line
from sentinel.core.transport import TransportSettings
from sentinel.ports import Message, Receipt

_TITLE = 200
_LINE = 300
_DETAIL = 2_000


class AppriseChannel(BaseChannel):
    """Sends the same text to each URL; which have it already is remembered."""

    class Settings(TransportSettings, ChannelSettings):
        """The keys of a channel of the type `apprise`."""

        urls: list[SecretStr] = Field(
            min_length=1, description="Apprise URLs, such as ntfy://topic; secret."
        )
        template: str | None = Field(None, description="A template of the project for the text.")

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        super().__init__(name)
        self._settings = settings
        self._services = [
            _service(url, place, around.warn) for place, url in enumerate(settings.urls, 1)
        ]
        self._certificates = Certificates.load(settings, around.project_dir, around.warn)
        path = settings.template
        self._template = Template.load("template", path, around, unpinged) if path else None

    def __repr__(self) -> str:
        return f"AppriseChannel({self.name!r})"

    def send(self, message: Message) -> Receipt:
        payloads = [row.payload for row in message.notifications]
        text = self._template.render(message) if self._template else _body(payloads)
        whole = Text(
            unpinged(cut(line(title(payloads)), _TITLE)), text, _type(message.notifications)
        )
        done = set(message.recipients_done)
        left = [each for each in self._services if each.key not in done]
        try:
            with Deadline(self._settings.timeout) as deadline:
                accepted = send(left, whole, self._certificates, deadline)
        except OSError as error:
            words = f"no process for Apprise can be started: {error.strerror}"
            raise DeliveryError(words, recipients_done=sorted(done)) from None
        done.update(key for key, taken in accepted.items() if taken)
        refused = [key for key, taken in accepted.items() if not taken]
        unanswered = [each.key for each in left if each.key not in accepted]
        words = "; ".join(
            f"{', '.join(keys)}: {reason}"
            for keys, reason in (
                (refused, "the service did not accept it"),
                (unanswered, f"no answer within {self._settings.timeout.total_seconds():g} s"),
            )
            if keys
        )
        if words:
            raise DeliveryError(words, recipients_done=sorted(done))
        return Receipt(recipients_done=tuple(sorted(done)))


def _service(url: SecretStr, place: int, warn: Callable[[str, str], None]) -> Service:
    """One URL and its plugin. Raises SettingFault if it is none that may be used."""
    try:
        from apprise import Apprise
    except ModuleNotFoundError:
        words = "the type `apprise` needs its library: pip install 'dbt-sentinel[apprise]'"
        raise SettingFault("urls", words) from None
    # The library logs URLs; the outcome is in its answer.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    key = f"url {place}"
    plugin: Any = Apprise.instantiate(url.get_secret_value())
    if plugin is None:
        raise SettingFault("urls", f"{key} is not one that Apprise knows")
    if not plugin.verify_certificate:
        words = f"{key} says `verify=no`: name the certificates to trust in `ca_file` instead"
        raise SettingFault("urls", words)
    if _in_the_clear(plugin):
        warn("urls", f"{key} sends its password over a connection that others on the way can read")
    kind = type(plugin)
    return Service(key, url.get_secret_value(), kind.__module__, kind.__qualname__)


def _in_the_clear(plugin: Any) -> bool:
    """Whether a plugin that has both kinds of schemas was given the one without TLS, a password, and
    a host that isn't this machine. Some of them use hosts of their own, always by TLS."""
    optional = plugin.protocol and plugin.secure_protocol and not plugin.secure
    elsewhere = not is_loopback(str(plugin.host or "localhost"))
    return bool(
        optional and plugin.password and elsewhere and getattr(plugin, "mode", None) != "cloud"
    )


def _type(rows: Sequence[Notification]) -> str:
    from apprise import NotifyType

    if all(row.event in (Event.RESOLVED, Event.ERROR_RESOLVED) for row in rows):
        return str(NotifyType.SUCCESS.value)
    worst = {row.payload["severity"] for row in rows}
    if "critical" in worst:
        return str(NotifyType.FAILURE.value)
    return str((NotifyType.WARNING if "warning" in worst else NotifyType.INFO).value)


def _body(payloads: Sequence[Any]) -> str:
    if len(payloads) > 1:
        lines = [unpinged(cut(line(brief(each)), _LINE)) for each in payloads]
        return "\n".join([*lines, "", EACH])
    return "\n".join(
        f"{label}: {unpinged(cut(text, _DETAIL))}" for label, text in details(payloads[0])
    )
