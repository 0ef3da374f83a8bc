{#- How often the clock strikes between two timestamps. -#}
{%- macro hours_between(first, second) -%}
    {{ return(adapter.dispatch("hours_between", "shop")(first, second)) }}
{%- endmacro -%}

{%- macro default__hours_between(first, second) -%}
    {{ dbt.datediff(first, second, "hour") }}
{%- endmacro -%}

{%- macro sqlite__hours_between(first, second) -%}
    (strftime('%s', {{ second }}) / 3600 - strftime('%s', {{ first }}) / 3600)
{%- endmacro -%}
