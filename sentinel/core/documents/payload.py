"""The payload of a notification."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from sentinel.core.documents.fields import (
    ActualValue,
    AlertName,
    ChannelName,
    Context,
    Failures,
    Instance,
    ReasonName,
    Threshold,
    Time,
    UniqueId,
    strict,
)
from sentinel.core.severity import Severity
from sentinel.core.state import Event, Phase


@strict
class AcknowledgementDocument(TypedDict):
    """Who acknowledged an episode."""

    by: Annotated[str | None, Field(description="who acknowledged it")]
    at: Annotated[Time, Field(description="when")]
    comment: Annotated[str | None, Field(description="the comment")]


@strict
class UndeliverableDocument(TypedDict):
    """The channel that could not be notified."""

    channel: ChannelName
    error: Annotated[str | None, Field(description="why the last attempt failed")]


@strict
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
