"""The pages on logs, metrics and HTTP of the daemon name everything there is, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from sentinel.config.settings import WebSettings
from sentinel.ports import Store
from sentinel.web.access import Rules
from sentinel.web.metrics import Metrics
from sentinel.web.server import Shown, application
from tests.app.test_daemon import Rig
from tests.docs.pages import ROOT, reference

SAYS = {"debug", "info", "warning", "error", "say", "write", "entry"}


def said(path: str) -> dict[str, set[str]]:
    """The events that a module logs by name, each with the fields of all its lines."""
    events: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        levelled = name == "entry" or (name == "say" and isinstance(called, ast.Attribute))
        if levelled and len(node.args) < 2:
            continue
        first = node.args[1 if levelled else 0]
        if name in SAYS and isinstance(first, ast.Constant) and isinstance(first.value, str):
            fields = {each.arg for each in node.keywords if each.arg} - {"exc_info"}
            if any(each.arg is None for each in node.keywords):
                fields |= {"alert", "instance", "channel", "notification", "message_id"}
            events.setdefault(first.value, set()).update(fields)
    return events


def test_every_event_of_the_log_is_described_with_its_fields() -> None:
    there_are: dict[str, set[str]] = {}
    others = ("app/problems", "app/threads", "cli/daemon", "cli/logs", "cli/output")
    parts = (str(path.relative_to(ROOT)) for path in (ROOT / "sentinel/app/daemon").glob("*.py"))
    for path in (*parts, *(f"sentinel/{module}.py" for module in others)):
        for event, fields in said(path).items():
            there_are[event] = there_are.get(event, set()) | fields
    rows = reference("logs").sections["Events"].rows()
    described = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2])) for row in rows}
    assert described == there_are


def test_every_metric_is_described_with_its_labels() -> None:
    rows = list(reference("metrics").rows())
    described = {
        row[0].strip("`").removesuffix("_total"): (row[1], set(re.findall(r"`(\w+)`", row[2])))
        for row in rows
    }
    registry = Metrics()._registry
    there_are = {
        family.name: family.type
        for family in text_string_to_metric_families(Metrics().text().decode())
        if not family.name.endswith("_created")
    }
    assert {name: kind for name, (kind, _) in described.items()} == there_are
    for collector in registry._collector_to_names:
        name = collector._name  # type: ignore[attr-defined]  # the client shows it nowhere else
        assert set(collector._labelnames) == described[name][1], name  # type: ignore[attr-defined]


def test_every_path_is_described() -> None:
    rig = Rig()
    store: Store = rig.store
    shown = Shown(lambda: rig.daemon().status(), lambda: store, Metrics())
    paths = {route.path for route in application(shown, Rules(None, True), print).routes}  # type: ignore[attr-defined]
    rows = [row for row in reference("http").rows() if row[0].startswith("`/")]
    assert {row[0].strip("`") for row in rows} == paths
    web = WebSettings()
    assert f"`{web.host}:{web.port}`" in reference("http").text


def test_rules_that_are_recommended_are_ones_that_prometheus_takes(tmp_path: Path) -> None:
    import shutil
    import subprocess

    import pytest

    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    [rules] = [each.code for each in reference("metrics").blocks if each.language == "yaml"]
    path = tmp_path / "rules.yml"
    path.write_text(rules)
    done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
