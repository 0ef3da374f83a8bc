{#- The timestamp of a minute of a day, counted from midnight UTC. -#}
{%- macro at_minute(day, minute) -%}
    {{ return(adapter.dispatch("at_minute", "shop")(day, minute)) }}
{%- endmacro -%}

{%- macro default__at_minute(day, minute) -%}
    cast({{ dbt.dateadd("minute", minute, day) }} as {{ dbt.type_timestamp() }})
{%- endmacro -%}

{#- SQLite has no times but texts; this is the form of `sentinel.as_of()`, so they compare. -#}
{%- macro sqlite__at_minute(day, minute) -%}
    strftime('%Y-%m-%d %H:%M:%f000', {{ day }}, ({{ minute }}) || ' minutes')
{%- endmacro -%}
