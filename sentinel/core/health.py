"""Health: whether an alert can be evaluated."""

from __future__ import annotations

from dataclasses import replace

from sentinel.core.alert import Definition
from sentinel.core.evaluation import Outcome
from sentinel.core.state import (
    WAREHOUSE_UNREACHABLE,
    EvaluationTime,
    Event,
    Health,
    State,
    StateChange,
    Transition,
)
from sentinel.core.values import hash_id, isoformat


def advance_health(
    head: State,
    outcome: Outcome,
    rules: Definition,
    time: EvaluationTime,
    *,
    unreachable: bool = False,
) -> StateChange:
    """An alert's next health, and the transitions that channels may be notified of.

    `unreachable`: it can't be evaluated since the warehouse is lost, as all others of its batch.
    """
    if not outcome.traits.failed:
        healthy = replace(
            head,
            health=Health.HEALTHY,
            health_since=head.health_since if head.health is Health.HEALTHY else time.as_of,
            error_count=0,
            health_episode_id=None,
        )
        if head.health is not Health.FAILING or head.health_episode_id is None:
            return healthy, ()
        assert head.health_since
        return healthy, (
            Transition(
                Event.ERROR_RESOLVED,
                "evaluation_recovered",
                head.health_episode_id,
                head.health_since,
                rules.severity,
            ),
        )
    counted = replace(
        head, error_count=head.error_count + 1, health=head.health or Health.HEALTHY,
        health_since=head.health_since or time.as_of,
    )  # fmt: skip
    if head.health is Health.FAILING or counted.error_count < rules.error_after:
        return counted, ()
    episode = hash_id(head.state_key, "health", isoformat(time.as_of), str(head.version))
    failing = replace(
        counted, health=Health.FAILING, health_since=time.as_of, health_episode_id=episode
    )
    return failing, (
        Transition(
            Event.ERROR,
            WAREHOUSE_UNREACHABLE if unreachable else "evaluation_failed",
            episode,
            time.as_of,
            rules.severity,
        ),
    )
