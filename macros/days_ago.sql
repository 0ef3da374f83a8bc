{% macro days_ago(days) -%}
    {{- return(adapter.dispatch("sentinel_days_ago", "sentinel")(days)) -}}
{%- endmacro %}

{# Cast, since on BigQuery dateadd makes a DATETIME, which no TIMESTAMP compares with. #}
{% macro default__sentinel_days_ago(days) -%}
    cast(
        {{ dbt.dateadd("day", -days, sentinel.utc_now()) }}
        as {{ dbt.type_timestamp() }}
    )
{%- endmacro %}

{% macro sqlite__sentinel_days_ago(days) -%}
    strftime('%Y-%m-%d %H:%M:%f000', 'now', '-{{ days }} days')
{%- endmacro %}
