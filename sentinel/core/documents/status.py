"""The document of `status`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from sentinel.core.documents.fields import (
    AckedAt,
    AckedBy,
    ActualValue,
    AlertName,
    Attempts,
    ChannelName,
    Count,
    DeliveryStatus,
    EpisodeId,
    Instance,
    LastError,
    SilencedUntil,
    Threshold,
    Time,
    UniqueId,
    strict,
)
from sentinel.core.documents.silences import SilenceDocument
from sentinel.core.evaluation import Outcome
from sentinel.core.severity import Severity
from sentinel.core.state import Event, Health, Phase


@strict
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


@strict
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


@strict
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
