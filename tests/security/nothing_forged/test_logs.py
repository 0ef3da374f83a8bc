"""No value starts a line, forges a field or acts on a terminal: in logs, in tables, on the console."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.wrappers import Response

from sentinel.cli.logs import Log, dated_step, json_step, plain_step
from sentinel.cli.output import Output, fail
from sentinel.core.text import field, plain, visible
from tests.cli.conftest import SENTINEL, Project, acme, template  # noqa: F401 - fixtures
from tests.daemon.rig import open_shop, until
from tests.places.place import ROOT, Place

# Whatever any program takes for the end of a line.
BREAKS = ("\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
ENTRY = "2026-01-02 03:04:05 error: FORGED concerns=store"
FORGED = "".join(f"{each}{ENTRY}" for each in BREAKS)
ACTS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
HOSTILE = f'a b="c" d=e \x1b[2J\x00\u202e\u200f\u061c\ud800 \\n{FORGED}'
TEXT_STEPS = [plain_step, dated_step]


def written(step: Any, level: str = "error", event: str = "problem", **fields: Any) -> str:
    said: list[str] = []
    getattr(Log(said.append, step), level)(event, **fields)
    [text] = said
    return text


def lines_of(text: str) -> list[str]:
    """The lines of a text, as whoever takes most signs for their ends."""
    return re.split("\r\n|" + "|".join(re.escape(each) for each in BREAKS if each != "\r\n"), text)


def fields_of(line: str) -> dict[str, str]:
    """The fields of a text entry, by a reader of its own."""
    words = shlex.split(line, posix=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def raised() -> BaseException:
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        return error


# -- entries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", TEXT_STEPS)
@pytest.mark.parametrize(
    "value", [HOSTILE, [HOSTILE, "b"], {HOSTILE: HOSTILE}, {"a": [HOSTILE]}, Path(f"/{HOSTILE}")]
)
def test_a_value_stays_within_its_field(step: Any, value: Any) -> None:
    text = written(step, alert="revenue", error=value, hint="none")
    assert len(lines_of(text)) == 1
    assert not ACTS.search(text)
    fields = fields_of(text)
    assert set(fields) == {"alert", "error", "hint"}
    assert fields["hint"] == "none"


@pytest.mark.parametrize("step", TEXT_STEPS)
def test_an_event_of_a_librarys_words_stays_on_its_line(step: Any) -> None:
    text = written(step, event=f"waiting for {HOSTILE}")
    assert len(lines_of(text)) == 1
    assert not ACTS.search(text)


@pytest.mark.parametrize("step", TEXT_STEPS)
def test_a_traceback_starts_no_line_that_looks_like_an_entry(step: Any) -> None:
    text = written(step, exc_info=raised())
    first, *more = lines_of(text)
    assert "FORGED" not in first
    assert any("FORGED" in line for line in more)
    assert all(line.startswith("  | ") for line in more)
    assert not ACTS.search(text)


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_read_back_from_its_field(value: str) -> None:
    for step in TEXT_STEPS:
        text = written(step, error=value, hint="none")
        assert len(lines_of(text)) == 1
        assert all(unicodedata.category(sign)[0] != "C" for sign in text)
    shown = field(value)
    if shown.startswith('"'):
        read = re.sub(r'\\(["\\])', lambda found: found[1], shown[1:-1])
        assert read == visible(value)
    else:
        assert shown == value


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_read_back_from_a_json_entry(value: str) -> None:
    text = written(json_step(), error=value)
    assert len(lines_of(text)) == 1
    assert not ACTS.search(text)
    text.encode("utf-8", "strict")
    whole = "".join("\ufffd" if "\ud800" <= sign <= "\udfff" else sign for sign in value)
    assert json.loads(text)["error"] == whole


def test_a_json_entry_holds_a_traceback_in_one_line() -> None:
    text = written(json_step(), exc_info=raised())
    assert len(lines_of(text)) == 1
    assert "FORGED" in json.loads(text)["exception"]


@pytest.mark.parametrize("secret", ['pass"word\\1', "pass\nword", "päss wörd=1", "'quoted' \t"])
@pytest.mark.parametrize("step", [*TEXT_STEPS, json_step()])
def test_a_secret_is_taken_out_before_it_is_escaped(step: Any, secret: str) -> None:
    said: list[str] = []
    log = Log(said.append, step, scrub=lambda text: text.replace(secret, "*"))
    log.error("problem", error=f"no: {secret}", hint=[secret], exc_info=ValueError(secret))
    assert said
    for spelling in (secret, field(secret)[1:-1], visible(secret), json.dumps(secret)[1:-1]):
        assert spelling not in said[0]


@given(st.text(st.characters(exclude_categories=())))
def test_plain_text_holds_nothing_that_acts(value: str) -> None:
    for sign in plain(value):
        assert not ACTS.match(sign)
        assert sign in "\t\n" or unicodedata.category(sign) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(sign) not in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        )  # fmt: skip


# -- what commands show --------------------------------------------------------------------------------


def test_a_line_and_a_cell_stay_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(json=False, json_logs=False, quiet=False, terminal=False)
    output.line(f"said: {HOSTILE}")
    output.table(["a", "b"], [[HOSTILE, "x"]])
    out = capsys.readouterr().out
    assert [line.startswith(ENTRY[:10]) for line in lines_of(out)].count(True) == 0
    assert len(lines_of(out.rstrip("\n"))) == 3


def test_further_lines_of_an_error_look_like_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    fail(f"a\nerror: FORGED{HOSTILE}", "b\nhint: FORGED")
    lines = lines_of(capsys.readouterr().err.rstrip("\n"))
    assert [line for line in lines if not line.startswith("  | ")] == [lines[0], "hint: b"]


def sql(text: str) -> str:
    """A text as SQL."""
    return " || ".join(f"chr({ord(sign)})" if not sign.isalnum() else f"'{sign}'" for sign in text)


VALUE = "".join(f"{each}FORGED" for each in BREAKS) + " \u202e\u200f\x1b[2J"
FIRES = f"""\
{{{{ config(description='about', meta={{'sentinel': {{
    'dimensions': ['place'], 'channels': ['log', 'console', 'gone'], 'owner': {json.dumps(VALUE)}
}}}}) }}}}
select {sql(VALUE)} as place, 'ALERT' as status, {sql(VALUE)} as message, {sql(VALUE)} as more
"""
FAILS = f"{{{{ config(meta={{'sentinel': {{}}}}) }}}}\nselect cast({sql(VALUE)} as int) as status\n"
WRONG = (
    f"{{{{ config(meta={{'sentinel': {{'severity': {json.dumps(VALUE)}}}}}) }}}} select 1 as x\n"
)
SHOWN = (
    "run --delivery-timeout 0s", "status", "status --all", "history", "explain fires",
    "explain fails", "list", "validate", "doctor", "deliver --delivery-timeout 0s",
    "silence fires --for 1h", "silence --list", "ack fires", "notify-test gone", "run --dry-run",
    "run --log-format json", "status --output json", "history --output json", "list --output json",
    "explain fires --output json", "validate --output json", "run --output json",
)  # fmt: skip


def test_no_command_lets_a_value_start_a_line(acme: Project) -> None:  # noqa: F811 - the fixture
    acme.alert("fires", FIRES)
    acme.alert("fails", FAILS)
    acme.alert("wrong", WRONG)
    gone = json.dumps(f"told.jsonl/{VALUE}")
    acme.write("template.txt", "{{ first.message }}\n{{ headline(first) }}\n")
    acme.write(
        "sentinel.yml",
        f"{SENTINEL}  gone:\n    type: file\n    path: {gone}\n"
        "  written: {type: console, template: template.txt}\n",
    )
    seen = {}
    for words in (*SHOWN, "notify-test written"):
        comment = ["--author", VALUE, "--comment", VALUE] if words.startswith("silence f") else []
        comment = ["--comment", VALUE] if words.startswith("ack") else comment
        ran = acme.sentinel(*words.split(), *comment)
        seen[words] = ran.out + ran.err
        assert "Traceback" not in seen[words]
    starts = {
        words: [line for line in lines_of(text) if line.lstrip().startswith("FORGED")]
        for words, text in seen.items()
    }
    assert {words: lines for words, lines in starts.items() if lines} == {}
    acting = {words: ACTS.findall(text) for words, text in seen.items() if ACTS.search(text)}
    assert acting == {}
    for words in SHOWN[:7]:
        assert "FORGED" in seen[words], words


# -- a daemon's own log ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
def test_the_log_of_a_daemon_has_no_line_but_its_own(place: Place, tmp_path: Path) -> None:
    with open_shop(tmp_path / "shop", place, ("revenue",)) as shop:
        hook = {"type": "webhook", "url": shop.receiver.url, "allow_private": True}
        shop.configure(
            defaults={"channels": ["hook", "console"]},
            channels={"hook": hook, "console": {"type": "console"}},
        )
        shop.write(
            "models/fires.sql", FIRES.replace("'log', 'console', 'gone'", "'hook', 'console'")
        )
        shop.write("models/fails.sql", FAILS)
        for name in ("fires", "fails"):
            path = shop.root / "models" / f"{name}.sql"
            path.write_text(
                path.read_text().replace(
                    "'sentinel': {", "'sentinel': {'schedule': '* * * * *', ", 1
                )
            )
        said = f"no{VALUE}"
        shop.receiver.answers += [Response(said, status=400), Response(said, status=503)] * 3
        log = tmp_path / "log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.daemon.child", "3", "daemon", "--port", "0"],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                cwd=shop.root,
                stderr=stderr,
            )
        try:

            def text() -> str:
                return log.read_text()

            until(lambda: "undeliverable" in text() or "not accepted" in text(), "it failed", 300)
            until(lambda: "console message" in text(), "it is on the console", 300)
            until(lambda: "outcome=error" in text(), "an alert failed", 300)
        finally:
            process.terminate()
            process.wait(60)
        lines = lines_of(text().rstrip("\n"))
        entry = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (debug|info|warning|error): [a-z]")
        assert [
            line for line in lines if not entry.match(line) and not line.startswith("  | ")
        ] == []
        assert not ACTS.search(text().replace("\n", ""))
        assert "FORGED" in text()
        for line in lines:
            assert not line.lstrip().startswith("FORGED")
