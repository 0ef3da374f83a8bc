{# The `from` is for BigQuery, where a `where` needs one. #}
{% macro empty_table() -%}
    select
        {%- for column in model.columns.values() %}
            cast(
                null as {{ api.Column.translate_type(column.data_type) }}
            ) as {{ column.name }}
            {%- if not loop.last %},{% endif %}
        {%- endfor %}
    from (select 1 as one) as no_rows
    where false
{%- endmacro %}
