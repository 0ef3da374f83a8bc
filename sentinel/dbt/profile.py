"""profiles.yml, read as dbt reads it and without dbt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentinel.core.errors import ConfigError
from sentinel.core.origin import SECRET_PREFIX
from sentinel.dbt.files import load_yaml
from sentinel.dbt.options import PROFILES_FILE, DbtOptions, find_profiles_dir
from sentinel.dbt.rendering import Computed, Renderer, has_jinja, parse_vars, shown_name

_SECRET_WORDS = ("pass", "secret", "token", "key", "private", "credential", "auth")


@dataclass(frozen=True)
class Profile:
    """One target of one profile. `credentials` are the target's other keys, rendered."""

    name: str
    target: str
    type: str
    credentials: Mapping[str, Any] = field(repr=False)
    threads: int = 1
    _hidden: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def secrets(self) -> frozenset[str]:
        """What is taken out of texts."""
        return self._hidden

    def scrub(self, text: str) -> str:
        """The text without any of this target's secrets; for messages of others, such as dbt."""
        for secret in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def as_target(self) -> dict[str, Any]:
        """The values of Jinja's `target` that are known without dbt."""
        return {
            **self.credentials,
            "type": self.type,
            "threads": self.threads,
            "name": self.target,
            "target_name": self.target,
            "profile_name": self.name,
        }


def read_profile(
    options: DbtOptions,
    profile_name: str | None,
    *,
    env: Mapping[str, str],
    cwd: Path,
    home: Path | None = None,
) -> Profile:
    """The chosen target; only that one is rendered.

    `profile_name` is what dbt_project.yml says; `options.profile` wins over it. Raises
    ConfigError naming the file and what is missing, never a value.
    """
    name = options.profile or profile_name
    if name is None:
        raise ConfigError(
            "the dbt project names no profile",
            hint="add `profile: <name>` to dbt_project.yml, or give --profile",
        )
    path = find_profiles_dir(options, cwd, home or Path.home()) / PROFILES_FILE
    if not path.is_file():
        raise ConfigError(f"no {PROFILES_FILE} in {path.parent}", hint="give --profiles-dir")
    profiles = load_yaml(path, secret=True)
    if not isinstance(profiles, dict) or not profiles:
        raise ConfigError(f"{path} is empty")
    profile = _entry(
        profiles, name, f"{path}: there is no profile {shown_name(name)}", skip={"config"}
    )
    renderer = Renderer(env, parse_vars(options.vars), secrets=True)
    target = options.target
    if target is None:
        chosen = renderer.tree(profile.get("target", "default"), f"{path}: {name}.target")
        if chosen is None:
            raise ConfigError(f"{path}: {name}.target is empty", hint="name one of its outputs")
        computed = has_jinja(profile.get("target"))
        target = Computed(chosen) if computed else str(chosen)
    outputs = profile.get("outputs")
    if not isinstance(outputs, dict):
        raise ConfigError(f"{path}: profile {shown_name(name)} has no outputs")
    raw = _entry(
        outputs, target, f"{path}: profile {shown_name(name)} has no target {shown_name(target)}"
    )
    where = f"{path}: {name}.outputs.{target}"  # both are keys of the file
    data = renderer.tree(raw, where)
    return _profile(name, target, data, where, options, env)


def _profile(
    name: str,
    target: str,
    data: dict[str, Any],
    where: str,
    options: DbtOptions,
    env: Mapping[str, str],
) -> Profile:
    kind = data.pop("type", None)
    if not isinstance(kind, str):
        raise ConfigError(f"{where} has no type", hint="as in `type: duckdb`")
    threads = data.pop("threads", 1)
    if options.threads is not None:
        threads = options.threads
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        hint = "from text: `| as_number`" if isinstance(threads, str) else None
        raise ConfigError(f"{where}.threads is not a positive whole number", hint=hint)
    secrets = {v for k, v in env.items() if k.startswith(SECRET_PREFIX) and len(v) > 2}
    return Profile(name, target, kind, data, threads, frozenset(secrets | _secrets(data)))


def _entry(
    mapping: dict[Any, Any], key: str, missing: str, skip: frozenset[str] | set[str] = frozenset()
) -> dict[str, Any]:
    if key not in mapping:
        known = ", ".join(sorted(str(k) for k in mapping if k not in skip))
        raise ConfigError(missing, hint=f"there is: {known}" if known else None)
    value = mapping[key]
    if not isinstance(value, dict):
        raise ConfigError(f"{missing.split(': ')[0]}: {key!r} is not a mapping")
    return value


def _secrets(data: Any, *, within: bool = False) -> set[str]:
    """The values whose key sounds secret, at any depth."""
    if isinstance(data, dict):
        found: set[str] = set()
        for key, value in data.items():
            sounds_secret = any(word in str(key).lower() for word in _SECRET_WORDS)
            found |= _secrets(value, within=within or sounds_secret)
        return found
    if isinstance(data, list):
        return {s for item in data for s in _secrets(item, within=within)}
    if not within or data is None or isinstance(data, bool) or len(str(data)) < 3:
        return set()
    return {str(data)}
