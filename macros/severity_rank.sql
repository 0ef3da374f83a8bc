{% macro severity_rank(severity) -%}
    case
        {{ severity }} when 'critical' then 3 when 'warning' then 2 when 'info' then 1
    end
{%- endmacro %}
