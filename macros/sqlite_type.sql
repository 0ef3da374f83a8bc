{# SQLite has no type for times: Sentinel keeps them as texts. #}
{% macro sqlite_type(column) -%}
    {{-
        return(
            "TEXT" if column.data_type | lower == "timestamp" else column.data_type
        )
    -}}
{%- endmacro %}
