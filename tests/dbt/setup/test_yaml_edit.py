"""Edits of YAML leave every byte alone that they needn't change."""

from __future__ import annotations

import pytest
import yaml

from sentinel.dbt.setup.yaml_edit import CannotEditError, append, put

COMMENTED = """\
# The shop.
name:   'shop'   # odd spaces stay

models:
    shop:
        +materialized: table   # for speed
        # staging:
        #     +materialized: view

    # Not ours.
    other: {+enabled: false}

# The end of it.
vars: {a: [1,
           2]}
"""


def _added(before: str, after: str) -> list[str]:
    """The lines that came in; the others are the same, in the same order."""
    rest, added = before.splitlines(), []
    for line in after.splitlines():
        if rest and line == rest[0]:
            rest.pop(0)
        else:
            added.append(line)
    assert rest == []
    return added


def test_a_key_is_added_in_the_style_of_the_file() -> None:
    after = put(COMMENTED, ["models", "sentinel", "tables", "+full_refresh"], False)
    assert _added(COMMENTED, after) == [
        "    sentinel:",
        "        tables:",
        "            +full_refresh: false",
    ]
    assert (
        after.index("    other:") < after.index("    sentinel:") < after.index("# The end of it.")
    )


def test_a_key_goes_behind_the_comments_that_belong_to_its_mapping() -> None:
    after = put(COMMENTED, ["models", "shop", "alerts"], {"+materialized": "view"})
    assert after.index("        #     +materialized: view") < after.index("        alerts:")
    assert after.index("        alerts:") < after.index("    # Not ours.")


def test_a_key_at_the_top_is_added_at_the_end_with_its_comment() -> None:
    after = put("name: shop", ["models", "a"], "b", comment="Why.")
    assert after == "name: shop\n\n# Why.\nmodels:\n  a: b\n"


def test_a_value_is_replaced_where_it_stands() -> None:
    after = put(COMMENTED, ["models", "shop", "+materialized"], "view")
    assert after == COMMENTED.replace("table   # for", "view   # for")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("models:\n", "models:\n  a: b\n"),
        ("models: # none\nx: 1\n", "models: # none\n  a: b\nx: 1\n"),
        ("models: {}\n", "models:\n  a: b\n"),
        ("models: null\n", "models:\n  a: b\n"),
        ("models: {c: d}\n", "models: {c: d, a: b}\n"),
        ("models: { c: d, }\n", "models: { c: d, a: b }\n"),
        ("models:\n  c: d", "models:\n  c: d\n  a: b\n"),
        ("models:\r\n  c: d\r\n", "models:\r\n  c: d\r\n  a: b\r\n"),
        (
            "models:\n  c: |\n    d\n\n    # e\n# f\nx: 1\n",
            "models:\n  c: |\n    d\n\n    # e\n  a: b\n# f\nx: 1\n",
        ),
        ("---\nmodels:\n  c: &d\n    e: f\n", "---\nmodels:\n  c: &d\n    e: f\n  a: b\n"),
        ("", "models:\n  a: b\n"),
        ("# nothing yet\n", "# nothing yet\nmodels:\n  a: b\n"),
        ("models: {a: c}\nmodels: {a: d}\n", "models: {a: c}\nmodels: {a: b}\n"),
    ],
)
def test_every_way_of_writing_a_mapping(before: str, after: str) -> None:
    assert put(before, ["models", "a"], "b") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("packages:\n- git: x\n", "packages:\n- git: x\n- local: p\n"),
        ("packages:\n  - git: x\n", "packages:\n  - git: x\n  - local: p\n"),
        (
            "packages:\n    -   git: x # 1\n    # 2\n",
            "packages:\n    -   git: x # 1\n    # 2\n    - local: p\n",
        ),
        (
            "packages:\n  - git: x\n    revision: 1\nhash: z\n",
            "packages:\n  - git: x\n    revision: 1\n  - local: p\nhash: z\n",
        ),
        ("packages: []\n", "packages:\n  - local: p\n"),
        ("packages:\n", "packages:\n  - local: p\n"),
        ("packages: [{git: x}]\n", "packages: [{git: x}, {local: p}]\n"),
        ("projects: []\n", "projects: []\n\npackages:\n  - local: p\n"),
        ("", "packages:\n  - local: p\n"),
    ],
)
def test_every_way_of_writing_a_list(before: str, after: str) -> None:
    assert append(before, "packages", {"local": "p"}) == after


@pytest.mark.parametrize(
    "text",
    [
        "base: &base\n  a: 1\nmodels: *base\n",
        "models: text\n",
        "models: [a]\n",
        "- models\n",
        "models: |\n  text\n",
    ],
)
def test_what_cannot_be_edited_is_refused(text: str) -> None:
    with pytest.raises(CannotEditError):
        put(text, ["models", "shop", "a"], "b")


def test_a_list_in_place_of_a_mapping_is_refused() -> None:
    with pytest.raises(CannotEditError, match="not a list"):
        append("packages: {a: b}\n", "packages", {"local": "y"})
    with pytest.raises(CannotEditError):
        put("models: [a]\n", ["models"], "b")


@pytest.mark.parametrize("value", ["on", "1.0", "a: b", "{{ x }}", "", "é", True, 3])
def test_a_value_is_read_back_as_it_was_given(value: object) -> None:
    assert yaml.safe_load(put("x: 1\n", ["y"], value)) == {"x": 1, "y": value}
