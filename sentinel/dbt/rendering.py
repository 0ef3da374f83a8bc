"""The Jinja of dbt's configuration files, without dbt: env_var, var and the native filters.

A value stays text unless it is a single expression of another type or passes through `as_number`,
`as_bool` or `as_native`, which is what dbt does.
"""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import jinja2
import yaml
from jinja2.nativetypes import NativeCodeGenerator, NativeTemplate

from sentinel import files
from sentinel.core.errors import ConfigError, UsageError
from sentinel.core.jinja import FAILURES, BoundedEnvironment, work
from sentinel.core.jinja_work import TooMuch
from sentinel.core.origin import SECRET_PREFIX
from sentinel.core.yaml import LARGEST_FILE, TooMuchYaml, check

_UNSET: Any = object()
# What a secret is while Jinja renders: dbt's own, which `upper` leaves as it is and `lower` doesn't.
_PLACEHOLDER = "$$$DBT_SECRET_START$$${}$$$DBT_SECRET_END$$$"
_SECRET = re.compile(re.escape(_PLACEHOLDER).replace(r"\{\}", rf"({SECRET_PREFIX}\w+?)"))


class Computed(str):
    """A name that Jinja made, perhaps of a variable's value: no error quotes it."""

    __slots__ = ()


def shown_name(name: str) -> str:
    """A name as an error shows it."""
    return "of the name that its Jinja gives" if isinstance(name, Computed) else repr(name)


def has_jinja(value: Any) -> bool:
    """Whether any text in nested mappings and lists holds Jinja."""
    if isinstance(value, Mapping):
        return any(has_jinja(v) for v in value.values())
    if isinstance(value, list | tuple):
        return any(has_jinja(v) for v in value)
    return isinstance(value, str) and ("{{" in value or "{%" in value)


class Unrenderable(ValueError):
    """A template failed; the message holds neither the template nor any value."""


class Renderer:
    """Renders one configuration file. `target` is what the name `target` means in it, if known."""

    def __init__(
        self,
        env: Mapping[str, str],
        cli_vars: Mapping[str, Any],
        *,
        target: Any = None,
        secrets: bool = False,
    ) -> None:
        self._env = env
        self._vars = cli_vars
        self._secrets = secrets
        self._jinja = _environment()
        self._context: dict[str, Any] = {
            "env_var": self._env_var,
            "var": self._var,
            "fromjson": _or_default(json.loads),
            "tojson": _or_default(json.dumps),
            "fromyaml": _or_default(read_yaml),
            "toyaml": _or_default(yaml.safe_dump),
            "dbt_version": _dbt_version(),
        }
        if target is not None:
            self._context["target"] = target

    def value(self, value: Any) -> Any:
        """One value, rendered. Raises Unrenderable."""
        if isinstance(value, date):
            return value.isoformat()
        if not isinstance(value, str):
            return value
        if not ("{{" in value or "{%" in value or "{#" in value):
            return _as_jinja_leaves_it(value)
        try:
            return self._revealed(self._jinja.from_string(value).render(self._context, **work()))
        except Unrenderable:
            raise
        except jinja2.UndefinedError as error:
            raise Unrenderable(f"{error.message}") from error
        except TooMuch as error:
            raise Unrenderable(f"its Jinja can't be rendered: {error}") from error
        except jinja2.TemplateError as error:
            # A syntax error quotes the template, and possibly a password next to the Jinja.
            raise Unrenderable("its Jinja can't be rendered") from error
        except FAILURES as error:
            raise Unrenderable(f"its Jinja raises {type(error).__name__}") from error

    def tree(self, data: Any, where: str, *, skip: Callable[[str], bool] | None = None) -> Any:
        """Every value of nested mappings and lists, rendered.

        Raises ConfigError naming `where` and the path of keys of the value that fails.
        """
        if isinstance(data, dict):
            return {
                key: (
                    value
                    if skip is not None and skip(str(key))
                    else self.tree(value, f"{where}.{key}" if where else str(key))
                )
                for key, value in data.items()
            }
        if isinstance(data, list):
            return [self.tree(item, f"{where}[{i}]") for i, item in enumerate(data)]
        try:
            return self.value(data)
        except Unrenderable as error:
            if where.rsplit(".", 1)[-1] == "password" and "environment" not in str(error):
                return data  # as dbt: a password may look like Jinja without being any
            raise ConfigError(
                f"{_with_line(where)}: {error}", hint="correct the value, or set what it refers to"
            ) from error

    def _env_var(self, name: str, default: Any = None) -> Any:
        if name.startswith(SECRET_PREFIX) and not self._secrets:
            raise Unrenderable(f"the secret environment variable {name} is only for profiles.yml")
        if name in self._env:
            if name.startswith(SECRET_PREFIX):
                return _PLACEHOLDER.format(name)
            return self._env[name]
        if default is not None:
            return default
        raise Unrenderable(f"the environment variable {name} isn't set")

    def _revealed(self, rendered: Any) -> Any:
        """With the secrets, which no filter has seen: dbt keeps Jinja from changing them."""
        if not isinstance(rendered, str) or not self._secrets:
            return rendered
        return _SECRET.sub(lambda found: self._env.get(found[1], found[0]), rendered)

    def _var(self, name: str, default: Any = _UNSET) -> Any:
        if name in self._vars:
            return self.value(self._vars[name])
        if default is not _UNSET:
            return default
        raise Unrenderable(f"var {name!r} isn't given by --vars")


def _with_line(where: str) -> str:
    """`dbt_project.yml: models.x` with the line of the key, or of the nearest one above it."""
    file, _, keys = where.partition(": ")
    try:
        node = yaml.compose(files.read(Path(file), most=LARGEST_FILE), Loader=LOADER)
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        return where
    line = None
    for key in re.findall(r"[^.\[\]]+", keys):
        if isinstance(node, yaml.MappingNode):
            pairs = [(each, value) for each, value in node.value if each.value == key]
        elif isinstance(node, yaml.SequenceNode) and key.isdecimal():
            pairs = [(each, each) for each in node.value[int(key) : int(key) + 1]]
        else:
            break
        if not pairs:
            break
        line, node = pairs[-1][0].start_mark.line + 1, pairs[-1][1]
    return where if line is None else f"{file}:{line}: {keys}"


def parse_vars(text: str | None) -> dict[str, Any]:
    """The mapping that `--vars` holds as YAML. Raises UsageError."""
    try:
        value = read_yaml(text or "{}")
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError("--vars is not YAML", hint="as in --vars '{key: value}'") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError("--vars is not a mapping", hint="as in --vars '{key: value}'")
    return {str(k): v for k, v in value.items()}


def read_yaml(text: str) -> Any:
    """A YAML document. Raises TooMuchYaml, a ValueError, and yaml.YAMLError."""
    check(yaml.parse(text, Loader=LOADER))
    return yaml.load(text, Loader=LOADER)  # noqa: S506 (a safe loader, in C where there is one)


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Marked(str):
    """Text that a filter asked to turn into a value of another type."""

    __slots__ = ("kind",)
    kind: str


def _mark(kind: str) -> Callable[[Any], Any]:
    def mark(value: Any) -> Any:
        if not isinstance(value, str):
            value = repr(value) if kind != "text" else str(value)
        marked = _Marked(value)
        marked.kind = kind
        return marked

    return mark


def _native(nodes: Iterable[Any]) -> Any:
    iterator = iter(nodes)
    head = list(islice(iterator, 2))
    if not head:
        return ""
    if len(head) == 2:
        return "".join(str(part) for part in (*head, *iterator))
    value = head[0]
    if isinstance(value, jinja2.Undefined):
        return value()  # raises and names it; within text it is empty, as in dbt
    if not isinstance(value, _Marked):
        return value
    if value.kind == "text":
        return str(value)
    try:
        result: Any = literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        result = str(value)
    is_bool = isinstance(result, bool)
    if value.kind == "bool" and not is_bool:
        raise Unrenderable("as_bool was given something that is neither True nor False")
    if value.kind == "number" and (is_bool or not isinstance(result, int | float)):
        raise Unrenderable("as_number was given something that is no number")
    return result


class _Environment(BoundedEnvironment):
    code_generator_class = NativeCodeGenerator
    concat = staticmethod(_native)


class _Template(NativeTemplate):
    environment_class = _Environment  # type: ignore[assignment] # Jinja wants its own subclass


_Environment.template_class = _Template


def _environment() -> jinja2.Environment:
    env = _Environment(
        extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"], immutable=False, folds=True
    )
    for kind in ("text", "bool", "number", "native"):
        env.add_filter(f"as_{kind}", _mark(kind))
    return env


def _as_jinja_leaves_it(text: str) -> str:
    """dbt sends plain text through Jinja too, which takes away one newline at the end."""
    return re.sub("\r\n|\r", "\n", text).removesuffix("\n")


def _or_default(convert: Callable[[Any], Any]) -> Callable[..., Any]:
    def call(value: Any, default: Any = None) -> Any:
        try:
            return convert(value)
        except TooMuchYaml:
            raise
        except (TypeError, ValueError, RecursionError, yaml.YAMLError):
            return default

    return call


def _dbt_version() -> str:
    try:
        return version("dbt-core")
    except PackageNotFoundError:
        return ""
