"""Values of the warehouse, names and errors are data: no command lets them act on a terminal."""

from __future__ import annotations

import json
import re

from tests.cli.conftest import SENTINEL, Project

EVIL = "\x1b]0;gone\x07\x1b[2J\x08\x9b31m\u202eevil"
SQL = (
    "chr(27) || ']0;gone' || chr(7) || chr(27) || '[2J' || chr(8) || chr(155) || '31m' || "
    "chr(8238) || 'evil'"
)
ALERT = f"""\
{{{{ config(meta={{'sentinel': {{'dimensions': ['place'], 'channels': ['log', 'console', 'gone']}}}}) }}}}
select {SQL} as place, 'ALERT' as status, {SQL} as message, {SQL} as more
"""
ERROR = f"{{{{ config(meta={{'sentinel': {{}}}}) }}}}\nselect cast({SQL} as int) as status\n"
ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def test_no_command_lets_a_value_act_on_the_terminal(acme: Project) -> None:
    acme.alert("evil", ALERT)
    acme.alert("wrong", ERROR)
    gone = json.dumps(f"told.jsonl/{EVIL}")
    acme.write("sentinel.yml", f"{SENTINEL}  gone:\n    type: file\n    path: {gone}\n")
    ran = acme.sentinel("run", "--delivery-timeout", "1s")
    seen = {"run": ran.out + ran.err}
    acme.sentinel("silence", "evil", "--for", "1h", "--author", EVIL, "--comment", EVIL)
    for words in (
        "status", "history", "explain evil", "silence --list", "deliver --delivery-timeout 0s",
        "run -s evil --output json", "status --output json", "silence --list --output json",
    ):  # fmt: skip
        ran = acme.sentinel(*words.split())
        seen[words] = ran.out + ran.err
        assert "json" not in words or isinstance(ran.document, dict)
    acting = {words: ACTS.findall(text) for words, text in seen.items() if ACTS.search(text)}
    assert acting == {}
    for words in ("run", "status", "history", "explain evil", "silence --list"):
        assert "evil" in seen[words]
    # In JSON the value is whole: there its escapes say what it is.
    alerts = json.loads(seen["status --output json"])["alerts"]
    [state] = [each for each in alerts if each["alert"] == "evil" and each["instance"]]
    assert (state["dimensions"], state["message"]) == ({"place": EVIL}, EVIL)
