"""The shapes of what programs read: the JSON documents and the payload of a notification.

They are typed dictionaries described for pydantic. `make reference` writes the JSON Schemas in
sentinel/schemas and the tables of the reference from them, and mypy checks the code that fills
them. Every key is always present. Times are ISO 8601 in UTC and end in Z.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, WithJsonSchema, with_config
from typing_extensions import TypedDict

from sentinel.core.evaluation import Outcome
from sentinel.core.notification import Status
from sentinel.core.severity import Severity
from sentinel.core.state import Event, Health, Phase

# What `counts` of a run counts, in this order.
COUNTED = ("total", *Outcome, *(each for each in Phase if each is not Phase.OK), "undelivered")

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time", "pattern": "Z$"})]
Count = Annotated[int, Field(ge=0)]
ReasonName = Annotated[str, Field(pattern="^[a-z_]+$")]
PhaseName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(Phase)})]
OutcomeName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(Outcome)})]
SeverityName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(Severity)})]
EventName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(Event)})]
_CHANGES = (Event.FIRING, Event.SEVERITY, Event.RESOLVED, Event.ERROR, Event.ERROR_RESOLVED)
ChangeName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(_CHANGES)})]
Counts = Annotated[
    dict[str, int],
    WithJsonSchema(
        {
            "type": "object",
            "properties": {str(name): {"type": "integer", "minimum": 0} for name in COUNTED},
            "required": [str(name) for name in COUNTED],
            "additionalProperties": False,
        }
    ),
]

# Fields that mean the same wherever they are.
AlertName = Annotated[str, Field(description="the alert's name")]
UniqueId = Annotated[str, Field(description="the dbt unique_id of the alert's model")]
Instance = Annotated[
    str,
    Field(
        description="the instance: the values of `dimensions` as text, such as `region=west`; "
        "empty without dimensions"
    ),
]
ActualValue = Annotated[
    float | None,
    Field(description="the measured value; in the `rows` shape the number of violating rows"),
]
Threshold = Annotated[
    float | None, Field(description="the threshold that the value was compared with")
]
Failures = Annotated[
    Count | None, Field(description="the number of violating rows, in the `rows` shape")
]
Context = Annotated[
    dict[str, Any],
    Field(description="the other columns of a `status` query; `samples` of violating rows"),
]
ChannelName = Annotated[str, Field(description="the channel's name in sentinel.yml")]
EpisodeId = Annotated[str | None, Field(description="the episode's id; null outside an episode")]
AckedBy = Annotated[str | None, Field(description="who acknowledged the episode")]
AckedAt = Annotated[Time | None, Field(description="when the episode was acknowledged")]
SilencedUntil = Annotated[
    Time | None, Field(description="when the silence ends that mutes the instance now")
]
Attempts = Annotated[Count, Field(description="how often delivery was attempted")]
LastError = Annotated[str | None, Field(description="why the last attempt failed")]
DeliveryStatus = Annotated[
    Status,
    WithJsonSchema(
        {
            "type": "string",
            "enum": [*(each for each in Status if not each.finished), Status.DEAD],
        }
    ),
    Field(description="where its delivery stands"),
]

_strict = with_config(ConfigDict(extra="forbid"))


# -- run ---------------------------------------------------------------------------------------


@_strict
class ResultDocument(TypedDict):
    """One instance after a run."""

    alert: AlertName
    unique_id: UniqueId
    instance: Instance
    outcome: Annotated[
        Outcome,
        Field(
            description="the evaluation's outcome; `skipped` if the slot was already recorded, or "
            "if the instance keeps firing although the query returned nothing about it"
        ),
    ]
    phase: Annotated[
        Phase | None, Field(description="the phase after the run; null if there is no instance")
    ]
    previous_phase: Annotated[Phase | None, Field(description="the phase before the run")]
    severity: Annotated[Severity | None, Field(description="the severity; null if there is none")]
    actual_value: ActualValue
    threshold: Threshold
    failures: Failures
    message: Annotated[
        str | None,
        Field(description="the query's message, or why the alert could not be evaluated"),
    ]
    context: Context
    events: Annotated[list[ChangeName], Field(description="what changed in this run")]
    notified: Annotated[
        list[str], Field(description="the channels that accepted a message in this run")
    ]
    suppressed: Annotated[
        dict[str, ReasonName],
        Field(
            description="for each other channel the [reason](messages.md#reasons) why it was not "
            "notified in this run"
        ),
    ]
    duration_ms: Annotated[
        Count | None,
        Field(
            description="how long the alert's query ran, in milliseconds; the same on each of the "
            "alert's instances"
        ),
    ]
    bytes_billed: Annotated[
        Count | None,
        Field(description="the bytes billed for the query; null if the warehouse bills none"),
    ]


@_strict
class SentDocument(TypedDict):
    """One notification that a channel accepted."""

    alert: AlertName
    instance: Instance
    event: Annotated[Event, Field(description="the [event](messages.md#events)")]
    channel: ChannelName


@_strict
class RunDocument(TypedDict):
    """The document of `sentinel run --output json`."""

    run_id: Annotated[str, Field(description="the run's id, the same as in `sentinel_history`")]
    started_at: Annotated[
        Time, Field(description="when the run started, by the store's clock: its `as_of`")
    ]
    elapsed_s: Annotated[float, Field(ge=0, description="how long the run took, in seconds")]
    results: Annotated[
        list[ResultDocument],
        Field(
            description="one entry for each instance, firing ones first; empty if nothing was due "
            "or in the shard"
        ),
    ]
    told: Annotated[
        list[SentDocument],
        Field(
            description="every notification that a channel accepted in this run, those of alerts "
            "that were not evaluated included"
        ),
    ]
    counts: Annotated[
        Counts,
        Field(
            description="the number of entries (`total`), of entries with each outcome and each "
            "phase, and of `undelivered` notifications"
        ),
    ]


# -- list --------------------------------------------------------------------------------------


@_strict
class ListedAlertDocument(TypedDict):
    """One selected alert."""

    alert: AlertName
    unique_id: UniqueId
    schedule: Annotated[
        str | None,
        Field(
            description="the cron expression as written; null without a schedule, or if the "
            "definition is invalid"
        ),
    ]
    timezone: Annotated[str | None, Field(description="the schedule's time zone")]
    next_slot: Annotated[Time | None, Field(description="when the alert is due next")]
    severity: Annotated[
        Severity | None, Field(description="the severity; null if the definition is invalid")
    ]
    owner: Annotated[str | None, Field(description="the owner")]
    channels: Annotated[list[str], Field(description="the channels that it notifies")]
    tags: Annotated[list[str], Field(description="the model's tags")]
    path: Annotated[str, Field(description="the model's file, relative to the project")]


@_strict
class ListDocument(TypedDict):
    """The document of `sentinel list --output json`."""

    alerts: Annotated[
        list[ListedAlertDocument], Field(description="one entry for each selected alert")
    ]


# -- silence -----------------------------------------------------------------------------------


@_strict
class SilenceDocument(TypedDict):
    """One silence."""

    silence_id: Annotated[
        str, Field(description="the id; its first characters are enough for `unsilence`")
    ]
    alerts: Annotated[list[str], Field(description="the names of the silenced alerts")]
    alert_ids: Annotated[
        list[str], Field(description="their ids at the time when the silence was created")
    ]
    dimensions: Annotated[
        dict[str, Any] | None,
        Field(description="the values that limit the silence to some instances; null for all"),
    ]
    selector: Annotated[
        str | None,
        Field(description="the names or the selection that the silence was created with"),
    ]
    comment: Annotated[str | None, Field(description="why the alerts are silenced")]
    author: Annotated[str, Field(description="who silenced them")]
    os_user: Annotated[
        str | None, Field(description="the operating system's user who ran the command")
    ]
    created_at: Annotated[Time | None, Field(description="when the silence was created")]
    starts_at: Annotated[Time | None, Field(description="when the silence starts")]
    ends_at: Annotated[Time | None, Field(description="when the silence ends")]
    ended_at: Annotated[Time | None, Field(description="when `unsilence` ended it early")]
    ended_by: Annotated[str | None, Field(description="who ended it early")]
    in_force: Annotated[bool, Field(description="whether the silence mutes its alerts now")]


@_strict
class SilencesDocument(TypedDict):
    """The document of `sentinel silence --output json`."""

    silences: Annotated[
        list[SilenceDocument],
        Field(
            description="the silence that was created; with `--list` those in force, with `--list "
            "--all` those that ended too"
        ),
    ]


# -- status ------------------------------------------------------------------------------------


@_strict
class StateDocument(TypedDict):
    """One row of `sentinel_state`. An alert with dimensions has a head row, with `health` and
    without `phase`, and a row for each instance, with `phase` and without `health`."""

    alert: AlertName
    unique_id: UniqueId
    instance: Instance
    dimensions: Annotated[dict[str, Any], Field(description="the values of `dimensions`")]
    phase: Annotated[
        Phase | None,
        Field(
            description="the phase; null on the head row of an alert with dimensions, and of an "
            "alert whose definition was never valid"
        ),
    ]
    phase_since: Annotated[
        Time | None, Field(description="when the phase last changed; null before its first change")
    ]
    severity: Annotated[Severity | None, Field(description="the severity; null if the phase is ok")]
    actual_value: ActualValue
    threshold: Threshold
    message: Annotated[str | None, Field(description="the query's message")]
    health: Annotated[
        Health | None,
        Field(description="whether the alert can be evaluated; null on rows of single instances"),
    ]
    health_since: Annotated[
        Time | None,
        Field(description="when the health last changed; null before its first change"),
    ]
    error_count: Annotated[Count, Field(description="how many evaluations in a row failed")]
    episode_id: EpisodeId
    last_outcome: Annotated[Outcome | None, Field(description="the last evaluation's outcome")]
    last_as_of: Annotated[Time | None, Field(description="the last evaluation's `as_of`")]
    acked_by: AckedBy
    acked_at: AckedAt
    silenced_until: SilencedUntil


@_strict
class UndeliveredDocument(TypedDict):
    """One notification that its channel has not accepted."""

    alert: AlertName
    instance: Instance
    channel: ChannelName
    event: Annotated[Event, Field(description="the [event](messages.md#events)")]
    status: DeliveryStatus
    attempts: Attempts
    created_at: Annotated[Time, Field(description="when the notification was planned")]
    last_error: LastError


@_strict
class StatusDocument(TypedDict):
    """The document of `sentinel status --output json`."""

    alerts: Annotated[
        list[StateDocument],
        Field(
            description="one entry for each row of [sentinel_state](tables.md#sentinel_state), "
            "firing ones first"
        ),
    ]
    undelivered: Annotated[
        list[UndeliveredDocument],
        Field(description="the notifications that no channel has accepted"),
    ]
    silences: Annotated[list[SilenceDocument], Field(description="the silences in force")]


# -- history -----------------------------------------------------------------------------------


@_strict
class ReasonDocument(TypedDict):
    """Why a channel was, or wasn't, notified of an event."""

    channel: ChannelName
    event: Annotated[EventName, Field(description="the [event](messages.md#events)")]
    told: Annotated[bool, Field(description="whether the channel was notified")]
    reason: Annotated[ReasonName, Field(description="the [reason](messages.md#reasons)")]


@_strict
class EvaluationDocument(TypedDict):
    """One row of `sentinel_history`."""

    evaluation_id: Annotated[str, Field(description="the row's key")]
    kind: Annotated[Literal["evaluation"], Field(description="always `evaluation`")]
    run_id: Annotated[str, Field(description="the run's id")]
    triggered_by: Annotated[str, Field(description="`schedule` for a slot, `manual` otherwise")]
    project: Annotated[str, Field(description="the dbt project's name")]
    alert_id: Annotated[str, Field(description="the alert's `id`, otherwise its unique_id")]
    alert: AlertName
    instance: Instance
    slot: Annotated[Time | None, Field(description="the slot; null for a manual run")]
    as_of: Annotated[Time, Field(description="the point in time that the evaluation refers to")]
    attempt: Annotated[
        int, Field(ge=1, description="which attempt at the slot this was, counted from 1")
    ]
    missed_slots: Annotated[Count, Field(description="how many slots were missed before this one")]
    outcome: Annotated[OutcomeName | None, Field(description="the evaluation's outcome")]
    phase_before: Annotated[PhaseName | None, Field(description="the phase before")]
    phase_after: Annotated[PhaseName | None, Field(description="the phase after")]
    severity: Annotated[
        SeverityName | None, Field(description="the severity; null unless the outcome is `alert`")
    ]
    actual_value: ActualValue
    threshold: Threshold
    failures: Failures
    message: Annotated[str | None, Field(description="the query's message")]
    context: Annotated[
        dict[str, Any] | None,
        Field(description="the other columns of a `status` query; `samples` of violating rows"),
    ]
    events: Annotated[list[ChangeName], Field(description="what changed")]
    reasons: Annotated[
        list[ReasonDocument], Field(description="why each channel was or wasn't notified")
    ]
    episode_id: EpisodeId
    incident_id: Annotated[str | None, Field(description="the incident's id")]
    error: Annotated[
        str | None,
        Field(description="why the alert could not be evaluated; on the row without instance"),
    ]
    sql_hash: Annotated[str | None, Field(description="a hash of the SQL that ran")]
    duration_ms: Annotated[
        Count | None,
        Field(
            description="how long the query ran, in milliseconds; only on the row without "
            "instance, so that it can be summed"
        ),
    ]
    bytes_billed: Annotated[
        Count | None,
        Field(
            description="the bytes billed for the query; only on the row without instance, so "
            "that they can be summed"
        ),
    ]
    recorded_at: Annotated[Time, Field(description="when the row was recorded")]


@_strict
class HistoryDocument(TypedDict):
    """The document of `sentinel history --output json`."""

    evaluations: Annotated[
        list[EvaluationDocument],
        Field(
            description="rows of [sentinel_history](tables.md#sentinel_history), the newest first"
        ),
    ]


# -- explain -----------------------------------------------------------------------------------


@_strict
class InstanceDocument(TypedDict):
    """The state of one instance."""

    instance: Instance
    phase: Annotated[Phase, Field(description="the phase")]
    phase_since: Annotated[
        Time | None, Field(description="when the phase last changed; null before its first change")
    ]
    severity: Annotated[Severity | None, Field(description="the severity; null if the phase is ok")]
    actual_value: ActualValue
    threshold: Threshold
    message: Annotated[str | None, Field(description="the query's message")]
    episode_id: EpisodeId
    episode_started: Annotated[Time | None, Field(description="when the episode started")]
    acked_by: AckedBy
    acked_at: AckedAt
    ack_comment: Annotated[str | None, Field(description="the acknowledgement's comment")]
    silenced_until: SilencedUntil


@_strict
class ExplainedReasonDocument(ReasonDocument):
    """Why a channel was, or wasn't, notified of an event, in a sentence too."""

    means: Annotated[str, Field(description="the reason as a sentence")]


@_strict
class ExplainedEvaluationDocument(TypedDict):
    """One row of history."""

    as_of: Annotated[Time, Field(description="the point in time that the evaluation refers to")]
    kind: Annotated[
        Literal["evaluation", "plan", "acknowledgement", "removal"],
        Field(description="what was recorded: time-based notifications are a `plan`"),
    ]
    instance: Instance
    outcome: Annotated[OutcomeName | None, Field(description="the evaluation's outcome")]
    phase_before: Annotated[PhaseName | None, Field(description="the phase before")]
    phase_after: Annotated[PhaseName | None, Field(description="the phase after")]
    actual_value: ActualValue
    threshold: Threshold
    message: Annotated[
        str | None,
        Field(description="the query's message, or why the alert could not be evaluated"),
    ]
    events: Annotated[list[ChangeName], Field(description="what changed")]
    reasons: Annotated[
        list[ExplainedReasonDocument], Field(description="why each channel was or wasn't notified")
    ]


@_strict
class UndeliveredToDocument(TypedDict):
    """One of the alert's notifications that its channel has not accepted."""

    instance: Instance
    channel: ChannelName
    event: Annotated[Event, Field(description="the [event](messages.md#events)")]
    status: DeliveryStatus
    attempts: Attempts
    last_error: LastError


@_strict
class ExplainDocument(TypedDict):
    """The document of `sentinel explain --output json`."""

    alert: AlertName
    unique_id: UniqueId
    schedule: Annotated[str | None, Field(description="the cron expression; null without one")]
    channels: Annotated[list[str], Field(description="the channels that it notifies")]
    channels_from: Annotated[
        Literal["own", "route", "default", "owner", "nobody"],
        Field(description="where the channels are configured"),
    ]
    health: Annotated[
        Health | None,
        Field(description="whether the alert can be evaluated; null before its first evaluation"),
    ]
    error_count: Annotated[Count, Field(description="how many evaluations in a row failed")]
    instances: Annotated[list[InstanceDocument], Field(description="the state of each instance")]
    silences: Annotated[
        list[SilenceDocument], Field(description="the silences in force that include the alert")
    ]
    evaluations: Annotated[
        list[ExplainedEvaluationDocument],
        Field(description="the last rows of history, the newest first"),
    ]
    undelivered: Annotated[
        list[UndeliveredToDocument],
        Field(description="the alert's notifications that no channel has accepted"),
    ]


# -- validate and doctor -----------------------------------------------------------------------


@_strict
class FindingDocument(TypedDict):
    """One fault or warning."""

    level: Annotated[
        Literal["fault", "warning"],
        Field(description="a `warning` is valid, but probably not intended"),
    ]
    subject: Annotated[str, Field(description="the alert's name, or the file at fault")]
    path: Annotated[
        str | None, Field(description="the file, relative to the project; null if unknown")
    ]
    line: Annotated[int | None, Field(ge=1, description="the line; null if unknown")]
    message: Annotated[str, Field(description="what is wrong, and what to do")]


@_strict
class EstimateDocument(TypedDict):
    """What one alert's query would read."""

    alert: AlertName
    bytes_estimated: Annotated[
        Count, Field(description="the bytes that the query would read, by a dry run")
    ]


@_strict
class ValidateDocument(TypedDict):
    """The document of `sentinel validate --output json`."""

    findings: Annotated[
        list[FindingDocument], Field(description="every fault and warning; empty if there is none")
    ]
    estimates: Annotated[
        list[EstimateDocument],
        Field(
            description="what each query would read, if the warehouse bills by bytes; empty "
            "otherwise"
        ),
    ]


@_strict
class CheckDocument(TypedDict):
    """One part of the installation that was checked."""

    check: Annotated[str, Field(description="the check's name")]
    ok: Annotated[bool, Field(description="false if the part doesn't work")]
    level: Annotated[
        Literal["ok", "warning", "fault"],
        Field(description="a `warning` works and should be improved; the exit code stays 0"),
    ]
    detail: Annotated[str, Field(description="the result, or what is wrong")]
    hint: Annotated[
        str | None,
        Field(description="what to do next; several lines if it holds SQL statements"),
    ]


@_strict
class DoctorDocument(TypedDict):
    """The document of `sentinel doctor --output json`."""

    checks: Annotated[list[CheckDocument], Field(description="every check, in order")]


# -- payload -----------------------------------------------------------------------------------


@_strict
class AcknowledgementDocument(TypedDict):
    """Who acknowledged an episode."""

    by: Annotated[str | None, Field(description="who acknowledged it")]
    at: Annotated[Time, Field(description="when")]
    comment: Annotated[str | None, Field(description="the comment")]


@_strict
class UndeliverableDocument(TypedDict):
    """The channel that could not be notified."""

    channel: ChannelName
    error: Annotated[str | None, Field(description="why the last attempt failed")]


@_strict
class Payload(TypedDict):
    """The payload of a notification."""

    event: Annotated[Event, Field(description="the [event](#events)")]
    reason: Annotated[ReasonName, Field(description="[why the channel is notified](#reasons)")]
    alert: AlertName
    alert_id: Annotated[str, Field(description="the alert's `id`, otherwise its unique_id")]
    unique_id: UniqueId
    instance: Instance
    dimensions: Annotated[dict[str, Any], Field(description="the same as values")]
    severity: Annotated[
        Severity,
        Field(description="the severity; of a `resolved` event the highest of its episode"),
    ]
    phase: Annotated[
        Phase | None, Field(description="the instance's phase; null without an instance")
    ]
    since: Annotated[Time, Field(description="when the episode started")]
    as_of: Annotated[Time, Field(description="the point in time that the evaluation refers to")]
    actual_value: ActualValue
    threshold: Threshold
    failures: Failures
    message: Annotated[
        str | None, Field(description="the query's message; of an `error` event what went wrong")
    ]
    context: Context
    description: Annotated[str, Field(description="the alert's description")]
    owner: Annotated[str | None, Field(description="the owner")]
    runbook: Annotated[str | None, Field(description="a link to the runbook")]
    tags: Annotated[list[str], Field(description="the model's tags")]
    path: Annotated[str, Field(description="the model's file, relative to the project")]
    depends_on: Annotated[
        list[str], Field(description="the unique_ids of the models and sources that it reads")
    ]
    exposures: Annotated[
        list[str], Field(description="the exposures downstream of what the alert reads")
    ]
    acknowledged: Annotated[
        AcknowledgementDocument | None, Field(description="the acknowledgement, if there is one")
    ]
    episode_id: Annotated[
        str, Field(description="the episode's id, the same in all of the episode's messages")
    ]
    project: Annotated[str, Field(description="the dbt project's name")]
    undeliverable: NotRequired[
        Annotated[
            UndeliverableDocument,
            Field(
                description="only in what the [fallback channel](configuration.md#keys) receives: "
                "the channel that could not be notified"
            ),
        ]
    ]
