"""Numbers for people."""

from __future__ import annotations


def measured(value: float | None, threshold: float | None) -> str:
    """`8,120 (threshold 10,000)`; '' if there is no value."""
    if value is None:
        return ""
    limit = "" if threshold is None else f" (threshold {amount(threshold)})"
    return amount(value) + limit


def amount(value: float) -> str:
    """A number for people: at most four digits after the point, thousands apart."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1e15:
        return f"{value:.6g}"
    return f"{value:,.4g}" if abs(value) < 1 else f"{value:,.2f}"
