{% macro create_view(relation, sql) -%}
    {{- return(adapter.dispatch("sentinel_create_view", "sentinel")(relation, sql)) -}}
{%- endmacro %}

{% macro default__sentinel_create_view(relation, sql) -%}
    create or replace view {{ relation }} as {{ sql }}
{%- endmacro %}

{% macro sqlite__sentinel_create_view(relation, sql) -%}
    create view {{ relation }} as {{ sql }}
{%- endmacro %}
