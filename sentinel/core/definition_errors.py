"""The wording of errors in definitions and in sentinel.yml."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import (
    BaseModel,
    ValidationError,
)

from sentinel.core.definition_types import (
    Escalation,
)
from sentinel.core.origin import Origins, is_secret


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a definition: at which key, what, and what to do."""

    keys: tuple[str, ...]
    message: str


# What pydantic's messages may hold that is not of the value but of what it has to be.
_OF_THE_MODEL = {"expected", "ge", "gt", "le", "lt", "min_length", "max_length"}


def _without_value(finding: Any) -> str:
    """pydantic's message where it holds nothing of the value that was given."""
    if set(finding.get("ctx") or ()) <= _OF_THE_MODEL and finding["type"] != "too_long":
        message: str = finding["msg"]
        return f"is not valid: {message[:1].lower() + message[1:]}"
    return "is not valid"


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` for a word that is nearly a known one, else ''."""
    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean `{by_lower[near[0]]}`?" if near else ""


def explain(
    error: ValidationError,
    keys: Iterable[str],
    *,
    show_input: bool = True,
    origins: Origins | None = None,
    model: type[BaseModel] | None = None,
) -> list[Fault]:
    """pydantic's findings in our words; without the values given where these may be secret.

    `origins` are those of the values: nothing is found at one that was not looked up, and one from
    elsewhere is named by its origin, unless the key of the `model` has a secret type, whose
    validators show no value.
    """
    faults = []
    for finding in error.errors(include_url=False):
        kind, given = finding["type"], finding.get("input")
        # pydantic names its own validators in the path, as in `function-before[...]`.
        path = tuple(
            str(part)
            for part in finding["loc"]
            if kind == "extra_forbidden" or not (isinstance(part, str) and "[" in part)
        )
        origin = origins.at(*path) if origins else None
        if origin and not origin.known and kind != "extra_forbidden":
            continue
        if kind == "extra_forbidden":
            known = Escalation.model_fields if path[:1] == ("escalations",) else keys
            message = f"unknown key `{path[-1]}`" + suggest(path[-1], known)
        elif origin and not (model and is_secret(model, path)):
            message = origin.instead(_without_value(finding))
        elif kind == "value_error":
            message = str(finding["ctx"]["error"])
        elif kind in ("literal_error", "enum"):
            message = f"{given!r} is not one of {finding['ctx']['expected']}"
            if isinstance(given, str):
                allowed = re.findall(r"'([^']+)'", finding["ctx"]["expected"])
                message += suggest(given, allowed)
        elif kind == "missing":
            message = f"`{path[-1]}` is missing"
        else:
            message = finding["msg"][:1].lower() + finding["msg"][1:]
            message += f", not {given!r}" if show_input else ""
        if path and kind not in ("extra_forbidden", "missing"):
            message = f"`{'.'.join(path)}`: {message}"
        faults.append(Fault(path, message))
    return faults
