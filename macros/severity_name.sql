{% macro severity_name(rank) -%}
    case {{ rank }} when 3 then 'critical' when 2 then 'warning' when 1 then 'info' end
{%- endmacro %}
