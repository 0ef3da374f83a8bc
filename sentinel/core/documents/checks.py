"""The documents of `validate` and `doctor`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from sentinel.core.documents.fields import AlertName, Count, strict


@strict
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


@strict
class EstimateDocument(TypedDict):
    """What one alert's query would read."""

    alert: AlertName
    bytes_estimated: Annotated[
        Count, Field(description="the bytes that the query would read, by a dry run")
    ]


@strict
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


@strict
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


@strict
class DoctorDocument(TypedDict):
    """The document of `sentinel doctor --output json`."""

    checks: Annotated[list[CheckDocument], Field(description="every check, in order")]
