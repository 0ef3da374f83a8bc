{#- The date so many days after another one; `days` is a number, or SQL. -#}
{%- macro add_days(day, days) -%}
    {{ return(adapter.dispatch("add_days", "shop")(day, days)) }}
{%- endmacro -%}

{%- macro default__add_days(day, days) -%}
    cast({{ dbt.dateadd("day", days, day) }} as date)
{%- endmacro -%}

{%- macro sqlite__add_days(day, days) -%}
    date({{ day }}, ({{ days }}) || ' days')
{%- endmacro -%}
