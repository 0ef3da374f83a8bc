{# Sentinel looks for the marks, so they are the same on every adapter: what differs is utc_now. #}
{% macro as_of() -%}
    {{- return("/*sentinel:as_of*/ " ~ sentinel.utc_now() ~ " /*sentinel:end*/") -}}
{%- endmacro %}
