"""The store's SQL on DuckDB."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from sqlalchemy import Connection, text

from sentinel.store.catalog import Names, Relation
from sentinel.store.dialect import Returning
from sentinel.store.tables import Kind

_TYPES: dict[Kind, str] = {
    "text": "VARCHAR",
    "json": "VARCHAR",
    "time": "TIMESTAMP",
    "integer": "BIGINT",
    "float": "DOUBLE",
}


# A commit that fails for other reasons, such as a full disk, has an exception of the same type.
_SURVEY = """
select found.kind, found.database_name, found.schema_name, found.name,
    parse_filename(coalesce(file.path, found.database_name)) || '.' || found.schema_name || '.'
        || found.name as place,
    coalesce(found.comment, '') as comment, file.readonly,
    (select list(column_name) from duckdb_columns() as own
        where (own.database_name, own.schema_name, own.table_name)
            = (found.database_name, found.schema_name, found.name)) as columns,
    current_database() as here, current_schema() as main
from (
    select 'table' as kind, database_name, schema_name, table_name as name, comment
    from duckdb_tables()
    union all
    select 'view', database_name, schema_name, view_name, comment from duckdb_views()
) as found
join duckdb_databases() as file on file.database_name = found.database_name
"""
_LOST_RACE = re.compile(r"conflict|constraint violation", re.IGNORECASE)


class DuckDbDialect(Returning):
    clock = "make_timestamp(epoch_us(now()))"

    def lost_race(self, error: BaseException) -> bool:
        return type(error).__name__ == "TransactionException" and bool(
            _LOST_RACE.search(str(error))
        )

    def missing_table(self, error: BaseException) -> bool:
        return type(error).__name__ == "CatalogException"

    def expand(self, parameter: str, columns: Mapping[str, Kind]) -> str:
        shape = json.dumps([{name: _TYPES[kind] for name, kind in columns.items()}])
        shape = shape.replace(":", "\\:")  # a colon would begin a bound parameter
        return f"select unnest(from_json(cast(:{parameter} as json), '{shape}'), recursive := true)"

    def texts(self, parameter: str) -> str:
        return f"""select unnest(from_json(cast(:{parameter} as json), '["VARCHAR"]')) as item"""

    def survey(
        self, connection: Connection, names: Mapping[str, Names], *, writing: bool
    ) -> Mapping[str, Relation]:
        wanted = json.dumps([each.name.lower() for each in names.values()])
        sql = f"{_SURVEY} where lower(found.name) in ({self.texts('wanted')})"
        rows = connection.execute(text(sql), {"wanted": wanted}).mappings().all()
        found: dict[str, Relation] = {}
        for row in rows:
            for key, each in names.items():
                place = (each.database or row["here"], each.schema or row["main"], each.name)
                there = (row["database_name"], row["schema_name"], row["name"])
                if [part.lower() for part in place] == [part.lower() for part in there]:
                    found[key] = Relation(
                        row["kind"],
                        frozenset(row["columns"] or ()),
                        row["place"],
                        row["comment"],
                        read_only="its database is attached read-only" if row["readonly"] else None,
                    )
        return found
