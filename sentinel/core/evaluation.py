"""The query contract: what the rows of an alert's query say.

`status`: each row says OK or ALERT. `rows`: every row is a violation, and their number decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from sentinel.core.alert import Definition
from sentinel.core.definition_types import Comparison
from sentinel.core.severity import Severity
from sentinel.core.values import Truncated, bounded, cut, instance_name, number, plain, text

Shape = Literal["status", "rows"]
ROW_CAP = 10_000
# The longest values that are read, in characters. Of the columns of the context, those without a
# natural length share `_CONTEXT`.
_LONGEST_MESSAGE = 2_000
_LONGEST_DIMENSION = 2_000
_LONGEST_KEY = 1_000
_LONGEST_CELL = 1_000
_CONTEXT = 8_000
_MOST_COLUMNS = 100
# How many instances may have a whole context and message: more of them share as much.
_FULL_INSTANCES = 1_000
_LONGEST_ERROR = 4_000
_RESERVED = ("status", "actual_value", "threshold", "severity", "message")


@dataclass(frozen=True)
class OutcomeTraits:
    """What the rest of Sentinel needs to know of an outcome.

    `style`: its style in tables, one of rich's.
    `uses_slot`: it changes state and uses up its slot; without it, the slot is still due.
    `failed`: the alert could not be evaluated. Its health fails, its slot may be evaluated again, and
    `run` exits with 3.
    `stops_run`: `--fail-fast` starts no further alert.
    `compares`: an instance's next evaluation continues from this one.
    `routine`: the daemon logs it at debug level unless something changed.
    `hides_phase`: tables show it instead of the phase: always, never, or unless the instance fires.
    """

    style: str = "dim"
    uses_slot: bool = True
    failed: bool = False
    stops_run: bool = False
    compares: bool = True
    routine: bool = False
    hides_phase: Literal["always", "never", "unless firing"] = "never"


class Outcome(StrEnum):
    """What an evaluation came to."""

    traits: OutcomeTraits

    def __new__(cls, value: str, traits: OutcomeTraits = OutcomeTraits()) -> Outcome:
        outcome = str.__new__(cls, value)
        outcome._value_ = value
        outcome.traits = traits
        return outcome

    OK = "ok", OutcomeTraits("green", routine=True)
    ALERT = "alert", OutcomeTraits("bold red", stops_run=True, routine=True)
    ERROR = (
        "error",
        OutcomeTraits(
            "bold magenta", failed=True, stops_run=True, compares=False, hides_phase="always"
        ),
    )
    EMPTY = "empty", OutcomeTraits(compares=False, routine=True, hides_phase="always")
    SKIPPED = "skipped", OutcomeTraits(uses_slot=False, hides_phase="unless firing")


class ContractError(ValueError):
    """The result doesn't keep the query contract: outcome `error`."""


@dataclass(frozen=True)
class QueryResult:
    """Rows as the warehouse gave them; `truncated` when there were more than asked for.

    Values that are longer than an excerpt allows are a `Truncated`. `left_out` counts columns that were
    not read. `bytes_billed` where the warehouse bills by bytes.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool = False
    bytes_billed: int | None = None
    left_out: int = 0


@dataclass(frozen=True)
class QueryDescription:
    """A query before it runs: its columns, and the bytes it would read where that is billed.

    `types` are the driver's or the server's, one a column, or nothing where it has none. `lengthy`
    says of each column whether its values may be long; nothing means all of them.
    """

    columns: tuple[str, ...]
    bytes_estimated: int | None = None
    types: tuple[Any, ...] = ()
    lengthy: tuple[bool, ...] = ()

    def may_be_long(self, position: int) -> bool:
        return not self.lengthy or self.lengthy[position]

    def chosen(self, positions: Iterable[int]) -> QueryDescription:
        """The same with these columns only, in this order."""
        kept = tuple(positions)
        return QueryDescription(
            tuple(self.columns[n] for n in kept),
            self.bytes_estimated,
            tuple(self.types[n] for n in kept) if self.types else (),
            tuple(self.lengthy[n] for n in kept) if self.lengthy else (),
        )


@dataclass(frozen=True)
class Excerpt:
    """What is read of a result: the columns by position, and how many characters of each value."""

    described: QueryDescription
    longest: Mapping[int, int]

    @property
    def left_out(self) -> int:
        """How many columns are not read."""
        return len(self.described.columns) - len(self.longest)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.described.columns[n] for n in self.longest)


@dataclass(frozen=True)
class Observation:
    """What one evaluation saw of one instance. `failures` counts rows in the shape `rows`."""

    instance: str
    outcome: Literal[Outcome.OK, Outcome.ALERT]
    severity: Severity
    dimensions: Mapping[str, Any] = field(default_factory=dict)
    actual_value: float | None = None
    threshold: float | None = None
    failures: int | None = None
    message: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationResult:
    """What one evaluation saw.

    `absent` says what it means for an instance not to be in `observations`: `missing` (the alert's
    `on_missing` decides), `ok` (it has no violations), or `unknown` (the result says nothing).
    `unreachable` says that it wasn't the query that failed but the connection to the warehouse.
    """

    outcome: Outcome
    observations: tuple[Observation, ...] = ()
    error: str | None = None
    absent: Literal["missing", "ok", "unknown"] = "missing"
    unreachable: bool = False

    @classmethod
    def failed(cls, error: str, *, unreachable: bool = False) -> EvaluationResult:
        words = cut(text(error), _LONGEST_ERROR)
        return cls(
            Outcome.ERROR,
            error=words,
            absent="unknown",
            unreachable=unreachable,
        )


def known_shape(rules: Definition) -> Shape | None:
    """The shape, if the definition alone decides it."""
    if rules.shape:
        return rules.shape
    return "rows" if rules.warn_if or rules.error_if else None


def shape_of(rules: Definition, columns: Sequence[str]) -> Shape:
    """The shape of a query with these columns.

    Raises ContractError where columns and definition can't go together.
    """
    names = [name.lower() for name in columns]
    shape = known_shape(rules) or ("status" if "status" in names else "rows")
    absent = [name for name in rules.dimensions if name not in names]
    if absent:
        raise ContractError(
            f"the query has no column {', '.join(map(repr, absent))} that `dimensions` names; "
            f"it has {', '.join(names)}"
        )
    if shape == "status":
        if "status" not in names:
            raise ContractError("`shape: status` needs a column named status")
        _no_duplicates(names)
    elif rules.shape is None and not (rules.warn_if or rules.error_if):
        stray = [name for name in ("actual_value", "threshold") if name in names]
        if stray:
            raise ContractError(
                f"the query has a column {stray[0]!r} but none named status: add status "
                "('OK' or 'ALERT'), or say `shape: rows` if every row is a violation"
            )
    return shape


def _no_duplicates(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ContractError(f"the query has the column {twice[0]!r} twice")


def status_excerpt(rules: Definition, described: QueryDescription) -> Excerpt:
    """What is read of a result of the shape `status`.

    Of the context's columns the first hundred are read; `context_columns` chooses others.
    """
    own = dict.fromkeys(rules.dimensions, _dimension_bound(rules))
    own |= {name: _LONGEST_KEY for name in _RESERVED if name not in own} | {
        "message": _LONGEST_MESSAGE
    }
    return _excerpt(described, own, rules.context_columns)


def dimensions_excerpt(rules: Definition, described: QueryDescription) -> Excerpt:
    """What is read of the combinations of `dimensions` (or of their first occurrence in a query)."""
    names = [name.lower() for name in described.columns]
    bound = _dimension_bound(rules)
    return Excerpt(described, {names.index(name): bound for name in rules.dimensions})


def samples_excerpt(rules: Definition, described: QueryDescription) -> Excerpt:
    """What is read of the rows that are samples of the shape `rows`."""
    own = dict.fromkeys(rules.dimensions, _dimension_bound(rules))
    return _excerpt(described, own, rules.sample_columns)


def _dimension_bound(rules: Definition) -> int:
    return min(_LONGEST_DIMENSION, _CONTEXT // max(1, len(rules.dimensions)))


def _excerpt(
    described: QueryDescription, own: Mapping[str, int], context: Sequence[str]
) -> Excerpt:
    names = [name.lower() for name in described.columns]
    others = [
        n for n, name in enumerate(names) if name not in own and (not context or name in context)
    ][:_MOST_COLUMNS]
    long = sum(map(described.may_be_long, others))
    share = min(_LONGEST_CELL, _CONTEXT // max(1, long))
    bounds = {n: own[name] for n, name in enumerate(names) if name in own}
    bounds |= dict.fromkeys(others, share)
    return Excerpt(described, dict(sorted(bounds.items())))


def read_status(rules: Definition, result: QueryResult) -> EvaluationResult:
    """A result of the shape `status`. Raises ContractError, naming column and value."""
    columns = tuple(name.lower() for name in result.columns)
    shape_of(rules, columns)
    if result.truncated:
        raise ContractError(
            f"the query gives more than {len(result.rows):,} rows: a cut list would look like "
            "recovered instances; narrow the query or say `shape: rows`"
        )
    if not result.rows:
        return _read_empty(rules)
    if len(result.rows) > 1 and not rules.dimensions:
        raise ContractError(
            f"the query gives {len(result.rows)} rows; without `dimensions` a status query gives one"
        )
    share = min(1.0, _FULL_INSTANCES / len(result.rows))
    # Omitted columns are counted if they would be part of the context.
    left_out = 0 if rules.context_columns else result.left_out
    observations = [
        _observe(rules, dict(zip(columns, row, strict=True)), share, left_out)
        for row in result.rows
    ]
    names = Counter(each.instance for each in observations)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ContractError(f"two rows are of the same instance {twice[0]!r}")
    return EvaluationResult(_overall(observations), tuple(observations))


def _overall(observations: Sequence[Observation]) -> Outcome:
    alerting = any(each.outcome is Outcome.ALERT for each in observations)
    return Outcome.ALERT if alerting else Outcome.OK


def _read_empty(rules: Definition) -> EvaluationResult:
    if rules.on_empty == "error":
        raise ContractError(
            "the query gives no row; `on_empty: ok | alert | keep` if that is meant"
        )
    if rules.on_empty == "keep":
        return EvaluationResult(Outcome.EMPTY, absent="unknown")
    if rules.on_empty == "ok":
        if rules.dimensions:
            return EvaluationResult(Outcome.OK)
        return EvaluationResult(Outcome.OK, (Observation("", Outcome.OK, rules.severity),))
    seen = Observation("", Outcome.ALERT, rules.severity, message="the query gives no row")
    return EvaluationResult(Outcome.ALERT, (seen,))


def _observe(rules: Definition, row: Mapping[str, Any], share: float, left_out: int) -> Observation:
    """One row. `share` is how much of the room for message and context it may take."""
    dimensions = read_dimensions(rules, [row[name] for name in rules.dimensions])
    values = {}
    for name in ("actual_value", "threshold"):
        try:
            values[name] = number(_whole(name, row.get(name)))
        except ValueError as error:
            raise ContractError(f"the column {name!r}: {error}") from None
    context = {
        name: _plain(name, value)
        for name, value in row.items()
        if name not in _RESERVED
        and name not in dimensions
        and (not rules.context_columns or name in rules.context_columns)
    }
    return Observation(
        instance=instance_name(dimensions),
        dimensions=dimensions,
        outcome=_status(_whole("status", row["status"])),
        severity=_severity(_whole("severity", row.get("severity")), rules.severity),
        actual_value=values["actual_value"],
        threshold=values["threshold"],
        message=_message(row.get("message"), round(_LONGEST_MESSAGE * share)),
        context=bounded(context, round(_CONTEXT * share), left_out=left_out),
    )


def read_dimensions(rules: Definition, values: Sequence[Any]) -> dict[str, Any]:
    """The dimensions of one instance, made plain. Raises ContractError, naming the column."""
    return {
        name: _plain(name, _whole(name, value))
        for name, value in zip(rules.dimensions, values, strict=True)
    }


def read_sample(
    rules: Definition, columns: Sequence[str], row: Sequence[Any], left_out: int = 0
) -> dict[str, Any]:
    """One violating row as it is shown."""
    shown = {
        name: _plain(name, value)
        for name, value in zip(columns, row, strict=True)
        if not rules.sample_columns or name in rules.sample_columns
    }
    return bounded(shown, _CONTEXT, left_out=0 if rules.sample_columns else left_out)


def _message(value: Any, most: int) -> str | None:
    if value is None:
        return None
    if isinstance(value, Truncated):
        return text(value.beginning)[: max(0, most - len(value.mark))] + value.mark
    shown = _plain("message", value)
    return cut(shown if isinstance(shown, str) else text(str(value)), most)


def _plain(name: str, value: Any) -> Any:
    """A value made plain. Raises ContractError, naming the column."""
    try:
        return plain(value)
    except (ArithmeticError, MemoryError, RecursionError, ValueError) as error:
        words = str(error) or type(error).__name__
        raise ContractError(
            f"the column {name!r} has a value that can't be read: {words}"
        ) from None


def _whole(name: str, value: Any) -> Any:
    """A value that must be complete: truncated, different values could be equal."""
    if isinstance(value, Truncated):
        raise ContractError(
            f"the column {name!r} has a value of {value.size:,} {value.unit}, more than is read: "
            "shorten it in the query"
        )
    return value


def _status(value: Any) -> Literal[Outcome.OK, Outcome.ALERT]:
    match value.strip().upper() if isinstance(value, str) else value:
        case "OK":
            return Outcome.OK
        case "ALERT":
            return Outcome.ALERT
    given = "NULL" if value is None else repr(plain(value))
    raise ContractError(
        f"the column 'status' holds {given}; it must be 'OK' or 'ALERT' "
        "(say `shape: rows` if every row of this query is a violation)"
    )


def _severity(value: Any, default: Severity) -> Severity:
    if value is None:
        return default
    try:
        return Severity(str(value).strip().lower())
    except ValueError:
        raise ContractError(
            f"the column 'severity' holds {plain(value)!r}; it must be info, warning or critical"
        ) from None


def read_counts(rules: Definition, counts: Mapping[tuple[Any, ...], int]) -> EvaluationResult:
    """A result of the shape `rows`: the number of rows for each combination of dimensions.

    Without dimensions `counts` has the one key `()`.
    """
    observations = []
    for values, count in counts.items():
        observations.append(_judge_count(rules, count, read_dimensions(rules, values)))
    names = Counter(each.instance for each in observations)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ContractError(f"two values of `dimensions` give the same instance {twice[0]!r}")
    return EvaluationResult(_overall(observations), tuple(observations), absent="ok")


def _judge_count(rules: Definition, count: int, dimensions: Mapping[str, Any]) -> Observation:
    severity, met = _severity_of_count(rules, count)
    condition = met or rules.warn_if or rules.error_if
    message = f"{count:,} violating " + ("row" if count == 1 else "rows")
    if met:
        key = "error_if" if met is rules.error_if else "warn_if"
        message += f" ({key}: {met.text.strip()})"
    return Observation(
        instance=instance_name(dimensions),
        dimensions=dimensions,
        outcome=Outcome.OK if severity is None else Outcome.ALERT,
        severity=severity or rules.severity,
        actual_value=float(count),
        threshold=condition.low if condition else 0.0,
        failures=count,
        message=message,
    )


def _severity_of_count(rules: Definition, count: int) -> tuple[Severity | None, Comparison | None]:
    if rules.error_if and rules.error_if.met(count):
        return Severity.CRITICAL, rules.error_if
    if rules.warn_if and rules.warn_if.met(count):
        return Severity.WARNING, rules.warn_if
    if not rules.error_if and not rules.warn_if and count > 0:
        return rules.severity, None
    return None, None


def absent_count(rules: Definition, dimensions: Mapping[str, Any]) -> Observation:
    """What a result of the shape `rows` says of an instance it doesn't hold: no violations."""
    return _judge_count(rules, 0, dimensions)
