{#
    Makes the calling model's table, or adds the columns it lacks, and marks it as made here. It
    changes no row and reads no setting that could: not full_refresh, no incremental strategy, no
    key. Hooks run when the table is there, and grants are added to those that there are.
#}
{% materialization sentinel_table, default %}
    {%- set relation = this.incorporate(type="table") -%}
    {%- set found = sentinel.find_table(relation) -%}
    {%- if found and found.kind == "view" -%}
        {#- `dbt clone` makes views of another environment's tables. -#}
        {%- do adapter.drop_relation(this.incorporate(type="view")) -%}
        {%- set found = none -%}
    {%- elif found -%} {%- do sentinel.own_table(relation, found) -%}
    {%- endif -%}

    {%- call statement("main") -%} {{ sentinel.create_table(relation) }} {%- endcall -%}
    {%- if found -%} {%- do sentinel.add_columns(relation) -%} {%- endif -%}
    {%- do sentinel.mark_table(relation, sentinel.find_table(relation)) -%}
    {%- do sentinel.finish_relation(relation) -%}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}
