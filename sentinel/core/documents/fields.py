"""Types of fields that several documents share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, WithJsonSchema, with_config

from sentinel.core.evaluation import Outcome
from sentinel.core.notification import Status
from sentinel.core.severity import Severity
from sentinel.core.state import Event, Phase

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

strict = with_config(ConfigDict(extra="forbid"))
