"""The store's SQL on SQLite, from version 3.35 on.

Times are texts of one width, 'YYYY-MM-DD HH:MM:SS.ffffff', so that they compare as times do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, text
from sqlalchemy.exc import OperationalError

from sentinel.store.catalog import Names, Relation
from sentinel.store.dialect import Change, ClaimStatement, Returning
from sentinel.store.tables import Kind, to_text

# A NUL ends a text in SQLite's JSON functions. It travels as char(1, 2), and char(1) itself as
# char(1, 3); an escaped backslash is put aside meanwhile, as a character that no JSON holds.
_TRAVELS = (
    "replace(replace(replace(replace({}, '\\\\', char(1)), '\\u0001', '\\u0001\\u0003'), "
    "'\\u0000', '\\u0001\\u0002'), char(1), '\\\\')"
)
# There are no comments: an index that holds no row has the mark for a name. The file is a part of
# the place, since the schema is `main` in every file.
_SURVEY = """
select case when sql like 'create virtual%' then 'virtual table' else type end as kind,
    (select replace(file, rtrim(file, replace(file, '/', '')), '')
        from pragma_database_list where name = :schema) || '.' || name as place,
    coalesce((select group_concat(name, ' ') from {master} as marks
        where type = 'index' and lower(tbl_name) = lower(:name)
        and name like 'Sentinel keeps %'), '') as comment,
    (select group_concat(name, ' ') from pragma_table_info(found.name, :schema)) as columns
from {master} as found where type in ('table', 'view') and lower(name) = lower(:name)
"""
_ARRIVES = "replace(replace({}, char(1, 2), char(0)), char(1, 3), char(1))"


class SqliteDialect(Returning):
    # `now` has milliseconds; the colons would begin bound parameters.
    clock = "strftime('%Y-%m-%d %H\\:%M\\:%f', 'now') || '000'"

    def moment(self, moment: datetime) -> Any:
        return to_text(moment)

    def lost_race(self, error: BaseException) -> bool:
        return False  # writers take turns: none of them begins while another one writes

    def missing_table(self, error: BaseException) -> bool:
        return str(error).startswith(("no such table", "unknown database"))

    def expand(self, parameter: str, columns: Mapping[str, Kind]) -> str:
        listed = ", ".join(f"{_column(name, kind)} as {name}" for name, kind in columns.items())
        return f"select {listed} from json_each({_TRAVELS.format(':' + parameter)})"

    def texts(self, parameter: str) -> str:
        item = _ARRIVES.format("value")
        return f"select {item} as item from json_each({_TRAVELS.format(':' + parameter)})"

    def survey(
        self, connection: Connection, names: Mapping[str, Names], *, writing: bool
    ) -> Mapping[str, Relation]:
        found: dict[str, Relation] = {}
        for key, each in names.items():
            schema = each.schema or "main"
            quoted = schema.replace('"', '""').replace(":", "\\:")
            sql = _SURVEY.format(master=f'"{quoted}".sqlite_master')
            values = {"schema": schema, "name": each.name}
            for row in connection.execute(text(sql), values).mappings():
                columns = frozenset((row["columns"] or "").split())
                refusal = _refusal(connection, each) if writing and row["kind"] == "table" else None
                found[key] = Relation(
                    row["kind"], columns, row["place"], row["comment"], read_only=refusal
                )
        return found

    def apply(self, connection: Connection, changes: Sequence[Change], gate: str) -> None:
        plain = [replace(change, changed=_bare(change.changed)) for change in changes]
        super().apply(connection, plain, gate)

    def take(
        self, connection: Connection, taking: ClaimStatement, gate: str
    ) -> Sequence[RowMapping]:
        return super().take(connection, replace(taking, columns=_bare(taking.columns)), gate)


def _refusal(connection: Connection, names: Names) -> str | None:
    """Why no row can be written: of a file that is read-only, SQLite says so at the first write."""
    relation = names.text.replace(":", "\\:")
    try:
        connection.execute(text(f"delete from {relation} where 0"))
    except OperationalError as error:
        return str(error.orig)
    return None


def _column(name: str, kind: Kind) -> str:
    found = f"json_extract(value, '$.{name}')"
    return _ARRIVES.format(found) if kind == "text" else found


def _bare(column: str | None) -> Any:
    """A column without the table's alias, which RETURNING doesn't know."""
    return column and column.rsplit(".", 1)[-1]
