"""`apprise`: the hundred services of the Apprise library that have no channel of their own."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, SecretStr

from sentinel.channels.contract import ChannelContext, ChannelSettings, SettingFault
from sentinel.channels.escape import cut, line, unpinged
from sentinel.channels.http import DEADLINE
from sentinel.channels.template import Template
from sentinel.channels.text import EACH, brief, details, title
from sentinel.core.errors import DeliveryError
from sentinel.core.lifecycle import Event
from sentinel.core.planning import Notification
from sentinel.core.routing import Traits
from sentinel.ports import Message, Receipt

if TYPE_CHECKING:
    from apprise import Apprise

_TITLE = 200
_LINE = 300
_DETAIL = 2_000


class AppriseChannel:
    """Sends the same text to each URL; which have it already is remembered."""

    class Settings(ChannelSettings):
        """The keys of a channel of the type `apprise`."""

        urls: list[SecretStr] = Field(
            min_length=1, description="Apprise URLs, such as ntfy://topic; secret."
        )
        template: str | None = Field(None, description="A template of the project for the text.")

    traits = Traits()

    @classmethod
    def traits_for(cls, keys: Collection[str]) -> Traits:
        return cls.traits

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        self.name = name
        self._settings = settings
        self._services = [_service(url, place) for place, url in enumerate(settings.urls, 1)]
        path = settings.template
        self._template = Template.load("template", path, around, unpinged) if path else None

    def __repr__(self) -> str:
        return f"AppriseChannel({self.name!r})"

    def send(self, message: Message) -> Receipt:
        payloads = [row.payload for row in message.notifications]
        text = self._template.render(message) if self._template else _body(payloads)
        done = set(message.recipients_done)
        failed = []
        deadline = time.monotonic() + DEADLINE.total_seconds()
        for place, service in enumerate(self._services, 1):
            key = f"url {place}"
            if key in done:
                continue
            # The library waits for each by itself; a claim doesn't last for ever.
            if time.monotonic() > deadline:
                failed.append(key)
            elif service.open().notify(
                title=unpinged(cut(line(title(payloads)), _TITLE)),
                body=text,
                notify_type=_type(message.notifications),
                body_format="text",
            ):
                done.add(key)
            else:
                failed.append(key)
        if failed:
            raise DeliveryError(
                f"{', '.join(failed)}: the service did not accept it",
                recipients_done=sorted(done),
            )
        return Receipt(recipients_done=tuple(sorted(done)))


class _Service:
    """One URL, read anew for each message: the object of the library would show it."""

    def __init__(self, url: SecretStr) -> None:
        self._url = url

    def open(self) -> Apprise:
        from apprise import Apprise

        # The library logs URLs; what went wrong is in its answer.
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        service = Apprise()
        if not service.add(self._url.get_secret_value()):
            raise ValueError
        return service


def _service(url: SecretStr, place: int) -> _Service:
    service = _Service(url)
    try:
        service.open()
    except ModuleNotFoundError:
        words = "the type `apprise` needs its library: pip install 'dbt-sentinel[apprise]'"
        raise SettingFault("urls", words) from None
    except ValueError:
        raise SettingFault("urls", f"url {place} is not one that Apprise knows") from None
    return service


def _type(rows: Sequence[Notification]) -> Any:
    from apprise import NotifyType

    if all(row.event in (Event.RESOLVED, Event.ERROR_RESOLVED) for row in rows):
        return NotifyType.SUCCESS
    worst = {row.payload["severity"] for row in rows}
    if "critical" in worst:
        return NotifyType.FAILURE
    return NotifyType.WARNING if "warning" in worst else NotifyType.INFO


def _body(payloads: Sequence[Any]) -> str:
    if len(payloads) > 1:
        lines = [unpinged(cut(line(brief(each)), _LINE)) for each in payloads]
        return "\n".join([*lines, "", EACH])
    return "\n".join(
        f"{label}: {unpinged(cut(text, _DETAIL))}" for label, text in details(payloads[0])
    )
