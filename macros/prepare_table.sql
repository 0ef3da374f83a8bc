{% macro prepare_table() -%}
    {%- if execute and flags.WHICH in ("run", "build", "retry") -%}
        {%- do adapter.dispatch("prepare_table", "sentinel")() -%}
    {%- endif -%}
{%- endmacro %}

{# Where the contract is enforced, dbt does it. #}
{% macro default__prepare_table() -%} {%- endmacro %}

{#
    dbt-sqlite enforces no contract and adds no columns. A table that it made would have no key, so
    what must be told once could be told twice.
#}
{% macro sqlite__prepare_table() -%}
    {%- set found = adapter.get_relation(
        this.database, this.schema, this.identifier
    ) -%}
    {%- set there = [] -%}
    {%- if found -%}
        {%- for column in adapter.get_columns_in_relation(found) -%}
            {%- do there.append(column.name) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- set wanted = [] -%}
    {%- for column in model.columns.values() if column.name not in there -%}
        {%- set type = (
            "TEXT"
            if column.data_type | lower == "timestamp"
            else column.data_type
        ) -%}
        {%- set words = [column.name, type] -%}
        {%- for constraint in column.constraints -%}
            {%- do words.append(constraint.type | replace("_", " ")) -%}
        {%- endfor -%}
        {%- do wanted.append(words | join(" ")) -%}
    {%- endfor -%}
    {%- if found -%}
        {%- for column in wanted -%}
            {%- do run_query("alter table " ~ found ~ " add column " ~ column) -%}
        {%- endfor -%}
    {%- else -%}
        {%- set made = this.incorporate(type="table") -%}
        {%- do run_query("create table " ~ made ~ " (" ~ wanted | join(", ") ~ ")") -%}
        {%- do adapter.cache_added(made) -%}
    {%- endif -%}
{%- endmacro %}
