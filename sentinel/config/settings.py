"""The settings of sentinel.yml. Channels stay unrendered until they are built."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from sentinel.config.document import Document
from sentinel.core.alert import KEYS
from sentinel.core.definition_errors import explain, suggest
from sentinel.core.definition_types import Names, PositiveDuration
from sentinel.core.errors import ConfigError
from sentinel.core.hosts import LOOPBACK, host_pattern
from sentinel.core.origin import Origins, misplaced
from sentinel.core.project import Location
from sentinel.core.routing import ADDRESS, Route
from sentinel.core.schedule import time_zone
from sentinel.core.severity import Severity
from sentinel.core.transport import TransportSettings

FILE_NAME = "sentinel.yml"
# Blocks that may name secrets, which not every command needs.
_LATE = ("channels", "web", "heartbeat")
Block = TypeVar("Block", bound=BaseModel)


class StoreSettings(BaseModel):
    """Where the tables are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str | None = Field(
        None, description="Another target of the dbt profile to keep the tables in."
    )
    lock_timeout: PositiveDuration = Field(
        timedelta(seconds=30),
        description="How long to wait for a database file that another process holds.",
    )
    lease_ttl: PositiveDuration | None = Field(
        None,
        description="How long a daemon stays leader without renewing its lease (default: 30s, or 5m on "
        "BigQuery).",
    )


class MatchSettings(BaseModel):
    """What a route matches: all that is given. `{}` matches every alert."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(None, description="The alert's name, as a glob: orders_*.")
    tag: str | None = Field(None, description="A dbt tag of the model.")
    owner: str | None = Field(
        None, description="The owner, or a name, email or slack of the dbt group's owner."
    )
    severity: Severity | None = Field(None, description="The severity that the alert fires with.")
    path: str | None = Field(None, description="A directory or a glob: models/alerts/finance.")


class RouteSettings(BaseModel):
    """One entry of `routes`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: MatchSettings = Field(
        MatchSettings(), description="Alerts that the route applies to (default: all)."
    )
    channels: Names = Field(description="The channels to notify.")
    continue_: bool = Field(
        False, alias="continue", description="true also evaluates the following routes."
    )

    def route(self) -> Route:
        given = self.match.model_dump()
        return Route(self.channels, **given, further=self.continue_)


class SchedulerSettings(BaseModel):
    """Intervals of the daemon."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan_interval: PositiveDuration = Field(
        timedelta(seconds=30),
        description="Interval of time-based notifications: reminders, escalations, ends of "
        "silences.",
    )
    drain_timeout: PositiveDuration = Field(
        timedelta(seconds=25),
        description="Time to finish running evaluations and deliveries when the daemon stops.",
    )


class WebSettings(BaseModel):
    """The daemon's HTTP server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(8642, ge=0, le=65_535, description="The port; 0 for any free port.")
    token: SecretStr | None = Field(
        None,
        min_length=8,
        description="Bearer token, required except for health checks.",
    )
    allowed_hosts: Names = Field(
        LOOPBACK,
        description="Host names that requests may use, in addition to the daemon's address: names, "
        "addresses, *.example.com, or * for any.",
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(host_pattern, hosts))


class HeartbeatSettings(TransportSettings):
    """A URL that the daemon posts to while it is healthy."""

    url: SecretStr = Field(description="The URL, a secret since such URLs often are.")
    interval: PositiveDuration = Field(
        timedelta(minutes=1), description="Interval of the requests."
    )
    allow_private: bool = Field(
        False, description="true also allows loopback and private addresses."
    )


class FileSettings(BaseModel):
    """All keys of sentinel.yml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timezone: str = Field("UTC", description="The default time zone of schedules.")
    defaults: dict[str, Any] = Field(
        default_factory=dict, description="Default keys of `meta.sentinel` for every alert."
    )
    channels: dict[str, Any] = Field(
        default_factory=dict, description="The channels: {name: {type: ..., ...}}."
    )
    routes: tuple[RouteSettings, ...] = Field(
        (), description="Channels of alerts that name none: [{match, channels, continue}]."
    )
    fallback_channel: str | None = Field(
        None,
        description="The channel that receives notifications that another channel could not deliver.",
    )
    store: StoreSettings = Field(StoreSettings(), description="Where Sentinel's tables are.")
    scheduler: SchedulerSettings = Field(
        SchedulerSettings(), description="Intervals of the daemon."
    )
    web: dict[str, Any] = Field(default_factory=dict, description="The daemon's HTTP server.")
    heartbeat: dict[str, Any] | None = Field(
        None, description="A URL that the daemon posts to while it is healthy."
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        time_zone(name)
        return name


@dataclass(frozen=True)
class ChannelBlock:
    """One entry under `channels:`, not rendered yet, since it may name secrets."""

    name: str
    type: str
    document: Document

    @property
    def keys(self) -> Collection[str]:
        """Its keys as they are written."""
        return tuple(self.document.root["channels"][self.name])

    def locate(self, *keys: str) -> Location:
        """Where one of its keys is written."""
        return self.document.location("channels", self.name, *keys)

    @property
    def origins(self) -> Origins:
        """Those of the values that `render` gave."""
        return self.document.origins.under("channels", self.name)

    def render(self) -> Mapping[str, Any]:
        """Its keys but `type`, filled in. Raises ConfigError if a variable or file is missing."""
        values = dict(self.document.render("channels", self.name, secrets=True))
        values.pop("type")
        return values


@dataclass(frozen=True)
class Settings:
    """sentinel.yml of one project."""

    path: Path
    timezone: str
    defaults: Mapping[str, Any]
    channels: Mapping[str, ChannelBlock]
    store: StoreSettings
    routes: tuple[Route, ...] = ()
    fallback_channel: str | None = None
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    document: Document | None = None

    @property
    def web(self) -> WebSettings:
        """Where the daemon listens. Raises ConfigError."""
        return self._block("web", WebSettings) or WebSettings()

    @property
    def heartbeat(self) -> HeartbeatSettings | None:
        """What the daemon posts to; None if nothing. Raises ConfigError."""
        return self._block("heartbeat", HeartbeatSettings)

    def withheld(self, text: str) -> str:
        """A text without the used values of variables and files."""
        if self.document is None:
            return text
        return self.document.origins.withheld(text, tuple(self.channels))

    def _block(self, key: str, model: type[Block]) -> Block | None:
        """A block that may name secrets: read by who needs it, as channels are."""
        document = self.document
        if document is None or document.root.get(key) is None:
            return None
        values = document.render(key, secrets=True)
        origins = document.origins.under(key)
        faults = list(misplaced(origins, model))
        try:
            found = model.model_validate(values)
        except ValidationError as error:
            keys = model.model_fields
            found = None
            faults += [
                (fault.keys, fault.message)
                for fault in explain(error, keys, show_input=False, origins=origins, model=model)
            ]
        if faults:
            raise ConfigError.at(
                [
                    (document.location(key, *keys), origins.withheld(f"`{key}`: {words}"))
                    for keys, words in faults
                ]
            )
        return found


def load_settings(project_dir: Path, *, offline: bool = False) -> Settings:
    """Read sentinel.yml next to dbt_project.yml; with `offline`, without variables and files.

    Raises ConfigError with file, line and key of every error.
    """
    path = project_dir / FILE_NAME
    if not path.exists():
        raise ConfigError(
            f"there is no {FILE_NAME} in {project_dir}",
            hint="`sentinel init` makes one, and all else that the project needs",
        )
    document = Document.read(path, FILE_NAME, offline=offline)
    faults: list[str] = []
    values: dict[str, Any] = {}
    for key, raw in document.root.items():
        try:
            value = raw if key in _LATE else document.render(key)
        except ConfigError as error:
            faults.append(error.message)
            continue
        if value is not None:  # a key whose block is still empty, or commented out
            values[key] = value
    settings: FileSettings | None = None
    try:
        settings = FileSettings.model_validate(values)
    except ValidationError as error:
        faults += [
            f"{document.location(*fault.keys)}: {fault.message}"
            for fault in explain(
                error, FileSettings.model_fields, show_input=False, origins=document.origins
            )
        ]
        if not faults:  # except values that were not looked up
            parts = {str(finding["loc"][0]) for finding in error.errors()}
            settings = FileSettings.model_validate(
                {key: value for key, value in values.items() if key not in parts}
            )
    for key in _mapping(values.get("defaults")):
        if key not in KEYS:
            where = document.location("defaults", key)
            faults.append(f"{where}: unknown key `{key}` in `defaults`{suggest(key, KEYS)}")
    channels: dict[str, ChannelBlock] = {}
    for name, block in _mapping(values.get("channels")).items():
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            where = document.location("channels", str(name))
            faults.append(f"{where}: the channel `{name}` needs a `type`")
        else:
            channels[str(name)] = ChannelBlock(str(name), str(block["type"]), document)
        if ADDRESS in str(name):
            where = document.location("channels", str(name))
            faults.append(f"{where}: the name of a channel can't hold `{ADDRESS}`")
    if settings is not None:
        faults += _unknown_channels(settings, channels, document)
    if faults or settings is None:
        raise ConfigError(document.origins.withheld("\n".join(faults), tuple(channels)))
    return Settings(
        path,
        settings.timezone,
        settings.defaults,
        channels,
        settings.store,
        tuple(each.route() for each in settings.routes),
        settings.fallback_channel,
        settings.scheduler,
        document,
    )


def _unknown_channels(
    settings: FileSettings, known: Collection[str], document: Document
) -> Iterator[str]:
    named: list[tuple[tuple[str, ...], str]] = [
        (("routes", str(place), "channels"), name)
        for place, each in enumerate(settings.routes)
        for name in each.channels
    ]
    if settings.fallback_channel is not None:
        named.append((("fallback_channel",), settings.fallback_channel))
    for keys, name in named:
        origin = next((each for _, each in document.origins.within(*keys)), None)
        if name not in known and origin:
            if origin.known:
                words = origin.instead("is no channel under `channels`")
                yield f"{document.location(*keys)}: `{'.'.join(keys)}`: {words}"
        elif name not in known:
            where = document.location(*keys)
            yield (
                f"{where}: `{'.'.join(keys)}`: there is no channel {name!r} under `channels`"
                + suggest(name, known)
            )


def _mapping(value: Any) -> Mapping[str, Any]:
    """A mapping; an empty one for anything else, which is reported separately."""
    return value if isinstance(value, Mapping) else {}
