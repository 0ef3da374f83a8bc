"""Every outcome has its place wherever people and programs meet one."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.style import Style

from sentinel.app.report import EXIT_FAILED, InstanceResult, Report
from sentinel.cli.run import print_report
from sentinel.core.evaluation import Outcome
from sentinel.core.severity import Severity
from sentinel.core.state import Phase
from tests.core.builders import NOON
from tests.docs.pages import ROOT, reference

every_outcome = pytest.mark.parametrize("outcome", list(Outcome))


class Lines:
    """Takes the place of Output: remembers tables and lines."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self.lines: list[str] = []

    def table(self, columns: list[str], rows: list[list[Any]]) -> None:
        self.rows += rows

    def line(self, text: object = "") -> None:
        self.lines.append(str(text))


def report(outcome: Outcome, phase: Phase | None) -> Report:
    result = InstanceResult(
        alert="revenue",
        unique_id="model.shop.revenue",
        instance="",
        outcome=outcome,
        phase=phase,
        previous_phase=phase,
        since=NOON - timedelta(hours=1),
        severity=Severity.CRITICAL,
        actual_value=None,
        threshold=None,
        failures=None,
        message="a message",
        context={},
        events=(),
        notified=(),
        suppressed={},
        duration_ms=1,
        bytes_billed=None,
    )
    return Report("run", NOON, 1.0, (result,), {})


@every_outcome
@pytest.mark.parametrize("phase", [None, *Phase])
def test_it_is_shown_in_a_style_and_summed_up(outcome: Outcome, phase: Phase | None) -> None:
    output: Any = Lines()
    print_report(output, report(outcome, phase))
    [[state, *_]] = output.rows
    word = str(state).split()[0]
    firing = phase is not None and phase.open
    hides = {"always": True, "never": phase is None, "unless firing": not firing}
    assert word == (str(outcome) if hides[outcome.traits.hides_phase] else str(phase))
    assert Style.parse(state.style), "not in the default style"
    assert output.lines[-1].startswith(f"1 {word} in ")


@every_outcome
def test_its_style_is_one_of_rich_s(outcome: Outcome) -> None:
    Console(file=StringIO(), force_terminal=True).print("x", style=outcome.traits.style)


@every_outcome
def test_run_exits_with_3_if_it_failed(outcome: Outcome) -> None:
    code = report(outcome, None).exit_code(None)
    assert (code == EXIT_FAILED) is outcome.traits.failed


@every_outcome
def test_it_is_counted(outcome: Outcome) -> None:
    assert report(outcome, None).counts[str(outcome)] == 1


@every_outcome
@pytest.mark.parametrize(
    "page", ["reference/tables", "reference/json-documents", "explanation/how-it-works"]
)
def test_it_is_in_the_documentation(outcome: Outcome, page: str) -> None:
    assert f"`{outcome}`" in (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")


def test_the_option_that_filters_by_outcome_names_all() -> None:
    text = reference("commands").sections["history"].text
    assert "\\|".join(Outcome) in text
