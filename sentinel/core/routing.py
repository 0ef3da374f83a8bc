"""An alert's recipients: its own channels first, then routes, defaults, and its group's owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from sentinel.core.project import AlertSource, Owner
from sentinel.core.severity import Severity

ADDRESS = ":"


@dataclass(frozen=True)
class Traits:
    """What planning and delivery need to know of a channel's type.

    `groups`: several notifications make one message, as people in a chat or a mailbox want it; a
    paging channel gets one for each episode. `acknowledges`: it shows acknowledgements.
    `follows`: it needs what the receiver called the earlier message of the same episode.
    `addressed_by` is the contact of a dbt group's owner to which it can send besides its own.
    `per_second` is the most messages that the receiver takes.
    """

    groups: bool = True
    acknowledges: bool = False
    follows: bool = False
    addressed_by: Literal["email", "slack"] | None = None
    per_second: float | None = None


@dataclass(frozen=True)
class Route:
    """One entry of `routes`: what it matches (all of it), and whom it adds.

    `name` and `path` are globs. Unless `further`, the routes after it are not asked.
    """

    channels: tuple[str, ...]
    name: str | None = None
    tag: str | None = None
    owner: str | None = None
    severity: Severity | None = None
    path: str | None = None
    further: bool = False

    def matches(self, source: AlertSource, owner: str | None, severity: Severity) -> bool:
        return (
            (self.name is None or fnmatchcase(source.name, self.name))
            and (self.tag is None or self.tag in source.tags)
            and (self.owner is None or self.owner in (owner, *_contacts(source.group_owner)))
            and (self.severity is None or self.severity is severity)
            and (self.path is None or _under(source.path, self.path))
        )


def _contacts(owner: Owner | None) -> tuple[str, ...]:
    given = (owner.name, owner.email, owner.slack) if owner else ()
    return tuple(each for each in given if each)


def _under(path: str, pattern: str) -> bool:
    """Whether a path is one that a pattern names, or lies in a folder that it names."""
    pattern = pattern.rstrip("/")
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")


@dataclass(frozen=True)
class Routing:
    """How channels are found for alerts that name none."""

    channels: Mapping[str, Traits] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    fallback: str | None = None

    def traits(self, channel: str) -> Traits | None:
        """A channel's traits, without an owner's address; None if the channel doesn't exist."""
        return self.channels.get(channel) or self.channels.get(channel.partition(ADDRESS)[0])

    def routed(self, source: AlertSource, owner: str | None, severity: Severity) -> tuple[str, ...]:
        """The channels of the routes that match."""
        found: list[str] = []
        for route in self.routes:
            if route.matches(source, owner, severity):
                found += route.channels
                if not route.further:
                    break
        return tuple(dict.fromkeys(found))

    def owners(self, owner: Owner | None) -> tuple[str, ...]:
        """The addresses of a group's owner, each by the first channel that can send there."""
        if owner is None:
            return ()
        found = []
        for contact, address in (("email", owner.email), ("slack", owner.slack)):
            carrier = next(
                (name for name, each in self.channels.items() if each.addressed_by == contact), None
            )
            if carrier and address:
                found += [f"{carrier}{ADDRESS}{one.strip()}" for one in address.split(",")]
        return tuple(found)


@dataclass(frozen=True)
class Recipients:
    """The channels of one alert at each severity."""

    by_severity: Mapping[Severity, tuple[str, ...]] = field(default_factory=dict)

    def at(self, severity: Severity) -> tuple[str, ...]:
        return self.by_severity.get(severity, ())

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for names in self.by_severity.values() for name in names))


def recipients(
    source: AlertSource,
    owner: str | None,
    routing: Routing,
    own: Sequence[str] | None,
    default: Sequence[str] | None,
) -> Recipients:
    """An alert's recipients: `own` channels if it names any (or none, `[]`); otherwise those of
    the routes that match; else `default`; else the owner of its dbt group."""
    return Recipients(
        {
            severity: tuple(own)
            if own is not None
            else routing.routed(source, owner, severity)
            or (tuple(default) if default is not None else routing.owners(source.group_owner))
            for severity in Severity
        }
    )
