"""Edits of YAML that people wrote: the lines that change change, every other byte stays.

A round trip through a YAML writer keeps comments, but has one indentation for a whole file and
rewraps what it doesn't like. Here the parser only says where something stands, text is put in
beside it, and the outcome is read back: if it isn't exactly what was wanted, nothing is edited.
Parser and reader are PyYAML's, which dbt reads these files with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

_PLAIN = re.compile(r"[A-Za-z_+./][A-Za-z0-9_+./-]*")
_WORDS_OF_YAML = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


class CannotEditError(Exception):
    """The text is written in a way that can't be edited in place (anchors, several documents)."""


def put(text: str, path: Sequence[str], value: Any, *, comment: str = "") -> str:
    """Sets the value at a path of mappings, and makes the mappings that are missing.

    `comment` goes on lines of its own above what is added. Raises CannotEditError.
    """
    wanted = _read(text)
    place = wanted
    for key in path[:-1]:
        if not isinstance(place, dict):
            break
        if place.get(key) is None:
            place[key] = {}
        place = place[key]
    if not isinstance(place, dict):
        raise CannotEditError(f"`{'.'.join(path[:-1])}` is not a mapping")
    place[path[-1]] = value
    return _checked(_put(text, path, value, comment), wanted)


def append(text: str, key: str, item: Mapping[str, str]) -> str:
    """Adds an item to the list that stands at a key of the document. Raises CannotEditError."""
    wanted = _read(text)
    if not isinstance(wanted, dict) or not isinstance(wanted.get(key) or [], list):
        raise CannotEditError(f"`{key}` is not a list")
    wanted[key] = [*(wanted.get(key) or []), dict(item)]
    return _checked(_append(text, key, item), wanted)


def _read(text: str) -> Any:
    """The document's value, without aliases."""

    def apart(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: apart(inner) for key, inner in value.items()}
        return [apart(inner) for inner in value] if isinstance(value, list) else value

    value = yaml.safe_load(text)
    return {} if value is None else apart(value)


def _checked(text: str, wanted: Any) -> str:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CannotEditError("the edited text would not be YAML") from error
    if found != wanted:
        raise CannotEditError("the edited text would say something else")
    return text


def _compose(text: str) -> Node | None:
    node: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    return node


def _put(text: str, path: Sequence[str], value: Any, comment: str) -> str:
    root = _compose(text)
    if root is None or _is_null(root):
        return _with_newline(text) + _block(_nest(path, value), 0, 2, comment)
    node, parent_key = root, None
    for depth, key in enumerate(path):
        rest = path[depth + 1 :]
        if not isinstance(node, MappingNode) or not node.value:
            return _fill(text, parent_key, node, _nest(path[depth:], value), root, comment)
        pair = _find(node, key)
        if pair is None:
            return _add_to_mapping(text, node, {key: _nest(rest, value)}, root, comment)
        parent_key, child = pair
        if not rest:
            return _replace(text, parent_key, child, value, root, comment)
        node = child
    raise AssertionError("a path has a last key")


def _append(text: str, key: str, item: Mapping[str, str]) -> str:
    root = _compose(text)
    pair = _find(root, key) if isinstance(root, MappingNode) else None
    if pair is None:
        return _put(text, [key], [dict(item)], "")
    key_node, items = pair
    if not isinstance(items, SequenceNode) or not items.value:
        return _fill(text, key_node, items, [dict(item)], root, "")
    if items.flow_style:
        return _add_to_flow(text, items, _flow(dict(item)))
    indent = items.start_mark.column
    at = _after(text, _end(text, items), indent)
    return _insert(text, at, _block([dict(item)], indent, 2, ""))


def _find(node: Node | None, key: str) -> tuple[Node, Node] | None:
    """A key and its value; the last one, as dbt reads it, when the key stands there twice."""
    if isinstance(node, MappingNode):
        for key_node, value in reversed(node.value):
            if isinstance(key_node, ScalarNode) and key_node.value == key:
                return key_node, value
    return None


def _replace(text: str, key: Node, node: Node, value: Any, root: Node, comment: str) -> str:
    plain = isinstance(node, ScalarNode) and node.style not in ("|", ">")
    if isinstance(value, (dict, list)) and (_is_null(node) or not getattr(node, "value", None)):
        return _fill(text, key, node, value, root, comment)
    if isinstance(value, (dict, list)) or not plain:
        raise CannotEditError("a value of another kind stands there")
    start, end = node.start_mark.index, node.end_mark.index
    gap = "" if text[start - 1].isspace() else " "
    return text[:start] + gap + _scalar(value) + text[end:]


def _add_to_mapping(
    text: str, node: MappingNode, value: dict[str, Any], root: Node, comment: str
) -> str:
    if node.flow_style:
        (key,) = value
        return _add_to_flow(text, node, f"{_scalar(key)}: {_flow(value[key])}")
    indent = node.value[0][0].start_mark.column
    at = _after(text, _end(text, node), indent)
    block = _block(value, indent, _step(root), comment)
    if node is root and text[:at].strip() and not re.search(r"\n[ \t]*\r?\n$", text[:at]):
        block = "\n" + block
    return _insert(text, at, block)


def _add_to_flow(text: str, node: CollectionNode, piece: str) -> str:
    close = node.end_mark.index - 1
    before = text[:close].rstrip()
    spaces = text[len(before) : close]
    comma = "" if before.endswith(",") else ","
    return f"{before}{comma} {piece}{spaces}{text[close:]}"


def _fill(
    text: str, key: Node | None, node: Node, value: Any, root: Node | None, comment: str
) -> str:
    """Puts a block where a key has nothing yet: no value, `null`, `{}` or `[]`."""
    if key is None:
        raise CannotEditError("the document is not a mapping")
    if not _is_null(node) and (not isinstance(node, CollectionNode) or node.value):
        raise CannotEditError("a value of another kind stands there")
    emptied = text[: node.start_mark.index].rstrip(" ") + text[node.end_mark.index :]
    step = _step(root)
    block = _block(value, key.start_mark.column + step, step, comment)
    return _insert(emptied, _line_end(emptied, key.end_mark.index), block)


def _insert(text: str, at: int, block: str) -> str:
    if "\r\n" in text:
        block = block.replace("\n", "\r\n")
    before = text[:at]
    if before and not before.endswith("\n"):
        before += "\r\n" if "\r\n" in text else "\n"
    return before + block + text[at:]


def _end(text: str, node: Node) -> int:
    """The index behind the last character of a node."""
    if isinstance(node, MappingNode) and not node.flow_style and node.value:
        key, value = node.value[-1]
        # The value may be an alias, whose node stands further up.
        return max(_end(text, key), _end(text, value))
    if isinstance(node, SequenceNode) and not node.flow_style and node.value:
        return _end(text, node.value[-1])
    if isinstance(node, ScalarNode) and node.style in ("|", ">"):
        return _end_of_literal(text, node)
    index: int = node.end_mark.index
    return index


def _end_of_literal(text: str, node: ScalarNode) -> int:
    """PyYAML ends it before the next token, behind comments that don't belong to it."""
    at = end = _line_end(text, node.start_mark.index)
    indent = None
    while at < len(text):
        line = text[at : _line_end(text, at)]
        if line.strip():
            indent = _indent(line) if indent is None else indent
            if _indent(line) < indent or indent == 0:
                break
            end = at + len(line.rstrip())
        at += len(line)
    return end


def _after(text: str, index: int, indent: int) -> int:
    """The start of the line to insert at: behind the comments that follow with this indent."""
    at = _line_end(text, index)
    probe = at
    while probe < len(text):
        end = _line_end(text, probe)
        line = text[probe:end]
        content = line.strip()
        if content and not (content.startswith("#") and _indent(line) >= indent):
            break
        if not content and indent == 0:
            break
        probe = end
        if content:
            at = probe
    return at


def _line_end(text: str, index: int) -> int:
    newline = text.find("\n", index)
    return len(text) if newline < 0 else newline + 1


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _step(root: Node | None) -> int:
    """How far the file indents a mapping within a mapping."""
    if isinstance(root, MappingNode) and not root.flow_style:
        for key, value in root.value:
            if isinstance(value, MappingNode) and not value.flow_style and value.value:
                step: int = value.value[0][0].start_mark.column - key.start_mark.column
                if step > 0:
                    return step
    return 2


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _nest(path: Sequence[str], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _with_newline(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _block(value: Any, indent: int, step: int, comment: str) -> str:
    pad = " " * indent
    lines = [f"{pad}# {line}\n" for line in comment.splitlines()]
    if isinstance(value, list):
        for item in value:
            first, *more = (f"{_scalar(key)}: {_scalar(item[key])}\n" for key in item)
            lines += [f"{pad}- {first}", *(f"{pad}  {line}" for line in more)]
    else:
        for key, inner in value.items():
            if isinstance(inner, (dict, list)) and inner:
                lines += [f"{pad}{_scalar(key)}:\n", _block(inner, indent + step, step, "")]
            else:
                lines.append(f"{pad}{_scalar(key)}: {_scalar(inner)}\n")
    return "".join(lines)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS_OF_YAML:
        return value
    return json.dumps(value, ensure_ascii=False)
