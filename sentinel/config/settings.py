"""The settings of sentinel.yml. Channels stay unrendered until they are built."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sentinel.config.document import Document
from sentinel.core.alert import KEYS, Names, PositiveDuration, explain, suggest
from sentinel.core.errors import ConfigError
from sentinel.core.project import Location
from sentinel.core.routing import ADDRESS, Route
from sentinel.core.schedule import time_zone
from sentinel.core.severity import Severity

FILE_NAME = "sentinel.yml"


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


class MatchSettings(BaseModel):
    """What a route matches: all that is given. `{}` matches every alert."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(None, description="The alert's name, as a glob: orders_*.")
    tag: str | None = Field(None, description="A dbt tag of the model.")
    owner: str | None = Field(
        None, description="The owner, or a name, email or slack of the dbt group's owner."
    )
    severity: Severity | None = Field(None, description="The severity it fires with.")
    path: str | None = Field(None, description="A folder or a glob: models/alerts/finance.")


class RouteSettings(BaseModel):
    """One entry of `routes`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: MatchSettings = Field(MatchSettings(), description="Which alerts; unset, all.")
    channels: Names = Field(description="The channels to tell.")
    continue_: bool = Field(
        False, alias="continue", description="true also asks the routes after this one."
    )

    def route(self) -> Route:
        given = self.match.model_dump()
        return Route(self.channels, **given, further=self.continue_)


class FileSettings(BaseModel):
    """All keys of sentinel.yml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timezone: str = Field("UTC", description="The time zone of schedules that name none.")
    defaults: dict[str, Any] = Field(
        default_factory=dict, description="Keys of `meta.sentinel` for every alert that has none."
    )
    channels: dict[str, Any] = Field(
        default_factory=dict, description="The channels: {name: {type: ..., ...}}."
    )
    routes: tuple[RouteSettings, ...] = Field(
        (), description="Whom alerts tell that name no channels: [{match, channels, continue}]."
    )
    fallback_channel: str | None = Field(
        None, description="Who is told of what another channel could not deliver."
    )
    store: StoreSettings = Field(StoreSettings(), description="Where the tables are kept.")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        time_zone(name)
        return name


@dataclass(frozen=True)
class ChannelBlock:
    """One entry under `channels:`, not yet rendered: it may name secrets."""

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

    def render(self) -> Mapping[str, Any]:
        """Its keys but `type`, filled in. Raises ConfigError if a variable or file is missing."""
        values = dict(self.document.render("channels", self.name))
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


def load_settings(project_dir: Path) -> Settings:
    """Read sentinel.yml beside dbt_project.yml.

    Raises ConfigError with file, line and key; it names all faults at once.
    """
    path = project_dir / FILE_NAME
    if not path.is_file():
        raise ConfigError(
            f"there is no {FILE_NAME} in {project_dir}",
            hint="`sentinel init` makes one, and all else that the project needs",
        )
    document = Document.read(path, FILE_NAME)
    faults: list[str] = []
    values: dict[str, Any] = {}
    for key, raw in document.root.items():
        try:
            value = raw if key == "channels" else document.render(key)
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
            for fault in explain(error, FileSettings.model_fields, show_input=False)
        ]
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
        raise ConfigError("\n".join(faults))
    return Settings(
        path,
        settings.timezone,
        settings.defaults,
        channels,
        settings.store,
        tuple(each.route() for each in settings.routes),
        settings.fallback_channel,
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
        if name not in known:
            where = document.location(*keys)
            yield (
                f"{where}: `{'.'.join(keys)}`: there is no channel {name!r} under `channels`"
                + suggest(name, known)
            )


def _mapping(value: Any) -> Mapping[str, Any]:
    """A mapping as it is; nothing for anything else, which has a fault of its own."""
    return value if isinstance(value, Mapping) else {}
