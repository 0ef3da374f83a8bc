{# The store looks for these words (sentinel/store/catalog.py). #}
{% macro table_mark(place) -%}
    {{- return("Sentinel keeps this table as " ~ place ~ ".") -}}
{%- endmacro %}
