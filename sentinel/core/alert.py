"""The alert definition: `meta.sentinel` of a dbt model, judged before anything runs.

Three blocks are merged key by key, the nearest winning: `defaults:` of sentinel.yml, the folder's
`meta.sentinel_defaults`, the model's `meta.sentinel`. A definition that is wrong becomes a
`BrokenAlert` that carries all its faults; it never stops the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from sentinel.core.definition_errors import Fault, explain, suggest
from sentinel.core.definition_types import (
    Columns,
    Duration,
    Escalation,
    HoldPeriod,
    Names,
    NotifyOn,
    PositiveDuration,
    RowCondition,
    listed,
    read_hold_period,
    unique,
)
from sentinel.core.origin import Origins
from sentinel.core.project import AlertSource
from sentinel.core.routing import Recipients, Routing, recipients
from sentinel.core.schedule import Cron, time_zone
from sentinel.core.severity import Severity


class Definition(BaseModel):
    """All keys of `meta.sentinel`. Every key is optional."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None,
        description="A stable identity: the alert keeps its state if the model is renamed or moved.",
    )
    enabled: bool = Field(True, description="false disables the alert.")
    schedule: str | None = Field(
        None,
        description="Five cron fields, or hourly, daily, weekly, monthly (default: manual runs only).",
    )
    timezone: str | None = Field(
        None, description="The schedule's time zone (default: the project's)."
    )
    severity: Severity = Field(
        Severity.CRITICAL,
        description="info, warning or critical, unless a row has its own severity.",
    )
    owner: str | None = Field(None, description="The owner (default: the dbt group's owner).")
    channels: Names | None = Field(
        None, description="The channels to notify, by their names in sentinel.yml; [] for none."
    )
    description: str | None = Field(
        None, description="What a firing alert means (default: the model's description)."
    )
    runbook: str | None = Field(None, description="A link to the runbook.")
    shape: Literal["status", "rows"] | None = Field(
        None, description="How to read the query's result: see the query contract."
    )
    dimensions: Columns = Field(
        (), description="Columns that identify instances: each combination has its own state."
    )
    warn_if: RowCondition | None = Field(
        None, description="A condition on the number of rows for severity warning: '>10'."
    )
    error_if: RowCondition | None = Field(
        None, description="A condition on the number of rows for severity critical."
    )
    for_: Annotated[HoldPeriod, BeforeValidator(read_hold_period)] = Field(
        HoldPeriod(),
        alias="for",
        description="How long the alert stays pending before it fires: a duration, or a number of slots.",
    )
    keep_firing_for: Duration = Field(
        timedelta(), description="How long the alert must be OK before it resolves."
    )
    repeat_interval: PositiveDuration | None = Field(
        None, description="Interval of reminders while the alert fires (default: no reminders)."
    )
    escalations: tuple[Escalation, ...] = Field(
        (), description="Channels to notify after a time: [{after, channels}]."
    )
    notify_on: Annotated[tuple[NotifyOn, ...], BeforeValidator(listed)] = Field(
        ("firing", "resolved", "error"), description="Events that channels are notified of."
    )
    on_empty: Literal["error", "ok", "alert", "keep"] = Field(
        "error", description="What an empty result of a status query means."
    )
    on_missing: Literal["resolve", "keep", "alert"] = Field(
        "resolve", description="What an instance that is missing from the result means."
    )
    error_after: Annotated[int, Field(ge=1)] = Field(
        1, description="Number of consecutive errors before the alert is failing."
    )
    timeout: PositiveDuration = Field(
        timedelta(minutes=5), description="Maximum run time of the query."
    )
    samples: Annotated[int, Field(ge=0, le=100)] = Field(
        0, description="Number of violating rows to include in the message."
    )
    context_columns: Columns = Field(
        (), description="Extra columns of a status row to include in messages (default: all)."
    )
    sample_columns: Columns = Field(
        (), description="Columns of the samples to include (default: all)."
    )
    jitter: Duration = Field(timedelta(), description="Maximum random delay of a scheduled start.")
    max_bytes_billed: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Maximum bytes billed for the query (BigQuery)."
    )

    @model_validator(mode="after")
    def _agree(self) -> Definition:
        if self.shape == "status" and (self.warn_if or self.error_if):
            raise ValueError(
                "`warn_if` and `error_if` count rows; they can't be used with `shape: status`"
            )
        if len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError("`dimensions` names a column twice")
        return self


KEYS: tuple[str, ...] = tuple(
    field.alias or name for name, field in Definition.model_fields.items()
)


@dataclass(frozen=True)
class Alert:
    """An alert with a valid definition."""

    source: AlertSource
    rules: Definition
    cron: Cron | None
    recipients: Recipients = field(default_factory=Recipients)

    @property
    def id(self) -> str:
        return self.rules.id or self.source.unique_id

    @property
    def row_ids(self) -> tuple[str, ...]:
        """The ids that its rows may have: its own, and its unique_id from before `id` was set."""
        return tuple(dict.fromkeys((self.id, self.source.unique_id)))

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it notifies, at any severity, without escalations."""
        return self.recipients.all

    @property
    def description(self) -> str:
        return self.rules.description or self.source.description

    @property
    def owner(self) -> str | None:
        return _owner(self.source, self.rules.owner)


@dataclass(frozen=True)
class BrokenAlert:
    """An alert whose definition is wrong: outcome `error`, with all its faults."""

    source: AlertSource
    faults: tuple[Fault, ...]
    recipients: Recipients = field(default_factory=Recipients)

    @property
    def channels(self) -> tuple[str, ...]:
        return self.recipients.all

    @property
    def switched_off(self) -> bool:
        """Whether its own block says `enabled: false`, whatever else is wrong with it."""
        block = self.source.block
        return isinstance(block, Mapping) and block.get("enabled") is False

    @property
    def id(self) -> str:
        block = self.source.block
        given = block.get("id") if isinstance(block, Mapping) else None
        return given if isinstance(given, str) and given else self.source.unique_id

    @property
    def row_ids(self) -> tuple[str, ...]:
        """The ids that its rows may have, as an alert's."""
        return tuple(dict.fromkeys((self.id, self.source.unique_id)))

    @property
    def name(self) -> str:
        return self.source.name


def row_ids(alerts: Iterable[Alert | BrokenAlert]) -> frozenset[str]:
    """The ids that rows of any of these alerts may have."""
    return frozenset(each for alert in alerts for each in alert.row_ids)


@dataclass(frozen=True)
class DefinitionContext:
    """What a definition is judged against: the project's configuration. `origins` are those of
    `defaults` by their keys."""

    timezone: str = "UTC"
    defaults: Mapping[str, Any] | None = None
    routing: Routing = field(default_factory=Routing)
    origins: Origins = field(default_factory=Origins)


def parse_definitions(
    sources: Iterable[AlertSource], context: DefinitionContext
) -> tuple[list[Alert], list[BrokenAlert]]:
    """Every definition, good or broken; two alerts with one id are both broken."""
    update = [_judge_one(source, context) for source in sources]
    by_id: dict[str, list[Alert | BrokenAlert]] = {}
    for alert in update:
        by_id.setdefault(alert.id, []).append(alert)
    valid: list[Alert] = []
    broken: list[BrokenAlert] = []
    for alert in update:
        twins = [other for other in by_id[alert.id] if other is not alert]
        if twins:
            names = ", ".join(sorted(other.name for other in twins))
            twice = Fault(("id",), f"the id {alert.id!r} is also that of {names}; ids are unique")
            faults = alert.faults if isinstance(alert, BrokenAlert) else ()
            # The shared id is no key of anybody's state: a broken twin keeps its own unique id.
            broken.append(
                BrokenAlert(_without_id(alert.source), (*faults, twice), alert.recipients)
            )
        elif isinstance(alert, BrokenAlert):
            broken.append(alert)
        else:
            valid.append(alert)
    return valid, broken


def _without_id(source: AlertSource) -> AlertSource:
    if not isinstance(source.block, Mapping):
        return source
    block = {key: value for key, value in source.block.items() if key != "id"}
    return replace(source, block=block)


def _judge_one(source: AlertSource, context: DefinitionContext) -> Alert | BrokenAlert:
    faults: list[Fault] = []
    merged: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for label, block in (
        ("`defaults` of sentinel.yml", context.defaults),
        ("`sentinel_defaults`", source.folder_defaults),
        ("`sentinel`", source.block),
    ):
        if block is None:
            continue
        if not isinstance(block, Mapping):
            faults.append(
                Fault((), f"{label} must be a mapping of keys, such as {{schedule: daily}}")
            )
            continue
        merged.update(block)
        if block is not context.defaults:
            own.update(block)
    if source.secrets:
        # Nothing else is said of it: other messages quote what they find.
        secrets = tuple(map(_literal_secret, source.secrets))
        return BrokenAlert(source, secrets, _recipients(source, None, context, {}))
    rules: Definition | None = None
    try:
        rules = Definition.model_validate(merged)
    except ValidationError as error:
        faults.extend(explain(error, KEYS))
    told = _recipients(source, rules, context, own)
    faults.extend(_channel_faults(merged, rules, told, context.routing))
    cron: Cron | None = None
    try:
        zone = str(merged.get("timezone") or context.timezone)
        time_zone(zone)
    except ValueError as error:
        faults.append(Fault(("timezone",), str(error)))
        zone = "UTC"
    if isinstance(schedule := merged.get("schedule"), str):
        try:
            cron = Cron.parse(schedule, zone)
        except ValueError as error:
            faults.append(Fault(("schedule",), str(error)))
    faults = [
        each for fault in faults if (each := _withheld(fault, context.origins, own)) is not None
    ]
    if rules is None or faults:
        return BrokenAlert(source, tuple(faults), told)
    return Alert(source, rules, cron, told)


def _withheld(fault: Fault, origins: Origins, own: Mapping[str, Any]) -> Fault | None:
    """A fault that quotes nothing which `defaults` have from a variable or a file."""
    if not fault.keys or fault.keys[0] in own:
        return fault
    origin = next((each for _, each in origins.within(fault.keys[0])), None)
    if origin is None:
        return fault
    if not origin.known:
        return None
    words = f"`{fault.keys[0]}` of `defaults` in sentinel.yml: {origin.instead()}"
    return Fault(fault.keys, words)


def _literal_secret(keys: tuple[str, ...]) -> Fault:
    return Fault(
        keys,
        f"`{'.'.join(keys)}` looks like a secret, and `meta` lands in dbt's manifest: put it into "
        "a channel of sentinel.yml as {env: NAME}, and name that channel here; then replace the "
        "secret, since dbt may have written it to target/ already",
    )


def _owner(source: AlertSource, own: str | None) -> str | None:
    group = source.group_owner
    return own or (group and (group.name or group.email)) or None


def _recipients(
    source: AlertSource,
    rules: Definition | None,
    context: DefinitionContext,
    own: Mapping[str, Any],
) -> Recipients:
    routing = context.routing
    default = _known_channels((context.defaults or {}).get("channels"), routing)
    return recipients(
        source,
        _owner(source, rules.owner if rules else None),
        routing,
        _known_channels(own.get("channels"), routing),
        default,
    )


def _known_channels(given: object, routing: Routing) -> tuple[str, ...] | None:
    names = listed(given)
    if not isinstance(names, Sequence):
        return None
    found = [name for name in names if isinstance(name, str) and name in routing.channels]
    if names and not found:
        return None
    return unique(tuple(found))


def _channel_faults(
    merged: Mapping[str, Any], rules: Definition | None, told: Recipients, routing: Routing
) -> Iterable[Fault]:
    given = merged.get("channels")
    if given is None and not told.at(rules.severity if rules else Severity.CRITICAL):
        yield Fault(
            ("channels",),
            "no channel would be notified: name `channels` here or under `defaults` in sentinel.yml, or "
            "a route there that matches it (`channels: []` if that is meant)",
        )
    named: list[tuple[tuple[str, ...], object]] = [(("channels",), given)]
    escalations = merged.get("escalations")
    if isinstance(escalations, Sequence):
        named += [
            (("escalations", str(place), "channels"), step.get("channels"))
            for place, step in enumerate(escalations)
            if isinstance(step, Mapping)
        ]
    for keys, value in named:
        names = listed(value)
        if not isinstance(names, Sequence):
            continue
        for name in names:
            if isinstance(name, str) and name not in routing.channels:
                yield Fault(
                    keys,
                    f"there is no channel {name!r} in sentinel.yml"
                    + suggest(name, routing.channels),
                )
