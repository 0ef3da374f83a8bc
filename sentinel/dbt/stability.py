"""Whether a model's SQL can change while the project doesn't: judged from its Jinja alone.

Only what is known to depend on nothing but the project, its vars and the environment counts as
stable. A name this module has never heard of is volatile: a needless compile is only slow, a
stale query would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jinja2
from jinja2 import nodes

# Names of dbt's context that are safe in any position.
_STABLE_NAMES = frozenset(
    {"ref", "source", "this", "target", "config", "var", "env_var", "execute", "database"}
    | {"schema", "return", "log", "print", "exceptions", "api", "doc", "tojson", "fromjson"}
    | {"toyaml", "fromyaml", "set", "set_strict", "zip", "zip_strict", "local_md5"}
    | {"diff_of_two_dicts", "dbt_version", "project_name"}
    | {"range", "dict", "namespace", "cycler", "joiner", "loop", "caller", "varargs", "kwargs"}
)
# Names that are safe only as `name.attribute` with one of these attributes.
_STABLE_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "adapter": frozenset({"dispatch", "quote", "quote_as_configured", "type"}),
    "model": frozenset(
        {"name", "unique_id", "alias", "path", "original_file_path", "package_name", "fqn"}
        | {"resource_type", "schema", "database", "description", "tags", "meta", "config"}
    ),
}
_VOLATILE_FILTERS = frozenset({"random"})
_IMPORTS = (nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends)


@dataclass
class _Read:
    """What one template reads: the first thing against it, and the names of the macros it calls."""

    reason: str | None = None
    macros: set[str] = field(default_factory=set)

    def object(self, reason: str) -> None:
        self.reason = self.reason or reason


class Stability:
    """Judges the models of one manifest (as read from manifest.json).

    `plain_vars` says that no var holds Jinja of its own; dbt renders such values with everything
    a model may use.
    """

    def __init__(self, manifest: Mapping[str, Any], *, plain_vars: bool) -> None:
        self._nodes: Mapping[str, Any] = manifest.get("nodes", {})
        self._plain_vars = plain_vars
        self._jinja = jinja2.Environment(  # noqa: S701 (templates are parsed here, never rendered)
            extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"]
        )
        self._macros: dict[str, list[str]] = {}
        self._packages: set[str] = set()
        for macro in manifest.get("macros", {}).values():
            self._macros.setdefault(macro["name"], []).append(macro["macro_sql"])
            self._packages.add(macro["package_name"])
        self._reads: dict[str, _Read] = {}

    def why_volatile(self, unique_id: str) -> str | None:
        """What makes the SQL of this model volatile; None if it is stable."""
        called: set[str] = set()
        for ancestor in self._with_ephemeral_parents(unique_id):
            node = self._nodes.get(ancestor)
            if node is None:
                return f"{ancestor} is unknown"
            read = self._read(str(node.get("raw_code") or ""))
            if read.reason:
                return read.reason
            called |= read.macros
        return self._why_macros(called)

    def _with_ephemeral_parents(self, unique_id: str) -> Iterator[str]:
        seen = {unique_id}
        waiting = [unique_id]
        while waiting:
            current = waiting.pop()
            yield current
            for parent in (self._nodes.get(current) or {}).get("depends_on", {}).get("nodes", []):
                config = (self._nodes.get(parent) or {}).get("config") or {}
                if config.get("materialized") == "ephemeral" and parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)

    def _why_macros(self, names: set[str]) -> str | None:
        """Follow the calls. A name stands for the macros of that name in every package, since
        which of them dbt picks depends on packages and dispatch."""
        seen = set(names)
        waiting = sorted(names)
        while waiting:
            name = waiting.pop()
            for text in self._macros[name]:
                read = self._read(text)
                if read.reason:
                    return f"{name}: {read.reason}"
                waiting += read.macros - seen
                seen |= read.macros
        return None

    def _read(self, text: str) -> _Read:
        if text not in self._reads:
            read = self._reads[text] = _Read()
            try:
                tree = self._jinja.parse(text)
            except jinja2.TemplateError:
                read.object("its Jinja can't be parsed here")  # such as dbt's own tags
            else:
                local = {n.name for n in tree.find_all(nodes.Name) if n.ctx != "load"}
                local |= {m.name for m in tree.find_all(nodes.Macro)}
                self._walk(tree, local, read)
        return self._reads[text]

    def _walk(self, node: nodes.Node, local: set[str], read: _Read) -> None:
        if isinstance(node, _IMPORTS):
            read.object("it includes another template")
        elif isinstance(node, nodes.Filter) and node.name in _VOLATILE_FILTERS:
            read.object(f"it uses the filter {node.name}")
        elif isinstance(node, nodes.Call) and _member(node.node) == ("adapter", "dispatch"):
            self._dispatch(node, read)
        elif isinstance(node, nodes.Name) and node.ctx == "load":
            self._name(node.name, local, read)
        owner, attribute = _member(node)
        if owner is None:
            for child in node.iter_child_nodes():
                self._walk(child, local, read)
            return
        self._attribute(owner, attribute, local, read)
        if isinstance(node, nodes.Getitem):
            self._walk(node.arg, local, read)

    def _name(self, name: str, local: set[str], read: _Read) -> None:
        if name in self._macros:
            read.macros.add(name)
        elif name == "var" and not self._plain_vars:
            read.object("a var holds Jinja")
        elif name not in local and name not in _STABLE_NAMES:
            read.object(f"it uses {name}")

    def _attribute(self, owner: str, attribute: str | None, local: set[str], read: _Read) -> None:
        """`owner.attribute`, where the attribute is None if it is computed."""
        if owner in _STABLE_ATTRIBUTES:
            if attribute not in _STABLE_ATTRIBUTES[owner]:
                read.object(f"it uses {owner}.{attribute or '...'}")
        elif owner not in self._packages or owner in local:
            self._name(owner, local, read)
        elif attribute is not None and attribute in self._macros:
            read.macros.add(attribute)
        else:
            read.object(f"it uses {owner}.{attribute or '...'}")

    def _dispatch(self, call: nodes.Call, read: _Read) -> None:
        """adapter.dispatch('x') may call any macro named `<prefix>__x`."""
        named = [k.value for k in call.kwargs if k.key == "macro_name"]
        given = next(iter([*call.args, *named]), None)
        if not isinstance(given, nodes.Const):
            read.object("it dispatches to a macro whose name is computed")
            return
        read.macros |= {name for name in self._macros if name.endswith(f"__{given.value}")}


def _member(node: nodes.Node) -> tuple[str | None, str | None]:
    """`owner.attribute` and `owner['attribute']`; (None, None) for anything else."""
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
        return node.node.name, node.attr
    if isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Name):
        return node.node.name, str(node.arg.value) if isinstance(node.arg, nodes.Const) else None
    return None, None
