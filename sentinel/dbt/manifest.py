"""What Sentinel reads from dbt's manifest.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sentinel import files
from sentinel.core.errors import ProjectError
from sentinel.core.project import AlertSource, Owner
from sentinel.ports import Relation

PACKAGE = "sentinel"
_PREFIX = "sentinel_"
# What matters in an expression over files: texts, brackets with a function's name, commas, names.
_WORDS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+\s*\(|\w+|:=|=>|[=,(\[{)\]}]""")
_READER = re.compile(r"((read|scan|parquet|sniff|st_read|glob)\w*|\w+_scan)\s*\(", re.IGNORECASE)


def load_manifest(path: Path) -> dict[str, Any]:
    """A manifest.json. Raises ProjectError if there is none or it is torn."""
    try:
        value = json.loads(files.read(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ProjectError(f"dbt left no readable manifest at {path}") from error
    if not isinstance(value, dict) or not isinstance(value.get("nodes"), dict):
        raise ProjectError(f"{path} is no dbt manifest")
    return value


def models(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The enabled models, by unique id."""
    for _, node in sorted(manifest["nodes"].items()):
        if node.get("resource_type") == "model":
            yield node


def alerts(manifest: Mapping[str, Any]) -> list[AlertSource]:
    """The models that `meta.sentinel` makes alerts, by unique id."""
    found = []
    for node in models(manifest):
        meta = (node.get("config") or {}).get("meta") or node.get("meta") or {}
        # A project's `models: +meta:` reaches Sentinel's own models too.
        if "sentinel" in meta and node.get("package_name") != PACKAGE:
            found.append(_alert(manifest, node, meta))
    return found


def tables(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Sentinel's own models and the relations dbt gives them."""
    return {
        node["name"]: node["relation_name"]
        for node in models(manifest)
        if node.get("package_name") == PACKAGE
        and node["name"].startswith(_PREFIX)
        and node.get("relation_name")
    }


def watched(manifest: Mapping[str, Any]) -> list[Relation]:
    """The relations that alerts read: their parents, through those that are no relation themselves."""
    nodes = {**manifest["nodes"], **(manifest.get("sources") or {})}
    found: set[Relation] = set()
    seen: set[str] = set()
    waiting = [parent for alert in alerts(manifest) for parent in alert.depends_on]
    while waiting:
        node = nodes.get(waiting.pop())
        if node is None or node["unique_id"] in seen:
            continue
        seen.add(node["unique_id"])
        if (node.get("config") or {}).get("materialized") == "ephemeral":
            waiting += (node.get("depends_on") or {}).get("nodes") or ()
        elif node.get("schema"):
            name = node.get("identifier") or node.get("alias") or node["name"]
            found.add(Relation(node.get("database"), node["schema"], name))
    return sorted(found, key=lambda each: (each.schema, each.name))


def own_relations(manifest: Mapping[str, Any]) -> list[Relation]:
    """Sentinel's own models."""
    return [
        Relation(node.get("database"), node["schema"], node.get("alias") or node["name"])
        for node in models(manifest)
        if node.get("package_name") == PACKAGE
    ]


def external_files(manifest: Mapping[str, Any], root: str) -> list[str]:
    """The files outside of the database that sources and external models of dbt-duckdb name.

    As they are written in the project. `root` is the profile's `external_root`.
    """
    found = []
    for _, source in sorted((manifest.get("sources") or {}).items()):
        # dbt-duckdb has put the file in the place of the relation already.
        shown = source.get("relation_name") or ""
        if not shown.startswith('"') and ("(" in shown or shown.startswith("'")):
            found += _file_names(shown)
    for model in models(manifest):
        config = model.get("config") or {}
        if config.get("materialized") == "external":
            kind = "" if (config.get("options") or {}).get("partition_by") else config.get("format")
            ending = "" if kind == "" else f".{kind or 'parquet'}"
            found.append(config.get("location") or f"{root}/{model['alias']}{ending}")
    return list(dict.fromkeys(found))


def _file_names(sql: str) -> list[str]:
    """The texts in an expression that name files: `read_csv(['a.csv', 'b.csv'], delim = ';')`.

    They stand in the first argument of a function that reads, or after `from`. Others don't count:
    a separator, '/', taken for a file would open all that there is.
    """
    if sql.startswith("'"):
        return [sql[1:-1].replace("''", "'")]
    found = []
    open_: list[tuple[str, bool]] = [("(", False)]  # brackets, and whether a text in them is a file
    before = ""
    for word in _WORDS.findall(sql):
        bracket, reads = open_[-1]
        if word == "[":
            open_.append((word, reads))
        elif word[-1] in "({":
            open_.append((word, _READER.fullmatch(word) is not None))
        elif word in ")]}":
            open_ = open_[:-1] or open_
        elif word in (",", "=", ":=", "=>") and bracket != "[":
            open_[-1] = (bracket, False)
        elif word.startswith("'"):
            table = bracket == "(" and before.lower() in ("from", "join")
            if (reads or table) and word != "''":
                found.append(word[1:-1].replace("''", "'"))
        before = word
    return found


def _alert(
    manifest: Mapping[str, Any], node: Mapping[str, Any], meta: Mapping[str, Any]
) -> AlertSource:
    block = meta["sentinel"]
    parents = tuple((node.get("depends_on") or {}).get("nodes") or ())
    patch = node.get("patch_path")
    return AlertSource(
        unique_id=node["unique_id"],
        name=node["name"],
        path=node["original_file_path"],
        block={} if block is None else block,
        folder_defaults=meta.get("sentinel_defaults"),
        package=node.get("package_name") or "",
        patch_path=patch.split("://", 1)[-1] if patch else None,
        description=node.get("description") or "",
        tags=tuple(node.get("tags") or ()),
        group_owner=_owner(manifest, node),
        depends_on=parents,
        exposures=_exposures(manifest, parents),
    )


def _owner(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> Owner | None:
    name = node.get("group") or (node.get("config") or {}).get("group")
    if not name:
        return None
    groups = (manifest.get("groups") or {}).values()
    same = [g for g in groups if g.get("name") == name]
    own = [g for g in same if g.get("package_name") == node.get("package_name")]
    owner = next((g.get("owner") or {} for g in own or same), None)
    if owner is None:
        return None
    return Owner(_text(owner.get("name")), _text(owner.get("email")), _text(owner.get("slack")))


def _text(value: Any) -> str | None:
    if isinstance(value, list):  # dbt allows several addresses
        return ", ".join(str(item) for item in value) or None
    return None if value is None else str(value)


def _exposures(manifest: Mapping[str, Any], parents: Iterable[str]) -> tuple[str, ...]:
    """The names of the exposures on these nodes or on anything downstream of them."""
    children = manifest.get("child_map") or {}
    exposures = manifest.get("exposures") or {}
    seen: set[str] = set()
    waiting = list(parents)
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += children.get(current) or ()
    return tuple(sorted(exposures[i]["name"] for i in seen if i in exposures))
