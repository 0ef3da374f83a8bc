from __future__ import annotations

import pytest

from sentinel.dbt.rendering import has_jinja
from sentinel.dbt.stability import Stability

from .conftest import manifest_of, model

MACROS = {
    "plain": "{% macro plain(x) %}{{ x }} {{ ref('a') }}{% endmacro %}",
    "asks": "{% macro asks() %}{% if execute %}{{ deep() }}{% endif %}{% endmacro %}",
    "deep": "{% macro deep() %}{% do adapter.get_relation('a', 'b', 'c') %}{% endmacro %}",
    "sends": "{% macro sends() %}{{ adapter.dispatch('sent')() }}{% endmacro %}",
    "default__sent": "{% macro default__sent() %}1{% endmacro %}",
    "odd": "{% macro odd() %}{{ adapter.dispatch('clock')() }}{% endmacro %}",
    "duckdb__clock": "{% macro duckdb__clock() %}{{ run_started_at }}{% endmacro %}",
    "ping": "{% macro ping() %}{{ pong() }}{{ graph }}{% endmacro %}",
    "pong": "{% macro pong() %}{{ ping() }}{% endmacro %}",
}

STABLE = [
    "select 1",
    "select * from {{ ref('a') }} where x > {{ var('n', 1) }}",
    "{% set xs = [1, 2] %}{% for x in xs %}{{ x }}{{ ',' if not loop.last }}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}",
    "{{ config(meta={'sentinel': {}}) }} {{ target.name }} {{ this.schema }} {{ this }}",
    "{{ plain('x') }} {{ shop.plain('y') }} {{ sends() }}",
    "{% set xs = ['a'] %}{% do xs.append('b') %}{{ xs | join(',') | upper }}",
    "{% macro here(a) %}{{ a }}{% endmacro %}{{ here(1) }}",
    "{{ adapter.quote('x') }} {{ env_var('X') }} {{ source('a', 'b') }} {{ model.name }}",
    "{% raw %}{{ run_query('x') }}{% endraw %}",
]

VOLATILE = [
    "{{ asks() }}",
    "{{ shop.asks() }}",
    "{{ odd() }}",
    "{{ pong() }}",
    "{{ run_query('select 1') }}",
    "{% set f = run_query %}{{ f('x') }}",
    "{% set a = adapter %}{{ a.get_relation() }}",
    "{{ adapter['get_' ~ 'relation']() }}",
    "{{ context['run_query']('x') }}",
    "{{ builtins.ref('a') }}",
    "{{ modules.datetime.datetime.now() }}",
    "{{ run_started_at }}",
    "{{ invocation_id }}",
    "{{ flags.FULL_REFRESH }}",
    "{% if is_incremental() %}x{% endif %}",
    "{{ graph.nodes }}",
    "{{ model.created_at }}",
    "{{ model }}",
    "{{ [1, 2] | random }}",
    "{{ lipsum() }}",
    "{{ shop[name]() }}",
    "{{ adapter.dispatch(name)() }}",
    "{% call statement('x') %}select 1{% endcall %}",
    "{% include 'x' %}",
    "{{ unheard_of }}",
]


@pytest.mark.parametrize("code", STABLE)
def test_sql_of_known_parts_is_stable(code: str) -> None:
    stability = Stability(manifest_of(model("m", code), macros=MACROS), plain_vars=True)
    assert stability.why_volatile("model.shop.m") is None


@pytest.mark.parametrize("code", VOLATILE)
def test_sql_that_looks_elsewhere_is_volatile(code: str) -> None:
    stability = Stability(manifest_of(model("m", code), macros=MACROS), plain_vars=True)
    assert stability.why_volatile("model.shop.m")


@pytest.mark.parametrize("order", [["ping", "pong"], ["pong", "ping"]])
def test_macros_that_call_each_other_are_judged_in_any_order(order: list[str]) -> None:
    models = [model(name, "{{ %s() }}" % name) for name in order]  # noqa: UP031 (braces)
    stability = Stability(manifest_of(*models, macros=MACROS), plain_vars=True)
    assert all(stability.why_volatile(f"model.shop.{name}") for name in order)


def test_a_volatile_ephemeral_parent_makes_its_children_volatile() -> None:
    ephemeral = {"materialized": "ephemeral"}
    grand = model("grand", "{{ run_started_at }}", config=ephemeral)
    parent = model("parent", config=ephemeral, depends_on={"nodes": ["model.shop.grand"]})
    child = model("child", depends_on={"nodes": ["model.shop.parent"]})
    stability = Stability(manifest_of(grand, parent, child), plain_vars=True)
    assert stability.why_volatile("model.shop.child") == "it uses run_started_at"
    table = model("parent", "{{ run_started_at }}", config={"materialized": "table"})
    assert (
        Stability(manifest_of(table, child), plain_vars=True).why_volatile("model.shop.child")
        is None
    )


def test_a_var_that_holds_jinja_makes_its_users_volatile() -> None:
    stability = Stability(manifest_of(model("m", "{{ var('x') }}")), plain_vars=False)
    assert stability.why_volatile("model.shop.m") == "a var holds Jinja"
    assert has_jinja({"a": [{"b": "{{ run_query('x') }}"}]})
    assert not has_jinja({"a": ["plain", 1, None]})
