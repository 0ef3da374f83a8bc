{% macro create_table(relation) -%}
    {{- return(adapter.dispatch("sentinel_create_table", "sentinel")(relation)) -}}
{%- endmacro %}

{% macro default__sentinel_create_table(relation) -%}
    {%- set columns = {} -%}
    {%- for name, column in model.columns.items() -%}
        {%- do columns.update(
            {
                name: dict(
                    column,
                    data_type=api.Column.translate_type(column.data_type),
                )
            }
        ) -%}
    {%- endfor -%}
    create table if not exists {{ relation }} (
    {{ adapter.render_raw_columns_constraints(raw_columns=columns) | join(", ") }}
    )
{%- endmacro %}

{# A dataset may have its tables expire by default. The mark comes with the table. #}
{% macro bigquery__sentinel_create_table(relation) -%}
    {{ sentinel.default__sentinel_create_table(relation) }}
    options (
        description = "{{ sentinel.table_mark(relation | replace('`', '')) }}",
        expiration_timestamp = null
    )
{%- endmacro %}

{# dbt-sqlite enforces no contract, and translates no type. #}
{% macro sqlite__sentinel_create_table(relation) -%}
    {%- set columns = [] -%}
    {%- for column in model.columns.values() -%}
        {%- set words = [column.name, sentinel.sqlite_type(column)] -%}
        {%- for constraint in column.constraints -%}
            {%- do words.append(constraint.type | replace("_", " ")) -%}
        {%- endfor -%}
        {%- do columns.append(words | join(" ")) -%}
    {%- endfor -%}
    create table if not exists {{ relation }} ({{ columns | join(", ") }})
{%- endmacro %}
