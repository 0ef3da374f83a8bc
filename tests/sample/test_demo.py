"""The demo notices when something is not as promised."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest


def test_the_scratch_copy_finds_the_package_and_leaves_artifacts_behind(
    demo: ModuleType, sample: Path, tmp_path: Path
) -> None:
    shop: Path = demo.scratch_copy(tmp_path)
    assert str(sample.parent) in (shop / "packages.yml").read_text(encoding="utf-8")
    assert "../" not in (shop / "packages.yml").read_text(encoding="utf-8")
    assert not (shop / "target").exists()
    assert (shop / "models").is_dir()


def write_log(path: Path, *events: tuple[str, str]) -> None:
    with path.open("a", encoding="utf-8") as file:
        for event, alert in events:
            file.write(json.dumps({"event": event, "alert": alert, "instance": ""}) + "\n")


def test_each_look_at_the_log_is_at_what_is_new(demo: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = demo.NotificationLog(path)
    demo.check_notified(log)
    write_log(path, ("firing", "b"), ("firing", "a"))
    demo.check_notified(log, ("firing", "a"), ("firing", "b"))
    demo.check_notified(log)
    write_log(path, ("resolved", "a"))
    demo.check_notified(log, ("resolved", "a"))


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ([], "was notified of nothing, expected was a firing"),
        ([("firing", "a"), ("firing", "a")], "was notified of a firing, a firing"),
        ([("resolved", "a")], "was notified of a resolved"),
        ([("firing", "a"), ("firing", "b")], "was notified of a firing, b firing"),
    ],
)
def test_telling_nothing_twice_something_else_or_more_fails(
    demo: ModuleType, tmp_path: Path, sent: list[tuple[str, str]], problem: str
) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path, *sent)
    with pytest.raises(demo.NotAsPromisedError, match=problem):
        demo.check_notified(demo.NotificationLog(path), ("firing", "a"))


def test_the_late_payments_are_added_without_their_header(demo: ModuleType, tmp_path: Path) -> None:
    shop: Path = demo.scratch_copy(tmp_path)
    before = (shop / "seeds/raw_payments.csv").read_text(encoding="utf-8").splitlines()
    late = (shop / "late/card_payments.csv").read_text(encoding="utf-8").splitlines()
    demo.add_late_payments(shop)
    after = (shop / "seeds/raw_payments.csv").read_text(encoding="utf-8").splitlines()
    assert after == before + late[1:]


def test_settings_for_other_projects_are_dropped(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_TARGET", "prod")
    monkeypatch.setenv("SENTINEL_FAIL_ON", "never")
    environment = demo.environment()
    assert not [name for name in environment if name.startswith(("DBT_", "SENTINEL_"))]
    assert environment["DO_NOT_TRACK"] == "1"
