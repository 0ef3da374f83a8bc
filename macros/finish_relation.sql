{#
    What a project may set for Sentinel's relations, once the relation is there. Grants are only
    added: revoking would take from Sentinel's own user what it was given by hand.
#}
{% macro finish_relation(relation) -%}
    {%- if config.persist_column_docs() -%}
        {%- do dbt.persist_docs(relation, model, for_relation=false) -%}
    {%- endif -%}
    {%- do dbt.apply_grants(relation, config.get("grants"), should_revoke=false) -%}
    {%- do dbt.run_hooks(pre_hooks, inside_transaction=true) -%}
    {%- do dbt.run_hooks(post_hooks, inside_transaction=true) -%}
    {%- do adapter.commit() -%}
    {%- do dbt.run_hooks(pre_hooks, inside_transaction=false) -%}
    {%- do dbt.run_hooks(post_hooks, inside_transaction=false) -%}
{%- endmacro %}
