from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sentinel.core.errors import ConfigError, UsageError
from sentinel.dbt import rendering
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.profile import Profile, read_profile

ENV = {"PORT": "5432", "FLAG": "True", "PW": "s3cr3t-word", "TARGET": "prod"}


def read(folder: Path, text: str, env: dict[str, str] | None = None, **given: Any) -> Profile:
    (folder / "profiles.yml").write_text(text)
    options = DbtOptions(project_dir=folder, **given)
    return read_profile(options, "p", env=ENV if env is None else env, cwd=folder, home=folder)


def outputs(body: str) -> str:
    return f"p:\n  outputs:\n    default: {{type: duckdb, {body}}}\n"


@pytest.mark.parametrize(
    ("jinja", "expected"),
    [
        ("{{ env_var('PORT') }}", "5432"),
        ("{{ env_var('PORT') | as_number }}", 5432),
        ("{{ env_var('PORT') | int }}", 5432),
        ("{{ env_var('FLAG') | as_bool }}", True),
        ("{{ env_var('LIST', '[1, 2]') | as_native }}", [1, 2]),
        ("{{ env_var('PORT') | as_text }}", "5432"),
        ("{{ env_var('GONE', 'default') }}", "default"),
        ("a-{{ env_var('PORT') }}-b", "a-5432-b"),
        ("{{ var('region', 'eu') }}", "eu"),
        ("{{ var('size') }}", 7),
    ],
)
def test_values_are_rendered_as_dbt_renders_them(
    tmp_path: Path, jinja: str, expected: object
) -> None:
    profile = read(tmp_path, outputs(f'key: "{jinja}"'), vars="{size: 7}")
    assert profile.credentials["key"] == expected
    assert type(profile.credentials["key"]) is type(expected)


@pytest.mark.parametrize(
    "text", ["{{ env_var('PW') | as_number }}", "{{ env_var('PW') | as_bool }}"]
)
def test_a_filter_that_fails_names_the_key_and_not_the_value(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"p\.outputs\.default\.key") as error:
        read(tmp_path, outputs(f'key: "{text}"'))
    assert "s3cr3t" not in str(error.value)


TWO = """
p:
  target: "{{ env_var('TARGET') }}"
  outputs:
    dev: {type: duckdb, path: "{{ env_var('MISSING') }}"}
    prod: {type: postgres, password: "{{ env_var('PW') }}", threads: 8, nested: {token: t0k3n}}
"""


def test_the_target_may_be_jinja_and_only_that_target_is_rendered(tmp_path: Path) -> None:
    profile = read(tmp_path, TWO)
    assert (profile.target, profile.type, profile.threads) == ("prod", "postgres", 8)
    assert profile.credentials["password"] == "s3cr3t-word"
    assert "type" not in profile.credentials


def test_flags_win_over_profiles_yml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dev\.path: .*MISSING isn't set"):
        read(tmp_path, TWO, target="dev")
    assert read(tmp_path, TWO, threads=3).threads == 3
    with pytest.raises(ConfigError, match="no profile 'other'"):
        read(tmp_path, TWO, profile="other")


def test_credentials_are_not_in_the_repr(tmp_path: Path) -> None:
    profile = read(tmp_path, TWO)
    assert "s3cr3t" not in repr(profile)
    assert "t0k3n" not in f"{profile!s}"


def test_a_profile_scrubs_its_secrets_from_other_peoples_messages(tmp_path: Path) -> None:
    profile = read(tmp_path, TWO, env={**ENV, "DBT_ENV_SECRET_GIT": "g1t"})
    assert profile.scrub("s3cr3t-word t0k3n g1t prod") == "*** *** *** prod"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q: {}", "no profile 'p'"),
        ("p: {outputs: {dev: {type: duckdb}}}", "no target 'default'"),
        ("p: {target: dev}", "no outputs"),
        ("p: {outputs: {default: {path: x}}}", "has no type"),
        ("", "is empty"),
    ],
)
def test_what_is_missing_is_named_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read(tmp_path, text)
    assert str(tmp_path / "profiles.yml") in str(error.value)


@pytest.mark.parametrize("line", ["password: *s3cr3t-word", "password: @s3cr3t-word", "x: 's3cr3t"])
@pytest.mark.parametrize("loader", ["SafeLoader", "CSafeLoader"])
def test_broken_yaml_names_the_line_and_quotes_nothing(
    tmp_path: Path, line: str, loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "LOADER", getattr(yaml, loader))
    with pytest.raises(ConfigError, match=r"profiles\.yml:\d") as error:
        read(tmp_path, f"p:\n  {line}\n")
    assert "s3cr3t" not in str(error.value)
    assert error.value.__cause__ is None


def test_no_profiles_yml_is_an_error_with_a_hint(tmp_path: Path) -> None:
    options = DbtOptions(project_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"no profiles\.yml") as error:
        read_profile(options, "p", env={}, cwd=tmp_path, home=tmp_path)
    assert error.value.hint == "give --profiles-dir"


def test_the_working_directory_comes_before_the_home(tmp_path: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    for folder, name in ((home / ".dbt", "home"), (here, "here")):
        folder.mkdir(parents=True)
        (folder / "profiles.yml").write_text(outputs(f"path: {name}"))
    options = DbtOptions(project_dir=tmp_path)
    for cwd, expected in ((here, "here"), (tmp_path, "home")):
        profile = read_profile(options, "p", env={}, cwd=cwd, home=home)
        assert profile.credentials["path"] == expected


def test_vars_must_be_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--vars"):
        read(tmp_path, outputs("path: x"), vars="[1]")
