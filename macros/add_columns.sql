{% macro add_columns(relation) -%}
    {%- set there = [] -%}
    {%- for column in adapter.get_columns_in_relation(relation) -%}
        {%- do there.append(column.name | lower) -%}
    {%- endfor -%}
    {%- set lacking = [] -%}
    {%- for column in model.columns.values() if column.name | lower not in there -%}
        {%- do lacking.append(column) -%}
    {%- endfor -%}
    {%- if lacking -%}
        {%- do adapter.dispatch("sentinel_add_columns", "sentinel")(
            relation, lacking
        ) -%}
    {%- endif -%}
{%- endmacro %}

{% macro default__sentinel_add_columns(relation, lacking) -%}
    {%- set columns = [] -%}
    {%- for column in lacking -%}
        {%- set type = api.Column.translate_type(column.data_type) -%}
        {%- do columns.append(api.Column.create(column.name, type)) -%}
    {%- endfor -%}
    {%- do dbt.alter_relation_add_remove_columns(relation, columns, none) -%}
{%- endmacro %}

{% macro sqlite__sentinel_add_columns(relation, lacking) -%}
    {%- for column in lacking -%}
        {%- do run_query(
            "alter table "
            ~ relation
            ~ " add column "
            ~ column.name
            ~ " "
            ~ sentinel.sqlite_type(column)
        ) -%}
    {%- endfor -%}
{%- endmacro %}
