{#
    Stops where a table with rows was made somewhere else: by a clone, a copy or a restored dump.
    Its outbox holds what another environment has to send.
#}
{% macro own_table(relation, found) -%}
    {%- if found.kind != "table" -%}
        {%- do exceptions.raise_compiler_error(
            "Sentinel keeps its rows in tables of its own, and "
            ~ relation
            ~ " is something else, such as a materialized view, a foreign, partitioned or unlogged"
            ~ " table. Nothing was changed. Drop or rename it, and `dbt run -s package:sentinel`"
            ~ " makes the table."
        ) -%}
    {%- endif -%}
    {%- if found.mark not in found.comment -%}
        {%- set way = var("sentinel_take_over", none) -%}
        {%- if way == "empty" -%}
            {%- call statement("emptied") -%}
                delete from {{ relation }} where 1 = 1
            {%- endcall -%}
        {%- elif way != "keep" and run_query(
            "select 1 as one from " ~ relation ~ " limit 1"
        ).rows -%}
            {%- do exceptions.raise_compiler_error(
                "The table "
                ~ relation
                ~ " has rows, and no mark that it was made here: it is a copy of another"
                ~ " environment's, it was moved or restored, or an older version of Sentinel made it."
                ~ " Nothing was changed. If it is a copy, `dbt run -s package:sentinel --vars"
                ~ " 'sentinel_take_over: empty'` deletes its rows. After an upgrade or a move,"
                ~ " `keep` instead of `empty` keeps them."
            ) -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
