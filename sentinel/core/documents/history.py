"""The documents of `history` and `explain`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from sentinel.core.documents.fields import (
    AckedAt,
    AckedBy,
    ActualValue,
    AlertName,
    Attempts,
    ChangeName,
    ChannelName,
    Count,
    DeliveryStatus,
    EpisodeId,
    EventName,
    Failures,
    Instance,
    LastError,
    OutcomeName,
    PhaseName,
    ReasonName,
    SeverityName,
    SilencedUntil,
    Threshold,
    Time,
    UniqueId,
    strict,
)
from sentinel.core.documents.silences import SilenceDocument
from sentinel.core.severity import Severity
from sentinel.core.state import Event, Health, Phase


@strict
class ReasonDocument(TypedDict):
    """Why a channel was, or wasn't, notified of an event."""

    channel: ChannelName
    event: Annotated[EventName, Field(description="the [event](messages.md#events)")]
    notified: Annotated[bool, Field(description="whether the channel was notified")]
    reason: Annotated[ReasonName, Field(description="the [reason](messages.md#reasons)")]


@strict
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


@strict
class HistoryDocument(TypedDict):
    """The document of `sentinel history --output json`."""

    evaluations: Annotated[
        list[EvaluationDocument],
        Field(
            description="rows of [sentinel_history](tables.md#sentinel_history), the newest first"
        ),
    ]


@strict
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


@strict
class ExplainedReasonDocument(ReasonDocument):
    """Why a channel was, or wasn't, notified of an event, in a sentence too."""

    means: Annotated[str, Field(description="the reason as a sentence")]


@strict
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


@strict
class UndeliveredToDocument(TypedDict):
    """One of the alert's notifications that its channel has not accepted."""

    instance: Instance
    channel: ChannelName
    event: Annotated[Event, Field(description="the [event](messages.md#events)")]
    status: DeliveryStatus
    attempts: Attempts
    last_error: LastError


@strict
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
