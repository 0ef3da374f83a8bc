{# Written only where it changes something: on BigQuery each change counts towards a quota. #}
{% macro mark_table(relation, found) -%}
    {%- if found and found.mark -%}
        {%- set described = config.persist_relation_docs() and model.description -%}
        {%- set words = (
            model.description | trim ~ "\n\n" ~ found.mark
            if described
            else found.mark
        ) -%}
        {%- if found.mark not in found.comment or (
            described and model.description | trim not in found.comment
        ) -%}
            {%- do adapter.dispatch("sentinel_mark_table", "sentinel")(
                relation, found, words
            ) -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{% macro default__sentinel_mark_table(relation, found, words) -%}
    {%- do run_query(
        "comment on table "
        ~ relation
        ~ " is "
        ~ sentinel.text_literal(words)
    ) -%}
{%- endmacro %}

{% macro bigquery__sentinel_mark_table(relation, found, words) -%}
    {%- do adapter.update_table_description(
        relation.database, relation.schema, relation.identifier, words
    ) -%}
{%- endmacro %}

{% macro sqlite__sentinel_mark_table(relation, found, words) -%}
    {%- set schema = adapter.quote(relation.schema) -%}
    {%- for row in run_query(
        "select name from "
        ~ schema
        ~ ".sqlite_master where type = 'index' and lower(tbl_name) = lower("
        ~ sentinel.text_literal(relation.identifier)
        ~ ") and name like 'Sentinel keeps %'"
    ).rows -%}
        {%- do run_query("drop index " ~ schema ~ "." ~ adapter.quote(row[0])) -%}
    {%- endfor -%}
    {%- do run_query(
        "create index "
        ~ schema
        ~ "."
        ~ adapter.quote(found.mark)
        ~ " on "
        ~ adapter.quote(relation.identifier)
        ~ " ("
        ~ (model.columns.values() | first).name
        ~ ") where 0"
    ) -%}
{%- endmacro %}
