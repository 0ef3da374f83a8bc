"""The document of `silence`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from sentinel.core.documents.fields import Time, strict


@strict
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


@strict
class SilencesDocument(TypedDict):
    """The document of `sentinel silence --output json`."""

    silences: Annotated[
        list[SilenceDocument],
        Field(
            description="the silence that was created; with `--list` those in force, with `--list "
            "--all` those that ended too"
        ),
    ]
