{% macro month_start(months_ago=0) -%}
    {{- return(adapter.dispatch("sentinel_month_start", "sentinel")(months_ago)) -}}
{%- endmacro %}

{# Cast, since on BigQuery dateadd makes a DATETIME, which no TIMESTAMP compares with. #}
{% macro default__sentinel_month_start(months_ago) -%}
    {%- set this_month = dbt.date_trunc("month", sentinel.utc_now()) -%}
    cast(
        {{ dbt.dateadd("month", -months_ago, this_month) }}
        as {{ dbt.type_timestamp() }}
    )
{%- endmacro %}

{% macro sqlite__sentinel_month_start(months_ago) -%}
    strftime(
        '%Y-%m-%d %H:%M:%f000', 'now', 'start of month', '-{{ months_ago }} months'
    )
{%- endmacro %}
