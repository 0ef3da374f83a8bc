{% macro severity_name(rank) -%}
    {{- return(adapter.dispatch("severity_name", "sentinel")(rank)) -}}
{%- endmacro %}

{% macro default__severity_name(rank) -%}
    case {{ rank }} when 3 then 'critical' when 2 then 'warning' when 1 then 'info' end
{%- endmacro %}
