"""Thousands of sequences of events against a plain model of the rules, on a virtual clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sentinel.core.evaluation import EvaluationResult, Observation, Outcome
from sentinel.core.lifecycle import AlertUpdate, acknowledge, apply_result
from sentinel.core.notification import Notification, Status, ledger_of, muted
from sentinel.core.planning import NotificationPlan, current_update, plan
from sentinel.core.severity import Severity
from sentinel.core.silence import Silence
from sentinel.core.state import EvaluationTime, Event, Phase, State

from .builders import NOON, ROUTING, make_alert, read

OPENING = (Event.FIRING, Event.SEVERITY, Event.REMINDER, Event.ESCALATION)
CHANNELS = ("ops", "mail")
minutes = st.integers(min_value=1, max_value=90)


@dataclass
class Model:
    """The rules of one instance without dimensions, as the design's table says them."""

    for_: timedelta
    keep: timedelta
    error_after: int
    phase: str = "none"
    held: timedelta = timedelta()
    last: datetime | None = None
    last_good: bool = False
    errors: int = 0
    failing: bool = False
    peak: Severity | None = None

    def see(
        self, word: str, severity: Severity, as_of: datetime, now: datetime, *, gap: bool
    ) -> list[str]:
        """What is to be told of, in the order in which it comes about."""
        retried = self.last == as_of and not self.last_good and self.last is not None
        if self.last is not None and self.last <= now and as_of <= self.last and not retried:
            return []
        went_on = self.last is not None and self.last_good and not gap and self.last < as_of
        passed = as_of - self.last if went_on and self.last else timedelta()
        self.last, self.last_good = as_of, word in ("ok", "alert")
        if word == "error":
            self.errors += 1
            begins = not self.failing and self.errors >= self.error_after
            self.failing = self.failing or begins
            return ["error"] if begins else []
        healed = ["error_resolved"] if self.failing else []
        self.errors, self.failing = 0, False
        notified = self._alert(passed, severity) if word == "alert" else self._ok(passed)
        return notified + healed

    def _alert(self, passed: timedelta, severity: Severity) -> list[str]:
        if self.peak is not None:
            rises = severity.rank > self.peak.rank
            self.phase, self.held = "firing", timedelta()
            self.peak = severity if rises else self.peak
            return ["severity"] if rises else []
        self.held = self.held + passed if self.phase == "pending" else timedelta()
        if self.held < self.for_:
            self.phase = "pending"
            return []
        self.phase, self.held, self.peak = "firing", timedelta(), severity
        return ["firing"]

    def _ok(self, passed: timedelta) -> list[str]:
        if self.peak is None:
            self.phase, self.held = "ok", timedelta()
            return []
        self.held = self.held + passed if self.phase == "recovering" else timedelta()
        if self.held < self.keep:
            self.phase = "recovering"
            return []
        self.phase, self.held, self.peak = "ok", timedelta(), None
        return ["resolved"]


class Lifecycle(RuleBasedStateMachine):
    """One alert, two channels: what is so, who was told, and what may never happen."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.as_of = NOON
        self.states: dict[str, State] = {}
        self.outbox: dict[str, Notification] = {}
        self.silences: list[Silence] = []
        self.acked: set[str] = set()
        self.ended: list[str] = []

    @initialize(
        for_=st.sampled_from(["0s", "10m", "45m"]),
        keep=st.sampled_from(["0s", "20m"]),
        error_after=st.sampled_from([1, 3]),
        repeat=st.sampled_from([None, "30m"]),
        escalates=st.booleans(),
    )
    def define(
        self, for_: str, keep: str, error_after: int, repeat: str | None, escalates: bool
    ) -> None:
        keys: dict[str, Any] = {"for_": for_, "keep_firing_for": keep, "error_after": error_after}
        if repeat:
            keys["repeat_interval"] = repeat
        if escalates:
            keys["escalations"] = [{"after": "1h", "channels": ["pager"]}]
        self.alert = make_alert(channels=list(CHANNELS), **keys)
        rules = self.alert.rules
        self.model = Model(rules.for_.length, rules.keep_firing_for, error_after)

    # -- what happens ------------------------------------------------------------------------------

    @rule(word=st.sampled_from(["ok", "alert", "alert", "error"]), severity=st.sampled_from(Severity),
          passed=minutes, gap=st.booleans())  # fmt: skip
    def evaluate(self, word: str, severity: Severity, passed: int, gap: bool) -> None:
        self.now += timedelta(minutes=passed)
        self.as_of = self.now
        self._see(word, severity, self.as_of, gap=gap)

    @rule(word=st.sampled_from(["ok", "alert", "error"]), back=st.integers(0, 120))
    def evaluate_late(self, word: str, back: int) -> None:
        """A slot that comes late, or again."""
        self._see(word, Severity.CRITICAL, self.as_of - timedelta(minutes=back), gap=False)

    @rule()
    def skip(self) -> None:
        before = dict(self.states)
        skipped = EvaluationResult(Outcome.SKIPPED)
        self._take(
            apply_result(
                self.alert, skipped, before.values(), EvaluationTime(self.now, self.now), "shop"
            )
        )
        assert self.states == before

    @rule(passed=minutes)
    def wait(self, passed: int) -> None:
        self.now += timedelta(minutes=passed)
        self._take(current_update(self.alert, self.states.values()))

    @rule(step=st.integers(-180, 180))
    def step_the_clock(self, step: int) -> None:
        self.now += timedelta(minutes=step)
        self._take(current_update(self.alert, self.states.values()))

    @rule(length=minutes)
    def silence(self, length: int) -> None:
        end = self.now + timedelta(minutes=length)
        name = f"silence {len(self.silences)}"
        self.silences.append(
            Silence(
                name, "shop", [self.alert.id], None, None, "x", "ann", None, self.now, self.now, end
            )
        )

    @precondition(lambda self: self.silences)
    @rule()
    def unsilence(self) -> None:
        self.silences = [replace(each, ended_at=self.now) for each in self.silences]

    @rule()
    def acknowledge(self) -> None:
        steps = acknowledge(self.states.values(), "ann", None, self.now)
        self.acked |= {step.after.episode_id for step in steps if step.after.episode_id}
        self._take(
            AlertUpdate(
                self.alert, EvaluationResult(Outcome.SKIPPED), steps, kind="acknowledgement"
            )
        )

    @rule(status=st.sampled_from([Status.SENT, Status.SENT, Status.DEAD, Status.PENDING,
                                  Status.CLAIMED]),
          channel=st.sampled_from([*CHANNELS, "pager"]))  # fmt: skip
    def deliver(self, status: Status, channel: str) -> None:
        """A channel's next message is accepted, given up, tried in vain, or just being sent."""
        self._deliver(status, channel)

    @rule()
    def settle(self) -> None:
        """If from now on all went well, everybody would come to know what is so."""
        kept = self.now, dict(self.outbox), self.silences
        self.silences = []
        for _ in range(3):
            self.now += timedelta(hours=4)
            self._take(current_update(self.alert, self.states.values()))
            while any(self._deliver(Status.SENT, name) for name in (*CHANNELS, "pager")):
                pass
        self._everybody_knows()
        self.now, self.outbox, self.silences = kept

    def _deliver(self, status: Status, channel: str) -> bool:
        waiting = [
            row
            for row in self.outbox.values()
            if row.channel == channel and row.status in (Status.PENDING, Status.CLAIMED)
        ]
        # As a store gives them out, and as they were planned.
        first = min(waiting, key=lambda row: row.created_at, default=None)
        if first is None:
            return False
        before = waiting[: waiting.index(first)]
        assert all(row.episode_id != first.episode_id for row in before), "out of order"
        tried = replace(first, status=status, attempts=first.attempts + 1)
        if muted(first, self.states.get(""), self.silences, self.now):
            tried = replace(first, status=Status.CANCELLED)
        else:
            self._may_be_told(first)
        if tried.status is Status.DEAD:
            tried = replace(tried, not_before=self.now + timedelta(hours=1))
        self.outbox[first.notification_id] = tried
        return True

    def _everybody_knows(self) -> None:
        state = self.states.get("")
        for channel in CHANNELS:
            got = [
                row
                for row in self.outbox.values()
                if row.channel == channel and row.status is Status.SENT
            ]
            if state and state.episode_id:
                heard = [
                    Severity(row.payload["severity"])
                    for row in got
                    if row.episode_id == state.episode_id and row.event in OPENING
                ]
                assert heard, "it fires, and nobody says so"
                assert max(heard, key=lambda each: each.rank) is self.model.peak
            if state and state.health_episode_id:
                failed = [row for row in got if row.episode_id == state.health_episode_id]
                assert [row.event for row in failed] == [Event.ERROR]
            opened = {row.episode_id for row in got if row.event in OPENING}
            # What died at its end is tried no more, but it can be seen.
            closed = {
                row.episode_id
                for row in self.outbox.values()
                if row.channel == channel
                and row.event is Event.RESOLVED
                and row.status in (Status.SENT, Status.DEAD)
            }
            assert opened.intersection(self.ended) <= closed, "it is over, and nobody says so"

    # -- how it is kept ----------------------------------------------------------------------------

    def _see(self, word: str, severity: Severity, as_of: datetime, *, gap: bool) -> None:
        if word == "error":
            result = EvaluationResult.failed("refused")
        else:
            result = read(Observation("", Outcome(word), severity))  # type: ignore[arg-type]  # ok or alert
        time = EvaluationTime(as_of, self.now, as_of, int(gap))
        before = self.states.get("")
        update = apply_result(self.alert, result, self.states.values(), time, "shop")
        assert update == apply_result(self.alert, result, self.states.values(), time, "shop")
        self._take(update)
        events = [str(change.event) for step in update.steps for change in step.transitions]
        assert events == self.model.see(word, severity, as_of, self.now, gap=gap)
        after = self.states[""]
        if before and before.episode_id and before.episode_id != after.episode_id:
            self.ended.append(before.episode_id)

    def _plan(self, update: AlertUpdate) -> NotificationPlan:
        return plan(
            [update],
            ledger_of(self.outbox.values()),
            "shop",
            self.now,
            silences=self.silences,
            routing=ROUTING,
        )

    def _take(self, update: AlertUpdate) -> None:
        notified = self._plan(update)
        assert notified == self._plan(update), "planning depends on nothing but what it is given"
        for step in update.steps:
            if not step.recorded_only:
                self.states[step.after.instance] = replace(
                    step.after, version=step.after.version + 1
                )
        for row in notified.notifications:
            assert row.notification_id not in self.outbox
            self._may_be_told(row)
            self.outbox[row.notification_id] = row
        for key in notified.superseded:
            assert self.outbox[key].status in (Status.PENDING, Status.DEAD)
            self.outbox[key] = replace(self.outbox[key], status=Status.SUPERSEDED)
        for key in notified.revived:
            self.outbox[key] = replace(self.outbox[key], status=Status.PENDING)
        assert all(each.reason for each in notified.decisions)

    def _may_be_told(self, row: Notification) -> None:
        silent = any(each.in_force(self.now) for each in self.silences)
        assert not (silent and row.event in (*OPENING, Event.ERROR)), "told in a silence"
        if row.event in (Event.REMINDER, Event.ESCALATION):
            assert row.episode_id not in self.acked, "told though acknowledged"

    # -- what always holds -------------------------------------------------------------------------

    @invariant()
    def the_phase_is_the_model_s(self) -> None:
        if "" in self.states:
            state = self.states[""]
            assert state.peak_severity is self.model.peak
            assert (state.phase or Phase.OK) == self.model.phase.replace("none", "ok")
            assert (state.health_episode_id is not None) == self.model.failing

    @invariant()
    def nobody_is_told_twice_of_the_same(self) -> None:
        once = (Event.FIRING, Event.RESOLVED, Event.ERROR, Event.ERROR_RESOLVED)
        notified = Counter(
            (row.episode_id, row.channel, row.event)
            for row in self.outbox.values()
            if row.event in once and row.status is not Status.CANCELLED
        )
        assert not [key for key, number in notified.items() if number > 1]

    @invariant()
    def whoever_was_told_of_an_episode_is_told_of_its_end(self) -> None:
        for episode in self.ended:
            rows = [row for row in self.outbox.values() if row.episode_id == episode]
            reached = {r.channel for r in rows if r.event in OPENING and r.status is Status.SENT}
            ends = {row.channel for row in rows if row.event is Event.RESOLVED}
            assert reached <= ends

    @invariant()
    def nothing_stays_to_be_sent_of_an_episode_that_is_over(self) -> None:
        for row in self.outbox.values():
            if row.episode_id in self.ended and row.event in OPENING:
                assert row.status is not Status.PENDING or row.attempts, "it was under way"


Lifecycle.TestCase.settings = settings(
    deadline=None, derandomize=True, database=None, max_examples=2_000, stateful_step_count=40
)
TestLifecycle = Lifecycle.TestCase
