{% macro clear_view(found) -%}
    {%- if found -%}
        {{- return(adapter.dispatch("sentinel_clear_view", "sentinel")(found)) -}}
    {%- endif -%}
{%- endmacro %}

{# A view is replaced in one step. #}
{% macro default__sentinel_clear_view(found) -%}
    {%- if not found.is_view -%} {%- do adapter.drop_relation(found) -%} {%- endif -%}
{%- endmacro %}

{# `create or replace` takes no other columns there. #}
{% macro postgres__sentinel_clear_view(found) -%}
    {%- do adapter.drop_relation(found) -%}
{%- endmacro %}

{% macro sqlite__sentinel_clear_view(found) -%}
    {%- do adapter.drop_relation(found) -%}
{%- endmacro %}
