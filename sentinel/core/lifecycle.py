"""The lifecycle: from the state and what was seen to the next state, and what changed.

Pure. Phases are those of one instance, health is that of its alert; both are rows of sentinel_state.

    phase        alert                                 ok
    ok           `for` met -> firing, else pending     ok
    pending      `for` met -> firing, else pending     ok
    firing       firing                                `keep_firing_for` 0 -> ok, else recovering
    recovering   firing, same episode                  elapsed -> ok, else recovering

An error moves no phase: it neither resets nor promotes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sentinel.core.alert import Alert, BrokenAlert, Definition
from sentinel.core.evaluation import EvaluationResult, Observation, Outcome, absent_count
from sentinel.core.health import advance_health
from sentinel.core.severity import Severity
from sentinel.core.state import (
    EvaluationTime,
    Event,
    Health,
    Phase,
    State,
    StateChange,
    Step,
    Transition,
    state_key,
)
from sentinel.core.values import hash_id, isoformat


def advance(
    state: State,
    seen: Observation,
    rules: Definition,
    time: EvaluationTime,
    *,
    consecutive: bool,
    counts: bool = True,
    reason: str = "",
) -> Step:
    """The next state of an instance, of which an evaluation saw OK or ALERT.

    `consecutive`: the evaluation before this one was good and none was missed between, so that the
    time since then counts for `for` and `keep_firing_for`. `counts`: it is the first one of its
    slot, for a `for` that counts slots. `reason` names the observation where it wasn't the query
    that made it (an instance that is missing, say).
    """
    held = time.as_of - state.last_as_of if consecutive and state.last_as_of else timedelta()
    base = replace(
        state,
        dimensions=seen.dimensions or state.dimensions,
        last_as_of=time.as_of,
        last_outcome=seen.outcome,
        actual_value=seen.actual_value,
        threshold=seen.threshold,
        message=seen.message,
        missing_since=None,
        removed_since=None,
        updated_at=time.now,
        target=time.target,
    )
    if seen.outcome is Outcome.ALERT:
        after, transitions = _alerting(base, seen, rules, time, held, reason, counts=counts)
    else:
        after, transitions = _good(base, rules, time, held, reason)
    return Step(state, after, seen.outcome, transitions, seen)


def _alerting(
    state: State,
    seen: Observation,
    rules: Definition,
    time: EvaluationTime,
    held: timedelta,
    reason: str,
    *,
    counts: bool,
) -> StateChange:
    match state.phase:
        case Phase.FIRING | Phase.RECOVERING:
            return _still_firing(state, seen, time)
        case Phase.PENDING:
            waited = timedelta(seconds=state.held_s) + held
            count = state.alert_count + counts
        case _:
            waited, count = timedelta(), 1
    if rules.for_.met(waited, count):
        return _fire(state, seen, time, reason or "first_firing")
    pending = replace(
        _enter(state, Phase.PENDING, time),
        held_s=_seconds(waited),
        alert_count=count,
        severity=seen.severity,
    )
    return pending, ()


def _fire(state: State, seen: Observation, time: EvaluationTime, reason: str) -> StateChange:
    episode = hash_id(state.state_key, isoformat(time.as_of), str(state.version))
    firing = replace(
        _enter(state, Phase.FIRING, time),
        severity=seen.severity,
        peak_severity=seen.severity,
        episode_id=episode,
        episode_started=time.as_of,
        incident_id=episode,
    )
    return firing, (Transition(Event.FIRING, reason, episode, time.as_of, seen.severity),)


def _still_firing(state: State, seen: Observation, time: EvaluationTime) -> StateChange:
    assert state.episode_id and state.episode_started and state.peak_severity
    firing = replace(_enter(state, Phase.FIRING, time), severity=seen.severity)
    if seen.severity.rank <= state.peak_severity.rank:
        return firing, ()
    risen = Transition(
        Event.SEVERITY, "severity_rose", state.episode_id, state.episode_started, seen.severity
    )
    return replace(firing, peak_severity=seen.severity), (risen,)


def _good(
    state: State, rules: Definition, time: EvaluationTime, held: timedelta, reason: str
) -> StateChange:
    match state.phase:
        case Phase.FIRING:
            waited = timedelta()
        case Phase.RECOVERING:
            waited = timedelta(seconds=state.held_s) + held
        case _:
            return replace(_enter(state, Phase.OK, time), severity=None), ()
    if reason or waited >= rules.keep_firing_for:
        return resolve_episode(state, time, reason or "recovered")
    recovering = replace(_enter(state, Phase.RECOVERING, time), held_s=_seconds(waited))
    return recovering, ()


def resolve_episode(state: State, time: EvaluationTime, reason: str) -> StateChange:
    assert state.episode_id and state.episode_started
    told_as = state.peak_severity or state.severity or Severity.CRITICAL
    resolved = Transition(Event.RESOLVED, reason, state.episode_id, state.episode_started, told_as)
    calm = replace(
        _enter(state, Phase.OK, time),
        severity=None,
        peak_severity=None,
        episode_id=None,
        episode_started=None,
        incident_id=None,
        acked_at=None,
        acked_by=None,
        ack_comment=None,
    )
    return calm, (resolved,)


def _seconds(held: timedelta) -> int:
    # Rounded, not cut: what is cut would add up over many short intervals.
    return round(held.total_seconds())


def _enter(state: State, phase: Phase, time: EvaluationTime) -> State:
    """A phase, with its clocks set back where it is a new one."""
    if state.phase is phase and state.phase_since:
        return state
    return replace(state, phase=phase, phase_since=time.as_of, held_s=0, alert_count=0)


@dataclass(frozen=True)
class AlertUpdate:
    """What one evaluation did to the rows of its alert; the head comes first.

    `noted` are rows that changed without being evaluated (an instance no longer in the result),
    `unseen` those whose episode goes on, though the evaluation says nothing of them, `dropped`
    those that go: of an alert that is removed, or whose rows go by its new id now. `kind` is the
    kind of its rows of history.
    """

    alert: Alert | BrokenAlert
    result: EvaluationResult
    steps: tuple[Step, ...]
    noted: tuple[State, ...] = ()
    unseen: tuple[State, ...] = ()
    dropped: tuple[State, ...] = ()
    kind: str = "evaluation"


BROKEN_RULES = Definition()


def apply_result(
    alert: Alert | BrokenAlert,
    result: EvaluationResult,
    states: Iterable[State],
    time: EvaluationTime,
    project: str,
) -> AlertUpdate:
    """All rows of an alert after one evaluation.

    `states` are the alert's rows as they are now. An `as_of` at or before the last one only goes
    into history, unless the last one lies in the future of the store's clock, or was an error that
    is retried.
    """
    rules = alert.rules if isinstance(alert, Alert) else BROKEN_RULES
    own, dropped = _adopted(alert, tuple(states), project)
    rows = {state.instance: _renamed(state, alert) for state in own}
    head = rows.get("") or _new_state(alert, project, "")
    adopted = tuple(rows.values()) if dropped else ()
    if not result.outcome.traits.uses_slot or _late(head, time):
        recorded = _recorded_only(head, rows, result)
        noted = (*(row for row in adopted if not row.is_head), *_used_up(head, result, time))
        if adopted and not any(row.is_head for row in noted):
            noted = (*noted, head)
        return AlertUpdate(alert, result, recorded, noted, _unseen(rows, recorded), dropped)
    evaluations = {seen.instance: (seen, "") for seen in result.observations}
    evaluations |= dict(_absent(result, rules, rows.values(), evaluations))
    steps: list[Step] = []
    for instance, (seen, reason) in evaluations.items():
        state = rows.get(instance) or _new_state(alert, project, instance)
        if state.phase is None:
            state = replace(state, phase=Phase.OK)
        consecutive = _consecutive(head, state, time)
        counts = _counts(alert, state, time)
        step = advance(
            state, seen, rules, time, consecutive=consecutive, counts=counts, reason=reason
        )
        if reason == "instance_missing":
            since = state.missing_since or time.as_of
            step = replace(step, after=replace(step.after, missing_since=since))
        steps.append(step)
    newly_missing = tuple(
        replace(state, missing_since=time.as_of, updated_at=time.now)
        for state in rows.values()
        if not state.is_head and state.instance not in evaluations
        and state.missing_since is None and result.absent == "missing"
    )  # fmt: skip
    taken = tuple(_with_head(head, steps, result, rules, time))
    written = {step.after.instance for step in taken} | {row.instance for row in newly_missing}
    others = tuple(row for row in adopted if row.instance not in written)
    return AlertUpdate(
        alert, result, taken, (*newly_missing, *others), _unseen(rows, taken), dropped
    )


def _used_up(head: State, result: EvaluationResult, time: EvaluationTime) -> tuple[State, ...]:
    """The head of an alert whose slot was evaluated, though too late to change anything."""
    last, slot = head.last_slot, time.slot
    if not result.outcome.traits.uses_slot or slot is None or (last is not None and slot <= last):
        return ()
    return (replace(head, last_slot=slot, updated_at=time.now),)


def _adopted(
    alert: Alert | BrokenAlert, states: tuple[State, ...], project: str
) -> tuple[tuple[State, ...], tuple[State, ...]]:
    """The rows of an alert, and those that go: it has gained an id, and keeps what it had before."""
    own = tuple(state for state in states if state.alert_id == alert.id)
    before = tuple(state for state in states if state.alert_id != alert.id)
    if own or not before:
        return own, ()
    moved = tuple(
        replace(
            state,
            state_key=state_key(project, alert.id, state.instance),
            alert_id=alert.id,
            version=0,
        )
        for state in before
    )
    return moved, before


def _counts(alert: Alert | BrokenAlert, state: State, time: EvaluationTime) -> bool:
    """Whether an evaluation is the first one of its slot. Without a schedule each one counts."""
    if time.slot is not None or state.last_as_of is None:
        return True
    cron = alert.cron if isinstance(alert, Alert) else None
    return cron is None or cron.latest_until(time.as_of) > state.last_as_of


def acknowledge(
    states: Iterable[State], by: str, comment: str | None, now: datetime
) -> tuple[Step, ...]:
    """The instances whose episode is open, acknowledged; what is so already stays as it is."""
    return tuple(
        Step(
            state,
            replace(state, acked_at=now, acked_by=by, ack_comment=comment, updated_at=now),
            Outcome.SKIPPED,
        )
        for state in states
        if state.phase is not None and state.phase.open and state.acked_at is None
    )


def _unseen(rows: Mapping[str, State], steps: Sequence[Step]) -> tuple[State, ...]:
    seen = {step.after.instance for step in steps}
    return tuple(
        state
        for name, state in rows.items()
        if name not in seen and state.phase is not None and state.phase.open
    )


def _late(head: State, time: EvaluationTime) -> bool:
    last = head.last_as_of
    if last is None or last > time.now:
        return False
    failed = head.last_outcome is not None and head.last_outcome.traits.failed
    return time.as_of <= last and not (failed and time.as_of == last)


def _consecutive(head: State, state: State, time: EvaluationTime) -> bool:
    """Whether the evaluation just before this one saw the instance too."""
    return (
        head.last_as_of is not None
        and state.last_as_of == head.last_as_of < time.as_of
        and (head.last_outcome is None or head.last_outcome.traits.compares)
        and not time.missed_slots
    )


def _with_head(
    head: State,
    steps: Sequence[Step],
    result: EvaluationResult,
    rules: Definition,
    time: EvaluationTime,
) -> list[Step]:
    """The steps with the head's in front: it carries health, slot and the whole outcome."""
    own = next((step for step in steps if step.after.is_head), None)
    moved = own.after if own else head
    if own is None and rules.dimensions and moved.phase is Phase.OK:
        moved = replace(moved, phase=None, phase_since=None)
    moved = replace(
        moved,
        last_as_of=time.as_of,
        last_slot=time.slot or moved.last_slot,
        last_outcome=result.outcome,
        removed_since=None,
        updated_at=time.now,
        target=time.target,
    )
    healed, told = advance_health(
        moved, result.outcome, rules, time, unreachable=result.unreachable
    )
    before = own.before if own else head
    transitions = (*(own.transitions if own else ()), *told)
    seen = own.observation if own else None
    first = Step(before, healed, result.outcome, transitions, seen)
    return [first, *(step for step in steps if step is not own)]


def _absent(
    result: EvaluationResult,
    rules: Definition,
    rows: Iterable[State],
    evaluations: Mapping[str, tuple[Observation, str]],
) -> Iterable[tuple[str, tuple[Observation, str]]]:
    """What it means for known instances that the result doesn't hold them."""
    for state in rows:
        if state.phase is None or state.instance in evaluations or result.outcome.traits.failed:
            continue
        if result.absent == "unknown":
            continue
        gone = Observation(
            state.instance,
            Outcome.OK,
            rules.severity,
            state.dimensions,
            message="no longer in the result",
        )
        if state.is_head and rules.dimensions and rules.on_empty == "alert":
            # It fired since there was no row at all; now there are rows.
            if state.phase is not Phase.OK:
                yield state.instance, (replace(gone, message="the query gives rows again"), "")
        elif tuple(sorted(state.dimensions)) != tuple(sorted(rules.dimensions)):
            if state.phase is not Phase.OK:
                yield state.instance, (gone, "dimensions_changed")
        elif result.absent == "ok":
            counted = absent_count(rules, state.dimensions)
            # What was ok and still is needs no row of history in every evaluation to come.
            if state.phase is not Phase.OK or counted.outcome is Outcome.ALERT:
                yield state.instance, (counted, "")
        elif rules.on_missing == "resolve" and state.phase is not Phase.OK:
            yield state.instance, (gone, "instance_missing")
        elif rules.on_missing == "alert":
            severity = state.severity or rules.severity
            alerting = replace(gone, outcome=Outcome.ALERT, severity=severity)
            yield state.instance, (alerting, "instance_missing")


def _recorded_only(
    head: State, rows: Mapping[str, State], result: EvaluationResult
) -> tuple[Step, ...]:
    """Steps that go into history and change nothing."""
    seen = {each.instance: each for each in result.observations}
    steps = [Step(head, head, result.outcome, (), seen.get(""), recorded_only=True)]
    steps += [
        Step(rows[name], rows[name], each.outcome, (), each, recorded_only=True)
        for name, each in seen.items()
        if name and name in rows
    ]
    return tuple(steps)


def _new_state(alert: Alert | BrokenAlert, project: str, instance: str) -> State:
    return State(
        state_key=state_key(project, alert.id, instance),
        project=project,
        alert_id=alert.id,
        unique_id=alert.source.unique_id,
        alert=alert.name,
        instance=instance,
        health=Health.HEALTHY if instance == "" else None,
    )


def _renamed(state: State, alert: Alert | BrokenAlert) -> State:
    """The row under the alert's present name: an id stays when a model is renamed."""
    return replace(state, alert=alert.name, unique_id=alert.source.unique_id)
