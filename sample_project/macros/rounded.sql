{#- A number for people: rounded to a whole one, as text. -#}
{%- macro rounded(number) -%}
    {{ return(adapter.dispatch("rounded", "shop")(number)) }}
{%- endmacro -%}

{#-
    A cast to an integer alone rounds on one warehouse and cuts on another. Cents come first, since
    a sum of floats can be a hair below the half that it is.
-#}
{%- macro default__rounded(number) -%}
    cast(
        cast(
            round(round({{ number }}, 2)) as {{ dbt.type_int() }}
        ) as {{ dbt.type_string() }}
    )
{%- endmacro -%}

{#- PostgreSQL rounds a float to whole numbers only. -#}
{%- macro postgres__rounded(number) -%}
    {{ shop.default__rounded("cast(" ~ number ~ " as numeric)") }}
{%- endmacro -%}
