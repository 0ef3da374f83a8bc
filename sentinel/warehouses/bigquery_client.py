"""Google's client of BigQuery, made from a dbt profile: credentials, bounds and retries."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import google.auth
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPIError
from google.api_core.retry import Retry
from google.auth import impersonated_credentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_RETRY
from google.oauth2 import credentials as oauth2
from google.oauth2 import service_account

from sentinel.core.errors import ConfigError

METHODS = ("oauth", "oauth-secrets", "service-account", "service-account-json")
REQUEST_TIMEOUT_S = 60.0
_SCOPES = (
    "https://www.googleapis.com/auth/bigquery",
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/drive",
    "https://www.googleapis.com/auth/userinfo.email",
)


def make_client(keys: Mapping[str, Any], project_dir: Path) -> bigquery.Client:
    """The client of a profile's keys, in dbt's canonical names; a key file is relative to `project_dir`.

    Raises ConfigError if the credentials can't be read.
    """
    options = {
        "api_endpoint": keys.get("api_endpoint"),
        "quota_project_id": keys.get("quota_project"),
    }
    try:
        return _BoundedClient(
            keys.get("execution_project") or keys.get("database"),
            _credentials(keys, project_dir),
            location=keys.get("location"),
            client_options=ClientOptions(**options),
            default_query_job_config=bigquery.QueryJobConfig(
                labels={"sentinel_store": "tables"}, priority=priority(keys)
            ),
        )
    except (GoogleAuthError, OSError, ValueError) as error:
        raise ConfigError(
            f"the credentials of the BigQuery profile can't be used: {first_words(error)}"
        ) from None


def priority(keys: Mapping[str, Any]) -> str:
    """The priority of the profile's jobs: interactive unless it says batch."""
    batch = str(keys.get("priority") or "").lower() == "batch"
    return bigquery.QueryPriority.BATCH if batch else bigquery.QueryPriority.INTERACTIVE


def bounded_retry(
    keys: Mapping[str, Any], on_error: Callable[[Exception], object] | None = None
) -> Retry:
    """How a request is retried while the service doesn't answer: for a minute, or as the profile says."""
    deadline = float(keys.get("job_creation_timeout_seconds") or REQUEST_TIMEOUT_S)
    retry: Retry = DEFAULT_RETRY.with_timeout(deadline)
    if on_error is None:
        return retry
    # A Retry takes the function that it calls for errors only when it is made.
    return Retry(predicate=retry._predicate, timeout=deadline, on_error=on_error)


def first_words(error: BaseException) -> str:
    """What the service says is wrong, without its reasons, location and job id."""
    if isinstance(error, GoogleAPIError) and getattr(error, "cause", None) is not None:
        error = error.cause  # type: ignore[attr-defined]  # a RetryError has the last error
    details = getattr(error, "errors", None)
    if details and isinstance(details[0], Mapping) and details[0].get("message"):
        return str(details[0]["message"]).strip()
    text = str(getattr(error, "message", "") or error).strip()
    return text.split("; reason:")[0].splitlines()[0] if text else type(error).__name__


class _BoundedClient(bigquery.Client):
    """Google's client, giving up after a minute where it would try for ten."""

    def query_and_wait(self, query: str, **options: Any) -> Any:
        return super().query_and_wait(
            query, retry=bounded_retry({}), api_timeout=REQUEST_TIMEOUT_S, **options
        )


def _credentials(keys: Mapping[str, Any], project_dir: Path) -> Any:
    scopes = tuple(keys.get("scopes") or _SCOPES)
    source = _source_credentials(keys, project_dir, scopes)
    principal = keys.get("impersonate_service_account")
    if not principal:
        return source
    return impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]  # Google's types end here
        source_credentials=source, target_principal=principal, target_scopes=list(scopes)
    )


def _source_credentials(keys: Mapping[str, Any], project_dir: Path, scopes: Sequence[str]) -> Any:
    match keys["method"]:
        case "oauth":
            credentials, _ = google.auth.default(scopes=scopes)
            return credentials
        case "oauth-secrets":
            names = ("token", "refresh_token", "client_id", "client_secret", "token_uri")
            secrets = {name: keys.get(name) for name in names}
            return oauth2.Credentials(**secrets, scopes=scopes)  # type: ignore[no-untyped-call]  # as above
        case "service-account":
            file = project_dir / Path(str(keys.get("keyfile"))).expanduser()
            return service_account.Credentials.from_service_account_file(  # type: ignore[no-untyped-call]  # as above
                str(file), scopes=scopes
            )
        case _:
            return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]  # as above
                _key_info(keys.get("keyfile_json")), scopes=scopes
            )


def _key_info(keyfile_json: Any) -> dict[str, Any]:
    """The key of a service account: a mapping, or its JSON, or that in Base64."""
    if isinstance(keyfile_json, Mapping):
        info = dict(keyfile_json)
    else:
        text = str(keyfile_json or "")
        with suppress(binascii.Error, UnicodeDecodeError):
            text = base64.b64decode(text, validate=True).decode()
        info = json.loads(text)
    if isinstance(info.get("private_key"), str):
        info["private_key"] = info["private_key"].replace("\\n", "\n")
    return info
