{#
    What is at the place of the calling model's table: none, or its `kind` ("table", "view", or in
    the warehouse's own word), the `mark` that it has to have here, and its `comment`, which holds
    the mark.
#}
{% macro find_table(relation) -%}
    {{- return(adapter.dispatch("sentinel_find_table", "sentinel")(relation)) -}}
{%- endmacro %}

{# Sentinel keeps no tables on such a warehouse: nothing looks for a mark. #}
{% macro default__sentinel_find_table(relation) -%}
    {%- set found = adapter.get_relation(
        relation.database, relation.schema, relation.identifier
    ) -%}
    {{-
        return(
            {"kind": found.type | string, "mark": "", "comment": ""}
            if found
            else none
        )
    -}}
{%- endmacro %}

{% macro redshift__sentinel_find_table(relation) -%}
    {{- return(sentinel.default__sentinel_find_table(relation)) -}}
{%- endmacro %}

{# By its number too: a table that a dump has restored somewhere else has another one. #}
{% macro postgres__sentinel_find_table(relation) -%}
    {%- set rows = run_query(
        "select case when relkind = 'v' then 'view'"
        ~ " when relkind <> 'r' or relpersistence <> 'p' then 'special'"
        ~ " when exists (select 1 from pg_inherits where pg_class.oid in (inhparent, inhrelid))"
        ~ " then 'special' else 'table' end,"
        ~ " current_database() || '.' || nspname || '.' || relname || ' (' || pg_class.oid || ')',"
        ~ " coalesce(obj_description(pg_class.oid, 'pg_class'), '')"
        ~ " from pg_class join pg_namespace on pg_namespace.oid = relnamespace"
        ~ " where pg_class.oid = to_regclass("
        ~ sentinel.text_literal(relation.include(database=false) | string)
        ~ ")"
    ).rows -%}
    {{- return(sentinel.table_found(rows)) -}}
{%- endmacro %}

{# By its file: an attached one may have any name. #}
{% macro duckdb__sentinel_find_table(relation) -%}
    {%- set here = (
        " where lower(found.database_name) = lower("
        ~ sentinel.text_literal(relation.database)
        ~ ") and lower(found.schema_name) = lower("
        ~ sentinel.text_literal(relation.schema)
        ~ ") and lower(name) = lower("
        ~ sentinel.text_literal(relation.identifier)
        ~ ")"
    ) -%}
    {%- set rows = run_query(
        "select kind, parse_filename(coalesce(path, found.database_name)) || '.'"
        ~ " || found.schema_name || '.' || name, coalesce(comment, '') from ("
        ~ " select 'table' as kind, database_name, schema_name, table_name as name, comment"
        ~ " from duckdb_tables() union all"
        ~ " select 'view', database_name, schema_name, view_name, comment from duckdb_views()"
        ~ ") as found join (select database_name, path from duckdb_databases()) as file"
        ~ " on file.database_name = found.database_name"
        ~ here
    ).rows -%}
    {{- return(sentinel.table_found(rows)) -}}
{%- endmacro %}

{# A clone has the description of its original. #}
{% macro bigquery__sentinel_find_table(relation) -%}
    {%- set dataset = "`" ~ relation.database ~ "`.`" ~ relation.schema ~ "`" -%}
    {%- set rows = run_query(
        "select case when table_type in ('BASE TABLE', 'CLONE') then 'table'"
        ~ " when table_type = 'VIEW' then 'view' else 'special' end, "
        ~ sentinel.text_literal(relation | replace("`", ""))
        ~ ", coalesce(option_value, '') from "
        ~ dataset
        ~ ".INFORMATION_SCHEMA.TABLES as found left join (select table_name as described,"
        ~ " option_value from "
        ~ dataset
        ~ ".INFORMATION_SCHEMA.TABLE_OPTIONS where option_name = 'description') as options"
        ~ " on described = table_name where table_name = "
        ~ sentinel.text_literal(relation.identifier)
    ).rows -%}
    {{- return(sentinel.table_found(rows)) -}}
{%- endmacro %}

{# SQLite has no comments: an index that holds no row has the mark for a name. #}
{% macro sqlite__sentinel_find_table(relation) -%}
    {%- set master = adapter.quote(relation.schema) ~ ".sqlite_master" -%}
    {%- set name = sentinel.text_literal(relation.identifier) -%}
    {%- set rows = run_query(
        "select type, (select replace(file, rtrim(file, replace(file, '/', '')), '')"
        ~ " from pragma_database_list where name = "
        ~ sentinel.text_literal(relation.schema)
        ~ ") || '.' || name, coalesce((select group_concat(name, ' ') from "
        ~ master
        ~ " as marks where type = 'index' and lower(tbl_name) = lower("
        ~ name
        ~ ") and name like 'Sentinel keeps %'), '') from "
        ~ master
        ~ " as found where type in ('table', 'view') and lower(name) = lower("
        ~ name
        ~ ")"
    ).rows -%}
    {{- return(sentinel.table_found(rows)) -}}
{%- endmacro %}
