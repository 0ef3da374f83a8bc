{% macro utc_now() -%}
    {{- return(adapter.dispatch("utc_now", "sentinel")()) -}}
{%- endmacro %}

{% macro default__utc_now() -%}
    {{- return("cast((current_timestamp at time zone 'UTC') as timestamp)") -}}
{%- endmacro %}

{% macro postgres__utc_now() -%}
    {{- return("(current_timestamp at time zone 'UTC')") -}}
{%- endmacro %}

{# Without `at time zone`, which needs the ICU extension in DuckDB. #}
{% macro duckdb__utc_now() -%}
    {{- return("make_timestamp(epoch_us(now()))") -}}
{%- endmacro %}

{% macro bigquery__utc_now() -%} {{- return("current_timestamp()") -}} {%- endmacro %}

{# The form in which Sentinel writes times: texts compare as times only if all have it. #}
{% macro sqlite__utc_now() -%}
    {{- return("strftime('%Y-%m-%d %H:%M:%f000', 'now')") -}}
{%- endmacro %}
