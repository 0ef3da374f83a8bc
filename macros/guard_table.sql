{% macro guard_table() -%}
    {%- if execute and flags.WHICH in ("run", "build", "retry") -%}
        {%- do adapter.dispatch("guard_table", "sentinel")() -%}
    {%- endif -%}
{%- endmacro %}

{% macro default__guard_table() -%}
    {%- set found = model.config -%}
    {%- set contract = found.contract or {} -%}
    {%- set settings = [
        ("materialized", "incremental", found.materialized),
        ("full_refresh", false, found.full_refresh),
        ("on_schema_change", "append_new_columns", found.on_schema_change),
        ("contract.enforced", true, contract.enforced),
    ] -%}
    {%- set wrong = [] -%}
    {%- for name, wanted, value in settings if value != wanted -%}
        {%- do wrong.append(
            name
            ~ " is "
            ~ (
                value | string | lower
                if value is boolean
                else value or "not set"
            )
            ~ " and must be "
            ~ (wanted | string | lower if wanted is boolean else wanted)
        ) -%}
    {%- endfor -%}
    {#- This strategy replaces what is there by what is selected: nothing. -#}
    {%- if found.incremental_strategy == "insert_overwrite" -%}
        {%- do wrong.append(
            "incremental_strategy is insert_overwrite and must be another, such as merge"
        ) -%}
    {%- endif -%}
    {%- if wrong -%}
        {%- set mend = [
            "models:",
            "  sentinel:",
            "    +enabled: true",
            "    tables:",
            "      +materialized: incremental",
            "      +full_refresh: false",
            "      +on_schema_change: append_new_columns",
            "      +contract:",
            "        enforced: true",
        ] -%}
        {%- do exceptions.raise_compiler_error(
            "Sentinel keeps its rows in "
            ~ model.name
            ~ ", and dbt would lose them or leave its columns behind with these settings: "
            ~ wrong
            | join("; ")
            ~ ". Nothing was changed. A project's own `models:` settings beat those of a package;"
            ~ " write these lines into dbt_project.yml, or let `sentinel init` do it:\n\n"
            ~ mend
            | join("\n") ~ "\n"
        ) -%}
    {%- endif -%}
{%- endmacro %}
