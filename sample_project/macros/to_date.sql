{#- The date of a timestamp, of a date, or of a literal such as '2026-01-31'. -#}
{%- macro to_date(expression) -%}
    {{ return(adapter.dispatch("to_date", "shop")(expression)) }}
{%- endmacro -%}

{%- macro default__to_date(expression) -%}
    cast({{ expression }} as date)
{%- endmacro -%}

{%- macro sqlite__to_date(expression) -%} date({{ expression }}) {%- endmacro -%}
