{#
    A project's own `models:` settings beat those of a package. Our materialization reads none of
    them, so it is the only setting that matters.
#}
{% macro guard_table() -%}
    {%- if execute and flags.WHICH in (
        "run",
        "build",
        "retry",
    ) and model.config.materialized != "sentinel_table" -%}
        {%- set lines = [
            "models:",
            "  sentinel:",
            "    +enabled: true",
            "    tables:",
            "      +materialized: sentinel_table",
            "    views:",
            "      +materialized: sentinel_view",
        ] -%}
        {%- do exceptions.raise_compiler_error(
            "Sentinel keeps its rows in "
            ~ model.name
            ~ ", and dbt could lose them with this project's settings: materialized is "
            ~ model.config.materialized
            ~ " and must be sentinel_table. Nothing was changed. A project's own `models:`"
            ~ " settings beat those of a package; write these lines into dbt_project.yml, or let"
            ~ " `sentinel init` do it:\n\n"
            ~ lines
            | join("\n") ~ "\n"
        ) -%}
    {%- endif -%}
{%- endmacro %}
