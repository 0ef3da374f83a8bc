"""YAML with lines, and values from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.config.document import Document, quoting_hint
from sentinel.core.errors import ConfigError

SECRET = "t0ps3cret"


def read(folder: Path, text: str) -> Document:
    path = folder / "sentinel.yml"
    path.write_text(text, encoding="utf-8")
    return Document.read(path, "sentinel.yml")


def fault(folder: Path, text: str, *keys: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(folder, text).render(*keys)
    return caught.value


# -- lines -------------------------------------------------------------------------------------

NESTED = """\
# a comment

timezone: UTC
channels:
  hook:
    type: webhook

    headers:
      X-Key: a
  # another
  list:
    - one
    - two: 2
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("timezone",), 3),
        (("channels",), 4),
        (("channels", "hook"), 5),
        (("channels", "hook", "headers", "X-Key"), 9),
        (("channels", "list", "0"), 12),
        (("channels", "list", "1", "two"), 13),
        (("channels", "hook", "nowhere"), 5),
        (("channels", "list", "7"), 11),
        (("channels", "hook", "type", "deeper"), 6),
    ],
)
def test_a_key_is_at_its_line_and_a_missing_one_at_that_above_it(
    tmp_path: Path, keys: tuple[str, ...], line: int
) -> None:
    assert str(read(tmp_path, NESTED).location(*keys)) == f"sentinel.yml:{line}"


def test_what_is_not_there_at_all_has_no_line(tmp_path: Path) -> None:
    assert str(read(tmp_path, NESTED).location("nowhere")) == "sentinel.yml"


# -- values ------------------------------------------------------------------------------------


def test_values_keep_their_types(tmp_path: Path) -> None:
    text = "a: {b: [1, 2.5, true, null, 'x', \"y\", z], c: 010, d: 0x10, e: 1e3, yes: no}"
    found = read(tmp_path, text).render("a")
    assert found == {
        "b": [1, 2.5, True, None, "x", "y", "z"],
        "c": 10,
        "d": 16,
        "e": 1000.0,
        "yes": "no",
    }
    assert type(found) is dict
    assert type(found["b"][4]) is type(found["b"][5]) is str


def test_an_anchor_is_the_same_value_again(tmp_path: Path) -> None:
    document = read(tmp_path, "a: &it {x: 1}\nb: *it\nc:\n  <<: *it\n  y: 2\n")
    assert document.render("b") == {"x": 1}
    assert document.render("c") == {"x": 1, "y": 2}


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    assert dict(read(tmp_path, "# nothing yet\n").root) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("\"{{ env_var('SEEN') }}\"", "seen"),
        ("\"a-{{ env_var('SEEN') }}-b\"", "a-seen-b"),
        ("\"{{ env_var('UNSEEN', 'default') }}\"", "default"),
        ("\"{{ env_var('SEEN', 'default') }}\"", "seen"),
        ("\"{{ env_var('BLANK', 'default') }}\"", ""),
        ("\"{{ env_var('UNSEEN', 5) }}\"", "5"),
        ("\"{% if env_var('SEEN') == 'seen' %}yes{% endif %}\"", "yes"),
        ("{env: SEEN}", "seen"),
        ("{env: BLANK}", ""),
        ("{file: note.txt}", "line one\nline two"),
        ("{file: deep/note.txt}", "deep"),
    ],
)
def test_a_value_may_come_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("SEEN", "seen")
    monkeypatch.setenv("BLANK", "")
    monkeypatch.delenv("UNSEEN", raising=False)
    monkeypatch.chdir("/")
    (tmp_path / "note.txt").write_text("\nline one\nline two\n\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "note.txt").write_text("deep")
    document = read(tmp_path, f"a:\n  b: [{value}]\n  c: {value}\n")
    assert document.render("a") == {"b": [expected], "c": expected}
    assert document.render("a", "c") == expected


def test_a_file_may_be_named_absolutely_or_from_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "note.txt").write_text("here")
    monkeypatch.setenv("HOME", str(tmp_path))
    document = read(tmp_path, f"a: {{file: {tmp_path}/note.txt}}\nb: {{file: ~/note.txt}}\n")
    assert (document.render("a"), document.render("b")) == ("here", "here")


def test_a_mapping_that_only_has_a_key_named_env_among_others_is_itself(tmp_path: Path) -> None:
    document = read(tmp_path, "a: {env: prod, file: x}\n")
    assert document.render("a") == {"env": "prod", "file": "x"}


def test_a_value_is_read_when_it_is_asked_for_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LATE", raising=False)
    document = read(tmp_path, "a: {env: LATE}\nb: 1\n")
    assert document.render("b") == 1
    monkeypatch.setenv("LATE", "now")
    assert document.render("a") == "now"


# -- what is missing or wrong ------------------------------------------------------------------


@pytest.mark.parametrize("value", ["{env: UNSEEN}", "\"{{ env_var('UNSEEN') }}\""])
def test_a_missing_variable_is_named_with_its_key_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.delenv("UNSEEN", raising=False)
    error = fault(tmp_path, f"a: 1\nb:\n  c: {value}\n", "b")
    assert str(error) == (
        "sentinel.yml:3: `b.c` needs the environment variable UNSEEN, which is not set"
    )


def test_a_missing_variable_in_a_list_is_at_its_own_line(tmp_path: Path) -> None:
    error = fault(tmp_path, "a:\n  - x\n  - y: {env: UNSEEN}\n", "a")
    assert str(error).startswith("sentinel.yml:3: `a.1.y` needs")


def test_a_missing_file_is_named_with_its_key_and_line(tmp_path: Path) -> None:
    error = fault(tmp_path, "a: 1\nb:\n  c: {file: no/such.txt}\n", "b")
    assert str(error) == (
        "sentinel.yml:3: `b.c` needs the file no/such.txt: No such file or directory"
    )


def test_a_file_that_is_no_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    error = fault(tmp_path, "b: {file: bytes}\n", "b")
    assert str(error) == "sentinel.yml:1: `b` needs the file bytes: it is not UTF-8 text"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ nowhere }}", "'nowhere' is undefined"),
        (f"{SECRET} {{{{ env_var('A' {SECRET} }}}}", "its Jinja can't be rendered"),
        (f"{SECRET} {{{{ {SECRET}", "its Jinja can't be rendered"),
        ("{{ env_var() }}", "its Jinja can't be rendered"),
        ("{{ env_var(1) }}", "its Jinja can't be rendered"),
        ("{{ 1 / 0 }}", "its Jinja can't be rendered"),
        ("{{ [][3] + 1 }}", "list object has no element 3"),
        ("{{ 'x' | no_such_filter }}", "its Jinja can't be rendered"),
        ("{{ ''.__class__.__mro__ }}", "its Jinja can't be rendered"),
    ],
)
def test_jinja_that_fails_is_at_its_line_and_not_shown(
    tmp_path: Path, template: str, words: str
) -> None:
    error = fault(tmp_path, f'a: 1\nb: "{template}"\n', "b")
    assert str(error).startswith("sentinel.yml:2: `b`: ")
    assert words in str(error)
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: b: c\n", "sentinel.yml:1: this is not valid YAML: mapping values"),
        ("a: 1\nb: 'never closed\n", "this is not valid YAML: found unexpected end of stream"),
        ("a: 1\nb: [1\nc: 2\n", "sentinel.yml:3: this is not valid YAML"),
        ("a: 1\n\tb: 1\n", "sentinel.yml:2: this is not valid YAML"),
        ("a: *nowhere\n", "sentinel.yml:1: this is not valid YAML: found undefined alias"),
        ("a: 1\nb: 1\na: 2\n", 'sentinel.yml:3: this is not valid YAML: found duplicate key "a"'),
        ("a: \x07\n", "sentinel.yml: this is not valid YAML: unacceptable character"),
        ("a: 2026-13-45\n", "sentinel.yml: a date or a number in it can't be read"),
        ("- a\n- b\n", "sentinel.yml:1: the file must be a mapping of keys"),
        ("just words\n", "sentinel.yml:1: the file must be a mapping of keys"),
        ("a: 1\n7: b\n", "sentinel.yml:2: the key 7 must be text"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_said_with_its_line(
    tmp_path: Path, text: str, words: str
) -> None:
    assert words in str(fault(tmp_path, text))


def test_a_key_that_stands_twice_does_not_show_its_values(tmp_path: Path) -> None:
    error = fault(tmp_path, f"url: https://{SECRET}\nurl: https://other.{SECRET}\n")
    assert str(error) == 'sentinel.yml:2: this is not valid YAML: found duplicate key "url"'


def test_a_file_that_can_t_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^sentinel\.yml can't be read: it is not a regular file$"
    ):
        Document.read(tmp_path, "sentinel.yml")
    (tmp_path / "bytes").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"^sentinel\.yml is not UTF-8 text$"):
        Document.read(tmp_path / "bytes", "sentinel.yml")


# -- quotes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("schedule: @daily", "quote it: schedule: '@daily'"),
        ("  schedule: @daily  # at midnight", "quote it: schedule: '@daily'"),
        ("schedule: */10 * * * *", "quote it: schedule: '*/10 * * * *'"),
        ("schedule: */10 * * * 1,2", "quote it: schedule: '*/10 * * * 1,2'"),
        ("schedule: * * * * *", "quote it: schedule: '* * * * *'"),
        ("schedule: */10 * * * *  # often", "quote it: schedule: '*/10 * * * *'"),
        ("{schedule: @daily}", "quote it: schedule: '@daily'"),
        ("{schedule: */5 * * * *, severity: info}", "quote it: schedule: '*/5 * * * *'"),
        (f"url: @{SECRET}", "quote the value of `url`"),
        (f"password: *{SECRET}", "quote the value of `password`"),
    ],
)
def test_what_yaml_stumbles_over_without_quotes_is_answered_with_advice(
    tmp_path: Path, line: str, advice: str
) -> None:
    error = fault(tmp_path, f"timezone: UTC\ndefaults:\n  {line}\n")
    assert error.hint == advice
    assert SECRET not in (error.hint or "")


@pytest.mark.parametrize("text", ["a: [1\n", "a: 'x\n", "a: b: c\n"])
def test_other_faults_get_no_such_advice(tmp_path: Path, text: str) -> None:
    assert fault(tmp_path, text).hint is None


def test_advice_looks_near_the_line_and_nowhere_else() -> None:
    lines = ["schedule: @daily", "a: 1", "b: 2", "c: 3", "d: 4"]
    assert quoting_hint("\n".join(lines), 2) == "quote it: schedule: '@daily'"
    assert quoting_hint("\n".join(lines), 4) is None
    assert quoting_hint("", None) is None
