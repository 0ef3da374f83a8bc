"""No test is skipped silently: the run lists those that were, and fails if one wasn't expected."""

from __future__ import annotations

import os

import pytest

# The beginnings of the reasons for expected skips: programs of the system that `make` doesn't install.
# Where the environment says that they are there, as .ci/run does, no skip is expected.
PROGRAMS_INSTALLED = "SENTINEL_TEST_PROGRAMS_INSTALLED"
EXPECTED: tuple[str, ...] = (
    ()
    if os.environ.get(PROGRAMS_INSTALLED)
    else ("prometheus-alertmanager is not installed", "promtool is not installed")
)


class Skips:
    """A plugin. Under xdist each worker hands what it found to the controller, which reports."""

    def __init__(self, expected: tuple[str, ...] = EXPECTED) -> None:
        self.expected = expected
        self.reasons: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A whole module; of these xdist's controller isn't told."""
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            said = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self.reasons[report.nodeid] = said.removeprefix("Skipped: ").strip()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object, error: object) -> None:
        """Called by xdist in the controller."""
        self.reasons |= getattr(node, "workeroutput", {}).get("skips", {})

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        handed_over: dict[str, object] | None = getattr(session.config, "workeroutput", None)
        if handed_over is not None:
            handed_over["skips"] = self.reasons
        elif self.unexpected() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def unexpected(self) -> set[str]:
        """The tests with a reason that isn't expected."""
        return {
            test for test, reason in self.reasons.items() if not reason.startswith(self.expected)
        }

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.reasons:
            return
        terminalreporter.section("skipped tests")
        unexpected = self.unexpected()
        for test, reason in sorted(self.reasons.items()):
            word = "unexpected: " if test in unexpected else ""
            terminalreporter.write_line(f"{word}{test}: {reason}", red=test in unexpected)
        if unexpected:
            terminalreporter.write_line(
                "A skip is expected once its reason is in EXPECTED of tests/skips.py", red=True
            )
