{% macro utc_now() -%}
    {{- return(adapter.dispatch("sentinel_utc_now", "sentinel")()) -}}
{%- endmacro %}

{% macro default__sentinel_utc_now() -%}
    {{- return("cast((current_timestamp at time zone 'UTC') as timestamp)") -}}
{%- endmacro %}

{% macro postgres__sentinel_utc_now() -%}
    {{- return("(current_timestamp at time zone 'UTC')") -}}
{%- endmacro %}

{# Without `at time zone`, which needs the ICU extension in DuckDB. #}
{% macro duckdb__sentinel_utc_now() -%}
    {{- return("make_timestamp(epoch_us(now()))") -}}
{%- endmacro %}

{% macro bigquery__sentinel_utc_now() -%}
    {{- return("current_timestamp()") -}}
{%- endmacro %}

{# The form in which Sentinel writes times: texts compare as times only if all have it. #}
{% macro sqlite__sentinel_utc_now() -%}
    {{- return("strftime('%Y-%m-%d %H:%M:%f000', 'now')") -}}
{%- endmacro %}

{# sysdate() is in UTC whatever the session's zone; a plain `timestamp` may mean another type. #}
{% macro snowflake__sentinel_utc_now() -%}
    {{- return("cast(sysdate() as timestamp_ntz)") -}}
{%- endmacro %}

{# Databricks' too. A cast takes the session's wall clock, so it is moved to UTC first. #}
{% macro spark__sentinel_utc_now() -%}
    {{-
        return(
            "cast(to_utc_timestamp(current_timestamp(), current_timezone()) as timestamp_ntz)"
        )
    -}}
{%- endmacro %}

{# In UTC as long as nobody sets the session's `timezone`. #}
{% macro redshift__sentinel_utc_now() -%} {{- return("sysdate") -}} {%- endmacro %}

{# A `timestamp` of no stated precision has milliseconds there. #}
{% macro trino__sentinel_utc_now() -%}
    {{- return("cast(current_timestamp(6) at time zone 'UTC' as timestamp(6))") -}}
{%- endmacro %}
