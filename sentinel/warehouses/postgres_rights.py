"""What a PostgreSQL role may do beyond reading, and the statements that make one that only reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from sentinel.ports import Relation, Rights

# Predefined roles that reach beyond the tables, or write all of them. pg_read_all_data and
# pg_monitor only read.
_REACHING = (
    "pg_read_server_files", "pg_write_server_files", "pg_execute_server_program",
    "pg_write_all_data", "pg_signal_backend", "pg_create_subscription", "pg_maintain",
)  # fmt: skip
_ATTRIBUTES = {
    "rolcreaterole": "can create roles (CREATEROLE)",
    "rolcreatedb": "can create databases (CREATEDB)",
    "rolreplication": "can start replication (REPLICATION)",
    "rolbypassrls": "bypasses row level security (BYPASSRLS)",
}
_SHOWN = 3

# The login role, and all that it can become by `set role`: whatever the profile's `role` is, a
# session can go back to its login.
_ROLES = """
select rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
from pg_catalog.pg_roles
where pg_catalog.pg_has_role(session_user, oid, 'MEMBER')
order by rolname <> session_user, rolname
"""
_WRITABLE = """
select n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'f', 'v', 'm')
    and n.nspname = any(:schemas)
    and not (n.nspname || '.' || c.relname = any(:excepted))
    and exists (
        select from pg_catalog.pg_roles r
        where pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')
            and (
                r.oid = c.relowner
                or pg_catalog.has_table_privilege(r.oid, c.oid, 'insert, update, delete, truncate')
                or pg_catalog.has_any_column_privilege(r.oid, c.oid, 'insert, update')
            )
    )
order by 1, 2
"""
_CREATABLE = """
select n.nspname, pg_catalog.has_schema_privilege('public', n.oid, 'create')
from pg_catalog.pg_namespace n
where n.nspname = any(:schemas)
    and exists (
        select from pg_catalog.pg_roles r
        where pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')
            and pg_catalog.has_schema_privilege(r.oid, n.oid, 'create')
    )
order by 1
"""
_DATABASE = """
select
    current_database(),
    session_user,
    exists (
        select from pg_catalog.pg_roles r
        where pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')
            and pg_catalog.has_database_privilege(r.oid, current_database(), 'create')
    )
"""
_OWNERS = """
select distinct n.nspname, pg_catalog.pg_get_userbyid(c.relowner)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = any(:schemas) and c.relkind in ('r', 'p', 'f', 'v', 'm')
order by 1, 2
"""


def find_rights(
    connection: Connection, watched: Sequence[Relation], own: Sequence[Relation]
) -> Rights:
    """The rights beyond reading on the schemas of `watched`; those on `own` are meant to be."""
    schemas = sorted({each.schema for each in watched})
    bound = {"schemas": schemas, "excepted": [f"{each.schema}.{each.name}" for each in own]}

    def rows(statement: str) -> Sequence[Any]:
        values = {name: value for name, value in bound.items() if f":{name}" in statement}
        return connection.execute(text(statement), values).all()

    ((database, user, creates),) = rows(_DATABASE)
    roles = rows(_ROLES)
    public = [schema for schema, everybody in rows(_CREATABLE) if everybody]
    if roles and roles[0].rolsuper:
        found = [f"{user!r} is a superuser: nothing on the server is closed to it"]
    else:
        found = [each for role in roles for each in _of_role(role, user)]
        if creates:
            found.append(f"{user!r} can create schemas in the database {database!r}")
        found += [
            f"{user!r} can create tables in the schema {each!r}" for each, _ in rows(_CREATABLE)
        ]
        writable = [f"{schema}.{table}" for schema, table, _ in rows(_WRITABLE)]
        if writable:
            more = f" and {len(writable) - _SHOWN} more" if len(writable) > _SHOWN else ""
            found.append(f"{user!r} can write {', '.join(writable[:_SHOWN])}{more}")
    if not found:
        return Rights()
    remedy = _remedy(user, database, schemas, rows(_OWNERS), public)
    return Rights(tuple(found), tuple(remedy), new_user=True)


def _of_role(role: Any, user: str) -> list[str]:
    via = "" if role.rolname == user else f", as the role {role.rolname!r}"
    if role.rolsuper:
        return [f"{user!r} can become the superuser {role.rolname!r} by `set role`"]
    if role.rolname in _REACHING:
        return [f"{user!r} is a member of {role.rolname!r}"]
    return [f"{user!r} {words}{via}" for key, words in _ATTRIBUTES.items() if getattr(role, key)]


def _remedy(
    user: str,
    database: str,
    schemas: Sequence[str],
    owners: Sequence[tuple[str, str]],
    public: Sequence[str],
) -> list[str]:
    """Statements for an administrator of the database, in their order."""
    reader, listed = quoted(f"{user}_reader"[-63:]), ", ".join(map(quoted, schemas))
    statements = [
        f"create role {reader} login password 'choose one';",
        f"grant connect on database {quoted(database)} to {reader};",
        f"grant usage on schema {listed} to {reader};",
        f"grant select on all tables in schema {listed} to {reader};",
    ]
    # Otherwise the next `dbt run`, which recreates tables, revokes the grants.
    statements += [
        f"alter default privileges for role {quoted(owner)} in schema {quoted(schema)} "
        f"grant select on tables to {reader};"
        for schema, owner in owners
    ]
    return statements + [
        f"revoke create on schema {quoted(schema)} from public;" for schema in public
    ]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
