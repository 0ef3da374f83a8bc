"""The settings of a connection to a receiver over HTTP, and how long a delivery may take at most."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sentinel.core.definition_types import PositiveDuration
from sentinel.core.duration import format_duration

# One delivery, whatever its channel; a claim lasts a multiple of it.
SEND_DEADLINE = timedelta(seconds=30)
# Closing connections and ending processes takes time too.
LONGEST_TIMEOUT = SEND_DEADLINE - timedelta(seconds=5)
DEFAULT_TIMEOUT = timedelta(seconds=15)


class TransportSettings(BaseModel):
    """The keys that all receivers share which are reached over HTTP."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout: PositiveDuration = Field(
        DEFAULT_TIMEOUT,
        description="How long one delivery may take, from looking up the name to the last byte of "
        f"the answer; at most {format_duration(LONGEST_TIMEOUT)}.",
    )
    ca_file: str | None = Field(
        None, description="The certificates to trust, in PEM (default: the system's)."
    )
    client_cert: str | None = Field(
        None, description="A client certificate in PEM, for receivers that ask for one."
    )
    client_key: str | None = Field(
        None,
        description="The client certificate's key in PEM, without a password (default: in `client_cert`).",
    )

    @field_validator("timeout")
    @classmethod
    def _within_the_claim(cls, timeout: timedelta) -> timedelta:
        if timeout > LONGEST_TIMEOUT:
            raise ValueError(
                f"it can be at most {format_duration(LONGEST_TIMEOUT)}: a claim on a message has to "
                "outlast its delivery, or another process sends the message again"
            )
        return timeout

    @field_validator("client_key")
    @classmethod
    def _needs_certificate(cls, key: str | None, info: object) -> str | None:
        if key is not None and not getattr(info, "data", {}).get("client_cert"):
            raise ValueError("it needs `client_cert`")
        return key
