"""The jobs that BigQuery is asked for: labels, bounds, prices, cancelling, credentials."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sentinel.core.errors import ConfigError, QueryError, WarehouseError
from sentinel.core.evaluation import QueryResult
from sentinel.ports import Query
from sentinel.warehouses.bigquery import BigQuery
from sentinel.warehouses.contract import WarehouseContext

from .bigquery_stub import Answer, Stub, refused, run_stub

LONG = timedelta(minutes=1)
LABELS = {"sentinel_alert": "Orders/Fresh", "sentinel_run": "0f" * 16}
BACKEND = {"reason": "backendError", "message": "try again"}


@pytest.fixture
def stub() -> Iterator[Stub]:
    with run_stub() as running:
        yield running


def bigquery(stub: Stub, folder: Path = Path("/"), **keys: Any) -> BigQuery:
    profile = {
        "method": "oauth-secrets",
        "token": "secret-token",
        "project": "shop",
        "dataset": "marts",
        "api_endpoint": stub.url,
    }
    return BigQuery(profile | keys, WarehouseContext(folder))


def fetch(warehouse: BigQuery, query: Query | None = None, limit: int = 3) -> QueryResult:
    with warehouse.open() as session:
        return session.fetch(query or Query("select n from t", LONG, labels=LABELS), limit)


# -- labels and bounds -------------------------------------------------------------------------


def test_every_job_carries_the_alert_and_the_run_in_letters_that_labels_allow(stub: Stub) -> None:
    with bigquery(stub).open() as session:
        query = Query("select n from t", LONG, labels=LABELS | {"long": "x" * 99})
        session.describe(query)
        session.fetch(query, 3)
        session.count(query, ["n"], 3)
        session.sample(query, [], 3)
    others = stub.dry_runs[1:]  # after the one that looks whether the service is there
    wanted = {"sentinel_alert": "orders_fresh", "sentinel_run": "0f" * 16, "long": "x" * 63}
    assert [each["labels"] for each in [*others, *stub.configurations]] == [wanted] * 7
    assert len(stub.configurations) == 3


@pytest.mark.parametrize(
    ("profile", "alert", "wanted"),
    [
        (None, None, None),
        (1_000, None, "1000"),
        (None, 500, "500"),
        (1_000, 500, "500"),
        (500, 1_000, "500"),
        ("700", 1_000, "700"),
        (0, None, None),
    ],
)
def test_the_smaller_bound_of_bytes_wins(
    stub: Stub, profile: Any, alert: int | None, wanted: str | None
) -> None:
    query = Query("select n from t", LONG, max_bytes_billed=alert)
    fetch(bigquery(stub, maximum_bytes_billed=profile), query)
    [configuration] = stub.configurations
    assert configuration["query"].get("maximumBytesBilled") == wanted


def test_what_goes_beyond_the_bound_of_bytes_is_an_error_in_the_service_s_words(stub: Stub) -> None:
    words = "Query exceeded limit for bytes billed: 500. 10485760 or higher required."
    stub.answers = [Answer(error={"reason": "bytesBilledLimitExceeded", "message": words})]
    with pytest.raises(QueryError) as caught:
        fetch(bigquery(stub))
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("profile", "wanted"), [({}, "INTERACTIVE"), ({"priority": "batch"}, "BATCH")]
)
def test_jobs_have_the_profile_s_priority_location_and_project(
    stub: Stub, profile: dict[str, Any], wanted: str
) -> None:
    fetch(bigquery(stub, location="EU", execution_project="payer", **profile))
    [job] = stub.jobs.values()
    assert job["configuration"]["query"]["priority"] == wanted
    assert job["jobReference"]["location"] == "EU"
    assert job["jobReference"]["projectId"] == "payer"


def test_without_an_execution_project_the_profile_s_project_pays(stub: Stub) -> None:
    fetch(bigquery(stub))
    [job] = stub.jobs.values()
    assert job["jobReference"]["projectId"] == "shop"


def test_a_reservation_of_the_profile_is_used(stub: Stub) -> None:
    name = "projects/p/locations/EU/reservations/r"
    fetch(bigquery(stub, reservation=name))
    [configuration] = stub.configurations
    assert configuration["reservation"] == name


def test_the_service_ends_a_job_by_itself_should_this_process_die(stub: Stub) -> None:
    fetch(bigquery(stub), Query("select n from t", timedelta(seconds=90)))
    fetch(bigquery(stub, timeout_seconds=30), Query("select n from t", timedelta(seconds=90)))
    assert [each["jobTimeoutMs"] for each in stub.configurations] == ["91000", "31000"]


# -- prices ------------------------------------------------------------------------------------


def test_the_bytes_of_a_query_are_estimated_by_a_dry_run_alone(stub: Stub) -> None:
    with bigquery(stub).open() as session:
        described = session.describe(Query("select n from t", LONG))
    assert (described.columns, described.bytes_estimated) == (("n",), 123_456)
    assert stub.jobs == {}


def test_the_bytes_billed_come_with_the_rows(stub: Stub) -> None:
    stub.answers = [Answer(rows=[[1], [2], [3], [4]], billed=20_971_520)]
    found = fetch(bigquery(stub), limit=3)
    assert (found.rows, found.truncated) == (((1,), (2,), (3,)), True)
    assert found.bytes_billed == 20_971_520


def test_a_count_and_a_sample_have_their_price_too(stub: Stub) -> None:
    stub.answers = [Answer(rows=[[1, 2, 1]], columns=("a", "b", "sentinel_row"), billed=7)]
    with bigquery(stub).open() as session:
        query = Query("select a, b from t", LONG)
        assert session.count(query, ["a"], 3).bytes_billed == 7
        sampled = session.sample(query, ["a"], 3)
    assert sampled == QueryResult(("a", "b"), ((1, 2),), bytes_billed=7)


# -- what isn't run ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["MERGE", "SCRIPT", "CALL"])
def test_what_a_dry_run_calls_no_select_is_never_run(stub: Stub, kind: str) -> None:
    stub.statement_type = kind
    with pytest.raises(QueryError, match=f"a {kind} statement"):
        fetch(bigquery(stub))
    assert stub.jobs == {}


# -- cancelling and trying again ---------------------------------------------------------------


def test_a_job_beyond_the_timeout_is_cancelled_on_the_service(stub: Stub) -> None:
    stub.answers = [Answer(endless=True), Answer()]
    warehouse = bigquery(stub)
    with warehouse.open() as session:
        with pytest.raises(QueryError, match="cancelled: it took longer than its timeout of 1s"):
            session.fetch(Query("select n from t", timedelta(seconds=1)), 3)
        [event] = stub.cancelled.values()
        assert event.is_set()
        assert session.fetch(Query("select n from t", LONG), 3).rows == ((1,),)


def test_the_profile_s_timeout_cancels_too_where_it_is_shorter(stub: Stub) -> None:
    stub.answers = [Answer(endless=True)]
    with pytest.raises(QueryError, match="cancelled"):
        fetch(bigquery(stub, job_execution_timeout_seconds=1), Query("select n from t", LONG))
    assert all(event.is_set() for event in stub.cancelled.values())


@pytest.mark.parametrize(
    ("retries", "jobs"), [({}, 2), ({"job_retries": 3}, 4), ({"retries": 0}, 1)]
)
def test_a_job_that_fails_for_reasons_of_the_service_runs_again_as_often_as_the_profile_says(
    stub: Stub, retries: dict[str, Any], jobs: int
) -> None:
    stub.answers = [Answer(error=BACKEND)]
    with pytest.raises(QueryError, match="try again"):
        fetch(bigquery(stub, **retries))
    assert len(stub.jobs) == jobs


def test_a_job_that_succeeds_when_it_runs_again_is_a_result(stub: Stub) -> None:
    stub.answers = [Answer(error=BACKEND), Answer(rows=[[5]])]
    assert fetch(bigquery(stub)).rows == ((5,),)


def test_a_job_that_is_wrong_is_not_run_again(stub: Stub) -> None:
    stub.answers = [Answer(error={"reason": "invalidQuery", "message": "no such column"})]
    with pytest.raises(QueryError, match=r"^no such column$"):
        fetch(bigquery(stub, job_retries=3))
    assert len(stub.jobs) == 1


# -- reaching the service ----------------------------------------------------------------------


def test_a_service_that_refuses_is_one_error_of_the_warehouse_without_the_token(stub: Stub) -> None:
    words = "Access Denied: it lacks the permission to create jobs"
    stub.refuse = refused(403, {"reason": "accessDenied", "message": words})
    with pytest.raises(WarehouseError, match=words) as caught:
        fetch(bigquery(stub))
    assert "secret-token" not in str(caught.value)


def test_a_service_that_can_t_be_reached_is_waited_for_as_long_as_the_profile_says() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = Stub(url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        said: list[str] = []
        keys = {
            "method": "oauth-secrets",
            "token": "secret-token",
            "project": "shop",
            "api_endpoint": nobody.url,
            "job_creation_timeout_seconds": 2,
        }
        started = time.monotonic()
        with (
            pytest.raises(WarehouseError, match="BigQuery can't be used"),
            BigQuery(keys, WarehouseContext(Path("/"), notify=said.append)).open(),
        ):
            pass
        assert time.monotonic() - started < 30
    assert said
    assert all(words.startswith("waiting: ") for words in said)


# -- credentials -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@pytest.fixture
def key(stub: Stub, private_key: str) -> dict[str, str]:
    """The key of a service account whose tokens the stub grants."""
    return {
        "type": "service_account",
        "project_id": "shop",
        "private_key_id": "1",
        "private_key": private_key,
        "client_email": "sentinel@shop.iam.gserviceaccount.com",
        "token_uri": f"{stub.url}/token",
    }


def granted(stub: Stub) -> bool:
    """Whether a token was asked for, and every request carried it."""
    return len(stub.tokens) == 1 and set(stub.authorized) == {"Bearer granted"}


def test_oauth_secrets_use_the_token(stub: Stub) -> None:
    fetch(bigquery(stub))
    assert set(stub.authorized) == {"Bearer secret-token"}


def test_oauth_secrets_refresh_a_token(stub: Stub) -> None:
    secrets: dict[str, Any] = {
        "token": None,
        "refresh_token": "refreshing",
        "client_id": "me",
        "client_secret": "mine",
        "token_uri": f"{stub.url}/token",
    }
    fetch(bigquery(stub, **secrets))
    assert granted(stub)
    assert "refresh_token=refreshing" in stub.tokens[0]


def test_a_service_account_is_read_from_its_file_in_the_project_s_folder(
    stub: Stub, key: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "key.json").write_text(json.dumps(key))
    fetch(bigquery(stub, tmp_path, method="service-account", keyfile="key.json"))
    assert granted(stub)


@pytest.mark.parametrize("form", ["mapping", "escaped", "json", "base64"])
def test_a_service_account_may_stand_in_the_profile(
    stub: Stub, key: dict[str, str], form: str
) -> None:
    text = json.dumps(key)
    given = {
        "mapping": key,
        "escaped": key | {"private_key": key["private_key"].replace("\n", "\\n")},
        "json": text,
        "base64": base64.b64encode(text.encode()).decode(),
    }[form]
    fetch(bigquery(stub, method="service-account-json", keyfile_json=given))
    assert granted(stub)


def test_oauth_takes_the_application_default_credentials(
    stub: Stub, key: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adc.json").write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))
    fetch(bigquery(stub, method="oauth"))
    assert granted(stub)


def test_an_impersonated_account_asks_for_its_tokens_as_the_one_of_the_profile(stub: Stub) -> None:
    """Where Google grants them is fixed, so no stub can stand in."""
    warehouse = bigquery(stub, impersonate_service_account="reader@shop.iam.gserviceaccount.com")
    found = warehouse.client._credentials
    assert type(found).__module__ == "google.auth.impersonated_credentials"
    assert found.service_account_email == "reader@shop.iam.gserviceaccount.com"
    assert found._source_credentials.token == "secret-token"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"method": None}, "the method None"),
        ({"method": "carrier-pigeon"}, "oauth, oauth-secrets, service-account"),
        ({"method": "service-account", "keyfile": "nowhere.json"}, "nowhere.json"),
        ({"method": "service-account-json", "keyfile_json": "{}"}, "missing fields"),
    ],
)
def test_credentials_that_can_t_be_used_are_said_before_anything_is_asked(
    stub: Stub, tmp_path: Path, keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        fetch(bigquery(stub, tmp_path, **keys))
    assert words in str(caught.value)
    assert stub.authorized == []
