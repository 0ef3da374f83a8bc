"""The store's SQL on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection, text

from sentinel.store.catalog import Names, Relation, missing_privileges
from sentinel.store.dialect import Returning
from sentinel.store.tables import Kind

_TYPES: dict[Kind, str] = {
    "text": "text",
    "json": "text",
    "time": "timestamp",
    "integer": "bigint",
    "float": "double precision",
}
# serialization_failure and deadlock_detected: another transaction was first.
_LOST = ("40001", "40P01")
_UNDEFINED_TABLE = "42P01"
# A table that a dump has restored elsewhere has another number. Foreign tables, partitions and
# children may be another server's or another table's rows; unlogged tables are empty after a crash.
_SURVEY = """
select wanted.model,
    case
        when pg_class.relkind = 'v' then 'view'
        when pg_class.relkind = 'm' then 'materialized view'
        when pg_class.relkind = 'f' then 'foreign table'
        when pg_class.relkind = 'p' then 'partitioned table'
        when pg_class.relkind <> 'r' then 'relation of the kind ' || cast(pg_class.relkind as text)
        when pg_class.relpersistence = 'u' then 'unlogged table'
        when pg_class.relpersistence <> 'p' then 'temporary table'
        when exists (select 1 from pg_inherits where pg_class.oid in (inhparent, inhrelid))
            then 'table that shares rows with its parent or children'
        else 'table'
    end as kind,
    current_database() || '.' || nspname || '.' || relname || ' (' || pg_class.oid || ')' as place,
    coalesce(obj_description(pg_class.oid, 'pg_class'), '') as comment,
    (
        select array_agg(cast(attname as text)) from pg_attribute
        where attrelid = pg_class.oid and attnum > 0 and not attisdropped
    ) as columns,
    has_table_privilege(pg_class.oid, 'select') as "select",
    has_table_privilege(pg_class.oid, 'insert') as "insert",
    has_table_privilege(pg_class.oid, 'update') as "update",
    has_table_privilege(pg_class.oid, 'delete') as "delete",
    case
        when pg_is_in_recovery() then 'the server is a standby'
        when current_setting('transaction_read_only') = 'on'
            then 'its sessions are read-only (default_transaction_read_only)'
    end as read_only
from ({}) as wanted
join pg_class on pg_class.oid = to_regclass(wanted.name)
join pg_namespace on pg_namespace.oid = pg_class.relnamespace
"""
# A text can't hold the character NUL here, which JSON writes \u0000: U+FFFD stands in its place. An
# even number of backslashes before it are backslashes themselves; an odd one makes it mere letters.
_WITHOUT_NUL = r"""case when position('\u0000' in given) = 0 then given
    else regexp_replace(given, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g') end"""


class PostgresDialect(Returning):
    clock = "clock_timestamp() at time zone 'UTC'"

    def lost_race(self, error: BaseException) -> bool:
        return _code(error) in _LOST

    def missing_table(self, error: BaseException) -> bool:
        return _code(error) == _UNDEFINED_TABLE

    def expand(self, parameter: str, columns: Mapping[str, Kind]) -> str:
        shape = ", ".join(f"{name} {_TYPES[kind]}" for name, kind in columns.items())
        names = ", ".join(columns)
        return (
            f"select {names} from ({_given(parameter)}) as parameter, "
            f"json_to_recordset(cast(given as json)) as item ({shape})"
        )

    def survey(
        self, connection: Connection, names: Mapping[str, Names], *, writing: bool
    ) -> Mapping[str, Relation]:
        wanted = json.dumps([{"model": key, "name": each.text} for key, each in names.items()])
        sql = _SURVEY.format(self.expand("wanted", {"model": "text", "name": "text"}))
        rows = connection.execute(text(sql), {"wanted": wanted}).mappings().all()
        return {
            row["model"]: Relation(
                row["kind"],
                frozenset(row["columns"] or ()),
                row["place"],
                row["comment"],
                missing_privileges(dict(row)),
                row["read_only"],
            )
            for row in rows
        }

    def texts(self, parameter: str) -> str:
        return (
            f"select item from ({_given(parameter)}) as parameter, "
            "json_array_elements_text(cast(given as json)) as item"
        )


def _given(parameter: str) -> str:
    """The parameter, named once: the driver writes it out wherever it is named."""
    return (
        f"select {_WITHOUT_NUL} as given from (select cast(:{parameter} as text) as given) as raw"
    )


def _code(error: BaseException) -> str | None:
    """The SQLSTATE of an error of psycopg."""
    return getattr(error, "sqlstate", None)
