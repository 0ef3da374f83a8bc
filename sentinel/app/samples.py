"""A few violating rows, for the context of each instance that starts firing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from sentinel.core.alert import Definition
from sentinel.core.evaluation import EvaluationResult, QueryResult, read_dimensions, read_sample
from sentinel.core.lifecycle import AlertUpdate
from sentinel.core.state import Event
from sentinel.core.values import instance_name

Samples = Mapping[str, list[dict[str, Any]]]
"""Rows by instance, each a mapping of its columns to values."""

NO_SAMPLES = "; its samples could not be fetched"


def firing_instances(update: AlertUpdate) -> frozenset[str]:
    """The instances that start firing."""
    return frozenset(
        step.after.instance
        for step in update.steps
        if any(change.event is Event.FIRING for change in step.transitions)
    )


def group_samples(rules: Definition, result: QueryResult) -> Samples:
    """Violating rows by their instance. Raises ContractError if one can't be read."""
    columns = [name.lower() for name in result.columns]
    samples: dict[str, list[dict[str, Any]]] = {}
    for row in result.rows:
        values = dict(zip(columns, row, strict=True))
        instance = instance_name(read_dimensions(rules, [values[n] for n in rules.dimensions]))
        sample = read_sample(rules, columns, row, result.left_out)
        samples.setdefault(instance, []).append(sample)
    return samples


def add_samples(
    result: EvaluationResult, instances: Collection[str], samples: Samples
) -> EvaluationResult:
    """The reading with samples in the context of these instances."""
    return replace(
        result,
        observations=tuple(
            replace(
                each,
                context={"samples": samples.get(each.instance, [])}
                if each.instance in instances
                else {},
            )
            for each in result.observations
        ),
    )


def note_missing_samples(result: EvaluationResult, instances: Collection[str]) -> EvaluationResult:
    """The reading with a note in the messages of these instances."""
    return replace(
        result,
        observations=tuple(
            replace(each, message=f"{each.message}{NO_SAMPLES}")
            if each.instance in instances
            else each
            for each in result.observations
        ),
    )
