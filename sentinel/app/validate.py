"""All faults that can be found without evaluating alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sentinel.app.alerts import Alerts
from sentinel.app.compile import compile_alerts, describe_fault
from sentinel.app.query import query_of
from sentinel.core.alert import Alert
from sentinel.core.errors import ConfigError, QueryError, SentinelError
from sentinel.core.evaluation import ContractError, shape_of
from sentinel.core.project import Location
from sentinel.ports import Project, Session, Warehouse


@dataclass(frozen=True)
class Finding:
    """One fault: its alert or file, its location and its message.

    A `warning` is valid, but probably not intended.
    """

    subject: str
    location: Location | None
    message: str
    warning: bool = False


def find_in_definitions(project: Project, alerts: Alerts) -> list[Finding]:
    """The faults of definitions."""
    return [
        Finding(alert.name, project.locate(alert.source, *fault.keys), fault.message)
        for alert in alerts.broken
        for fault in alert.faults
    ]


def find_hidden(project: Project, alerts: Alerts) -> list[Finding]:
    """Definitions in YAML that one in the SQL file replaces whole, since dbt merges meta so."""
    found = []
    for alert in alerts.all:
        hidden = project.hidden_block(alert.source)
        if hidden is not None:
            words = f"this `sentinel` block is not used: the one in {alert.source.path} replaces it"
            found.append(Finding(alert.name, hidden, words, warning=True))
    return found


def find_in_settings(checks: Iterable[Callable[[], object]]) -> list[Finding]:
    """The faults of sentinel.yml: each check builds a part of it, and raises ConfigError."""
    found = []
    for check in checks:
        try:
            check()
        except ConfigError as error:
            places = error.places or [(None, error.message)]
            found += [Finding("sentinel.yml", location, words) for location, words in places]
    return found


def find_in_sql(project: Project, alerts: Alerts) -> tuple[list[Finding], list[tuple[Alert, str]]]:
    """Alerts that don't compile, and the SQL of those that do."""
    compiled = compile_alerts(project, alerts.valid)
    found: list[Finding] = []
    sql: list[tuple[Alert, str]] = []
    for alert in alerts.valid:
        made = compiled.get(alert.source.unique_id)
        if made is None or made.sql is None:
            place = Location(alert.source.path)
            words = made and made.error
            found.append(Finding(alert.name, place, words or "it doesn't compile"))
        else:
            sql.append((alert, made.sql))
    return found, sql


@dataclass(frozen=True)
class QueryChecks:
    """What the warehouse says of the queries: their faults, and the bytes each would read.

    `estimates` are by the alert's name, where the warehouse bills by bytes.
    """

    findings: tuple[Finding, ...] = ()
    estimates: Mapping[str, int] = field(default_factory=dict)


def check_queries(
    warehouse: Warehouse, sql: Sequence[tuple[Alert, str]], threads: int
) -> QueryChecks:
    """Find queries that the warehouse refuses, or whose columns break the query contract.

    Raises WarehouseError if the warehouse can't be reached.
    """
    with warehouse.open() as session, ThreadPoolExecutor(threads) as pool:
        checked = list(pool.map(lambda item: _check_query(session, *item), sql))
    return QueryChecks(
        tuple(found for found in checked if isinstance(found, Finding)),
        {
            alert.name: found
            for (alert, _), found in zip(sql, checked, strict=True)
            if isinstance(found, int)
        },
    )


def _check_query(session: Session, alert: Alert, sql: str) -> Finding | int | None:
    place = Location(alert.source.path)
    try:
        described = session.describe(query_of(alert, sql))
        shape_of(alert.rules, described.columns)
    except (QueryError, ContractError) as error:
        return Finding(alert.name, place, str(error))
    except SentinelError:
        raise
    except Exception as error:  # noqa: BLE001 - the edge of one alert: the others are checked
        return Finding(alert.name, place, describe_fault(error))
    estimate, most = described.bytes_estimated, alert.rules.max_bytes_billed
    if estimate is not None and most is not None and estimate > most:
        return Finding(
            alert.name,
            place,
            f"it would read {estimate:,} bytes, more than its max_bytes_billed of {most:,}",
        )
    return estimate
