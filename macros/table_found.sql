{% macro table_found(rows) -%}
    {%- if not rows -%} {{- return(none) -}} {%- endif -%}
    {%- set kind, place, comment = rows[0][0], rows[0][1], rows[0][2] -%}
    {{-
        return(
            {"kind": kind, "mark": sentinel.table_mark(place), "comment": comment}
        )
    -}}
{%- endmacro %}
