{#
    A view whose hooks run when it is there, whose grants are added, and which depends on no other
    setting of the project.
#}
{% materialization sentinel_view, default %}
    {%- set relation = this.incorporate(type="view") -%}
    {%- do sentinel.clear_view(
        adapter.get_relation(this.database, this.schema, this.identifier)
    ) -%}
    {%- call statement("main") -%}
        {{ sentinel.create_view(relation, sql) }}
    {%- endcall -%}
    {%- if config.persist_relation_docs() -%}
        {%- do dbt.persist_docs(relation, model, for_columns=false) -%}
    {%- endif -%}
    {%- do sentinel.finish_relation(relation) -%}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}
