"""The store's SQL on BigQuery, where each transaction is one script, and so one job.

Nothing is unique there, and no statement returns what it wrote. So a script first writes a row of
the leases: of two that do so at the same time one is aborted. Then it counts that all is as it was
read, or raises, and an open transaction ends with its script.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core.exceptions import Forbidden
from google.cloud import bigquery
from sqlalchemy import Connection, RowMapping, text

from sentinel.store.catalog import Names, Relation
from sentinel.store.dialect import Change, ClaimStatement
from sentinel.store.tables import Kind

_CASTS: dict[Kind, str] = {
    "text": "{}",
    "json": "{}",
    "time": "timestamp({})",
    "integer": "cast({} as int64)",
    "float": "cast({} as float64)",
}
# A clone has its original's description, other copies don't have Sentinel's.
_SURVEY = """select table_name, table_type, option_value as comment, columns
from {dataset}.INFORMATION_SCHEMA.TABLES
left join (
    select table_name as described, option_value from {dataset}.INFORMATION_SCHEMA.TABLE_OPTIONS
    where option_name = 'description'
) as options on described = table_name
left join (
    select table_name as listed, string_agg(column_name, ' ') as columns
    from {dataset}.INFORMATION_SCHEMA.COLUMNS group by table_name
) as own on listed = table_name
where table_name in ({names})
"""
_KINDS = {"BASE TABLE": "table", "CLONE": "table"}
_CHANGED = "sentinel: "
# What the service says of a transaction that lost against another one.
_ABORTED = ("concurrent update", "could not serialize access", "transaction is aborted")


class BigQueryDialect:
    clock = "current_timestamp()"
    # A write takes seconds, so answers that come within this time are recorded together.
    mark_delay = timedelta(seconds=5)
    # Each renewal is a job, which costs money and a moment.
    lease_ttl = timedelta(minutes=5)

    def words(self, error: BaseException) -> str:
        """Without the reasons, location and job id that the client adds."""
        return str(error).split("; reason:")[0].strip()

    def lost_race(self, error: BaseException) -> bool:
        words = str(error).lower()
        return _CHANGED in words or any(each in words for each in _ABORTED)

    def missing_table(self, error: BaseException) -> bool:
        return "not found: " in str(error).lower()

    def expand(self, parameter: str, columns: Mapping[str, Kind]) -> str:
        fields = ", ".join(
            f"{_CASTS[kind].format(_value(name))} as {name}" for name, kind in columns.items()
        )
        return f"select {fields} from unnest(json_query_array(:{parameter})) as item"

    def texts(self, parameter: str) -> str:
        return f"select item from unnest(json_value_array(:{parameter})) as item"

    def moment(self, moment: datetime) -> Any:
        return moment.astimezone(UTC)  # a time without zone would be bound as a DATETIME

    def survey(
        self, connection: Connection, names: Mapping[str, Names], *, writing: bool
    ) -> Mapping[str, Relation]:
        found: dict[str, Relation] = {}
        datasets = {(each.database, each.schema) for each in names.values()}
        for database, schema in sorted(datasets, key=str):
            keys = {
                each.name: key
                for key, each in names.items()
                if (each.database, each.schema) == (database, schema)
            }
            dataset = ".".join(f"`{part}`" for part in (database, schema) if part)
            sql = _SURVEY.format(dataset=dataset, names=self.texts("names"))
            values = {"names": json.dumps(sorted(keys))}
            for row in connection.execute(text(sql), values).mappings():
                key = keys[row["table_name"]]
                found[key] = Relation(
                    _KINDS.get(row["table_type"], row["table_type"].lower()),
                    frozenset((row["columns"] or "").split()),
                    f"{database}.{schema}.{row['table_name']}",
                    row["comment"] or "",
                    read_only=_refusal(connection, names[key].text) if writing else None,
                )
        return found

    def apply(self, connection: Connection, changes: Sequence[Change], gate: str) -> None:
        values: dict[str, Any] = {}
        lines: list[str] = []
        for change in changes:
            values |= change.values
            lines += [
                f"if ({change.found}) <> {change.expected} then "
                f"raise using message = '{_CHANGED}{change.conflict}'; end if",
                change.sql,
            ]
        connection.execute(text(_script(gate, lines)), values)

    def take(
        self, connection: Connection, taking: ClaimStatement, gate: str
    ) -> Sequence[RowMapping]:
        script = f"{_script(gate, [taking.sql])} {taking.taken};"
        return connection.execute(text(script), taking.values).mappings().all()


def _refusal(connection: Connection, relation: str) -> str | None:
    """Why the service wouldn't change rows; a dry run asks for the permissions and costs nothing."""
    client: bigquery.Client = connection.connection.driver_connection._client  # type: ignore[union-attr]  # Google's own
    config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
    try:
        client.query(f"delete from {relation} where false", job_config=config, timeout=60)
    except Forbidden as error:
        return str(error.message).split("; reason:")[0].strip()
    return None


def _value(name: str) -> str:
    return f"json_value(item, '$.{name}')"


def _script(gate: str, statements: Sequence[str]) -> str:
    first = (
        f"merge {gate} as gate using (select 'writers' as lease) as wanted "
        "on gate.lease = wanted.lease "
        "when matched then update set token = coalesce(gate.token, 0) + 1 "
        "when not matched then insert (lease, token) values ('writers', 1)"
    )
    return "".join(
        f"{line};\n" for line in ("begin transaction", first, *statements, "commit transaction")
    )
