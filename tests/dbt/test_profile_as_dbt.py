"""profiles.yml is read as dbt reads it: the same cases, through dbt's own code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from sentinel.core.errors import SentinelError
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project import DbtProject

READ_BY_DBT = Path(__file__).with_name("profile_by_dbt.py")

ENV = {
    "PORT": "5432",
    "HALF": "0.5",
    "FLAG": "True",
    "LOWER": "true",
    "EMPTY": "",
    "WORDS": "two words",
    "LIST": "['a', 1]",
    "TUPLE": "(1, 2)",
    "QUOTED": "'quoted'",
    "TARGET": "prod",
    "PROFILE_NAME": "shop",
    "PW": "a{b%c}d#e",
    "DBT_ENV_SECRET_PW": "S3cr3t-{{ word }}",
    "DBT_ENV_SECRET_OTHER": "0th3r",
    "DBT_ENV_SECRET_LIST": "[1, 2]",
}


@dataclass(frozen=True)
class Case:
    """`profiles` maps a folder to the text of its profiles.yml; folders are `shop`, the working
    directory with the project in it, `home/.dbt` and `other`."""

    id: str
    profiles: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    profile_line: str = "profile: shop"


def keys(id: str, body: str, **env: str) -> Case:
    """Keys of one DuckDB target."""
    outputs = {"shop": {"target": "dev", "outputs": {"dev": yaml.safe_load(body)}}}
    outputs["shop"]["outputs"]["dev"]["type"] = "duckdb"  # type: ignore[index]  # it is nested
    return Case(id, {"shop": yaml.safe_dump(outputs)}, env)


def text(id: str, jinja: str, key: str = "key", **env: str) -> Case:
    return keys(id, yaml.safe_dump({key: jinja}), **env)


VALUES = [
    text("plain", "just text"),
    text("text that looks like a number", "5432"),
    keys("yaml types", "{a: 1, b: 0.5, c: true, d: null, e: [1, x], f: {g: 2}, h: '', i: []}"),
    keys("a date", "{a: 2026-01-02, b: 2026-01-02 03:04:05}"),
    keys(
        "nested", "{f: {g: \"{{ env_var('PORT') | as_number }}\", h: [\"{{ env_var('WORDS') }}\"]}}"
    ),
    text("block text", "-----BEGIN-----\nabc\n-----END-----\n"),
    text("two newlines at the end", "abc\n\n"),
    text("windows newlines", "a\r\nb\r\n"),
    text("a comment", "a{# not this #}b"),
    text("braces of other kinds", "a{b}c%d}} e"),
    text("env_var", "{{ env_var('PORT') }}"),
    text("env_var and text", "a-{{ env_var('PORT') }}-b"),
    text("two env_vars", "{{ env_var('PORT') }}{{ env_var('FLAG') }}"),
    text("empty", "{{ env_var('EMPTY') }}"),
    text("empty over a default", "{{ env_var('EMPTY', 'x') }}"),
    text("default", "{{ env_var('GONE', 'default') }}"),
    text("empty default", "{{ env_var('GONE', '') }}"),
    text("default of a number", "{{ env_var('GONE', 5) }}"),
    text("default is unused", "{{ env_var('PORT', 'default') }}"),
    text("default that is none", "{{ env_var('GONE', none) }}"),
    text("missing", "{{ env_var('GONE') }}"),
    text("trailing newline", "{{ env_var('PORT') }}\n"),
    *(
        text(f"{name} {filter}", f"{{{{ env_var('{name}') | {filter} }}}}")
        for name in ("PORT", "HALF", "FLAG", "LOWER", "EMPTY", "WORDS", "LIST", "TUPLE", "QUOTED")
        for filter in ("as_number", "as_bool", "as_native", "as_text", "int", "lower", "trim")
    ),
    text("as_number of a number", "{{ 5 | as_number }}"),
    text("as_number in text", "a{{ env_var('PORT') | as_number }}"),
    text("as_bool of a comparison", "{{ (env_var('TARGET') == 'prod') | as_bool }}"),
    text("as_text of a number", "{{ 5 | as_text }}"),
    text("as_native then int", "{{ env_var('PORT') | as_native | int }}"),
    text("an expression", "{{ 2 + 3 }}"),
    text("a comparison", "{{ env_var('TARGET') == 'prod' }}"),
    text("a list", "{{ [1, 'a'] }}"),
    text("none", "{{ none }}"),
    text("if", "{% if env_var('TARGET') == 'prod' %}yes{% else %}no{% endif %}"),
    text("if with nothing", "{% if false %}yes{% endif %}"),
    text("set", "{% set x = env_var('PORT') %}{{ x }}"),
    text("concatenation", "{{ env_var('PORT') ~ '/' ~ env_var('TARGET') }}"),
    text("fromjson", "{{ fromjson('{\"a\": 1}') }}"),
    text("tojson", "{{ tojson({'a': 1}) }}"),
    text("fromyaml", "{{ fromyaml('a: [1, 2]') }}"),
    text("toyaml", "{{ toyaml({'a': 1}) }}"),
    text("dbt_version", "{{ dbt_version }}"),
    text("undefined", "{{ nothing }}"),
    text("undefined in text", "a {{ nothing }}"),
    text("undefined with default", "{{ nothing | default('x') }}"),
    text("broken", "{{ env_var('PORT' }}"),
    text("unclosed", "{{ env_var('PORT')"),
    text("no such filter", "{{ env_var('PORT') | nonsense }}"),
    text("a password that isn't Jinja", "abc{{def", "password"),
    text("a password that isn't Jinja, nested", "abc{%def", "password"),
    text("a password of Jinja", "{{ env_var('PW') }}", "password"),
    text("another key that isn't Jinja", "abc{{def", "token"),
    text("a key like password that isn't Jinja", "abc{{def", "keystore_password"),
    text("secret", "{{ env_var('DBT_ENV_SECRET_PW') }}"),
    text("secret in text", "a-{{ env_var('DBT_ENV_SECRET_PW') }}-b"),
    text("secret with default", "{{ env_var('DBT_ENV_SECRET_GONE', 'none') }}"),
    text("secret that is missing", "{{ env_var('DBT_ENV_SECRET_GONE') }}"),
    text("secret as text", "{{ env_var('DBT_ENV_SECRET_PW') | as_text }}"),
    text("secret through a filter", "{{ env_var('DBT_ENV_SECRET_PW') | upper }}"),
    text("secret through a filter that spoils it", "{{ env_var('DBT_ENV_SECRET_PW') | lower }}"),
    text("secret as a number", "{{ env_var('DBT_ENV_SECRET_PW') | as_number }}"),
    text("secret as native", "{{ env_var('DBT_ENV_SECRET_LIST') | as_native }}"),
    text("length of a secret", "{{ env_var('DBT_ENV_SECRET_PW') | length }}"),
    text("secret in a condition", "{{ env_var('DBT_ENV_SECRET_OTHER') == '0th3r' }}"),
    text("secret and another variable", "{{ env_var('DBT_ENV_SECRET_PW') }}:{{ env_var('PORT') }}"),
]

TWO = """
shop:
  target: "{{ env_var('TARGET', 'dev') }}"
  outputs:
    dev: {type: duckdb, path: dev.duckdb, broken: "{{ env_var('GONE') }}"}
    prod: {type: duckdb, path: prod.duckdb, threads: 4}
    default: {type: duckdb, path: default.duckdb}
other:
  outputs:
    default: {type: duckdb, path: other.duckdb}
    prod: {type: duckdb, path: other-prod.duckdb}
config: {send_anonymous_usage_stats: false}
"""
TYPE = "shop: {target: dev, outputs: {dev: {type: \"{{ env_var('T') }}\"}}}"
LINE = "shop: {{{}outputs: {{dev: {{type: duckdb, path: x}}, default: {{type: duckdb, path: y}}}}}}"


def named(path: str) -> str:
    return f"shop: {{target: dev, outputs: {{dev: {{type: duckdb, path: {path}}}}}}}"


TARGETS = [
    Case("target by env_var", {"shop": TWO}),
    Case("the chosen target is broken", {"shop": TWO}, {"TARGET": "dev"}),
    Case("no such target", {"shop": TWO}, {"TARGET": "gone"}),
    Case("--target", {"shop": TWO}, given={"target": "default"}),
    Case("DBT_TARGET", {"shop": TWO}, {"DBT_TARGET": "default"}),
    Case("DBT_TARGET is empty", {"shop": TWO}, {"DBT_TARGET": ""}),
    Case("--target over DBT_TARGET", {"shop": TWO}, {"DBT_TARGET": "dev"}, {"target": "default"}),
    Case("--target isn't rendered", {"shop": TWO}, given={"target": "{{ env_var('TARGET') }}"}),
    Case("--profile", {"shop": TWO}, given={"profile": "other"}),
    Case("--profile and --target", {"shop": TWO}, given={"profile": "other", "target": "prod"}),
    Case("DBT_PROFILE", {"shop": TWO}, {"DBT_PROFILE": "other"}),
    Case("--profile over DBT_PROFILE", {"shop": TWO}, {"DBT_PROFILE": "x"}, {"profile": "other"}),
    Case("no such profile", {"shop": TWO}, given={"profile": "gone"}),
    Case("profile by env_var", {"shop": TWO}, profile_line="profile: \"{{ env_var('PROFILE_NAME') }}\""),
    Case("no profile in the project", {"shop": TWO}, profile_line=""),
    Case("no target is `default`", {"shop": LINE.format("")}),
    Case("target is null", {"shop": LINE.format("target: null, ")}),
    Case("target by var", {"shop": LINE.format("target: \"{{ var('t') }}\", ")}, given={"vars": "t: dev"}),
    Case("no outputs", {"shop": "shop: {target: dev}"}),
    Case("no type", {"shop": "shop: {target: dev, outputs: {dev: {path: x}}}"}),
    Case("an output that is no mapping", {"shop": "shop: {target: dev, outputs: {dev: text}}"}),
    Case("an empty profile", {"shop": "shop:"}),
    Case("an empty file", {"shop": ""}),
    Case("only config", {"shop": "config: {partial_parse: true}"}),
    Case("type by env_var", {"shop": TYPE}, {"T": "duckdb"}),
]  # fmt: skip

HERE_OR_THERE = {"shop": named("here"), "other": named("other")}
THERE = {"profiles_dir": "../other"}
PLACES = [
    Case("here", {"shop": named("here"), "home/.dbt": named("home")}),
    Case("at home", {"home/.dbt": named("home"), "other": named("other")}),
    Case("nowhere", {"other": named("other")}),
    Case("--profiles-dir", HERE_OR_THERE, given=THERE),
    Case("DBT_PROFILES_DIR", HERE_OR_THERE, {"DBT_PROFILES_DIR": "../other"}),
    Case("--profiles-dir over the variable", HERE_OR_THERE, {"DBT_PROFILES_DIR": "../home"}, THERE),
    Case("DBT_PROFILES_DIR is empty", HERE_OR_THERE, {"DBT_PROFILES_DIR": ""}),
]

VARS = [
    Case(id, {"shop": named(f'"{jinja}"')}, given={"vars": given})
    for id, jinja, given in (
        ("var", "{{ var('a') }}", "a: text"),
        ("var of a number", "{{ var('a') }}", "a: 7"),
        ("var of a list", "{{ var('a') }}", "a: [1, x]"),
        ("var that looks like a number", "{{ var('a') }}", "a: '7'"),
        ("var with Jinja", "{{ var('a') }}", "a: \"{{ env_var('PORT') }}\""),
        ("var with a number by Jinja", "{{ var('a') }}", 'a: "{{ 1 + 1 }}"'),
        ("var with as_number", "{{ var('a') | as_number }}", "a: '7'"),
        ("var with a default", "{{ var('b', 'default') }}", "a: 7"),
        ("var with an unused default", "{{ var('a', 'default') }}", "a: given"),
        ("missing var", "{{ var('b') }}", "a: 7"),
        ("var in env_var", "{{ env_var(var('a')) }}", "a: PORT"),
    )
]

THREADS = [
    keys("no threads", "{path: x}"),
    keys("threads", "{threads: 8}"),
    keys("threads as text", "{threads: '8'}"),
    keys("threads by env_var", "{threads: \"{{ env_var('N') }}\"}", N="8"),
    keys("threads by env_var as number", "{threads: \"{{ env_var('N') | as_number }}\"}", N="8"),
    keys("threads by env_var as int", "{threads: \"{{ env_var('N') | int }}\"}", N="8"),
    keys("threads that are none", "{threads: null}"),
    keys("threads that are no number", "{threads: many}"),
    keys("threads that are true", "{threads: true}"),
    keys("threads that are half", "{threads: 1.5}"),
    Case("--threads", {"shop": TWO}, given={"threads": 2}),
]

POSTGRES = """
shop:
  target: dev
  outputs:
    dev:
      type: postgres
      host: "{{ env_var('HOST', 'localhost') }}"
      port: "{{ env_var('PORT') | as_number }}"
      user: "{{ env_var('WORDS') }}"
      password: "{{ env_var('DBT_ENV_SECRET_PW') }}"
      pass: "{{ env_var('DBT_ENV_SECRET_OTHER') }}"
      dbname: shop
      schema: "{{ env_var('TARGET') }}_shop"
      threads: 4
      keepalives_idle: 0
      connect_timeout: 10
      retries: 1
      search_path: "shop, public"
      role: reader
      sslmode: require
"""
BIGQUERY = """
shop:
  target: dev
  outputs:
    dev:
      type: bigquery
      method: service-account-json
      project: "{{ env_var('PROJECT', 'shop-project') }}"
      dataset: shop
      location: EU
      priority: interactive
      maximum_bytes_billed: "{{ env_var('LIMIT', '1000000000') | int }}"
      job_execution_timeout_seconds: 300
      scopes: ["https://www.googleapis.com/auth/bigquery"]
      keyfile_json:
        type: service_account
        private_key: |
          -----BEGIN PRIVATE KEY-----
          {{ env_var('DBT_ENV_SECRET_PW') }}
          -----END PRIVATE KEY-----
        client_email: "{{ env_var('PROFILE_NAME') }}@example.com"
"""
DUCKDB = """
shop:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: "{{ env_var('FOLDER', '.') }}/shop.duckdb"
      schema: main
      extensions: [httpfs, {name: h3, repo: community}]
      settings: {memory_limit: "{{ env_var('MEMORY', '1GB') }}", TimeZone: UTC}
      attach:
        - {path: "{{ env_var('FOLDER', '.') }}/other.duckdb", alias: other, read_only: true}
      secrets:
        - {type: s3, key_id: "{{ env_var('DBT_ENV_SECRET_OTHER') }}", region: eu-west-1}
"""
TYPES = [
    Case("postgres", {"shop": POSTGRES}),
    Case("bigquery", {"shop": BIGQUERY}),
    Case("duckdb", {"shop": DUCKDB}),
]

CASES = [*VALUES, *TARGETS, *PLACES, *VARS, *THREADS, *TYPES]


def lay_out(case: Case, folder: Path) -> dict[str, str]:
    """Writes the files; the environment."""
    for name in ("shop", "home/.dbt", "other"):
        (folder / name).mkdir(parents=True)
    project = f"name: shop\nversion: '1.0'\n{case.profile_line}\n"
    (folder / "shop" / "dbt_project.yml").write_text(project)
    for name, content in case.profiles.items():
        (folder / name / "profiles.yml").write_bytes(content.encode())
    return {**ENV, **case.env, "HOME": str(folder / "home"), "PATH": os.environ["PATH"]}


def flags(case: Case) -> list[str]:
    return [
        word
        for option, value in case.given.items()
        for word in (f"--{option.replace('_', '-')}", str(value))
    ]


@pytest.fixture(scope="module")
def by_dbt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """dbt's answers, by the id of the case."""
    root = tmp_path_factory.mktemp("by_dbt")
    asked = []
    for n, case in enumerate(CASES):
        env = lay_out(case, root / str(n))
        asked.append({"cwd": str(root / str(n) / "shop"), "env": env, "args": flags(case)})
    done = subprocess.run(
        [sys.executable, READ_BY_DBT],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip([case.id for case in CASES], json.loads(done.stdout), strict=True))


def by_sentinel(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    env = lay_out(case, folder)
    monkeypatch.setenv("HOME", env["HOME"])
    cwd = folder / "shop"
    given = dict(case.given)
    if "profiles_dir" in given:
        given["profiles_dir"] = Path(given["profiles_dir"])
    try:
        options = DbtOptions.from_environment(env, cwd, **given)
        profile = DbtProject(options, env=env, cwd=cwd).profile()
    except SentinelError as error:
        return {"error": str(error)}
    found = {"name": profile.name, "target": profile.target, "threads": profile.threads}
    return found | {"type": profile.type, "keys": repr(dict(profile.credentials))}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_profile_is_what_it_is_for_dbt(
    case: Case, by_dbt: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = by_sentinel(case, tmp_path, monkeypatch)
    expected = by_dbt[case.id]
    if "error" in expected:
        assert "error" in found, f"dbt says: {expected['error']}"
    else:
        assert found == expected


def test_the_cases_tell_apart() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
