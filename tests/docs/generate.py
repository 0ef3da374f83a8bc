"""Writes what is generated: the JSON Schemas, and the tables of keys in the reference.

`make reference` runs it. A page says where a table goes with a pair of comments:
`<!-- keys of run -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from sentinel.core.documents import checks, history, payload, runs, silences, status
from tests.docs.pages import REFERENCE, ROOT

SCHEMAS = ROOT / "sentinel" / "schemas"
DOCUMENTS: Mapping[str, Any] = {
    "run": runs.RunDocument,
    "list": runs.ListDocument,
    "status": status.StatusDocument,
    "history": history.HistoryDocument,
    "explain": history.ExplainDocument,
    "silence": silences.SilencesDocument,
    "validate": checks.ValidateDocument,
    "doctor": checks.DoctorDocument,
    "payload": payload.Payload,
}
PAGES = ("json-documents", "messages")

_TABLE = re.compile(r"(<!-- keys of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
# Described in a section of its own.
_ELSEWHERE = {"SilenceDocument": ("silence", "list of [silences](#silence)")}


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a document."""
    generated = TypeAdapter(DOCUMENTS[name]).json_schema()
    title = generated.pop("description").removesuffix(".")
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:dbt-sentinel:schema:{name}",
        "title": title,
    }
    definitions = generated.pop("$defs", {})
    body = {key: value for key, value in _plain(generated).items() if key != "title"}
    return head | body | ({"$defs": _plain(definitions)} if definitions else {})


def _plain(part: Any, names: bool = False) -> Any:
    """Without the titles that pydantic makes of names, and without links in descriptions.

    `names`: the keys of this mapping are names, not JSON Schema's words.
    """
    if isinstance(part, list):
        return [_plain(each) for each in part]
    if not isinstance(part, dict):
        return part
    cleaned = {
        key: _plain(value, names=key in ("properties", "$defs"))
        for key, value in part.items()
        if names or key != "title"
    }
    if isinstance(cleaned.get("description"), str) and not names:
        cleaned["description"] = _LINK.sub(r"\1", cleaned["description"])
    return cleaned


def tables(name: str) -> str:
    """The tables of a document's keys, for the reference."""
    generated = TypeAdapter(DOCUMENTS[name]).json_schema()
    return "\n\n".join(_tables(name, generated, generated.get("$defs", {})))


def _tables(name: str, part: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    rows = ["| key | type | meaning |", "|---|---|---|"]
    nested: list[tuple[str, str]] = []
    optional = set(part["properties"]) - set(part["required"])
    for key, field in part["properties"].items():
        kind = _kind(field, definitions)
        entry = _entry(field)
        if entry in _ELSEWHERE and _ELSEWHERE[entry][0] != name:
            kind = _ELSEWHERE[entry][1]
        elif entry and "properties" in definitions[entry]:
            nested.append((key, entry))
        if key in optional:
            kind += ", optional"
        meaning = field["description"] + _values(field, definitions)
        rows.append(f"| `{key}` | {kind} | {meaning} |")
    yield "\n".join(rows)
    for key, entry in nested:
        first, *others = _tables(name, definitions[entry], definitions)
        listed = part["properties"][key].get("type") == "array"
        yield f"{'Each entry of' if listed else 'The keys of'} `{key}`:\n\n{first}"
        yield from others


def _variants(field: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """A field's schema without null, and whether null is allowed."""
    if "anyOf" not in field:
        return field, False
    others = [each for each in field["anyOf"] if each.get("type") != "null"]
    [only] = others
    return only, len(others) < len(field["anyOf"])


def _entry(field: Mapping[str, Any]) -> str | None:
    """The name of the definition that a field, or an entry of it, refers to."""
    only, _ = _variants(field)
    reference: str = only.get("items", only).get("$ref", "")
    return reference.rpartition("/")[2] or None


def _resolved(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    only, _ = _variants(field)
    target: Mapping[str, Any] = only.get("items", only)
    return definitions[target["$ref"].rpartition("/")[2]] if "$ref" in target else target


def _kind(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    only, nullable = _variants(field)
    words = {
        "string": "text", "integer": "integer", "number": "number", "boolean": "true or false",
        "object": "object", "array": "list",
    }  # fmt: skip
    resolved = _resolved(field, definitions)
    word = words[resolved["type"]]
    if resolved.get("format") == "date-time":
        word = "time"
    if only.get("type") == "array":
        word = f"list of {'objects' if word == 'object' else word}"
    return f"{word} or null" if nullable else word


def _values(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    values = _resolved(field, definitions).get("enum", ())
    return f"; one of {', '.join(f'`{each}`' for each in values)}" if values else ""


def page(name: str) -> str:
    """A page of the reference with its tables as they should be."""
    text = (REFERENCE / f"{name}.md").read_text(encoding="utf-8")
    return _TABLE.sub(lambda found: f"{found[1]}\n{tables(found[2])}\n\n{found[3]}", text)


def text_of(name: str) -> str:
    """The file of a schema, as it should be."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write them all."""
    for name in DOCUMENTS:
        (SCHEMAS / f"{name}.json").write_text(text_of(name), encoding="utf-8")
    for name in PAGES:
        (REFERENCE / f"{name}.md").write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
