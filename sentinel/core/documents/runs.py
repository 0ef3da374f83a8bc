"""The documents of `run` and `list`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from sentinel.core.documents.fields import (
    ActualValue,
    AlertName,
    ChangeName,
    ChannelName,
    Context,
    Count,
    Counts,
    Failures,
    Instance,
    ReasonName,
    Threshold,
    Time,
    UniqueId,
    strict,
)
from sentinel.core.evaluation import Outcome
from sentinel.core.severity import Severity
from sentinel.core.state import Event, Phase


@strict
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


@strict
class SentDocument(TypedDict):
    """One notification that a channel accepted."""

    alert: AlertName
    instance: Instance
    event: Annotated[Event, Field(description="the [event](messages.md#events)")]
    channel: ChannelName


@strict
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
    notifications: Annotated[
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


@strict
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


@strict
class ListDocument(TypedDict):
    """The document of `sentinel list --output json`."""

    alerts: Annotated[
        list[ListedAlertDocument], Field(description="one entry for each selected alert")
    ]
