{# `vars: {sentinel: {data_tests: false}}` in dbt_project.yml; a command line gives texts. #}
{% macro tests_enabled() -%}
    {{-
        return(
            var("data_tests", true) | string | lower
            not in ("false", "no", "off", "0")
        )
    -}}
{%- endmacro %}
